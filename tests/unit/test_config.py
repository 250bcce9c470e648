import json
import re
from pathlib import Path

import boto3
import pytest
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.parameters import base
from moto import mock_aws
from pydantic import SecretStr

import config
from config import Settings, load_settings, parse_symbols, read_secret, settings
from domain.errors import ConfigError

ROOT = Path(__file__).parents[2]
SECRET_FIELDS = {"database_url", "polygon_api_key", "smtp_password"}
HIDDEN = "hunter2-do-not-tell"

DEFAULTS = {
    "database_url": "sqlite:///stock_tracker.db",
    "polygon_api_key": "",
    "polygon_base_url": "https://api.massive.com",
    "polygon_calls_per_minute": 5,
    "symbols": ("GOOG", "MSFT", "NVDA", "QUBT", "RKLB"),
    "history_sessions": 70,
    "settle_sessions": 3,
    "audit_calls": 5,
    "quickchart_url": "https://quickchart.io/chart",
    "chart_symbols": (),
    "mail_transport": "auto",
    "mail_from": None,
    "mail_to": (),
    "mail_unsubscribe": None,
    "outbox": Path("outbox"),
    "smtp_host": "",
    "smtp_port": 587,
    "smtp_security": "starttls",
    "smtp_user": "",
    "smtp_password": "",
    "database_secret_id": "",
    "site": "",
    "site_url": None,
    "secret_id": "",
    "log_level": "INFO",
}


def plain(value):
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def refused(monkeypatch, name, value):
    """The message that refuses a value of an environment variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.isprintable(), "a message is one line"
    assert name in message
    return message


@pytest.fixture
def secrets_manager(monkeypatch):
    """Secrets Manager and Parameter Store by moto, as a function that stores a secret."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    parameters.clear_caches()
    with mock_aws():
        client = boto3.client("secretsmanager")

        def store(name, value):
            text = value if isinstance(value, str) else json.dumps(value)
            if name.startswith("ssm:"):
                boto3.client("ssm").put_parameter(Name=name.removeprefix("ssm:"), Value=text, Type="SecureString")
            else:
                client.create_secret(Name=name, SecretString=text)

        yield store
    parameters.clear_caches()


class TestDefaults:
    def test_without_any_configuration_every_setting_has_its_default(self):
        assert {name: plain(value) for name, value in load_settings()} == DEFAULTS

    def test_settings_cannot_be_changed(self):
        with pytest.raises(ValueError, match="frozen"):
            setattr(load_settings(), "log_level", "DEBUG")  # noqa: B010 - mypy would refuse it as well

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_an_empty_variable_counts_as_unset(self, monkeypatch, name):
        monkeypatch.setenv(name.upper(), "")
        assert plain(getattr(load_settings(), name)) == DEFAULTS[name]

    @pytest.mark.parametrize("name", DEFAULTS)
    def test_an_empty_entry_of_the_env_file_counts_as_unset(self, name):
        Path(".env").write_text(f"{name.upper()}=\n")
        assert plain(getattr(load_settings(), name)) == DEFAULTS[name]

    def test_an_empty_variable_does_not_hide_the_env_file(self, monkeypatch):
        Path(".env").write_text("LOG_LEVEL=DEBUG\n")
        monkeypatch.setenv("LOG_LEVEL", "")
        assert load_settings().log_level == "DEBUG"

    def test_an_unknown_variable_is_ignored(self, monkeypatch):
        monkeypatch.setenv("SOMETHING_ELSE", "1")
        Path(".env").write_text("ANOTHER_THING=1\n")
        assert {name: plain(value) for name, value in load_settings()} == DEFAULTS


