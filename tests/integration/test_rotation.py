"""Secrets that are rotated while a container is warm: read once, and again only when a credential is refused.

Secrets Manager is moto's server, called over HTTP like AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import make_url, text

from config import settings
from domain.errors import ConfigError, CredentialsError
from lambda_main import handler
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.support.mail_server import PASSWORD, Box, smtp_server

DAILY = {"job_type": "daily_update", "as_of": "2013-03-02"}

Store = Callable[..., None]


@pytest.fixture(scope="module")
def moto_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(moto_server: str, monkeypatch: pytest.MonkeyPatch, market: MarketServer, tmp_path: Path) -> Iterator[Store]:
    """A function that changes values of the secret; all other settings point to the sandbox."""
    environment = {
        "AWS_ENDPOINT_URL": moto_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SECRET_ID": "stock-tracker",
        "POLYGON_BASE_URL": market.url,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "QUICKCHART_URL": "http://127.0.0.1:9/chart",  # nothing listens there
        "SYMBOLS": "AAPL,IBM",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("secretsmanager", region_name="us-east-1")
    client.create_secret(Name="stock-tracker", SecretString="{}")
    values = {"DATABASE_URL": f"sqlite:///{tmp_path}/stock_tracker.db", "POLYGON_API_KEY": market.key}

    def put(**changes: str) -> None:
        values.update(changes)
        client.put_secret_value(SecretId="stock-tracker", SecretString=json.dumps(values))

    put()
    yield put
    open_engine(f"sqlite:///{tmp_path}/stock_tracker.db").dispose()
    client.delete_secret(SecretId="stock-tracker", ForceDeleteWithoutRecovery=True)


def test_a_new_provider_key_is_used_when_the_old_one_is_refused(store: Store, market: MarketServer) -> None:
    handler({**DAILY, "as_of": "2013-03-01"})
    market.key = "rotated"
    store(POLYGON_API_KEY="rotated")
    market.reset_calls()

    assert handler(DAILY)["status"] == "ok"
    assert market.calls["refused"] == 1


def test_a_report_loads_its_week_with_the_new_key_when_the_old_one_is_refused(
    store: Store, market: MarketServer
) -> None:
    handler({**DAILY, "as_of": "2013-03-01"})
    market.key = "rotated"
    store(POLYGON_API_KEY="rotated")
    market.reset_calls()

    result = handler({**DAILY, "job_type": "weekly_report"})

    assert result["status"] == "sent"
    assert not [warning for warning in result["warnings"] if "could not be loaded" in warning]
    assert market.calls["refused"] == 1


def test_a_new_database_login_is_used_when_the_old_one_is_refused(store: Store, tcp_url: str) -> None:
    administrator = open_engine(tcp_url)

    def rename(statement: str) -> None:
        with administrator.begin() as connection:
            connection.execute(text(statement))

    def login(user: str) -> str:
        return make_url(tcp_url).set(username=user).render_as_string(hide_password=False)

    rename("DROP ROLE IF EXISTS before_rotation")
    rename("DROP ROLE IF EXISTS after_rotation")
    rename("CREATE ROLE before_rotation SUPERUSER LOGIN")
    store(DATABASE_URL=login("before_rotation"))
    handler({**DAILY, "as_of": "2013-03-01"})
    rename("ALTER ROLE before_rotation RENAME TO after_rotation")
    open_engine(login("before_rotation")).dispose()  # open connections would stay; a new one is refused
    store(DATABASE_URL=login("after_rotation"))
    try:
        assert handler(DAILY)["status"] == "ok"
    finally:
        for user in ("before_rotation", "after_rotation"):
            open_engine(login(user)).dispose()
        rename("REASSIGN OWNED BY after_rotation TO CURRENT_USER")
        rename("DROP ROLE after_rotation")


def test_a_new_mail_password_is_used_when_the_old_one_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store(SMTP_PASSWORD="before rotation")
    handler(DAILY)
    box = Box()
    with smtp_server(box, authenticator=box.log_in, auth_require_tls=False) as port:
        mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_SECURITY": "none", "SMTP_USER": "me"}
        for name, value in {**mail, "MAIL_FROM": "me@example.com", "MAIL_TO": "you@example.com"}.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        settings()
        store(SMTP_PASSWORD=PASSWORD)

        assert handler({"job_type": "weekly_report", "as_of": "2013-03-02"})["status"] == "sent"
    assert list(dict.fromkeys(password for _, password in box.logins)) == ["before rotation", PASSWORD]
    assert len(box.mails) == 1


def test_a_refusal_stands_when_the_settings_cannot_be_read_again(
    store: Store, market: MarketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings()
    market.key = "another"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there

    with pytest.raises(CredentialsError, match=r"^the provider refused .*; and the settings cannot be read again: SEC"):
        handler(DAILY)
    assert market.calls["refused"] == 1


def test_a_refusal_stands_when_the_secret_is_the_same(store: Store, market: MarketServer) -> None:
    market.key = "another"

    with pytest.raises(CredentialsError, match=r"^the provider refused the key in POLYGON_API_KEY \(401, [^;]*\)$"):
        handler(DAILY)
    assert market.calls["refused"] == 1


def test_a_new_secret_that_is_refused_too_is_tried_once(store: Store, market: MarketServer) -> None:
    settings()
    market.key = "another"
    store(POLYGON_API_KEY="mistyped")

    with pytest.raises(CredentialsError, match="refused the key"):
        handler(DAILY)
    assert market.calls["refused"] == 2


def test_the_secret_is_read_once_by_a_warm_container(
    store: Store, monkeypatch: pytest.MonkeyPatch, market: MarketServer
) -> None:
    handler(DAILY)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there

    assert handler(DAILY)["status"] == "nothing_to_do"


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "AWS_REGION",
            "eu-west-1",
            r"'stock-tracker', which cannot be read from Secrets Manager in eu-west-1: .*ResourceNotFoundException",
        ),
        (
            "SECRET_ID",
            "stock-traker",
            r"'stock-traker', which cannot be read from Secrets Manager in us-east-1: .*ResourceNotFoundException",
        ),
        (
            "AWS_ENDPOINT_URL",
            "http://127.0.0.1:9",
            r"Could not connect to the endpoint URL: \"http://127\.0\.0\.1:9/\"",
        ),
    ],
    ids=["another region", "another name", "no way to AWS"],
)
def test_a_secret_that_cannot_be_read_is_an_error_of_one_line(
    store: Store, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(setting, value)
    if setting == "AWS_REGION":
        monkeypatch.setenv("AWS_DEFAULT_REGION", value)

    with pytest.raises(ConfigError, match=rf"^SECRET_ID is .*{message}") as caught:
        handler(DAILY)
    assert str(caught.value).isprintable()
