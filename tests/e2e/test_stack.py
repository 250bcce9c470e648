"""The deployed stack on a local AWS: the same template, the same zips, its own roles, and real servers around it.

The tests build on each other and run in this order: deploy, load, repeat, fail, deploy again, remove.
"""

from __future__ import annotations

import json
import urllib.request
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.calendar import last_sessions
from sandbox.server import Fault
from tests.e2e.conftest import NAME, SYMBOLS, Stack, wait_for
from tests.support import cloudwatch

TODAY = datetime.now(UTC).date()
OURS = "StockTracker"  # the local AWS does not know AWS::StackName in a condition, and adds the stack's name
RUNS = "SELECT payload, status, api_calls, started_at, finished_at, error FROM job_runs ORDER BY started_at"


@pytest.fixture(scope="session")
def schedules(stack: Stack) -> dict[str, str]:
    """The rules' schedules."""
    found = stack.aws.client("events").list_rules()["Rules"]
    return {rule["Name"]: rule["ScheduleExpression"] for rule in found if rule["State"] == "ENABLED"}


def test_one_make_target_deploys_everything(stack: Stack, schedules: dict[str, str]) -> None:
    assert stack.status == "CREATE_COMPLETE"
    assert schedules == {
        "stock-tracker-daily-update": "cron(0 13 ? * TUE-SAT *)",
        "stock-tracker-weekly-report": "cron(0 16 ? * SAT *)",
        "stock-tracker-second-update": "cron(0 18 ? * TUE-SAT *)",
        "stock-tracker-second-report": "cron(0 17 ? * SAT *)",
    }


def test_initialize_loads_the_history(stack: Stack) -> None:
    result = stack.invoke("initialize")

    assert result["status"] == "ok", result
    assert result["rows"]["inserted"] == 350
    stored = stack.rows("SELECT symbol, count(*), max(date) AS last FROM stock_data GROUP BY symbol ORDER BY symbol")
    assert [row["symbol"] for row in stored] == SYMBOLS
    assert {(row["count"], row["last"].date()) for row in stored} == {(70, last_sessions(1, TODAY)[0])}


def test_daily_update_loads_what_is_missing(stack: Stack) -> None:
    (gone,) = last_sessions(1, TODAY)
    stack.rows(f"DELETE FROM stock_data WHERE date = '{gone}' RETURNING 1")
    stack.rows(f"UPDATE coverage SET last_session = '{last_sessions(2, TODAY)[0]}' RETURNING 1")

    printed = stack.aws.make("aws-invoke", "JOB=daily_update")

    result = json.loads(printed[printed.index("{") :])
    assert (result["status"], result["rows"]["inserted"]) == ("ok", 5)
    assert stack.invoke("daily_update")["status"] == "nothing_to_do"


def test_weekly_report_is_mailed_with_its_charts(stack: Stack) -> None:
    result = stack.invoke("weekly_report")

    assert result["status"] == "sent", result
    (mail,) = stack.mailbox.mails
    assert mail["Subject"] == result["subject"]
    pictures = [part.get_content() for part in mail.walk() if part.get_content_type() == "image/png"]
    assert len(pictures) == 5
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert stack.invoke("weekly_report")["status"] == "already_sent"


def test_the_doctor_shows_the_set_up_of_the_function_and_is_no_run(stack: Stack) -> None:
    before = stack.rows(RUNS)
    mails = len(stack.mailbox.mails)

    printed = stack.aws.make("doctor")

    lines = [line.split() for line in printed.splitlines() if line and not line.startswith(" ")]
    found = {name: status for status, name, *_ in lines[:-1]}
    assert {found[name] for name in ("database", "tables", "rights", "key", "mail", "charts", "freshness")} == {"ok"}
    assert stack.rows(RUNS) == before
    assert len(stack.mailbox.mails) == mails


def test_the_result_is_the_last_line_of_the_log(stack: Stack) -> None:
    result = stack.invoke("daily_update")
    last = [line for line in stack.log_lines() if "message" in line][-1]
    assert last["message"] == "daily_update nothing_to_do"
    assert last["run_id"] == last["result"]["run_id"] == result["run_id"]
    assert last["result"]["rows"] == result["rows"]


