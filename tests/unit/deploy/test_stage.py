"""A stage's file: its values are the template's, and what is wrong is one line before anything is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import SECRET_KEYS, Settings
from deploy import __main__ as command_line
from deploy.sam import write_parameters
from deploy.stage import EXAMPLE, LOST_ON_THE_WAY, REGION, Stage, read_stage, stack_name
from deploy.template import read_template
from domain.errors import ConfigError
from tests.support.template import ROOT, template

TEMPLATE = read_template()
SHOWN = (ROOT / "deploy" / EXAMPLE).read_text(encoding="utf-8")


def read(text: str, name: str = "staging") -> Stage:
    """Read a stage whose file has this text."""
    Path(f"{name}.env").write_text(text, encoding="utf-8")
    return read_stage(name, Path(), TEMPLATE)


def refused(text: str) -> str:
    """Why a file is refused, without its name."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    message = str(caught.value)
    assert message.isprintable(), "a message is one line"
    assert message.startswith("staging.env"), message
    return re.sub(r"^staging\.env:? ", "", message)


class TestTemplate:
    def test_its_parameters_are_read_as_cloudformation_reads_them(self) -> None:
        parameters = template()["Parameters"]
        assert set(TEMPLATE.parameters) == set(parameters)
        for name, parameter in TEMPLATE.parameters.items():
            assert parameter.default == str(parameters[name]["Default"])
            assert parameter.kind == parameters[name]["Type"]
            assert parameter.problem(parameter.default) is None
        assert TEMPLATE.rules == template()["Rules"]

    def test_its_variables_are_settings(self) -> None:
        assert {name.lower() for name in TEMPLATE.variables} <= set(Settings.model_fields)
        assert TEMPLATE.variables["MAIL_TO"] == "MailTo"

    def test_the_example_shows_every_parameter_and_its_default(self) -> None:
        shown = dict(re.findall(r"^#(\w+)=(.*)$", SHOWN, re.MULTILINE))
        assert shown.pop(REGION) == ""
        assert shown == {name: parameter.default for name, parameter in TEMPLATE.parameters.items()}
        assert not [line for line in SHOWN.splitlines() if line and not line.startswith("#")]


class TestNames:
    def test_a_stack_is_named_after_its_stage(self) -> None:
        assert stack_name("production") == "stock-tracker"
        assert stack_name("staging") == "stock-tracker-staging"

    @pytest.mark.parametrize("name", ["", "Staging", "a b", "a--b", "a-", "-a", "../x", "a" * 21, "ä", "1a", "a\n"])
    def test_another_name_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"^STAGE is .*: valid are up to 20 small letters"):
            stack_name(name)

    def test_the_example_is_no_stage(self) -> None:
        with pytest.raises(ConfigError, match="which is for copying"):
            read_stage("example", ROOT / "deploy", TEMPLATE)

    def test_a_missing_file_is_told_with_its_cure(self) -> None:
        with pytest.raises(ConfigError, match=r"^nowhere\.env does not exist: copy deploy/example\.env to it"):
            read_stage("nowhere", Path(), TEMPLATE)


