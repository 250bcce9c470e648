"""Deploying again and again: each time the stack has the values of its file, and the secret is as somebody left it.

These stages run no job. The tests build on each other, in this order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.template import read_template
from sandbox.local_http import LocalServer, Reply
from tests.e2e.conftest import ARCHITECTURE
from tests.e2e.local_aws import LocalAws

ROTATED = json.dumps(
    {
        "POLYGON_API_KEY": "rotated",
        "DATABASE_URL": "postgresql://u:another-password@127.0.0.1:9/stock",
        "SMTP_PASSWORD": "for the user with every odd character",
    }
)
ODD = """it's "R&D", $HOME\\me #1 & more"""
SECRETS = {"POLYGON_API_KEY": "first", "DATABASE_URL": "postgresql://u:password@127.0.0.1:9/stock"}


class Stage:
    """A stage, and what the local AWS has of it."""

    def __init__(self, aws: LocalAws, name: str, **values: str) -> None:
        self.aws, self.name, self.stack = aws, name, f"stock-tracker-{name}"
        self.values = {"Architecture": ARCHITECTURE, "AlarmEmail": "alarms@example.com", **values}

    def make(self, target: str, *variables: str, **options: Any) -> str:
        return self.aws.make(target, f"STAGE={self.name}", *variables, **options)

    def deploy(self, **changes: str) -> str:
        self.values |= changes
        self.aws.write_stage(self.name, self.values)
        return self.make("deploy")

    def destroy(self) -> str:
        return self.make("destroy", "ARGS=--no-prompts")

    @property
    def described(self) -> dict[str, Any] | None:
        try:
            found: list[dict[str, Any]] = self.aws.client("cloudformation").describe_stacks(StackName=self.stack)[
                "Stacks"
            ]
        except ClientError:
            return None
        return next((stack for stack in found if stack["StackStatus"] != "DELETE_COMPLETE"), None)

    @property
    def parameters(self) -> dict[str, str]:
        return {each["ParameterKey"]: each["ParameterValue"] for each in self.described["Parameters"]}

    @property
    def variables(self) -> dict[str, str]:
        found = self.aws.client("lambda").get_function_configuration(FunctionName=self.stack)
        return dict(found["Environment"]["Variables"])

    @property
    def secret(self) -> str:
        found = self.aws.client("ssm").get_parameter(Name=f"/{self.stack}/secret", WithDecryption=True)
        return str(found["Parameter"]["Value"])

    def rotate(self) -> None:
        self.aws.client("ssm").put_parameter(
            Name=f"/{self.stack}/secret", Value=ROTATED, Type="SecureString", Overwrite=True
        )

    def expected(self) -> dict[str, str]:
        """The values that its file leads to."""
        defaults = {name: parameter.default for name, parameter in read_template().parameters.items()}
        return {**defaults, **self.values}


@pytest.fixture(scope="module")
def staging(aws: LocalAws, pandas_layer_arn: str) -> Iterator[Stage]:
    refuse = LocalServer(lambda _: Reply(401, b"{}"))  # which the doctor finds out at once
    refuse.start()
    places = {"PolygonBaseUrl": refuse.url, "QuickchartUrl": f"{refuse.url}/chart"}
    unsubscribe = "https://example.com/u?a=1&b=2"
    yield Stage(aws, "staging", PandasLayerArn=pandas_layer_arn, MailUnsubscribe=unsubscribe, **places)
    refuse.stop()


def refusal(stage: Stage) -> str:
    """The line with which a deployment is refused before anything is built."""
    stage.aws.write_stage(stage.name, stage.values)
    done = stage.aws.run_make("deploy", f"STAGE={stage.name}")
    assert done.returncode == 2
    (line, *_) = done.stderr.splitlines()
    assert "function.zip" not in done.stdout
    return line


def test_a_wrong_value_is_refused_before_anything_is_built(aws: LocalAws) -> None:
    wrong = Stage(aws, "wrong", LogLevel="LOUD")
    assert refusal(wrong).endswith("wrong.env: LogLevel is 'LOUD': valid are DEBUG, INFO, WARNING, ERROR")