class TestParsing:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("database_url", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
            ("polygon_api_key", "abc123", "abc123"),
            ("polygon_base_url", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("polygon_base_url", "https://api.polygon.io/", "https://api.polygon.io"),
            ("polygon_calls_per_minute", "0", 0),
            ("polygon_calls_per_minute", "100", 100),
            ("symbols", "AAPL", ("AAPL",)),
            ("symbols", "*", ("*",)),
            ("history_sessions", "1", 1),
            ("history_sessions", "10000", 10_000),
            ("settle_sessions", "0", 0),
            ("settle_sessions", "60", 60),
            ("audit_calls", "0", 0),
            ("audit_calls", "1000", 1_000),
            ("quickchart_url", "http://localhost:3400/chart", "http://localhost:3400/chart"),
            ("mail_transport", "outbox", "outbox"),
            ("mail_transport", "smtp", "smtp"),
            ("mail_transport", "ses", "ses"),
            ("mail_from", "me@example.com", "me@example.com"),
            ("mail_to", "a@example.com", ("a@example.com",)),
            ("mail_to", " a@example.com, b@example.com ,", ("a@example.com", "b@example.com")),
            ("mail_unsubscribe", "mailto:stop@example.com?subject=stop", "mailto:stop@example.com?subject=stop"),
            ("mail_unsubscribe", "https://example.com/stop", "https://example.com/stop"),
            ("site", "public/market", "public/market"),
            ("site", "s3://my-bucket", "s3://my-bucket"),
            ("site", "s3://my-bucket/market/new", "s3://my-bucket/market/new"),
            ("site_url", "https://market.example.com/", "https://market.example.com"),
            ("chart_symbols", "NVDA, GOOG,", ("NVDA", "GOOG")),
            ("outbox", "/tmp/letters", Path("/tmp/letters")),
            ("smtp_host", "smtp.example.com", "smtp.example.com"),
            ("smtp_port", "25", 25),
            ("smtp_port", "65535", 65_535),
            ("smtp_security", "tls", "tls"),
            ("smtp_security", "none", "none"),
            ("smtp_user", "me", "me"),
            ("smtp_password", "p w=#!", "p w=#!"),
            ("log_level", "DEBUG", "DEBUG"),
            ("log_level", "ERROR", "ERROR"),
        ],
    )
    def test_a_variable_sets_its_setting(self, monkeypatch, name, text, value):
        monkeypatch.setenv(name.upper(), text)
        assert plain(getattr(load_settings(), name)) == value

    @pytest.mark.parametrize(
        ("name", "value", "valid"),
        [
            ("POLYGON_BASE_URL", "api.massive.com", "http:// or https://"),
            ("POLYGON_BASE_URL", "ftp://api.massive.com", "http:// or https://"),
            ("POLYGON_BASE_URL", "https://", "http:// or https://"),
            ("POLYGON_BASE_URL", "https://a b", "http:// or https://"),
            ("QUICKCHART_URL", "quickchart.io/chart", "http:// or https://"),
            ("POLYGON_CALLS_PER_MINUTE", "-1", "0"),
            ("POLYGON_CALLS_PER_MINUTE", "five", "integer"),
            ("POLYGON_CALLS_PER_MINUTE", "2.5", "integer"),
            ("SYMBOLS", "GO OG", "1 to 10 letters"),
            ("SYMBOLS", "GOOG,*", "'*' alone"),
            ("SYMBOLS", "TOOLONGNAME", "1 to 10 letters"),
            ("HISTORY_SESSIONS", "0", "1"),
            ("HISTORY_SESSIONS", "10001", "10000"),
            ("SETTLE_SESSIONS", "-1", "0"),
            ("SETTLE_SESSIONS", "61", "60"),
            ("AUDIT_CALLS", "-1", "0"),
            ("AUDIT_CALLS", "1001", "1000"),
            ("AUDIT_CALLS", "some", "integer"),
            ("HISTORY_SESSIONS", "many", "integer"),
            ("MAIL_TRANSPORT", "pigeon", "'auto', 'outbox', 'smtp' or 'ses'"),
            ("MAIL_FROM", "nobody", "name@example.com"),
            ("MAIL_FROM", "Me <me@example.com>", "name@example.com"),
            ("MAIL_FROM", "me@example.com\nBcc: x@example.com", "name@example.com"),
            ("MAIL_TO", "nobody", "name@example.com"),
            ("MAIL_UNSUBSCRIBE", "stop@example.com", "mailto:name@example.com"),
            ("MAIL_UNSUBSCRIBE", "https://example.com/stop\nBcc: x@example.com", "https://"),
            ("MAIL_UNSUBSCRIBE", "https://example.com/>,<http://example.org", "https://"),
            ("MAIL_UNSUBSCRIBE", f"https://example.com/{'x' * 60}", "70 characters"),
            ("SITE", "https://example.com/market", "a folder, s3://bucket"),
            ("SITE", "s3://", "s3://bucket"),
            ("SITE", "s3://My_Bucket", "s3://bucket"),
            ("SITE", "s3://bucket/a b", "s3://bucket/prefix"),
            ("SITE_URL", "market.example.com", "http:// or https://"),
            ("CHART_SYMBOLS", "*", "up to 10 comma-separated symbols"),
            ("CHART_SYMBOLS", "A,B,C,D,E,F,G,H,I,J,K", "up to 10 comma-separated symbols"),
            ("CHART_SYMBOLS", "<b>", "1 to 10 letters"),
            ("SMTP_PORT", "0", "1"),
            ("SMTP_PORT", "65536", "65535"),
            ("SMTP_SECURITY", "ssl", "'starttls', 'tls' or 'none'"),
            ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ],
    )
    def test_a_wrong_value_is_refused_naming_variable_value_and_what_is_valid(self, monkeypatch, name, value, valid):
        message = refused(monkeypatch, name, value)
        assert repr(value) in message or repr(value).strip("'") in message
        assert valid in message

    def test_only_the_malformed_one_of_several_addresses_is_named(self, monkeypatch):
        message = refused(monkeypatch, "MAIL_TO", "a@example.com,nobody")
        assert "'nobody'" in message
        assert "a@example.com" not in message

    def test_all_errors_are_reported_at_once(self, monkeypatch):
        monkeypatch.setenv("SMTP_PORT", "0")
        message = refused(monkeypatch, "LOG_LEVEL", "loud")
        assert "SMTP_PORT" in message

    def test_a_wrong_value_of_the_env_file_is_refused_too(self):
        Path(".env").write_text("SMTP_PORT=none\n")
        with pytest.raises(ConfigError, match=r"^SMTP_PORT is 'none': "):
            load_settings()

    @pytest.mark.parametrize(
        ("environment", "transport"),
        [
            ({}, "outbox"),
            ({"SMTP_HOST": "smtp.example.com"}, "smtp"),
            ({"SMTP_HOST": "smtp.example.com", "MAIL_TRANSPORT": "outbox"}, "outbox"),
            ({"SMTP_HOST": "smtp.example.com", "MAIL_TRANSPORT": "ses"}, "ses"),
            ({"MAIL_TRANSPORT": "smtp"}, "smtp"),
            ({"MAIL_TRANSPORT": "auto"}, "outbox"),
        ],
    )
    def test_auto_sends_by_smtp_once_a_host_is_set_and_other_transports_win(self, monkeypatch, environment, transport):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert load_settings().transport == transport