def test_the_state_machine_repeats_a_partial_run_until_it_is_done(stack: Stack) -> None:
    first, last = last_sessions(90, TODAY)[0], last_sessions(82, TODAY)[0]
    payload = {"job_type": "initialize", "symbols": "*", "start": str(first), "end": str(last)}
    # A timeout of 12 s leaves 7 s, in which a provider that takes 1.2 s per call does not answer all nine.
    stack.market.fail_next(*[Fault(delay=1.2)] * 200)
    with stack.configured(Timeout=12):
        execution = stack.run_machine(payload)
    stack.market.forget_faults()

    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    runs = [run["status"] for run in stack.rows(RUNS) if json.loads(run["payload"]) == payload]
    assert runs == ["partial"] * (len(runs) - 1) + ["ok"]
    assert len(runs) >= 2
    stored = stack.rows(f"SELECT count(*) FROM stock_data WHERE date BETWEEN '{first}' AND '{last}'")
    assert stored == [{"count": 9 * 5}]


@pytest.mark.slow
def test_the_map_loads_disjoint_ranges_in_parallel(stack: Stack) -> None:
    first, last = last_sessions(118, TODAY)[0], last_sessions(97, TODAY)[0]
    payload = {"job_type": "initialize", "symbols": "*", "start": str(first), "end": str(last), "range_days": 12}

    execution = stack.run_machine(payload)

    assert execution["status"] == "SUCCEEDED", execution.get("cause")
    results = json.loads(execution["output"])
    days = [(result["sessions"]["first"], result["sessions"]["last"]) for result in results]
    assert len(days) >= 3
    assert all(end < start for (_, end), (start, _) in zip(days, days[1:], strict=False))
    assert sum(result["sessions"]["count"] for result in results) == 22
    assert sum(result["rows"]["inserted"] for result in results) == 22 * 5
    within = f"held_from >= '{first}' AND held_to <= '{last}'"
    held = stack.rows(f"SELECT held_from, held_to FROM job_runs WHERE {within} ORDER BY held_from")
    assert [(str(run["held_from"]), str(run["held_to"])) for run in held] == days  # so none waits for another


def test_the_rules_fire_with_their_inputs(stack: Stack, schedules: dict[str, str]) -> None:
    began, rules = datetime.now(UTC), stack.aws.client("events")
    first = [name for name in schedules if "second" not in name]
    for name in first:  # they are older than a minute, so that they fire at once; their targets stay
        rules.put_rule(Name=name, ScheduleExpression="rate(1 minute)", State="ENABLED")

    def both() -> bool:
        fired = {run["payload"] for run in stack.rows(RUNS) if run["started_at"] > began}
        return fired == {'{"job_type": "daily_update"}', '{"job_type": "weekly_report"}'}

    wait_for(both, 90)
    for name in first:
        rules.disable_rule(Name=name)


def test_a_failed_event_is_retried_and_then_dead_lettered(stack: Stack) -> None:
    event = {"job_type": "yearly_report"}
    stack.aws.client("lambda").invoke(FunctionName=NAME, InvocationType="Event", Payload=json.dumps(event))

    letter = stack.dead_letter()

    assert letter["requestPayload"] == event
    assert letter["requestContext"]["approximateInvokeCount"] == 3
    message = 'job_type is "yearly_report": valid are initialize, daily_update, weekly_report, doctor'
    assert letter["responsePayload"]["errorMessage"] == message


@pytest.mark.slow
def test_a_failed_execution_names_the_range_and_the_reason(stack: Stack) -> None:
    execution = stack.run_machine({"job_type": "yearly_report"})

    assert execution["status"] == "FAILED"
    assert execution["error"] == "RunFailed"
    assert "job_type is" in execution["cause"]
    assert "yearly_report" in execution["cause"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("not JSON", "is not JSON; valid is a JSON object"),
        ('{"API_KEY": "x"}', "has the key 'API_KEY', which is unknown"),
        (
            '{"POLYGON_API_KEY": "k", "DATABASE_URL": "postgresql://u:p@127.0.0.1:9/x"}',
            "PostgreSQL at 127.0.0.1:9/x cannot be reached",
        ),
    ],
)
def test_a_wrong_secret_is_named_in_one_line(stack: Stack, secret: str, message: str) -> None:
    with stack.secret(secret):
        error = stack.invoke("daily_update")["errorMessage"]
    assert message in error
    assert "\n" not in error


