"""The workflow that deploys, and the role that it takes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from cfnlint.api import lint_file
from cfnlint.decode import decode_str

from deploy.stage import stack_name
from tests.support.template import ROOT, every_mapping, transformed

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))
CI = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
ROLE_FILE = ROOT / "deploy" / "role.yaml"
ROLE: Any = decode_str(ROLE_FILE.read_text(encoding="utf-8"))[0]["Resources"]["Role"]["Properties"]
STATEMENTS = ROLE["Policies"][0]["PolicyDocument"]["Statement"]
ON = True  # YAML takes the key `on` for that
MACHINES = [each for each in transformed()["Resources"].values() if each["Type"].startswith("AWS::IAM::Role")]


class TestWorkflow:
    DEPLOY = WORKFLOW["jobs"]["deploy"]

    def test_it_deploys_staging_from_main_and_production_from_a_tag_after_the_tests(self) -> None:
        assert WORKFLOW[ON] == {"push": {"branches": ["main"], "tags": ["v*"]}}
        chosen = "${{ github.ref_type == 'tag' && 'production' || 'staging' }}"
        assert self.DEPLOY["environment"] == self.DEPLOY["env"]["STAGE"] == chosen
        assert self.DEPLOY["needs"] == "ci"
        assert "workflow_call" in CI[ON]
        assert "push" not in CI[ON], "main is tested once"

    def test_it_ends_with_the_doctor(self) -> None:
        assert [step["run"] for step in self.DEPLOY["steps"] if "run" in step] == ["make deploy", "make doctor"]

    def test_a_running_deployment_is_never_cancelled(self) -> None:
        assert WORKFLOW["concurrency"]["cancel-in-progress"] is False

    def test_no_key_is_stored(self) -> None:
        assert self.DEPLOY["permissions"] == {"contents": "read", "id-token": "write"}
        assert WORKFLOW["permissions"] == {}
        assert "secrets." not in (ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8")


class TestRole:
    def test_cfn_lint_finds_nothing(self) -> None:
        assert [str(match) for match in lint_file(ROLE_FILE)] == []

    def test_only_the_two_environments_of_one_repository_may_take_it(self) -> None:
        (statement,) = ROLE["AssumeRolePolicyDocument"]["Statement"]
        claims = statement["Condition"]["StringEquals"]
        assert claims["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
        subjects = [each["Fn::Sub"] for each in claims["token.actions.githubusercontent.com:sub"]]
        assert subjects == [f"repo:${{Repository}}:environment:{stage}" for stage in ("staging", "production")]

    def test_it_cannot_change_itself(self) -> None:
        assert not ROLE["RoleName"].startswith(stack_name("production"))

    @pytest.mark.parametrize("statement", [s for s in STATEMENTS if s["Resource"] == "*"], ids=lambda s: s["Sid"])
    def test_what_it_may_do_everywhere_is_listed_by_action(self, statement: dict[str, Any]) -> None:
        assert not [action for action in statement["Action"] if "*" in action or action.startswith(("iam:", "ssm:"))]

    def test_it_reads_no_secret(self) -> None:
        actions = [action for each in STATEMENTS for action in each["Action"]]
        assert not {"secretsmanager:GetSecretValue", "kms:Decrypt", "ssm:*", "secretsmanager:*"} & set(actions)

    def test_it_passes_roles_to_the_services_of_the_template_only(self) -> None:
        (condition,) = [each["Condition"] for each in STATEMENTS if each["Action"] == "iam:PassRole"]
        used = {m["Service"] for role in MACHINES for m in every_mapping(role["Properties"]) if "Service" in m}
        assert set(condition["StringEquals"]["iam:PassedToService"]) == used