def test_a_stage_without_a_secret_is_refused_with_the_cure(staging: Stage) -> None:
    assert refusal(staging) == (
        "error: the secret ssm:/stock-tracker-staging/secret does not exist yet: run make secret STAGE=staging"
    )


@pytest.mark.slow
def test_the_first_deployment_takes_every_value_and_every_odd_character(staging: Stage) -> None:
    staging.aws.write_stage(staging.name, staging.values)
    assert "POLYGON_API_KEY and DATABASE_URL written" in staging.make("secret", secrets=SECRETS)
    staging.rotate()

    printed = staging.deploy(SmtpUser=ODD)

    assert staging.parameters == staging.expected()
    assert staging.variables["SMTP_USER"] == ODD
    assert staging.variables["MAIL_UNSUBSCRIBE"] == "https://example.com/u?a=1&b=2"
    assert staging.variables["SECRET_ID"] == "ssm:/stock-tracker-staging/secret"
    assert staging.secret == ROTATED
    tags = {tag["Key"]: tag["Value"] for tag in staging.described["Tags"]}
    assert tags.items() >= {"project": "stock-tracker", "stage": "staging"}.items()
    assert "checks failed" in printed, "the provider refuses the key"
    assert printed.rstrip().endswith("Deployed; the doctor's cures are above")


@pytest.mark.slow
def test_a_second_deployment_changes_what_the_file_changes(staging: Stage) -> None:
    staging.deploy(AuditCalls="7")

    assert staging.parameters == staging.expected()
    assert staging.variables["AUDIT_CALLS"] == "7"
    assert staging.variables["SMTP_USER"] == ODD
    assert staging.secret == ROTATED


@pytest.mark.slow
def test_a_value_that_left_the_file_is_the_default_again(staging: Stage) -> None:
    del staging.values["AuditCalls"]
    staging.deploy()
    assert staging.variables["AUDIT_CALLS"] == "5"
    assert staging.parameters == staging.expected()


@pytest.mark.slow
def test_a_deployment_after_destroy_is_like_the_first(staging: Stage) -> None:
    staging.destroy()
    assert staging.described is None
    assert staging.secret == ROTATED

    staging.deploy()

    assert staging.parameters == staging.expected()
    assert staging.secret == ROTATED


@pytest.mark.slow
def test_a_deployment_after_a_failed_first_one_is_like_the_first(staging: Stage) -> None:
    staging.destroy()
    layer = staging.values["PandasLayerArn"]
    staging.aws.write_stage(
        "staging", {**staging.values, "PandasLayerArn": f"{layer}99"}
    )  # a version that is not there
    failed = staging.aws.run_make("deploy", "STAGE=staging")
    assert failed.returncode == 2
    assert staging.described["StackStatus"] == "ROLLBACK_COMPLETE"

    printed = staging.deploy()

    assert "Removing stock-tracker-staging, whose first deployment failed (ROLLBACK_COMPLETE)" in printed
    assert staging.described["StackStatus"] == "CREATE_COMPLETE"
    assert staging.parameters == staging.expected()
    assert staging.secret == ROTATED


@pytest.mark.slow
def test_a_renamed_stage_is_a_new_stack_with_the_values_and_the_secret_of_the_old_one(staging: Stage) -> None:
    preview = Stage(staging.aws, "preview", **staging.values)
    (staging.aws.stages / "staging.env").rename(staging.aws.stages / "preview.env")

    preview.make("secret", "FROM=ssm:/stock-tracker-staging/secret")
    preview.deploy()

    assert preview.parameters == staging.parameters
    assert json.loads(preview.secret) == json.loads(staging.secret) == json.loads(ROTATED)
    staging.destroy()  # without its file
    assert staging.described is None
    assert preview.described["StackStatus"] == "CREATE_COMPLETE"
    assert staging.secret == ROTATED
    preview.destroy()