class TestSymbols:
    @pytest.mark.parametrize(
        ("value", "symbols"),
        [
            (["GOOG", "MSFT"], ("GOOG", "MSFT")),
            (("GOOG",), ("GOOG",)),
            ("GOOG,MSFT", ("GOOG", "MSFT")),
            (" GOOG ,\n MSFT,, ", ("GOOG", "MSFT")),
            ("GOOG\nMSFT", ("GOOG", "MSFT")),
            ("MSFT,GOOG,MSFT", ("MSFT", "GOOG")),
            ("BRK.B,KIMpL,AACT.WS,BF/B,X-Y", ("BRK.B", "KIMpL", "AACT.WS", "BF/B", "X-Y")),
            ("goog,GOOG", ("goog", "GOOG")),
            ("0123456789", ("0123456789",)),
            ("*", ("*",)),
            (" * ", ("*",)),
            (["*"], ("*",)),
        ],
    )
    def test_a_list_and_text_name_symbols_in_order_without_duplicates(self, value, symbols):
        assert parse_symbols(value) == symbols

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("", "''"),
            (" , ", "' , '"),
            ([], "[]"),
            (None, "None"),
            (5, "5"),
            (True, "True"),
            ({"GOOG": 1}, "{'GOOG': 1}"),
            (["GOOG", 5], "5"),
            (["GOOG", None], "None"),
            (["GOOG", ["MSFT"]], "['MSFT']"),
            (["GOOG", ""], "''"),
            (["GOOG", " MSFT"], "' MSFT'"),
            (["GOOG\n"], r"'GOOG\n'"),
            (["*", "GOOG"], "'*'"),
            ("**", "'**'"),
            (".GOOG", "'.GOOG'"),
            ("ABCDEFGHIJK", "'ABCDEFGHIJK'"),
            ("GÖÖG", "'GÖÖG'"),
            ("GOOG?x=1", "'GOOG?x=1'"),
        ],
    )
    def test_anything_else_is_refused_in_one_line_that_names_it(self, value, shown):
        with pytest.raises(ValueError, match=r"valid is|is not a list|names no symbol") as caught:
            parse_symbols(value)
        assert str(caught.value).startswith(shown)
        assert str(caught.value).isprintable()

    @pytest.fixture
    def folder(self, monkeypatch, tmp_path):
        """A folder that stands for the project's."""
        (tmp_path / "project").mkdir()
        monkeypatch.setattr(config, "__file__", str(tmp_path / "project" / "config.py"))
        return tmp_path / "project"

    @pytest.mark.parametrize(
        "content",
        [
            b"# the big ones\nGOOG # Alphabet\n\nMSFT, NVDA\nGOOG\n",
            b"GOOG\r\nMSFT\r\nNVDA",
            b"GOOG,MSFT,NVDA",
        ],
    )
    def test_a_long_list_is_a_file_beside_the_code(self, monkeypatch, folder, content):
        (folder / "symbols.txt").write_bytes(content)
        monkeypatch.setenv("SYMBOLS", "@symbols.txt")
        assert load_settings().symbols == ("GOOG", "MSFT", "NVDA")

    def test_a_symbols_file_may_name_the_whole_market(self, folder):
        (folder / "symbols.txt").write_text("*\n")
        assert parse_symbols("@symbols.txt", files=True) == ("*",)

    def test_a_file_is_read_only_where_files_are_trusted(self, folder):
        (folder / "symbols.txt").write_text("GOOG\n")
        with pytest.raises(ValueError, match=r"^'@symbols.txt' is not a symbol"):
            parse_symbols("@symbols.txt")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("nowhere.txt", "cannot be read: No such file or directory"),
            ("folder.txt", "cannot be read: Is a directory"),
            ("binary.txt", "cannot be read: it is not UTF-8 text"),
        ],
    )
    def test_a_symbols_file_that_cannot_be_read_is_named(self, monkeypatch, folder, name, reason):
        (folder / "binary.txt").write_bytes(b"\xff\xfe")
        (folder / "folder.txt").mkdir()
        message = refused(monkeypatch, "SYMBOLS", f"@{name}")
        assert f"the symbols file {name!r} " in message
        assert reason in message

    def test_a_symbols_file_of_comments_only_names_no_symbol(self, monkeypatch, folder):
        (folder / "symbols.txt").write_text("# nothing yet\n")
        assert "names no symbol" in refused(monkeypatch, "SYMBOLS", "@symbols.txt")

    def test_a_symbols_file_does_not_name_another(self, monkeypatch, folder):
        (folder / "symbols.txt").write_text("@symbols.txt")
        assert "'@symbols.txt' is not a symbol" in refused(monkeypatch, "SYMBOLS", "@symbols.txt")

    def test_a_symbol_far_too_long_does_not_fill_the_log(self):
        with pytest.raises(ValueError, match="is not a symbol") as caught:
            parse_symbols("A" * 100_000)
        assert len(str(caught.value)) < 1000