@pytest.mark.slow
def test_a_secret_of_another_region_is_named_in_one_line(stack: Stack) -> None:
    elsewhere = f"arn:aws:secretsmanager:us-east-1:000000000000:secret:{NAME}"
    with stack.configured(variables={"SECRET_ID": elsewhere}):
        error = stack.invoke("daily_update")["errorMessage"]
    assert error.startswith(f"SECRET_ID is '{elsewhere}', which cannot be read from Secrets Manager in eu-west-1")
    assert "\n" not in error


def test_a_missing_layer_is_named_in_one_line(stack: Stack) -> None:
    with stack.configured(Layers=[]):
        error = stack.invoke("daily_update")["errorMessage"]
    assert "No module named" in error
    assert "\n" not in error


def test_every_alarm_reaches_the_topic(stack: Stack) -> None:
    queue, topics, alarms = (stack.aws.client(service) for service in ("sqs", "sns", "cloudwatch"))
    (topic,) = [each["TopicArn"] for each in topics.list_topics()["Topics"]]
    let_in = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [{**let_in, "Resource": "arn:aws:sqs:eu-west-1:000000000000:reader"}],
    }
    url = queue.create_queue(QueueName="reader", Attributes={"Policy": json.dumps(policy)})["QueueUrl"]
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:eu-west-1:000000000000:reader")
    names = {alarm["AlarmName"] for alarm in alarms.describe_alarms()["MetricAlarms"]}
    assert len(names) == 9

    for name in names:
        alarms.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a drill")

    told = set[str]()

    def all_told() -> bool:
        messages = queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        told.update(json.loads(json.loads(message["Body"])["Message"])["AlarmName"] for message in messages)
        return told == names

    wait_for(all_told)


def test_the_log_holds_every_metric_that_the_alarms_and_the_dashboard_watch(stack: Stack) -> None:
    told = {metric for line in stack.log_lines() if "_aws" in line for metric in cloudwatch.metrics(line)}
    alarms = stack.aws.client("cloudwatch").describe_alarms()["MetricAlarms"]
    watched = {
        (alarm["MetricName"], tuple((each["Name"], each["Value"]) for each in alarm["Dimensions"]))
        for alarm in alarms
        if alarm["Namespace"].startswith(OURS)
    }
    body = json.loads(stack.aws.client("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"])
    for widget in body["widgets"]:
        for namespace, name, *rest in widget["properties"].get("metrics", []):
            if namespace.startswith(OURS):
                watched.add((name, ((rest[0], rest[1]),) if isinstance(rest[0], str) else ()))
    assert len(watched) > 15
    assert watched <= told


@pytest.mark.slow
def test_a_second_deploy_is_an_update_that_keeps_the_layer(stack: Stack, schedules: dict[str, str]) -> None:
    def layers() -> list[str]:
        found = stack.aws.client("lambda").get_function_configuration(FunctionName=NAME)["Layers"]
        return [layer["Arn"] for layer in found]

    before = layers()
    stack.deploy(MailTransport="ses")

    assert stack.status == "UPDATE_COMPLETE"
    assert layers() == before
    assert stack.invoke("daily_update")["status"] == "nothing_to_do"


@pytest.mark.slow
def test_the_report_goes_out_by_ses(stack: Stack) -> None:
    # The local SES has no identities and requires permission on all resources, which no role of ours has.
    everything: dict[str, Any] = {"Effect": "Allow", "Action": "ses:SendEmail", "Resource": "*"}
    roles = stack.aws.client("iam")
    (role,) = [each["RoleName"] for each in roles.list_roles()["Roles"] if "FunctionRole" in each["RoleName"]]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
    roles.put_role_policy(RoleName=role, PolicyName="local", PolicyDocument=policy)

    stack.aws.client("sesv2").create_email_identity(EmailIdentity="stock@example.com")

    result = stack.invoke("weekly_report", force=True)

    assert result.get("status") == "sent", result
    with urllib.request.urlopen(f"{stack.aws.environment['AWS_ENDPOINT_URL']}/_ministack/ses/messages") as answer:
        sent = json.dumps(json.load(answer))
    assert "one@example.com" in sent
    assert result["subject"].split(" - ")[1][:20] in sent
    roles.delete_role_policy(RoleName=role, PolicyName="local")


def test_destroy_removes_everything(stack: Stack) -> None:
    stack.aws.make("destroy", "ARGS=--no-prompts")
    names = [each["StackName"] for each in stack.aws.client("cloudformation").describe_stacks()["Stacks"]]
    assert NAME not in names
    assert stack.aws.client("lambda").list_functions()["Functions"] == []
