"""Fixtures for the deployed stack: the local AWS, a PostgreSQL over TCP, a market, a chart service, a mail server.

All listen on this machine only. ``make deploy`` deploys the stack once, and each test finds it as the previous test
left it.
"""

from __future__ import annotations

import json
import platform
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.controller import Controller
from sqlalchemy import text as sql

from domain.calendar import previous_session
from layer.wheels import HERE, install_wheels, required
from sandbox.history import PriceHistory
from sandbox.renderer import Renderer
from sandbox.server import MarketServer
from storage.engine import open_engine, transaction
from tests.e2e.local_aws import LocalAws, free_port
from tests.support.postgresql import embedded_postgresql

NAME = "stock-tracker"
SECRET = "/stock-tracker/secret"
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())  # of this machine, as Lambda says it
SYMBOLS = [f"SYN{number:05}" for number in range(5)]


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Poll a function until it returns something true, and return that."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, f"nothing within {seconds:.0f} s"
        time.sleep(0.2)
    return found


class Mailbox:
    """The mails that a local server received."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        return "250 OK"


@dataclass
class Stack:
    """The deployed stack and the services around it."""

    aws: LocalAws
    market: MarketServer
    mailbox: Mailbox
    database_url: str
    parameters: dict[str, str]
    first_deploy: str = ""

    def deploy(self, **changes: str) -> str:
        """Deploy with ``make deploy``, optionally with changed parameters."""
        self.parameters |= changes
        self.aws.write_stage("production", self.parameters)
        printed = self.aws.make("deploy")
        # CloudFormation converts a state machine from YAML to JSON; the local AWS does not.
        machines = self.aws.client("stepfunctions")
        definition = machines.describe_state_machine(stateMachineArn=self.machine)["definition"]
        machines.update_state_machine(stateMachineArn=self.machine, definition=json.dumps(yaml.safe_load(definition)))
        return printed

    @property
    def machine(self) -> str:
        """The state machine's ARN."""
        return self.outputs["StateMachineArn"]

    @property
    def outputs(self) -> dict[str, str]:
        """The outputs of the stack."""
        described = self.aws.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}

    @property
    def status(self) -> str:
        """The stack's status."""
        described = self.aws.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"][0]
        return str(described["StackStatus"])

    def invoke(self, job_type: str, **payload: Any) -> dict[str, Any]:
        """Invoke the function synchronously and return its result."""
        event = json.dumps({"job_type": job_type, **payload})
        answer: dict[str, Any] = json.loads(
            self.aws.client("lambda").invoke(FunctionName=NAME, Payload=event)["Payload"].read()
        )
        return answer

    def run_machine(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Run the state machine and return the ended execution."""
        machines = self.aws.client("stepfunctions")
        execution = machines.start_execution(stateMachineArn=self.machine, input=json.dumps(payload))["executionArn"]

        def ended() -> dict[str, Any] | None:
            described: dict[str, Any] = machines.describe_execution(executionArn=execution)
            return described if described["status"] != "RUNNING" else None

        found: dict[str, Any] = wait_for(ended, 120)
        return found

    def dead_letter(self) -> dict[str, Any]:
        """Take the next message out of the dead-letter queue."""
        queue, url = self.aws.client("sqs"), self.outputs["DeadLettersUrl"]
        (message,) = wait_for(lambda: queue.receive_message(QueueUrl=url).get("Messages"), 120)
        queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        letter: dict[str, Any] = json.loads(message["Body"])
        return letter

    @contextmanager
    def configured(self, **changes: Any) -> Iterator[None]:
        """Change the function's configuration temporarily; variables are added to its own."""
        functions = self.aws.client("lambda")
        now = functions.get_function_configuration(FunctionName=NAME)
        before: dict[str, Any] = {
            "Timeout": now["Timeout"],
            "Environment": {"Variables": now["Environment"]["Variables"]},
            "Layers": [layer["Arn"] for layer in now["Layers"]],
        }
        variables = {**before["Environment"]["Variables"], **changes.pop("variables", {})}
        functions.update_function_configuration(
            FunctionName=NAME, **{**before, **changes, "Environment": {"Variables": variables}}
        )
        try:
            yield
        finally:
            functions.update_function_configuration(FunctionName=NAME, **before)

    @contextmanager
    def secret(self, text: str) -> Iterator[None]:
        """Change the secret temporarily; the function restarts and reads it."""
        secrets = self.aws.client("ssm")
        before = secrets.get_parameter(Name=SECRET, WithDecryption=True)["Parameter"]["Value"]
        secrets.put_parameter(Name=SECRET, Value=text, Type="SecureString", Overwrite=True)
        try:
            with self.configured(variables={"LOG_LEVEL": "ERROR"}):
                yield
        finally:
            secrets.put_parameter(Name=SECRET, Value=before, Type="SecureString", Overwrite=True)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query."""
        with transaction(open_engine(self.database_url), write=False) as connection:
            return [dict(row._mapping) for row in connection.execute(sql(query))]

    def log_lines(self) -> list[dict[str, Any]]:
        """The structured lines of the function's log, oldest first."""
        pages = self.aws.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{NAME}")
        lines = [event["message"].strip() for page in pages for event in page["events"]]
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="session")
def postgresql_over_tcp() -> Iterator[str]:
    """The URL of an empty database on a port of this machine."""
    with embedded_postgresql(port=free_port()) as url:
        try:
            yield url
        finally:
            open_engine(url).dispose()