class TestPrecedence:
    def test_the_environment_comes_before_the_env_file(self, monkeypatch):
        Path(".env").write_text("LOG_LEVEL=DEBUG\nSMTP_PORT=25\n")
        monkeypatch.setenv("LOG_LEVEL", "ERROR")
        loaded = load_settings()
        assert (loaded.log_level, loaded.smtp_port) == ("ERROR", 25)

    def test_environment_then_secret_then_env_file_then_default(self, monkeypatch, secrets_manager):
        secrets_manager("all", {"DATABASE_URL": "sqlite:///secret.db", "POLYGON_API_KEY": "from-secret"})
        Path(".env").write_text("DATABASE_URL=sqlite:///file.db\nPOLYGON_API_KEY=from-file\nSMTP_PASSWORD=from-file\n")
        monkeypatch.setenv("SECRET_ID", "all")
        monkeypatch.setenv("DATABASE_URL", "sqlite:///environment.db")
        loaded = load_settings()
        assert plain(loaded.database_url) == "sqlite:///environment.db"
        assert plain(loaded.polygon_api_key) == "from-secret"
        assert plain(loaded.smtp_password) == "from-file"
        assert loaded.smtp_port == 587

    def test_the_env_file_is_read_from_the_working_directory(self, monkeypatch, tmp_path):
        Path(".env").write_text("LOG_LEVEL=DEBUG\n")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert load_settings().log_level == "INFO"


