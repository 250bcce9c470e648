"""The template: it is valid, grants least privilege, and matches the code that it runs."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from cfnlint.api import lint_file
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonata import Jsonata

from config import SECRET_KEYS, Settings
from domain.clock import Deadline, SystemClock
from entrypoints.payload import parse_payload
from entrypoints.telemetry import namespace
from layer.wheels import CERTIFICATES, PLATFORMS
from storage.engine import open_engine
from tests.support.template import TEMPLATE_FILE, every_mapping, resources, state_machine, template, transformed
from web.server import CONTENT_POLICY

METRICS = {
    "RunSucceeded",
    "RunFailed",
    "RunPartial",
    "SessionsLoaded",
    "RowsInserted",
    "RowsUpdated",
    "RowsCorrected",
    "RowsWithdrawn",
    "RowsRejected",
    "ApiCalls",
    "RecipientsNotReached",
    "DurationSeconds",
    "PeakMemoryMB",
    "FreshnessSessions",
}  # in the namespace StockTracker, per job and in total
# The service authorization reference lists no narrower resource for these.
WITHOUT_RESOURCES = {
    *("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"),
    *("logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery"),
    *("logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups"),
    *("xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets"),
}
OWN = {
    "Fn::If": ["IsProduction", "StockTracker", {"Fn::Sub": "StockTracker/${AWS::StackName}"}]
}  # namespace of metrics
PARTS = {"FunctionArn": "arn:aws:lambda:eu-west-1:1:function:f", "Partition": "aws", "MapConcurrency": "3"}
ALARMS = resources("AWS::CloudWatch::Alarm")


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements() -> list[dict[str, Any]]:
    """Every statement of every policy but a key's, whose only resource is that key."""
    policies = {name: each for name, each in transformed()["Resources"].items() if each["Type"] != "AWS::KMS::Key"}
    return [statement for mapping in every_mapping(policies) for statement in as_list(mapping.get("Statement", []))]


def actions(statement: dict[str, Any]) -> list[str]:
    """The actions of a statement, those under any condition among them."""
    action = statement["Action"]
    return action["Fn::If"][1:] if isinstance(action, dict) else as_list(action)


class TestValidity:
    def test_cfn_lint_finds_nothing(self):
        assert [str(match) for match in lint_file(TEMPLATE_FILE)] == []

    def test_sam_turns_it_into_plain_resources(self):
        kinds = {resource["Type"] for resource in transformed()["Resources"].values()}
        assert not {kind for kind in kinds if kind.startswith("AWS::Serverless")}
        assert {"AWS::Lambda::Function", "AWS::Events::Rule", "AWS::StepFunctions::StateMachine"} <= kinds

    def test_every_parameter_has_a_default_and_is_used(self):
        body = json.dumps([template()[part] for part in ("Resources", "Conditions", "Rules")])
        for name, parameter in template()["Parameters"].items():
            assert "Default" in parameter
            assert f'"Ref": "{name}"' in body or f"${{{name}}}" in body
        shown = template()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
        assert {name for group in shown for name in group["Parameters"]} == set(template()["Parameters"])