@pytest.fixture(scope="session")
def pandas_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for the layer AWSSDKPandas-Python313, which is on AWS only: the same packages from PyPI.

    AWS builds Arrow for it without the parts that are omitted here.
    """
    path, packages = tmp_path_factory.mktemp("layer") / "pandas.zip", required(HERE / "constraints.txt")
    left_out = re.compile(r"(^|/)(tests|include)/|pyarrow/.*(flight|gandiva|orc|\.so\.\d+\.\d+\.)")
    with tempfile.TemporaryDirectory() as folder:
        install_wheels(
            ARCHITECTURE, Path(folder), ["--no-compile", *(packages[n] for n in ("numpy", "pandas", "pyarrow"))]
        )
        files = {str(file.relative_to(folder)): file for file in Path(folder).rglob("*") if file.is_file()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, file in files.items():
                if not left_out.search(name):
                    archive.write(file, f"python/{name}")
    return path


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(tmp_path_factory.mktemp("aws")) as running:
        yield running


@pytest.fixture(scope="session")
def pandas_layer_arn(aws: LocalAws, pandas_layer: Path) -> str:
    """The ARN of :func:`pandas_layer` on the local AWS."""
    storage = aws.client("s3")
    storage.create_bucket(Bucket="layers", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    storage.upload_file(str(pandas_layer), "layers", "pandas.zip")
    published = aws.client("lambda").publish_layer_version(
        LayerName="AWSSDKPandas-Python313", Content={"S3Bucket": "layers", "S3Key": "pandas.zip"}
    )
    return str(published["LayerVersionArn"])


@pytest.fixture(scope="session")
def stack(aws: LocalAws, postgresql_over_tcp: str, pandas_layer_arn: str) -> Iterator[Stack]:
    """The stack after ``make deploy``, with a market of five symbols up to the last session."""
    mailbox = Mailbox()
    with ExitStack() as world:
        history = PriceHistory.synthetic(5, 120, end=previous_session(date.today()))
        market = world.enter_context(MarketServer(history, today=date.today()))
        charts = world.enter_context(Renderer())
        post = Controller(mailbox, hostname="127.0.0.1", port=free_port())
        post.start()
        world.callback(post.stop)
        parameters = {
            "Architecture": ARCHITECTURE,
            "PandasLayerArn": pandas_layer_arn,
            "PolygonBaseUrl": market.url,
            "PolygonCallsPerMinute": "0",
            "Symbols": ",".join(SYMBOLS),
            "QuickchartUrl": charts.url,
            "MailFrom": "stock@example.com",
            "MailTo": "one@example.com",
            "SmtpHost": "127.0.0.1",
            "SmtpPort": str(post.port),
            "SmtpSecurity": "none",
            "AlarmEmail": "alarms@example.com",
            "MapConcurrency": "3",
        }
        deployed = Stack(aws, market, mailbox, postgresql_over_tcp, parameters)
        aws.write_stage("production", parameters)
        aws.make("secret", secrets={"POLYGON_API_KEY": market.key, "DATABASE_URL": postgresql_over_tcp})
        deployed.first_deploy = deployed.deploy()
        yield deployed