class TestEnvFile:
    """What is wrong with ``.env`` is an error that shows none of its values."""

    def said(self):
        with pytest.raises(ConfigError) as caught:
            load_settings()
        message = str(caught.value)
        assert message.isprintable(), "a message is one line"
        assert HIDDEN not in message
        return message

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("POLYGON_API_KYE", "POLYGON_API_KEY"),
            ("POLYGON_KEY", "POLYGON_API_KEY"),
            ("polygon_apikey", "POLYGON_API_KEY"),
            ("SMTP_HOTS", "SMTP_HOST"),
            ("MAILTO", "MAIL_TO"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("SYMBOL", "SYMBOLS"),
        ],
    )
    def test_a_misspelled_setting_is_named_with_the_right_one(self, name, meant):
        Path(".env").write_text(f"LOG_LEVEL=INFO\n{name}={HIDDEN}\n")
        assert self.said() == f".env has {name!r}, which is no setting: did you mean {meant}?"

    @pytest.mark.parametrize(
        "line",
        [
            "TEST_DATABASE_URL=x",
            "POLYGON_RPC_URL=x",
            "SMTP_USERNAME=x",
            "AWS_REGION=x",
            "POSTGRES_PASSWORD",
            "POLYGON_API_KEY=x\nPOLYGON_API_KEY_OLD=y",
            "export LOG_LEVEL=INFO\nLOGLEVEL=DEBUG",
        ],
    )
    def test_keys_of_other_programs_are_ignored(self, line, caplog):
        Path(".env").write_text(f"{line}\n")
        load_settings()
        assert caplog.messages == []

    def test_a_misspelled_variable_is_warned_of_once(self, monkeypatch, caplog):
        monkeypatch.setenv("POLYGON_API_KYE", HIDDEN)
        monkeypatch.setenv("LOGLEVEL", "DEBUG")  # of another program
        config._warn_once.cache_clear()
        load_settings()
        load_settings()
        assert caplog.messages == [
            "the environment has 'POLYGON_API_KYE', which is no setting: did you mean POLYGON_API_KEY?"
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("A=1\n\n\nPOLYGON_API_KEY: {}\n", ".env cannot be read from line 4 on: valid is NAME=value"),
            ("POLYGON_API_KEY='{}\nA=1\n", ".env cannot be read from line 1 on: valid is NAME=value"),
            ("A=1\n={}\n", ".env cannot be read from line 2 on: valid is NAME=value"),
            ("A\nPOLYGON_API_KEY={}\nSYMBOLS\n", ".env cannot be read from line 3 on: valid is NAME=value"),
        ],
    )
    def test_a_line_that_sets_nothing_is_an_error(self, content, message):
        Path(".env").write_text(content.format(HIDDEN))
        assert self.said().startswith(message)

    def test_a_folder_in_its_place_is_an_error(self):
        Path(".env").mkdir()
        assert self.said() == ".env is a folder: valid is a file of lines NAME=value, or none"

    def test_a_file_of_another_encoding_is_an_error(self):
        Path(".env").write_bytes(b"OUTBOX=\xe9t\xe9\n")
        assert self.said() == ".env is not UTF-8 text: invalid continuation byte at byte 7"

    def test_a_file_that_may_not_be_read_is_an_error(self, monkeypatch):
        Path(".env").write_text("A=1\n")

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied", ".env")

        monkeypatch.setattr(Path, "read_text", refuse)  # root may read everything
        assert self.said() == ".env cannot be read: Permission denied"

    @pytest.mark.parametrize("content", [b"\xef\xbb\xbfLOG_LEVEL=DEBUG\n", b"A=1\r\nLOG_LEVEL=DEBUG\r\n"])
    def test_a_byte_order_mark_and_line_ends_of_windows_are_read(self, content):
        Path(".env").write_bytes(content)
        assert load_settings().log_level == "DEBUG"