class TestValues:
    def test_a_copy_of_the_example_changes_nothing(self) -> None:
        stage = read(SHOWN)
        assert stage.values == {name: parameter.default for name, parameter in TEMPLATE.parameters.items()}
        assert stage.region is None

    def test_the_example_without_its_number_signs_is_valid_too(self) -> None:
        assert read(re.sub(r"^#(?=\w)", "", SHOWN, flags=re.MULTILINE)).values == read(SHOWN).values

    def test_a_value_that_leaves_the_file_is_the_default_again(self) -> None:
        assert read("AuditCalls=7\n").values["AuditCalls"] == "7"
        assert read("AuditCalls=\n").values["AuditCalls"] == "5"
        assert read("").values["AuditCalls"] == "5"

    def test_every_character_arrives(self) -> None:
        stage = read("""MailUnsubscribe='https://e.com/?a=1&b="2"'\nSmtpUser="it's me, \\"you\\" & $HOME # 1"\n""")
        assert stage.values["MailUnsubscribe"] == 'https://e.com/?a=1&b="2"'
        assert stage.values["SmtpUser"] == """it's me, "you" & $HOME # 1"""

    def test_the_region_is_the_stacks_place_and_no_parameter(self) -> None:
        stage = read("Region=us-gov-west-1\n")
        assert stage.region == "us-gov-west-1"
        assert REGION not in stage.values

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("MailtTo=a@b.c", "MailtTo is no parameter: did you mean MailTo?"),
            ("mailto=a@b.c", "mailto is no parameter: did you mean MailTo?"),
            ("zzz=1", "zzz is no parameter: deploy/example.env lists all"),
            ("region=eu-west-1", "region is no parameter: did you mean Region?"),
            ("Region=Ireland", "Region is 'Ireland': valid is the name of a region, such as eu-west-1"),
            ("MailTransport=post", "MailTransport is 'post': valid are auto, smtp, ses"),
            ("Architecture=arm", "Architecture is 'arm': valid are x86_64, arm64"),
            ("AuditCalls=many", "AuditCalls is 'many': valid is a whole number"),
            ("AuditCalls=007", "AuditCalls is '007': valid is a whole number"),
            ("AuditCalls=-1", "AuditCalls is '-1': valid is 0 or more"),
            ("AuditCalls=1001", "AuditCalls is '1001': valid is 1000 or less"),
            ("LogRetentionDays=91", "LogRetentionDays is '91': valid are 1, 3, 5, 7,"),
            ("VpcId=vpc-1", r"VpcId is 'vpc-1': valid is what matches (vpc-("),
            ("MailTo=a@b.c,nobody", "MailTo is 'nobody': 'nobody' is not an e-mail address"),
            ("Symbols=GO OG", "Symbols is 'GO OG': 'GO OG' is not a symbol"),
            ("Symbols=@symbols-none.txt", "Symbols is '@symbols-none.txt': the symbols file 'symbols-none.txt' cannot"),
            ("SmtpPort=70000", "SmtpPort is '70000': valid is less than or equal to 65535"),
            ("QuickchartUrl=ftp://x", "QuickchartUrl is 'ftp://x': valid is an http:// or https:// address"),
            (r"SmtpUser='a\\ b'", r"SmtpUser is 'a\\ b': valid is a value without quotes around all of it, and"),
            ("SmtpUser='\"ab\"'", "SmtpUser is '\"ab\"': valid is a value without quotes around all of it, and"),
            ("CreateDatabase=true", "CreateDatabase needs VpcId and SubnetIds"),
            ("AuditCalls=1\nAuditCalls=2", "has AuditCalls twice"),
            ("AuditCalls=1\n\nnonsense\n", "has 'nonsense' in line 3: valid is Name=value"),
            ("AuditCalls", "has 'AuditCalls' in line 1: valid is Name=value"),
            ('MailFrom="a@b.c\n', "has 'MailFrom=\"a@b.c' in line 1: valid is Name=value"),
            (f"Symbols={','.join(f'SYM{n}' for n in range(700))}", "the values take "),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, text: str, message: str) -> None:
        assert refused(text).startswith(message)

    @pytest.mark.parametrize("name", ["PolygonApiKey", "DatabaseUrl", "SmtpPassword", *SECRET_KEYS])
    def test_a_secret_is_refused_without_showing_it(self, name: str) -> None:
        message = refused(f"{name}=hunter2")
        assert message == f"{name} is a secret: remove its line, and let make secret ask for it"

    def test_a_file_that_is_no_text_is_named(self) -> None:
        Path("staging.env").write_bytes(b"MailTo=\xff\n")
        with pytest.raises(ConfigError, match=r"^staging\.env is not UTF-8 text"):
            read_stage("staging", Path(), TEMPLATE)

    def test_settings_of_this_machine_play_no_part(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {"LOG_LEVEL": "loud", "SECRET_ID": "nowhere", "DATABASE_SECRET_ID": "nowhere"}.items():
            monkeypatch.setenv(name, value)
        Path(".env").write_text("MAIL_TO=nobody\n", encoding="utf-8")
        assert read("MailFrom=a@example.com\n").values["MailFrom"] == "a@example.com"


def read_by_sam(value: str) -> str:
    """A value as SAM reads it from a file: it removes outer quotes, then some backslashes."""
    if value and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    return value.replace("\\ ", " ").replace('\\"', '"').replace("\\'", "'")


class TestParameters:
    @given(st.text(st.sampled_from("\\\"' &$a=,{}"), max_size=12) | st.text(max_size=20))
    def test_sam_changes_no_value_that_is_valid(self, value: str) -> None:
        assert bool(LOST_ON_THE_WAY.search(value)) == (read_by_sam(value) != value)

    def test_the_file_is_one_line_for_each_parameter(self, tmp_path: Path) -> None:
        path = write_parameters("staging", {"A": "x & 'y' \n\U0001f4c8", "B": ""}, tmp_path)
        assert path.read_text(encoding="ascii").splitlines() == [
            '''"A": "x & 'y' \\n\\U0001F4C8"''',
            '"B": ""',
        ]


class TestCommandLine:
    def test_a_valid_stage_says_what_differs(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("deploy.sam.FOLDER", tmp_path / "build")
        Path("staging.env").write_text("MailFrom=a@example.com\nAuditCalls=7\n", encoding="utf-8")
        assert command_line.main(["check", "--stage", "staging", "--folder", "."]) == 0
        said = f"stock-tracker-staging: 2 of {len(TEMPLATE.parameters)} parameters differ from their defaults: "
        assert capsys.readouterr().out == f"{said}AuditCalls, MailFrom\n"

    @pytest.mark.parametrize("arguments", [["check"], ["show", "tags"], ["ready"], ["secret"], ["doctor"]])
    def test_an_error_is_one_line_and_the_status_2(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        Path("production.env").write_text("Nothing=1\n", encoding="utf-8")
        assert command_line.main([*arguments, "--folder", "."]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith("error: production.env: Nothing is no parameter")

    def test_a_stack_can_be_removed_after_its_file(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr("deploy.sam.FOLDER", tmp_path / "build")
        assert command_line.main(["show", "place", "--stage", "gone", "--folder", "."]) == 0
        assert capsys.readouterr().out.startswith("--stack-name stock-tracker-gone ")