class TestPolicies:
    def test_no_policy_allows_every_action(self):
        allowed = [action for statement in statements() for action in actions(statement)]
        assert len(allowed) > 10
        assert not [action for action in allowed if "*" in action]

    def test_no_policy_is_for_every_resource_unless_the_service_knows_none(self):
        for statement in statements():
            if "*" in as_list(statement.get("Resource", [])):
                assert set(actions(statement)) <= WITHOUT_RESOURCES

    def test_no_policy_is_for_everyone(self):
        for statement in statements():
            principal = statement.get("Principal", {"Service": "lambda.amazonaws.com"})
            assert list(principal) == ["Service"]
            assert "*" not in principal["Service"]

    def test_no_role_takes_a_policy_that_is_not_in_the_template(self):
        for role in resources("AWS::IAM::Role").values():
            assert "ManagedPolicyArns" not in role

    def test_only_our_own_rules_may_invoke_the_function(self):
        permissions = resources("AWS::Lambda::Permission")
        assert len(permissions) == 4
        for permission in permissions.values():
            assert permission["Principal"] == "events.amazonaws.com"
            assert permission["SourceArn"]["Fn::GetAtt"][0] in resources("AWS::Events::Rule")

    def test_no_secret_is_in_the_template(self):
        assert not [name for name, parameter in template()["Parameters"].items() if parameter.get("NoEcho")]
        kinds = {resource["Type"] for resource in transformed()["Resources"].values()}
        assert "AWS::SecretsManager::Secret" not in kinds
        assert "resolve:secretsmanager" not in json.dumps(template())
        assert "resolve:ssm-secure" not in json.dumps(template())

    def test_the_function_may_read_its_own_secret_and_no_other(self):
        policies = resources("AWS::IAM::Role")["FunctionRole"]["Policies"]
        (policy,) = [each for each in policies if each.get("PolicyName") == "secret"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        action, resource = statement["Action"]["Fn::If"], statement["Resource"]["Fn::If"]
        assert action == ["WithSecretsManager", "secretsmanager:GetSecretValue", "ssm:GetParameter"]
        variable = TestFunction.VARIABLES["SECRET_ID"]["Fn::If"]
        assert variable[0] == resource[0] == action[0]
        assert resource[1]["Fn::Sub"].endswith(f":secret:{variable[1]['Fn::Sub']}-??????")
        assert resource[2]["Fn::Sub"].endswith(f":parameter{variable[2]['Fn::Sub'].removeprefix('ssm:')}")


class TestMarketPage:
    def test_its_headers_are_those_of_the_local_server(self):
        headers = resources("AWS::CloudFront::ResponseHeadersPolicy")["SiteHeaders"]["ResponseHeadersPolicyConfig"]
        policy = headers["SecurityHeadersConfig"]["ContentSecurityPolicy"]
        assert policy["ContentSecurityPolicy"] == CONTENT_POLICY

    def test_it_is_published_only_if_asked_for_and_then_private_first(self):
        parameter = template()["Parameters"]["MarketPage"]
        assert (parameter["Default"], parameter["AllowedValues"]) == ("none", ["none", "private", "public"])
        for name, resource in transformed()["Resources"].items():
            if name.startswith("Site"):
                assert resource["Condition"] in ("WithSite", "WithSiteLogin")

    def test_only_the_distribution_reads_the_bucket(self):
        bucket = resources("AWS::S3::Bucket")["SiteBucket"]
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        (statement,) = resources("AWS::S3::BucketPolicy")["SiteBucketPolicy"]["PolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "cloudfront.amazonaws.com"}
        assert statement["Action"] == "s3:GetObject"
        assert "${SiteDistribution}" in str(statement["Condition"])


class TestFunction:
    FUNCTION = resources("AWS::Lambda::Function")["Function"]
    VARIABLES = FUNCTION["Environment"]["Variables"]

    def test_it_is_what_the_design_says(self):
        shown = (self.FUNCTION["Runtime"], self.FUNCTION["MemorySize"], self.FUNCTION["Timeout"])
        assert shown == ("python3.13", {"Ref": "MemorySize"}, 300)
        memory = template()["Parameters"]["MemorySize"]
        assert (memory["Default"], memory["MinValue"], memory["MaxValue"]) == (256, 256, 10_240)
        assert template()["Parameters"]["Architecture"]["AllowedValues"] == list(PLATFORMS)
        assert len(self.FUNCTION["Layers"]) == 2

    def test_its_variables_are_settings_with_the_defaults_of_the_code(self):
        defaults = Settings()
        for name, value in self.VARIABLES.items():
            assert name.lower() in Settings.model_fields
            if isinstance(value, dict) and "Ref" in value:
                parameter = template()["Parameters"][value["Ref"]]["Default"]
                field = getattr(defaults, name.lower())
                shown = ",".join(field) if isinstance(field, tuple) else "" if field is None else str(field)
                assert str(parameter) == shown
        left_out = set(Settings.model_fields) - {name.lower() for name in self.VARIABLES}
        assert left_out == {name.lower() for name in SECRET_KEYS} - {"database_url"}

    def test_what_it_writes_goes_where_lambda_lets_it(self):
        assert self.VARIABLES["OUTBOX"].startswith("/tmp/")

    def test_the_defaults_leave_room_for_a_list_of_symbols(self):
        parameters = template()["Parameters"]
        sizes = [
            len(name) + len(str(parameters[v["Ref"]]["Default"])) for name, v in self.VARIABLES.items() if "Ref" in v
        ]
        assert sum(sizes) < 1024  # of 4096

    def test_the_url_of_its_own_database_verifies_the_server(self):
        condition, url, otherwise = self.VARIABLES["DATABASE_URL"]["Fn::If"]
        assert (condition, otherwise) == ("WithDatabase", {"Ref": "AWS::NoValue"})
        filled = re.sub(r"\$\{[\w.]+\}", "5432", url["Fn::Sub"])
        assert filled.endswith(f"?sslmode=verify-full&sslrootcert=/opt/{CERTIFICATES}")
        here = filled.replace("/opt/", f"{TEMPLATE_FILE.parent}/layer/")
        open_engine.__wrapped__(here).dispose()


class TestSchedules:
    RULES = resources("AWS::Events::Rule")

    @pytest.mark.parametrize("rule", RULES)
    def test_an_input_is_a_payload_that_the_function_takes(self, rule):
        (target,) = self.RULES[rule]["Targets"]
        assert parse_payload(json.loads(target["Input"]), Settings(), date(2026, 11, 24)).payload == target["Input"]

    @pytest.mark.parametrize("rule", RULES)
    def test_an_undeliverable_event_is_retried_and_then_dead_lettered(self, rule):
        (target,) = self.RULES[rule]["Targets"]
        assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
        assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}}

    def times(self, state: Any) -> dict[str, str]:
        """The schedule by job, of the rules with a state."""
        return {
            json.loads(rule["Targets"][0]["Input"])["job_type"]: rule["ScheduleExpression"]
            for rule in self.RULES.values()
            if rule.get("State") == state
        }

    def test_the_times_are_those_of_the_local_scheduler(self):
        times = self.times(None)
        assert times == {"daily_update": "cron(0 13 ? * TUE-SAT *)", "weekly_report": "cron(0 16 ? * SAT *)"}
        assert "daily_update at 13:00 UTC, Tuesday to Saturday; weekly_report at 16:00 UTC on Saturday" in (
            TEMPLATE_FILE.with_name("README.md").read_text(encoding="utf-8")
        )

    def test_each_job_has_a_second_chance_that_can_be_turned_off(self):
        times = self.times({"Fn::If": ["WithSecondChance", "ENABLED", "DISABLED"]})
        assert times == {"daily_update": "cron(0 18 ? * TUE-SAT *)", "weekly_report": "cron(0 17 ? * SAT *)"}
        assert template()["Parameters"]["SecondChance"]["Default"] == "true"

    def test_the_dead_letters_take_from_the_rules_by_their_names(self):
        (policy,) = resources("AWS::SQS::QueuePolicy").values()
        (statement,) = policy["PolicyDocument"]["Statement"]
        sources = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
        names = [rule["Name"]["Fn::Sub"] for rule in self.RULES.values()]
        assert sorted(source["Fn::Sub"].rpartition("rule/")[2] for source in sources) == sorted(names)

    def test_a_failed_run_is_retried_and_then_dead_lettered(self):
        (config,) = resources("AWS::Lambda::EventInvokeConfig").values()
        assert config["MaximumRetryAttempts"] == 2
        assert config["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["DeadLetters", "Arn"]}


class TestAlarms:
    def test_every_kind_of_failure_has_one(self):
        watched = {
            ("StockTracker" if alarm["Namespace"] == OWN else alarm["Namespace"], alarm["MetricName"])
            for alarm in ALARMS.values()
        }
        assert watched == {
            ("StockTracker", "RunSucceeded"),
            ("StockTracker", "FreshnessSessions"),
            ("StockTracker", "RecipientsNotReached"),
            ("AWS/Lambda", "Errors"),
            ("AWS/Lambda", "Throttles"),
            ("AWS/Lambda", "Duration"),
            ("AWS/SQS", "NumberOfMessagesSent"),
            ("AWS/States", "ExecutionsFailed"),
            ("AWS/States", "ExecutionsAborted"),
            ("AWS/RDS", "FreeStorageSpace"),
            ("AWS/RDS", "DatabaseConnections"),
        }

    @pytest.mark.parametrize("name", ALARMS)
    def test_it_notifies_the_topic_and_says_what_to_do(self, name):
        assert ALARMS[name]["AlarmActions"] == [{"Ref": "Alarms"}]
        assert len(ALARMS[name]["AlarmDescription"]) > 40

    def test_ten_alarms_are_free_without_a_database(self):
        kinds = {name: each.get("Condition") for name, each in transformed()["Resources"].items() if name in ALARMS}
        assert len([name for name, condition in kinds.items() if condition is None]) <= 10
        assert {condition for condition in kinds.values() if condition} == {"WithDatabase"}

    def test_what_can_recover_is_told_when_it_has(self):
        for alarm in ALARMS.values():
            if alarm["TreatMissingData"] == "notBreaching":  # an event: the time after it says nothing
                assert "OKActions" not in alarm
            else:
                assert alarm["OKActions"] == [{"Ref": "Alarms"}]

    def test_a_run_that_failed_counts_until_the_next_one(self):
        for name in ("ErrorsAlarm", "ThrottlesAlarm", "DurationAlarm", "RecipientsAlarm"):
            assert ALARMS[name]["TreatMissingData"] == "ignore"

    def test_each_stage_has_metrics_of_its_own(self):
        stages = {"stock-tracker": "StockTracker", "stock-tracker-staging": "StockTracker/stock-tracker-staging"}
        for stack, expected in stages.items():
            assert namespace(stack) == expected
            assert OWN["Fn::If"][1 if stack == "stock-tracker" else 2] in (
                expected,
                {"Fn::Sub": expected.replace(stack, "${AWS::StackName}")},
            )
        assert template()["Conditions"]["IsProduction"] == {"Fn::Equals": [{"Ref": "AWS::StackName"}, "stock-tracker"]}

    def test_the_topic_can_be_encrypted_with_a_key_that_cloudwatch_may_use(self):
        (topic,) = resources("AWS::SNS::Topic").values()
        assert topic["KmsMasterKeyId"]["Fn::If"][:2] == ["WithEncryptedAlarms", {"Ref": "AlarmsKey"}]
        (key,) = resources("AWS::KMS::Key").values()
        users = [each for each in key["KeyPolicy"]["Statement"] if "Service" in each["Principal"]]
        assert [each["Principal"]["Service"] for each in users] == ["cloudwatch.amazonaws.com"]
        assert set(users[0]["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
        assert users[0]["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}

    @pytest.mark.parametrize("name", ALARMS)
    def test_cloudwatch_takes_its_window(self, name):
        period, window = ALARMS[name]["Period"], ALARMS[name]["Period"] * ALARMS[name]["EvaluationPeriods"]
        assert period % 60 == 0
        assert window <= (7 * 86_400 if period >= 3_600 else 86_400)

    def test_the_duration_alarm_is_between_a_run_that_stops_in_time_and_the_timeout(self):
        reserve = 300 - Deadline(300, SystemClock()).remaining
        threshold = ALARMS["DurationAlarm"]["Threshold"] / 1000
        assert 300 - reserve < threshold < TestFunction.FUNCTION["Timeout"]

    def test_logs_expire(self):
        groups = resources("AWS::Logs::LogGroup")
        assert groups
        assert all("RetentionInDays" in group for group in groups.values())


WRITTEN, FILLED = resources("AWS::CloudWatch::Dashboard")["Dashboard"]["DashboardBody"]["Fn::Sub"]
DATABASE_ALARMS = FILLED["DatabaseAlarms"]["Fn::If"][1]["Fn::Sub"]
BODY = json.loads(
    WRITTEN.replace("${MemorySize}", "256")
    .replace("${Namespace}", "StockTracker")
    .replace("${DatabaseAlarms}", DATABASE_ALARMS)
)
SHOWN = [metric for widget in BODY["widgets"] for metric in widget["properties"].get("metrics", [])]


class TestDashboard:
    def test_it_shows_every_metric(self):
        assert {metric[1] for metric in SHOWN if metric[0] == "StockTracker"} == METRICS

    def test_it_shows_every_alarm(self):
        (widget,) = [widget for widget in BODY["widgets"] if widget["type"] == "alarm"]
        assert {alarm.strip("${}").removesuffix(".Arn") for alarm in widget["properties"]["alarms"]} == set(ALARMS)

    def test_it_is_json_without_a_database_too_and_of_its_stage(self):
        assert FILLED["DatabaseAlarms"]["Fn::If"][::2] == ["WithDatabase", ""]
        json.loads(WRITTEN.replace("${DatabaseAlarms}", "").replace("${MemorySize}", "256"))
        assert FILLED["Namespace"] == OWN
        assert '"StockTracker"' not in WRITTEN

    def test_its_address_is_that_of_the_partitions_console(self):
        address, filled = template()["Outputs"]["DashboardUrl"]["Value"]["Fn::Sub"]
        assert address.startswith("https://${AWS::Region}.${Domain}/cloudwatch/")
        assert filled == {"Domain": {"Fn::FindInMap": ["Console", {"Ref": "AWS::Partition"}, "Domain"]}}
        assert set(template()["Mappings"]["Console"]) == {"aws", "aws-cn", "aws-us-gov"}

    def test_a_dimension_is_a_job(self):
        jobs = {metric[3] for metric in SHOWN if metric[0] == "StockTracker" and metric[2:3] == ["job"]}
        assert jobs == {"initialize", "daily_update", "weekly_report"}

    def test_no_widgets_overlap(self):
        cells = [
            (x, y)
            for widget in BODY["widgets"]
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) == 23


class TestDatabase:
    DATABASE = resources("AWS::RDS::DBInstance")["Database"]

    def test_it_is_small_private_encrypted_kept_and_backed_up(self):
        assert template()["Parameters"]["DatabaseClass"]["Default"] == "db.t4g.micro"
        assert self.DATABASE["StorageEncrypted"] is True
        assert self.DATABASE["PubliclyAccessible"] is False
        assert self.DATABASE["DeletionProtection"] is True
        assert self.DATABASE["BackupRetentionPeriod"] >= 7
        assert transformed()["Resources"]["Database"]["DeletionPolicy"] == "Snapshot"

    def test_it_is_created_only_on_request(self):
        for resource in transformed()["Resources"].values():
            if resource["Type"].startswith(("AWS::RDS::", "AWS::EC2::")):
                assert resource["Condition"] in ("WithDatabase", "InVpc")

    def test_ranges_in_parallel_leave_half_of_its_connections(self):
        most = template()["Parameters"]["MapConcurrency"]["MaxValue"]
        assert most <= 80 / 2
        assert ALARMS["DatabaseConnectionsAlarm"]["Threshold"] < 80

    def test_its_password_is_rds_own_and_read_by_the_function_only(self):
        assert self.DATABASE["ManageMasterUserPassword"] is True
        assert "MasterUserPassword" not in self.DATABASE
        secret = {"Fn::GetAtt": ["Database", "MasterUserSecret.SecretArn"]}
        assert TestFunction.VARIABLES["DATABASE_SECRET_ID"]["Fn::If"][:2] == ["WithDatabase", secret]
        readers = [each for each in statements() if each.get("Resource") == secret]
        assert [each["Action"] for each in readers] == ["secretsmanager:GetSecretValue"]

    def test_only_the_function_reaches_it(self):
        (rule,) = resources("AWS::EC2::SecurityGroup")["DatabaseSecurityGroup"]["SecurityGroupIngress"]
        assert (rule["FromPort"], rule["ToPort"]) == (5432, 5432)
        assert rule["SourceSecurityGroupId"] == {"Fn::GetAtt": ["FunctionSecurityGroup", "GroupId"]}


class TestStateMachine:
    MACHINE = state_machine(**PARTS)
    EACH = MACHINE["States"]["Each range"]["ItemProcessor"]

    def test_the_template_fills_its_substitutions(self):
        (machine,) = resources("AWS::StepFunctions::StateMachine").values()
        assert set(machine["DefinitionSubstitutions"]) == set(PARTS)

    @pytest.mark.parametrize("machine", [MACHINE, EACH], ids=["machine", "range"])
    def test_every_state_leads_to_one_that_exists_and_is_reached(self, machine):
        states = machine["States"]
        led = {
            m[key]
            for state in states.values()
            for m in outside_of_map(state)
            for key in ("Next", "Default")
            if key in m
        }
        assert {*led, machine["StartAt"]} == set(states)
        for state in states.values():
            assert state["Type"] in ("Choice", "Fail", "Succeed") or "Next" in state

    def test_the_map_is_distributed_and_its_concurrency_is_a_number(self):
        assert self.EACH["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
        assert self.MACHINE["States"]["Each range"]["MaxConcurrency"] == 3

    def test_a_wrong_payload_or_setting_is_not_retried(self):
        tried = {name for retry in self.EACH["States"]["Run"]["Retry"] for name in retry["ErrorEquals"]}
        assert {"ApiError", "DataError", "Lambda.TooManyRequestsException"} <= tried
        assert {"Runtime.ExitError", "Runtime.OutOfMemory", "Lambda.Unknown", "Sandbox.Timedout"} <= tried
        assert not {"PayloadError", "ConfigError", "States.ALL"} & tried

    def test_a_run_that_stays_partial_fails_after_100_runs(self):
        bound, again = [choice["Condition"] for choice in self.EACH["States"]["Is it done"]["Choices"]]
        for runs, expected in ((99, False), (100, True)):
            assert evaluate(bound, {"status": "partial"}, runs=runs) is expected
        assert evaluate(again, {"status": "partial"}, runs=99) is True
        assert evaluate(again, {"status": "ok"}, runs=1) is False

    def test_what_a_range_returns_is_small_however_many_symbols_it_has(self):
        run = self.EACH["States"]["Run"]
        symbols = [f"SYM{n}" for n in range(3_000)]
        days = {"start": "2026-01-02", "end": "2026-01-30"}
        done = {"status": "ok", "run_id": "1", "symbols": symbols, "sessions": {"count": 1}, "warnings": symbols}
        output = evaluate(run["Output"], None, range=days, states={"result": {"Payload": done}})
        assert output == {**days, "status": "ok", "run_id": "1", "sessions": {"count": 1}}
        (catch,) = run["Catch"]
        error = {"Error": "DataError", "Cause": "x" * 5_000}
        failed = evaluate(catch["Output"], None, range=days, states={"errorOutput": error})
        assert failed == {**days, "status": "failed", "error": "DataError", "cause": "x" * 500}
        assert 27 * len(json.dumps(failed)) < 256 * 1024
        cause = evaluate(self.MACHINE["States"]["Failed"]["Cause"], [failed] * 300)
        assert len(cause) == 30_000

    def test_a_range_that_ends_without_a_result_fails_the_whole(self):
        assert self.MACHINE["States"]["Each range"]["ToleratedFailurePercentage"] == 0

    def test_failures_are_logged_and_executions_traced(self):
        (machine,) = resources("AWS::StepFunctions::StateMachine").values()
        assert machine["TracingConfiguration"] == {"Enabled": True}
        assert machine["LoggingConfiguration"]["Level"] == "ERROR"

    def test_any_failed_range_fails_the_execution(self):
        (choice,) = self.MACHINE["States"]["Has any failed"]["Choices"]
        assert evaluate(choice["Condition"], [{"status": "ok"}, {"status": "failed"}]) is True
        assert evaluate(choice["Condition"], [{"status": "failed"}]) is True
        assert evaluate(choice["Condition"], [{"status": "ok"}, {"status": "nothing_to_do"}]) is False


def outside_of_map(state: dict[str, Any]) -> list[dict[str, Any]]:
    """A state with its choices and catchers, without the machine inside a map."""
    return list(every_mapping({key: value for key, value in state.items() if key != "ItemProcessor"}))


def evaluate(expression: str, given: Any, **variables: Any) -> Any:
    """Evaluate ``{% … %}`` as Step Functions does."""
    parsed = Jsonata(re.fullmatch(r"\s*\{%(.*)%\}\s*", expression, re.DOTALL)[1])
    frame = parsed.create_frame()
    for name, value in {"states": {"input": given}, **variables}.items():
        frame.bind(name, value)
    return parsed.evaluate(None, frame)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")  # in the library
class TestRanges:
    CUT = TestStateMachine.MACHINE["States"]["Cut into ranges"]["Output"]

    def cut(self, payload: dict[str, Any]) -> list[dict[str, Any]]:
        """The payload of each range, as it begins."""
        found = evaluate(self.CUT, payload)
        each = TestStateMachine.MACHINE["States"]["Each range"]
        assert (each["ItemsPath"], each["ItemSelector"]["payload.$"]) == ("$.ranges", "$.payload")
        begin = TestStateMachine.EACH["States"]["Begin"]["Assign"]["payload"]
        return [evaluate(begin, {"payload": found["payload"], "range": each}) for each in found["ranges"]]

    def test_a_long_list_of_symbols_is_held_once(self):
        payload = {
            "job_type": "initialize",
            "symbols": ["SYM00001"] * 3_000,
            "start": "2003-09-10",
            "end": "2026-11-27",
        }
        found = evaluate(self.CUT, payload)
        assert len(found["ranges"]) > 300
        assert len(json.dumps(found)) < 256 * 1024

    def test_27_ranges_of_3000_symbols_end_within_what_a_state_may_hold(self):
        """Each range is run until it is no longer partial, as the machine's own expressions decide."""
        states, limit = TestStateMachine.EACH["States"], 256 * 1024
        bound, again = [choice["Condition"] for choice in states["Is it done"]["Choices"]]
        (any_failed,) = TestStateMachine.MACHINE["States"]["Has any failed"]["Choices"]
        symbols, start = [f"SYM{n:05}" for n in range(3_000)], date(2021, 1, 4)
        payload = {"job_type": "initialize", "symbols": symbols, "start": str(start), "range_days": 60}
        ranges = self.cut({**payload, "end": str(start + timedelta(days=27 * 60 - 1))})
        outputs = []
        for each in ranges:
            assert len(json.dumps(each)) < limit
            output, runs, days = {"status": "partial"}, 0, {"start": each["start"], "end": each["end"]}
            while evaluate(again, output, runs=runs):
                runs += 1
                assert not evaluate(bound, output, runs=runs)
                status = "ok" if runs == 2 else "partial"
                done = {"status": status, "run_id": "1" * 32, "symbols": symbols, "warnings": symbols}
                output = evaluate(states["Run"]["Output"], None, range=days, states={"result": {"Payload": done}})
            assert runs == 2
            outputs.append(output)

        assert len(outputs) == 27
        assert len(json.dumps(outputs)) < limit
        assert not evaluate(any_failed["Condition"], outputs)

    def test_a_payload_without_a_start_is_run_as_it_is(self):
        payload = {"job_type": "daily_update", "symbols": "*"}
        assert self.cut(payload) == [payload]

    def test_an_open_end_is_yesterday(self):
        start = datetime.now(UTC).date() - timedelta(days=60)
        ranges = self.cut({"job_type": "initialize", "start": str(start)})
        assert ranges[-1]["end"] in {str(datetime.now(UTC).date() - timedelta(days=n)) for n in (1, 2)}

    @settings(max_examples=60, deadline=None)
    @given(st.dates(date(2003, 9, 10), date(2030, 1, 1)), st.integers(0, 30), st.integers(0, 89), st.integers(1, 90))
    @example(date(2024, 2, 28), 29, 3, 28)  # a leap year and two changes of the clocks
    def test_every_day_is_in_one_range(self, start, full, rest, width):
        days = full * width + rest % width
        payload = {"job_type": "initialize", "symbols": "*", "start": str(start), "range_days": width}

        ranges = self.cut({**payload, "end": str(start + timedelta(days=days))})

        covered = [
            date.fromisoformat(each["start"]) + timedelta(days=n)
            for each in ranges
            for n in range((date.fromisoformat(each["end"]) - date.fromisoformat(each["start"])).days + 1)
        ]
        assert covered == [start + timedelta(days=n) for n in range(days + 1)]
        for each in ranges[:3]:
            assert set(each) == {"job_type", "symbols", "start", "end"}
        for each in (ranges[0], ranges[-1]):
            parse_payload(each, Settings(), date(2099, 1, 1))