class TestSecretsManager:
    def test_a_secret_named_in_the_environment_is_read(self, monkeypatch, secrets_manager):
        values = {"POLYGON_API_KEY": "k", "DATABASE_URL": "sqlite:///s.db", "SMTP_PASSWORD": "p"}
        secrets_manager("stock-tracker", values)
        monkeypatch.setenv("SECRET_ID", "stock-tracker")
        loaded = load_settings()
        assert {name: plain(getattr(loaded, name.lower())) for name in values} == values

    def test_a_secret_named_in_the_env_file_is_read(self, secrets_manager):
        secrets_manager("stock-tracker", {"POLYGON_API_KEY": "from-secret"})
        Path(".env").write_text("SECRET_ID=stock-tracker\nPOLYGON_API_KEY=from-file\n")
        assert plain(load_settings().polygon_api_key) == "from-secret"

    def test_a_secret_in_parameter_store_is_read_and_decrypted(self, monkeypatch, secrets_manager):
        secrets_manager("ssm:/stock-tracker/secret", {"POLYGON_API_KEY": "k"})
        monkeypatch.setenv("SECRET_ID", "ssm:/stock-tracker/secret")
        assert plain(load_settings().polygon_api_key) == "k"

    def test_a_missing_secret_in_parameter_store_is_named(self, monkeypatch, secrets_manager):
        monkeypatch.setenv("SECRET_ID", "ssm:/nowhere")
        there = r"^SECRET_ID is 'ssm:/nowhere', which cannot be read from Parameter Store in us-east-1: "
        with pytest.raises(ConfigError, match=there) as caught:
            load_settings()
        assert str(caught.value).isprintable()

    def test_a_secret_of_another_region_is_read_there(self, secrets_manager):
        boto3.client("ssm", "eu-west-1").put_parameter(Name="/s", Value='{"SMTP_PASSWORD": "p"}', Type="SecureString")
        assert read_secret("ssm:/s", "eu-west-1") == {"SMTP_PASSWORD": "p"}

    def test_a_secret_may_be_named_by_its_arn(self, monkeypatch, secrets_manager):
        secrets_manager("stock-tracker", {"POLYGON_API_KEY": "k"})
        arn = boto3.client("secretsmanager").describe_secret(SecretId="stock-tracker")["ARN"]
        monkeypatch.setenv("SECRET_ID", arn)
        assert plain(load_settings().polygon_api_key) == "k"

    def test_an_empty_value_in_a_secret_counts_as_unset(self, monkeypatch, secrets_manager):
        secrets_manager("stock-tracker", {"DATABASE_URL": "", "POLYGON_API_KEY": ""})
        Path(".env").write_text("POLYGON_API_KEY=from-file\n")
        monkeypatch.setenv("SECRET_ID", "stock-tracker")
        loaded = load_settings()
        assert plain(loaded.database_url) == DEFAULTS["database_url"]
        assert plain(loaded.polygon_api_key) == "from-file"

    def test_an_empty_secret_sets_nothing(self, secrets_manager):
        secrets_manager("stock-tracker", {})
        assert read_secret("stock-tracker") == {}

    @pytest.mark.parametrize(
        ("secret", "reason"),
        [
            (HIDDEN, "is not JSON"),
            ("{" + HIDDEN, "is not JSON"),
            (f'["{HIDDEN}"]', "not an object"),
            (f'"{HIDDEN}"', "not an object"),
            ({"PASSWORD": HIDDEN}, "'PASSWORD'"),
            ({"polygon_api_key": HIDDEN}, "'polygon_api_key'"),
            ({"POLYGON_API_KEY": [HIDDEN]}, "'POLYGON_API_KEY'"),
            ({"POLYGON_API_KEY": None}, "'POLYGON_API_KEY'"),
        ],
    )
    def test_a_malformed_secret_is_refused_without_showing_it(self, monkeypatch, secrets_manager, secret, reason):
        secrets_manager("stock-tracker", secret)
        monkeypatch.setenv("SECRET_ID", "stock-tracker")
        with pytest.raises(ConfigError) as caught:
            load_settings()
        message = str(caught.value)
        assert "'stock-tracker'" in message
        assert reason in message
        assert "POLYGON_API_KEY, DATABASE_URL, SMTP_PASSWORD" in message
        assert message.isprintable()
        assert HIDDEN not in message

    def test_a_missing_secret_is_named(self, monkeypatch, secrets_manager):
        monkeypatch.setenv("SECRET_ID", "nowhere")
        with pytest.raises(
            ConfigError, match=r"^SECRET_ID is 'nowhere', which cannot be read from Secrets Manager in us-east-1: "
        ) as e:
            load_settings()
        assert str(e.value).isprintable()

    def test_a_secret_without_a_region_is_a_configuration_error(self, monkeypatch, tmp_path):
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("SECRET_ID", "stock-tracker")
        parameters.clear_caches()
        monkeypatch.delitem(vars(base)["DEFAULT_PROVIDERS"], "secrets", raising=False)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        with pytest.raises(ConfigError, match=r"^SECRET_ID is 'stock-tracker'"):
            load_settings()

    @pytest.mark.parametrize(("name", "read"), [("", []), ("stock-tracker", ["stock-tracker"])])
    def test_a_secret_is_read_only_if_it_is_named(self, monkeypatch, name, read):
        names = []
        monkeypatch.setattr(config, "read_secret", lambda secret_id: names.append(secret_id) or {})
        monkeypatch.setenv("SECRET_ID", name)
        load_settings()
        assert names == read


