"""The secret of a stage: asked for once, written by the API, changed on purpose only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools.utilities import parameters
from botocore.exceptions import ClientError
from moto import mock_aws

from config import SECRET_KEYS, read_secret
from deploy import __main__ as command_line
from deploy import secret
from deploy.cloud import CloudError, remove_failed_stack, stack_status
from deploy.doctor import check_alarm_mail
from deploy.stage import Stage
from deploy.template import read_template
from domain.errors import ConfigError
from tests.support.template import resources

KEY, URL = "key-1234567890", "postgresql://user:pass-word-1@db.example.com/stock"
DEFAULTS = {name: parameter.default for name, parameter in read_template().parameters.items()}
STORES = ("parameter-store", "secrets-manager")


def stage(**values: str) -> Stage:
    return Stage("staging", {**DEFAULTS, **values}, "eu-west-1")


def nobody(question: str) -> str:
    raise AssertionError(f"asked {question}")


@pytest.fixture(autouse=True)
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")  # not the stage's
    parameters.clear_caches()
    with mock_aws():
        yield
    parameters.clear_caches()


def stored(of: Stage) -> dict[str, str]:
    return read_secret(of.secret_id, of.region)


class TestPlace:
    def test_the_function_reads_what_make_secret_writes(self) -> None:
        function = resources("AWS::Lambda::Function")["Function"]
        condition, manager, store = function["Environment"]["Variables"]["SECRET_ID"]["Fn::If"]
        assert condition == "WithSecretsManager"
        for given, place in (("parameter-store", store), ("secrets-manager", manager)):
            named = place["Fn::Sub"].replace("${AWS::StackName}", "stock-tracker-staging")
            assert stage(SecretStore=given).secret_id == named


@pytest.mark.parametrize("store", STORES)
class TestComplete:
    def test_what_is_missing_is_asked_for_and_written(self, store: str) -> None:
        asked = []

        def ask(question: str) -> str:
            asked.append(question)
            return URL if "DATABASE_URL" in question else KEY

        given = stage(SecretStore=store)
        assert not secret.exists(given)
        said = secret.complete(given, {}, ask)

        assert said == f"{given.secret_id}: POLYGON_API_KEY and DATABASE_URL written"
        assert stored(given) == {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}
        assert len(asked) == 2
        assert secret.exists(given)
        assert secret.complete(given, {}, nobody) == f"{given.secret_id} has all it needs"

    def test_a_mail_servers_password_is_asked_for_once_there_is_a_user(self, store: str) -> None:
        secret.complete(stage(SecretStore=store), {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, nobody)
        with_user = stage(SecretStore=store, SmtpUser="me")
        secret.complete(with_user, {}, lambda question: "mail-password")
        assert stored(with_user) == {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL, "SMTP_PASSWORD": "mail-password"}

    def test_a_database_of_the_stack_needs_no_url(self, store: str) -> None:
        given = stage(SecretStore=store, CreateDatabase="true")
        secret.complete(given, {"POLYGON_API_KEY": KEY}, nobody)
        assert stored(given) == {"POLYGON_API_KEY": KEY}

    def test_the_environment_changes_a_stored_value_only_on_request(self, store: str) -> None:
        given = stage(SecretStore=store)
        secret.complete(given, {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
        secret.complete(given, {"POLYGON_API_KEY": "another", "DATABASE_URL": "another"}, None)
        assert stored(given)["POLYGON_API_KEY"] == KEY
        secret.complete(given, {"POLYGON_API_KEY": "rotated"}, None, change=["POLYGON_API_KEY"])
        assert stored(given) == {"POLYGON_API_KEY": "rotated", "DATABASE_URL": URL}

    def test_a_change_is_asked_for_where_the_environment_has_none(self, store: str) -> None:
        given = stage(SecretStore=store)
        secret.complete(given, {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
        secret.complete(given, {}, lambda question: "typed", change=["POLYGON_API_KEY"])
        assert stored(given)["POLYGON_API_KEY"] == "typed"

    def test_a_secret_of_another_stage_or_store_fills_in(self, store: str) -> None:
        (other,) = set(STORES) - {store}
        earlier, later = stage(SecretStore=other), stage(SecretStore=store)
        secret.complete(earlier, {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
        secret.complete(later, {}, nobody, copy_from=earlier.secret_id)
        assert stored(later) == stored(earlier)

    def test_it_can_be_removed_and_made_again(self, store: str) -> None:
        given, values = stage(SecretStore=store), {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}
        secret.complete(given, values, None)
        assert secret.remove(given) == f"{given.secret_id} is removed"
        assert secret.remove(given) == f"{given.secret_id} does not exist"
        secret.complete(given, values, None)
        assert stored(given) == values

    @pytest.mark.parametrize(
        ("environment", "change", "message"),
        [
            ({}, [], "POLYGON_API_KEY and DATABASE_URL must be set in the environment"),
            ({"POLYGON_API_KEY": KEY}, [], "DATABASE_URL must be set in the environment"),
            ({}, ["API_KEY"], "CHANGE is 'API_KEY': valid are POLYGON_API_KEY, DATABASE_URL, SMTP_PASSWORD"),
            ({"POLYGON_API_KEY": "a\nb", "DATABASE_URL": URL}, [], "POLYGON_API_KEY is not usable: valid is one line"),
            (
                {"POLYGON_API_KEY": KEY, "DATABASE_URL": "sqlite:///x"},
                [],
                "DATABASE_URL is not usable: valid on Lambda",
            ),
            ({"POLYGON_API_KEY": KEY, "DATABASE_URL": f"{URL}?a=1"}, [], "DATABASE_URL has the option a"),
            ({"POLYGON_API_KEY": KEY * 400, "DATABASE_URL": URL}, [], "ssm:/stock-tracker-staging/secret holds 4096"),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
        self, store: str, environment: dict[str, str], change: list[str], message: str
    ) -> None:
        given = stage(SecretStore=store)
        if "holds 4096" in message and store == "secrets-manager":
            secret.complete(given, environment, None, change=change)  # which holds more
            return
        with pytest.raises(ConfigError) as caught:
            secret.complete(given, environment, None, change=change)
        assert str(caught.value).startswith(message)
        assert str(caught.value).isprintable()
        assert "pass-word-1" not in str(caught.value)
        assert not secret.exists(given)


def test_an_empty_answer_writes_nothing() -> None:
    with pytest.raises(ConfigError, match=r"^POLYGON_API_KEY is empty: nothing was written"):
        secret.complete(stage(), {"DATABASE_URL": URL}, lambda question: "")
    assert not secret.exists(stage())


def test_the_certificates_of_the_layer_may_be_named() -> None:
    secret.complete(stage(), {"POLYGON_API_KEY": KEY, "DATABASE_URL": f"{URL}?sslrootcert=/opt/rds-ca.pem"}, None)
    assert stored(stage())["DATABASE_URL"].endswith("=/opt/rds-ca.pem")


def test_in_parameter_store_it_is_encrypted_and_free() -> None:
    secret.complete(stage(), {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
    (found,) = boto3.client("ssm", region_name="eu-west-1").describe_parameters()["Parameters"]
    assert (found["Type"], found["Tier"]) == ("SecureString", "Standard")


def test_a_stage_without_a_secret_is_told_the_cure(capsys: pytest.CaptureFixture[str]) -> None:
    Path("staging.env").write_text("Region=eu-west-1\n", encoding="utf-8")
    arguments = ["--stage", "staging", "--folder", "."]
    assert command_line.main(["ready", *arguments]) == 1
    said = "error: the secret ssm:/stock-tracker-staging/secret does not exist yet: run make secret STAGE=staging\n"
    assert capsys.readouterr().err == said
    secret.complete(stage(), {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
    assert command_line.main(["ready", *arguments]) == 0


def test_what_aws_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "not\nyou"}}, "GetParameter")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refuse)
    with pytest.raises(CloudError) as caught:
        secret.exists(stage())
    assert str(caught.value).startswith("the secret ssm:/stock-tracker-staging/secret cannot be looked up: ")
    assert str(caught.value).isprintable()


def test_a_region_that_nobody_names_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(CloudError, match=r"no region is set: set Region in the stage's file, or AWS_DEFAULT_REGION$"):
        secret.exists(Stage("staging", DEFAULTS))


class TestFailedStacks:
    BODY = json.dumps({"Resources": {"Alarms": {"Type": "AWS::SNS::Topic"}}})

    @pytest.mark.parametrize(
        ("status", "is_removed"), [("ROLLBACK_COMPLETE", True), ("UPDATE_ROLLBACK_COMPLETE", False)]
    )
    def test_only_a_stack_that_never_worked_is_removed(
        self, monkeypatch: pytest.MonkeyPatch, status: str, is_removed: bool
    ) -> None:
        assert stack_status(stage()) is None
        stacks = boto3.client("cloudformation", region_name="eu-west-1")
        stacks.create_stack(StackName="stock-tracker-staging", TemplateBody=self.BODY)
        monkeypatch.setattr("deploy.cloud.stack_status", lambda _: status)

        remove_failed_stack(stage())

        assert (stack_status(stage()) is None) is is_removed


def test_the_alarms_of_a_new_stage_count_from_its_first_deployment(capsys: pytest.CaptureFixture[str]) -> None:
    Path("staging.env").write_text("Region=eu-west-1\n", encoding="utf-8")
    secret.complete(stage(), {"POLYGON_API_KEY": KEY, "DATABASE_URL": URL}, None)
    metrics = boto3.client("cloudwatch", region_name="eu-west-1")

    def told() -> set[tuple[str, str]]:
        found = metrics.list_metrics(Namespace="StockTracker/stock-tracker-staging")["Metrics"]
        return {(each["MetricName"], each["Dimensions"][0]["Value"]) for each in found}

    assert told() == set()
    assert command_line.main(["ready", "--stage", "staging", "--folder", "."]) == 0
    alarms = {alarm["MetricName"] for alarm in resources("AWS::CloudWatch::Alarm").values()}
    assert told() == {("RunSucceeded", "daily_update"), ("FreshnessSessions", "daily_update")}
    assert {name for name, _ in told()} <= alarms


class TestAlarmMail:
    @pytest.fixture
    def topic(self) -> str:
        stacks = boto3.client("cloudformation", region_name="eu-west-1")
        stacks.create_stack(StackName="stock-tracker-staging", TemplateBody=TestFailedStacks.BODY)
        found = stacks.describe_stack_resource(StackName="stock-tracker-staging", LogicalResourceId="Alarms")
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def test_nobody_is_a_warning(self) -> None:
        assert check_alarm_mail(stage())["status"] == "warning"

    def test_an_address_without_a_subscription_fails(self, topic: str) -> None:
        assert check_alarm_mail(stage(AlarmEmail="a@example.com"))["status"] == "failed"

    def test_a_confirmed_address_is_named(self, topic: str) -> None:
        boto3.client("sns", region_name="eu-west-1").subscribe(
            TopicArn=topic, Protocol="email", Endpoint="a@example.com"
        )
        check = check_alarm_mail(stage(AlarmEmail="a@example.com"))
        assert (check["status"], check["message"]) == ("ok", "a@example.com gets the mails of the alarms")

    def test_an_unconfirmed_address_fails_with_its_cure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pending = [{"SubscriptionArn": "PendingConfirmation", "Endpoint": "a@example.com"}]
        monkeypatch.setattr("deploy.doctor._subscriptions", lambda _: pending)  # moto confirms at once
        check = check_alarm_mail(stage(AlarmEmail="a@example.com"))
        assert check["status"] == "failed"
        assert check["message"] == "a@example.com has not confirmed the subscription to the alarms"

    def test_a_stack_that_is_not_there_is_a_warning(self) -> None:
        check = check_alarm_mail(stage(AlarmEmail="a@example.com"))
        assert check["status"] == "warning"
        assert check["message"].startswith("the subscriptions to the alarms cannot be read: ")


def test_every_key_has_a_question() -> None:
    assert set(secret.ASKED) == set(SECRET_KEYS)