class TestDatabaseLogin:
    URL = "postgresql://db.example.com:5432/stock?sslmode=require"

    @pytest.fixture(autouse=True)
    def _url(self, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", self.URL)
        monkeypatch.setenv("DATABASE_SECRET_ID", "rds!db-1")

    def test_a_login_in_a_secret_goes_into_the_url(self, secrets_manager):
        secrets_manager("rds!db-1", {"username": "stock", "password": f"{HIDDEN}:/@#"})
        url = plain(load_settings().database_url)
        assert url == f"postgresql://stock:{HIDDEN}%3A%2F%40%23@{self.URL.partition('://')[2]}"
        assert HIDDEN not in load_settings().redact(f"{HIDDEN}:/@#")

    def test_a_rotated_login_is_seen(self, secrets_manager):
        secrets_manager("rds!db-1", {"username": "stock", "password": "before-the-rotation"})
        used = settings()
        assert not config.secrets_rotated(used)
        rotated = json.dumps({"username": "stock", "password": "after-the-rotation"})
        boto3.client("secretsmanager").put_secret_value(SecretId="rds!db-1", SecretString=rotated)
        assert config.secrets_rotated(used)
        assert "after-the-rotation" in plain(settings().database_url)

    @pytest.mark.parametrize(
        ("secret", "message"),
        [
            ({"username": "stock"}, "has no username and password as text"),
            ({"username": 1, "password": HIDDEN}, "has no username and password as text"),
            (f'"{HIDDEN}"', "is JSON, but not an object"),
            (HIDDEN, "is not JSON"),
        ],
    )
    def test_a_malformed_login_is_refused_without_showing_it(self, secrets_manager, secret, message):
        secrets_manager("rds!db-1", secret)
        with pytest.raises(ConfigError, match=rf"^the secret 'rds!db-1' {message}") as caught:
            load_settings()
        assert HIDDEN not in str(caught.value)

    @pytest.mark.parametrize("url", ["", f"postgresql://me:{HIDDEN}@host/name", "host/name"])
    def test_a_url_with_a_login_of_its_own_is_refused(self, monkeypatch, secrets_manager, url):
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(
            ConfigError, match=r"^DATABASE_SECRET_ID holds the login for DATABASE_URL: valid is"
        ) as caught:
            load_settings()
        assert HIDDEN not in str(caught.value)

    def test_a_missing_login_is_named(self, secrets_manager):
        with pytest.raises(ConfigError, match=r"^DATABASE_SECRET_ID is 'rds!db-1', which cannot be read from Secrets"):
            load_settings()


class TestSecrets:
    def test_no_secret_is_shown(self, monkeypatch):
        for name in SECRET_FIELDS:
            monkeypatch.setenv(name.upper(), HIDDEN)
        loaded = load_settings()
        assert all(plain(getattr(loaded, name)) == HIDDEN for name in SECRET_FIELDS)
        for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), str(loaded.model_dump())):
            assert HIDDEN not in shown

    @pytest.mark.parametrize("name", ["POLYGON_API_KEY", "SMTP_PASSWORD"])
    @pytest.mark.parametrize("value", [f"{HIDDEN}\n", f"{HIDDEN}\r\nX: y", f"{HIDDEN}é", f"{HIDDEN}\t"])
    def test_a_key_that_does_not_fit_a_header_is_refused_without_showing_it(self, monkeypatch, name, value):
        message = refused(monkeypatch, name, value)
        assert message == f"{name} is not usable: valid is one line of printable ASCII text"

    def test_an_error_in_another_setting_shows_no_secret(self, monkeypatch):
        for name in SECRET_FIELDS:
            monkeypatch.setenv(name.upper(), HIDDEN)
        assert HIDDEN not in refused(monkeypatch, "LOG_LEVEL", "loud")

    @pytest.mark.parametrize("name", ["POLYGON_BASE_URL", "QUICKCHART_URL"])
    @pytest.mark.parametrize(
        "url", ["https://me:{}@example.com", "https://{}@example.com", "https://me:a/ {}@example.com"]
    )
    def test_an_address_with_a_user_is_refused_without_showing_it(self, monkeypatch, name, url):
        message = refused(monkeypatch, name, url.format(HIDDEN))
        assert message == f"{name} is not usable: valid is an http:// or https:// address without a user"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("POLYGON_API_KEY", HIDDEN),
            ("SMTP_PASSWORD", HIDDEN),
            ("DATABASE_URL", f"postgresql://me:{HIDDEN}@db.example.com/prices"),
            ("AWS_SECRET_ACCESS_KEY", HIDDEN),
            ("AWS_SESSION_TOKEN", HIDDEN),
        ],
    )
    def test_every_secret_is_masked_in_what_leaves_this_process(self, monkeypatch, name, value):
        monkeypatch.setenv(name, value)
        assert settings().redact(f"no {HIDDEN} for you") == "no *** for you"
        assert config.redact(f"no {HIDDEN} for you") == "no *** for you"

    def test_masking_reads_no_settings(self, monkeypatch):
        monkeypatch.setenv("LOG_LEVEL", "loud")
        assert config.redact("at https://me:word@example.com") == "at https://***@example.com"

    def test_the_error_has_no_cause_for_a_traceback_to_print(self, monkeypatch):
        monkeypatch.setenv("POLYGON_API_KEY", f"{HIDDEN}\n")
        with pytest.raises(ConfigError) as caught:
            load_settings()
        assert caught.value.__suppress_context__
        assert caught.value.__cause__ is None


def test_settings_are_read_once(monkeypatch):
    first = settings()
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    assert settings() is first
    settings.cache_clear()
    assert settings().log_level == "DEBUG"


def test_a_configuration_error_is_not_cached(monkeypatch):
    refused(monkeypatch, "LOG_LEVEL", "loud")
    with pytest.raises(ConfigError):
        settings()
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    assert settings().log_level == "INFO"


class TestExample:
    """``.env.example``, the list of settings that people copy."""

    @pytest.fixture
    def shown(self):
        """The value per variable in ``.env.example``, commented out or not."""
        lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        found = [
            (match[1], match[2]) for line in lines if (match := re.fullmatch(r"(?:# ?)?([A-Z][A-Z0-9_]*)=(.*)", line))
        ]
        assert len(dict(found)) == len(found), "a setting is shown once"
        return dict(found)

    def test_it_names_exactly_the_settings(self, shown):
        assert sorted(shown) == sorted(name.upper() for name in Settings.model_fields)

    def test_it_shows_every_default(self, shown, monkeypatch):
        defaults = Settings()
        assert {name for name, value in shown.items() if not value} == {
            name.upper() for name, value in defaults if not plain(value)
        }
        for name, value in shown.items():
            if value:
                monkeypatch.setenv(name, value.strip("\"'"))
        assert load_settings() == defaults

    def test_copied_unchanged_it_changes_nothing(self, shown):
        Path(".env").write_bytes((ROOT / ".env.example").read_bytes())
        assert {name: plain(value) for name, value in load_settings()} == DEFAULTS
        assert set(config.SECRET_KEYS) <= set(shown)


def test_a_recipient_spelled_in_two_cases_is_one() -> None:
    assert Settings(mail_to="b@example.com, A@example.com, a@Example.com").mail_to == ("b@example.com", "A@example.com")
