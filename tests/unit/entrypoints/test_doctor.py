"""The doctor tells what is broken and how to mend it; it leaves nothing behind, and waits for nobody."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, inspect, make_url, text

from domain.calendar import last_sessions, previous_session, today
from domain.clock import Deadline, SystemClock
from entrypoints.checks import Check
from entrypoints.doctor import diagnose
from entrypoints.doctor_view import show_answer, show_check, show_summary
from lambda_main import handler
from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply
from sandbox.server import Fault, MarketServer
from storage import migration
from storage.engine import open_engine, transaction
from tests.support import pgbouncer, tables
from tests.support.mail_server import PASSWORD, Box, smtp_server
from tests.support.postgresql import guarded_postgresql
from tests.support.rough_server import rough_server, silent

NAMES = ["settings", "database", "tables", "rights", "pool", "key", "plan", "mail", "charts", "clock", "calendar"]
PICTURE = Reply(200, b"\x89PNG\r\n\x1a\n" + b"picture", {"Content-Type": "image/png"})
NOWHERE = "127.0.0.1:9"  # nothing listens there
HIDDEN = "hunter2-do-not-tell"
TODAY = today(datetime.now(UTC))

DATA = Path(__file__).parents[2] / "data"

Examine = Callable[..., dict[str, Check]]
Role = Callable[..., str]


@pytest.fixture
def live() -> Iterator[MarketServer]:
    """A provider with the prices of today."""
    history = PriceHistory.synthetic(2, 80, end=previous_session(TODAY))
    with MarketServer(history, today=TODAY) as server:
        yield server


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def examine(
    live: MarketServer, box: Box, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, Check]]]:
    """A function that checks a set-up in order, but for the settings that it takes; None removes one."""
    with ExitStack() as servers:
        charts = LocalServer(lambda _: PICTURE)
        charts.start()
        servers.callback(charts.stop)
        port = servers.enter_context(smtp_server(box, authenticator=box.log_in, auth_require_tls=False))
        usual = {
            "DATABASE_URL": sqlite_url,
            "POLYGON_BASE_URL": live.url,
            "POLYGON_API_KEY": live.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": "SYN00000",
            "QUICKCHART_URL": f"{charts.url}/chart",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "SMTP_USER": "me",
            "SMTP_PASSWORD": PASSWORD,
            "MAIL_FROM": "stock@example.com",
            "MAIL_TO": "one@example.com, two@example.com",
        }

        def run(settings: dict[str, str | None] | None = None, **options: Any) -> dict[str, Check]:
            for name, value in {**usual, **(settings or {})}.items():
                if value is None:
                    monkeypatch.delenv(name, raising=False)
                else:
                    monkeypatch.setenv(name, value)
            diagnosis = diagnose(Deadline(None, SystemClock()), **options)
            assert json.loads(json.dumps(diagnosis)) == diagnosis
            checks = diagnosis["checks"]
            assert diagnosis["ok"] == all(check["status"] != "failed" for check in checks)
            assert all(bool(check["cure"]) == (check["status"] != "ok") for check in checks)
            assert all(check["message"].isprintable() for check in checks)
            return {check["name"]: check for check in checks}

        yield run


@pytest.fixture
def role(postgresql_url: str) -> Iterator[Role]:
    """A function that makes a role of the database with some statements, and returns the URL of its login."""
    engine, made = open_engine(postgresql_url), list[str]()

    def make(name: str, *statements: str) -> str:
        made.append(name)
        with engine.begin() as connection:
            for statement in (f"CREATE ROLE {name} LOGIN", *statements):
                connection.execute(text(statement))
        return make_url(postgresql_url).set(username=name).render_as_string(hide_password=False)

    yield make
    for name in made:
        open_engine(make_url(postgresql_url).set(username=name).render_as_string(hide_password=False)).dispose()
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))


def troubles(checks: dict[str, Check]) -> list[str]:
    """The names of the checks that are not ok."""
    return [name for name, check in checks.items() if check["status"] != "ok"]


def only(checks: dict[str, Check], name: str, status: str = "failed") -> tuple[str, str]:
    """Message and cure of the check that alone has a status."""
    assert [each for each, check in checks.items() if check["status"] == status] == [name], checks
    return checks[name]["message"], str(checks[name]["cure"])


def load(examine: Examine, **settings: str) -> None:
    """Load what a healthy set-up has."""
    examine(settings)
    handler({"job_type": "initialize"})


class TestHealthy:
    def test_all_is_ok_and_nothing_is_left_behind(
        self, examine: Examine, postgresql_url: str, live: MarketServer, box: Box, tmp_path: Path
    ) -> None:
        load(examine, DATABASE_URL=postgresql_url)
        live.reset_calls()
        engine = open_engine(postgresql_url)
        names = "SELECT relname FROM pg_class ORDER BY relname"
        before = (tables.rows(engine, names), tables.rows(engine, "SELECT xmin::text, * FROM job_runs"))

        checks = examine({"DATABASE_URL": postgresql_url})

        assert troubles(checks) == []
        assert list(checks) == [*NAMES, "freshness"]
        assert (tables.rows(engine, names), tables.rows(engine, "SELECT xmin::text, * FROM job_runs")) == before
        assert live.calls == {"range": 1}
        assert (box.mails, box.logins[-1]) == ([], ("me", PASSWORD))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("kind", ["postgresql", "sqlite", "an empty file"])
    def test_before_the_first_run_only_that_is_lacking(
        self, examine: Examine, request: pytest.FixtureRequest, kind: str, tmp_path: Path
    ) -> None:
        url = str(request.getfixturevalue("postgresql_url" if kind == "postgresql" else "sqlite_url"))
        if kind == "an empty file":
            (tmp_path / "stock_tracker.db").touch()
        before = sorted(tmp_path.iterdir())

        checks = examine({"DATABASE_URL": url})

        assert only(checks, "freshness", "warning") == ("no run yet", "run initialize")
        assert troubles(checks) == ["freshness"]
        assert checks["tables"]["message"] == "none yet: the first run makes them"
        open_engine(url).dispose()
        assert sorted(tmp_path.iterdir()) == before
        assert kind == "sqlite" or inspect(open_engine(url)).get_table_names() == []

    def test_a_sqlite_file_is_not_changed(self, examine: Examine, sqlite_url: str, tmp_path: Path) -> None:
        load(examine)
        open_engine(sqlite_url).dispose()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert troubles(examine()) == []
        open_engine(sqlite_url).dispose()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_no_secret_is_shown(self, examine: Examine) -> None:
        said = json.dumps(
            examine(
                {
                    "POLYGON_API_KEY": HIDDEN,
                    "SMTP_PASSWORD": f"mail-{HIDDEN}",
                    "DATABASE_URL": f"postgresql://u:db-{HIDDEN}@{NOWHERE}/prices",
                }
            )
        )
        assert HIDDEN not in said

    def test_a_secret_that_a_service_repeats_is_masked(self, examine: Examine, live: MarketServer) -> None:
        gossip = LocalServer(lambda _: Reply(400, b"", {"X-quickchart-error": f"no chart for {live.key}"}))
        gossip.start()
        checks = examine({"QUICKCHART_URL": f"{gossip.url}/chart"})
        gossip.stop()
        assert "the chart service says 'no chart for ***'" in checks["charts"]["message"]


class TestSettings:
    def test_a_malformed_one_is_named_and_the_rest_says_that_it_waits(self, examine: Examine) -> None:
        checks = examine({"LOG_LEVEL": "loud"})
        message, cure = only(checks, "settings")
        assert message.startswith("LOG_LEVEL is 'loud'")
        assert cure == "correct it in .env or the environment, which comes first"
        assert checks["calendar"]["status"] == "ok"
        others = {check["message"] for name, check in checks.items() if name not in ("settings", "calendar")}
        assert others == {"the settings cannot be read"}
        assert list(checks) == [*NAMES[:-1], "freshness", "calendar"]

    def test_a_misspelled_one_is_told_from_the_one_that_is_meant(self, examine: Examine) -> None:
        Path(".env").write_text("DATABASE_URI=sqlite:///x.db\n")
        message, _ = only(examine({"DATABASE_URL": None}), "settings")
        assert message == ".env has 'DATABASE_URI', which is no setting: did you mean DATABASE_URL?"

    def test_an_unknown_one_is_a_warning(self, examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
        Path(".env").write_text("PROXY=none\n")
        monkeypatch.setenv("POLYGON_CALLS_PER_MINUT", "5")
        checks = examine({"POLYGON_CALLS_PER_MINUTE": None})
        assert checks["settings"]["status"] == "warning"
        assert checks["settings"]["message"] == (
            ".env has 'PROXY', which is no setting; the environment has 'POLYGON_CALLS_PER_MINUT', which is no setting:"
            " did you mean POLYGON_CALLS_PER_MINUTE?"
        )
        assert checks["settings"]["cure"] == "correct the name; what belongs to another program may stay"

    def test_each_is_told_with_its_source(self, examine: Examine, tmp_path: Path) -> None:
        Path(".env").write_text("SYMBOLS=SYN00000\nAUDIT_CALLS=\n")
        message = examine({"SYMBOLS": None})["settings"]["message"]
        assert f"from {tmp_path}/.env: SYMBOLS;" in f"{message};"
        assert "from the environment: DATABASE_URL" in message
        assert "AUDIT_CALLS" not in message, "it is empty, which is not set"


class TestDatabase:
    def test_an_unreachable_host(self, examine: Examine) -> None:
        checks = examine({"DATABASE_URL": f"postgresql://u:{HIDDEN}@{NOWHERE}/prices"})
        message, cure = only(checks, "database")
        assert message.startswith(f"PostgreSQL at {NOWHERE}/prices cannot be reached: ")
        assert cure == (
            "check host, port and name in DATABASE_URL in the environment, and that the server runs and lets this"
            " machine in"
        )
        assert {checks[name]["cure"] for name in ("tables", "rights", "pool", "freshness")} == {
            "mend the database first"
        }
        assert checks["key"]["status"] == checks["mail"]["status"] == "ok"

    def test_a_wrong_password(self, examine: Examine) -> None:
        with guarded_postgresql(HIDDEN) as url:
            good = examine({"DATABASE_URL": url})
            open_engine(url).dispose()
            wrong = make_url(url).set(password="not-this-one").render_as_string(hide_password=False)
            message, cure = only(examine({"DATABASE_URL": wrong}), "database")
        assert good["database"]["status"] == "ok"
        assert message.endswith('password authentication failed for user "postgres"')
        assert cure == "check the user and the password in DATABASE_URL in the environment"

    @pytest.mark.parametrize("url", ["mysql://h/x", "postgresql://u:p@ss@h/x", "sqlite://"])
    def test_a_malformed_url(self, examine: Examine, url: str) -> None:
        _, cure = only(examine({"DATABASE_URL": url}), "database")
        assert cure == "correct DATABASE_URL in the environment"

    def test_a_folder_that_cannot_be_made(self, examine: Examine, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        message, cure = only(examine({"DATABASE_URL": f"sqlite:///{tmp_path}/file/x.db"}), "database")
        assert "Not a directory" in message
        assert cure.startswith("make its folder")

    def test_a_database_that_accepts_and_never_answers(self, examine: Examine) -> None:
        with rough_server(silent) as server:
            url = f"postgresql://u@127.0.0.1:{server.port}/prices"
            message, _ = only(examine({"DATABASE_URL": url}, seconds=0.5), "database")
        assert "did not answer in time" in message

    def test_a_role_that_may_only_read(self, examine: Examine, postgresql_url: str, role: Role) -> None:
        load(examine, DATABASE_URL=postgresql_url)
        reads = "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
        url = role("reader", "GRANT USAGE ON SCHEMA public TO reader", reads)
        message, cure = only(examine({"DATABASE_URL": url}), "rights")
        assert message.startswith("writing was refused: permission denied for table ")
        with open_engine(postgresql_url).begin() as connection:
            for statement in cure.partition("run: ")[2].split("; "):
                connection.execute(text(statement))
        assert troubles(examine({"DATABASE_URL": url})) == [], "the cure helps"

    def test_a_session_that_is_read_only(self, examine: Examine, postgresql_url: str, role: Role) -> None:
        url = role("sealed", "ALTER ROLE sealed SUPERUSER", "ALTER ROLE sealed SET default_transaction_read_only = on")
        message, cure = only(examine({"DATABASE_URL": url}), "rights")
        assert message.endswith("in a read-only transaction")
        assert cure.endswith("set default_transaction_read_only of the role or the database to off")

    @pytest.mark.parametrize(
        ("rights", "said"),
        [
            ([], "no schema has been selected to create in"),
            (["GRANT USAGE ON SCHEMA public TO nobody"], "permission denied for schema public"),
        ],
    )
    def test_a_role_that_may_not_make_tables(
        self, examine: Examine, postgresql_url: str, role: Role, rights: list[str], said: str
    ) -> None:
        url = role("nobody", *rights)
        message, cure = only(examine({"DATABASE_URL": url}), "rights")
        assert message == f"writing was refused: {said}"
        assert "GRANT USAGE, CREATE ON SCHEMA public TO nobody" in cure

    def test_a_role_that_does_not_own_the_tables_of_the_earlier_version(
        self, examine: Examine, postgresql_url: str, role: Role
    ) -> None:
        script = (DATA / "earlier_postgresql.sql").read_text()
        with open_engine(postgresql_url).begin() as connection:
            connection.connection.dbapi_connection.execute_simple(script)
        url = role(
            "writer", "GRANT ALL ON SCHEMA public TO writer", "GRANT ALL ON ALL TABLES IN SCHEMA public TO writer"
        )
        message, cure = only(examine({"DATABASE_URL": url}), "rights")
        assert message.startswith("writing was refused: must be owner of table ")
        assert cure.startswith("let the owner of the tables run the next job")

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no rights of users")
    def test_a_sqlite_file_that_cannot_be_written(self, examine: Examine, sqlite_url: str, tmp_path: Path) -> None:
        load(examine)
        open_engine(sqlite_url).dispose()
        file = tmp_path / "stock_tracker.db"
        file.chmod(0o444)
        for folder in (tmp_path, *tmp_path.parents[:3]):
            folder.chmod(0o755)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65_534)
        try:
            message, cure = only(examine(), "rights")
        finally:
            if is_root:
                os.seteuid(0)
        assert "readonly database" in message
        assert cure == "give yourself the right to write to the file and to its folder"

    @pytest.mark.parametrize("transport", ["direct", "pooler"])
    def test_a_pooler_is_recognized(self, examine: Examine, postgresql_url: str, transport: str) -> None:
        if transport == "direct":
            checks = examine({"DATABASE_URL": postgresql_url})
        elif pgbouncer.program() is None:
            pytest.skip("pgbouncer is not installed")
        else:
            with pgbouncer.pooler(postgresql_url, connections=1) as url:
                checks = examine({"DATABASE_URL": url})
                open_engine(url).dispose()
        assert checks["pool"]["message"].startswith("through a pooler; ") == (transport == "pooler")
        assert checks["pool"]["message"].endswith("connections are used, and a run needs one")

    def test_few_connections_that_are_left(
        self, examine: Examine, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("entrypoints.check_database.FEW_CONNECTIONS", 1_000_000)
        checks = examine({"DATABASE_URL": postgresql_url})
        assert checks["pool"]["status"] == "warning"
        assert "pooler" in str(checks["pool"]["cure"])


class TestTables:
    def refused(self, examine: Examine, url: str, statement: str) -> tuple[str, str]:
        with transaction(open_engine(url)) as connection:
            connection.execute(text(statement))
        checks = examine({"DATABASE_URL": url})
        assert checks["rights"]["status"] == "skipped"
        return only(checks, "tables")

    def test_a_stock_data_of_another_shape_is_told_with_the_statement_that_mends_it(
        self, examine: Examine, postgresql_url: str
    ) -> None:
        columns = ", ".join(f"{name} NUMERIC" for name in ("open", "high", "low", "close"))
        metrics = ", ".join(f"{name} NUMERIC" for name in ("volatility", "rolling_avg", "daily_pct_change"))
        keyed = f"{columns}, volume BIGINT, {metrics}, UNIQUE (symbol, date)"
        create = f"CREATE TABLE stock_data (date DATE, symbol TEXT, {keyed})"
        message, cure = self.refused(examine, postgresql_url, create)
        assert message == "the existing table stock_data has columns of other types (date is DATE)"
        with transaction(open_engine(postgresql_url)) as connection:
            connection.execute(text(cure.removeprefix("run: ")))
        checks = examine({"DATABASE_URL": postgresql_url})
        assert checks["tables"]["status"] == "ok"
        assert "the first run adopts it" in checks["tables"]["message"]

    def test_a_table_of_somebody_else_is_told_with_the_statement(self, examine: Examine, database_url: str) -> None:
        _, cure = self.refused(examine, database_url, "CREATE TABLE job_runs (id INTEGER)")
        assert cure == "run: ALTER TABLE job_runs RENAME TO job_runs_before"

    def test_tables_of_the_earlier_version_are_brought_up(self, examine: Examine, sqlite_url: str) -> None:
        script = (DATA / "earlier_sqlite.sql").read_text()
        with open_engine(sqlite_url).connect() as connection:
            connection.connection.dbapi_connection.executescript(script)
        checks = examine()
        assert checks["tables"]["status"] == "ok"
        assert checks["tables"]["message"].startswith("of an earlier version: the next run")
        with transaction(open_engine(sqlite_url), write=False) as connection:
            assert migration.schema_state(connection) == "earlier", "it is not brought up by the doctor"

    def test_recorded_prices_and_a_live_key_do_not_fit(self, examine: Examine, sqlite_url: str) -> None:
        load(examine)
        with transaction(open_engine(sqlite_url)) as connection:
            connection.execute(text("UPDATE job_runs SET provider = 'api.massive.com'"))
        message, cure = only(examine(), "tables")
        assert message.endswith("holds prices from api.massive.com, not from 127.0.0.1")
        assert cure == "set DATABASE_URL to another database, or remove that one (make reset)"


class TestProvider:
    def test_a_wrong_key(self, examine: Examine, live: MarketServer) -> None:
        checks = examine({"POLYGON_API_KEY": HIDDEN})
        message, cure = only(checks, "key")
        assert message == "the provider refused the key in POLYGON_API_KEY (401, ERROR: Unknown API Key)"
        assert cure == "copy the key from https://massive.com again into POLYGON_API_KEY in the environment"
        assert checks["plan"]["status"] == "skipped"
        assert live.calls == {"refused": 1}

    def test_no_key(self, examine: Examine, live: MarketServer) -> None:
        message, cure = only(examine({"POLYGON_API_KEY": None}), "key")
        assert message == "POLYGON_API_KEY is not set: jobs run on recorded prices only, with --sandbox"
        assert cure == "put a key of https://massive.com (the free plan will do) into .env"
        assert live.calls == {}

    @pytest.mark.parametrize("answer", ["nobody listens", "silence", "an error"])
    def test_a_provider_that_does_not_answer(self, examine: Examine, live: MarketServer, answer: str) -> None:
        with rough_server(silent) as server:
            address = {"nobody listens": f"http://{NOWHERE}", "silence": server.url, "an error": live.url}[answer]
            live.fail_next(*[Fault(status=503)] * 9)
            _, cure = only(examine({"POLYGON_BASE_URL": address}, seconds=1.0), "key")
        expected = "run doctor again in a minute" if answer == "an error" else "check the network, a proxy, and POLYGON"
        assert cure.startswith(expected)

    def test_certificates_that_cannot_be_read(
        self, examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{tmp_path}/none.pem")
        checks = examine({"POLYGON_BASE_URL": f"https://{NOWHERE}", "QUICKCHART_URL": f"https://{NOWHERE}/chart"})
        assert f"{tmp_path}/none.pem" in checks["key"]["message"]
        assert checks["charts"]["status"] == "failed"

    def test_a_symbol_without_prices_is_a_warning(self, examine: Examine) -> None:
        checks = examine({"SYMBOLS": "syn00000"})
        assert checks["key"]["status"] == "warning"
        assert "has no bar of syn00000" in checks["key"]["message"]
        assert "check the spelling in SYMBOLS" in str(checks["key"]["cure"])

    def test_a_plan_that_does_not_include_recent_sessions(self, examine: Examine, live: MarketServer) -> None:
        live.fail_next(Fault(status=403, body=b'{"status": "NOT_AUTHORIZED", "message": "You are not entitled"}'))
        checks = examine()
        message, cure = only(checks, "plan")
        assert "(403, NOT_AUTHORIZED: You are not entitled)" in message
        assert cure == "take a plan with daily bars of stocks at https://massive.com"
        assert checks["key"]["status"] == "ok"

    def test_a_plan_that_reaches_less_far_than_is_wanted(self, examine: Examine, live: MarketServer) -> None:
        live.fail_next(Fault(status=403))
        checks = examine({"HISTORY_SESSIONS": "1000"})
        assert checks["plan"]["status"] == "warning"
        first = last_sessions(1000, TODAY)[0]
        assert checks["plan"]["message"] == f"it does not include all that HISTORY_SESSIONS=1000 wants, from {first} on"

    def test_more_calls_than_a_plan_of_two_years_allows(self, examine: Examine, sqlite_url: str) -> None:
        load(examine)
        with transaction(open_engine(sqlite_url)) as connection:
            connection.execute(text("UPDATE job_runs SET history_days = 730"))
        checks = examine()
        assert checks["plan"]["status"] == "warning"
        assert checks["plan"]["message"].endswith(
            "calls without a limit; a run has learned that it reaches back 730 days"
        )
        assert checks["plan"]["cure"] == "the free plan allows 5: set POLYGON_CALLS_PER_MINUTE=5 in the environment"
        assert examine({"POLYGON_CALLS_PER_MINUTE": "5"})["plan"]["status"] == "ok"

    def test_it_does_not_wait_for_the_next_minute(self, examine: Examine) -> None:
        examine({"POLYGON_CALLS_PER_MINUTE": "1"})
        checks = examine({"POLYGON_CALLS_PER_MINUTE": "1"})
        assert checks["key"]["status"] == checks["plan"]["status"] == "skipped"
        assert checks["key"]["cure"] == "run doctor again in a minute"


class TestMail:
    def test_a_wrong_password(self, examine: Examine, box: Box) -> None:
        message, cure = only(examine({"SMTP_PASSWORD": HIDDEN}), "mail")
        assert "refused the login of 'me'" in message
        assert cure == "check SMTP_USER and SMTP_PASSWORD in the environment"
        assert box.mails == []

    @pytest.mark.parametrize("server", ["nobody listens", "silence"])
    def test_a_server_that_is_not_reached(self, examine: Examine, server: str) -> None:
        with rough_server(silent) as mute:
            port = {"nobody listens": "9", "silence": str(mute.port)}[server]
            message, cure = only(examine({"SMTP_PORT": port}, seconds=0.5), "mail")
        assert message.startswith(f"the mail server 127.0.0.1:{port} cannot be used: no connection (")
        assert cure == "check SMTP_HOST, SMTP_PORT and network"

    @pytest.mark.parametrize("name", ["MAIL_FROM", "MAIL_TO"])
    def test_an_address_that_is_missing(self, examine: Examine, name: str) -> None:
        message, cure = only(examine({name: None}), "mail")
        assert message == f"{name} is not set, but mail by SMTP needs it"
        assert cure.startswith("give the ")

    def test_an_outbox_that_cannot_be_written(self, examine: Examine, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        message, cure = only(examine({"SMTP_HOST": None, "OUTBOX": f"{tmp_path}/file"}), "mail")
        assert message == f"the outbox '{tmp_path}/file' cannot be written: Not a directory"
        assert cure == "set OUTBOX in the environment to a folder that you may write to"

    def test_an_outbox(self, examine: Examine, tmp_path: Path) -> None:
        message = examine({"SMTP_HOST": None}, send=True)["mail"]["message"]
        assert message == f"reports go to the folder {tmp_path}/outbox, which can be written"
        assert list(tmp_path.iterdir()) == []

    def test_send_sends_a_test_mail(self, examine: Examine, box: Box) -> None:
        checks = examine(send=True)
        assert checks["test mail"]["message"] == "sent to one@example.com, two@example.com"
        ((sender, recipients, content),) = box.mails
        assert (sender, recipients) == ("stock@example.com", ["one@example.com", "two@example.com"])
        assert b"Subject: Stock Tracker: test mail" in content

    def test_a_refused_recipient_of_the_test_mail_is_named(self, examine: Examine, box: Box) -> None:
        box.replies = {"two@example.com": ["550 nobody"]}
        checks = examine(send=True)
        assert checks["test mail"]["status"] == "warning"
        assert "two@example.com was refused: 550 nobody" in checks["test mail"]["message"]

    def test_no_test_mail_without_mail(self, examine: Examine, box: Box) -> None:
        assert examine({"SMTP_PASSWORD": HIDDEN}, send=True)["test mail"]["status"] == "skipped"
        assert examine({"SMTP_HOST": None}, send=True)["test mail"]["message"] == "reports are not mailed"
        assert box.mails == []


ACCOUNT = {
    "ProductionAccessEnabled": True,
    "SendingEnabled": True,
    "SendQuota": {"Max24HourSend": 200.0, "MaxSendRate": 1.0, "SentLast24Hours": 3.0},
}


class TestSes:
    @pytest.fixture
    def answers(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
        """What SES answers, by path; None is a refusal, and an absent identity is not found."""
        found: dict[str, Any] = {
            "/v2/email/account": ACCOUNT,
            "/v2/email/identities/example.com": {"VerifiedForSendingStatus": True},
        }

        def respond(request: Any) -> Reply:
            path = request.target.replace("%40", "@")
            if path not in found:
                return Reply(404, b'{"message": "it does not exist"}', {"x-amzn-ErrorType": "NotFoundException"})
            if found[path] is None:
                return Reply(403, b'{"message": "not authorized"}', {"x-amzn-ErrorType": "AccessDeniedException"})
            return Reply(200, json.dumps(found[path]).encode(), {"Content-Type": "application/json"})

        server = LocalServer(respond)
        server.start()
        for name, value in {
            "AWS_ENDPOINT_URL_SESV2": server.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }.items():
            monkeypatch.setenv(name, value)
        yield found
        server.stop()

    def mail(self, examine: Examine, **options: Any) -> Check:
        return examine({"MAIL_TRANSPORT": "ses"}, **options)["mail"]

    def test_a_verified_domain_and_the_quota(self, examine: Examine, answers: dict[str, Any]) -> None:
        assert self.mail(examine)["message"] == (
            "Amazon SES has sent 3 of 200 mails of a day; from stock@example.com to one@example.com, two@example.com"
        )

    def test_a_sender_that_is_not_verified(self, examine: Examine, answers: dict[str, Any]) -> None:
        answers["/v2/email/identities/example.com"] = {"VerifiedForSendingStatus": False}
        check = self.mail(examine)
        assert (check["status"], check["cure"]) == ("failed", "verify stock@example.com or its domain in SES")

    def test_an_account_in_the_sandbox_of_ses(self, examine: Examine, answers: dict[str, Any]) -> None:
        answers["/v2/email/account"] = {**ACCOUNT, "ProductionAccessEnabled": False}
        check = self.mail(examine)
        assert (check["status"], check["cure"]) == (
            "warning",
            "verify each recipient in SES, or ask AWS for production access",
        )

    def test_a_role_that_may_only_send_is_no_failure(self, examine: Examine, answers: dict[str, Any]) -> None:
        answers["/v2/email/account"] = None
        check = self.mail(examine)
        assert check["status"] == "skipped"
        assert "may send, but not read the account" in check["message"]

    def test_no_region(self, examine: Examine, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        check = self.mail(examine)
        assert (check["status"], check["cure"]) == ("failed", "check AWS credentials and region")

    def test_an_endpoint_that_does_not_answer(
        self, examine: Examine, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with rough_server(silent) as mute:
            monkeypatch.setenv("AWS_ENDPOINT_URL_SESV2", mute.url)
            assert self.mail(examine, seconds=1.0)["status"] == "failed"


class TestCharts:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            (f"http://{NOWHERE}/chart", "Connection refused"),
            ("{live}/chart", "HTTP 401"),
            ("{mute}", "no response within"),
        ],
    )
    def test_a_service_that_draws_nothing(self, examine: Examine, live: MarketServer, url: str, reason: str) -> None:
        with rough_server(silent) as mute:
            address = url.format(live=live.url, mute=mute.url)
            message, cure = only(examine({"QUICKCHART_URL": address}, seconds=1.0), "charts")
        assert message.startswith(f"{address} drew nothing: ")
        assert reason in message
        assert cure == "check the network and QUICKCHART_URL; until then reports have no charts"


class TestTime:
    @pytest.mark.parametrize(("minutes", "said"), [(10, "ahead of"), (-10, "behind")])
    def test_a_clock_that_is_off(self, examine: Examine, postgresql_url: str, minutes: int, said: str) -> None:
        def now() -> datetime:
            return datetime.now(UTC) + timedelta(minutes=minutes)

        check = examine({"DATABASE_URL": postgresql_url}, now=now)["clock"]
        assert check["status"] == "warning"
        assert f" s {said} the database and " in check["message"]
        assert f" s {said} the provider" in check["message"]
        assert check["cure"] == "set the clock of this machine (timedatectl set-ntp true) by network time"

    def test_a_minute_is_within_what_is_usual(self, examine: Examine) -> None:
        checks = examine(now=lambda: datetime.now(UTC) + timedelta(seconds=50))
        assert checks["clock"]["status"] == "ok"

    def test_without_another_clock_it_is_not_known(self, examine: Examine) -> None:
        assert examine({"POLYGON_API_KEY": None})["clock"]["status"] == "skipped"

    def test_sessions_of_which_no_symbol_has_a_bar(self, examine: Examine, database_url: str) -> None:
        load(examine, DATABASE_URL=database_url)
        closed = last_sessions(30, TODAY)[0]
        with transaction(open_engine(database_url)) as connection:
            connection.execute(text(f"DELETE FROM stock_data WHERE date = '{closed} 00:00:00'"))
        check = examine({"DATABASE_URL": database_url})["calendar"]
        assert check["status"] == "warning"
        assert check["message"].endswith(f"calls sessions open of which no symbol has a bar: {closed}")
        assert str(check["cure"]).startswith("update it (make calendar), or read them again")

    def test_sessions_that_were_never_read_are_no_sign_of_an_old_calendar(self, examine: Examine) -> None:
        examine()
        sessions = last_sessions(60, TODAY)
        for first, last in ((sessions[0], sessions[9]), (sessions[50], sessions[59])):
            handler({"job_type": "initialize", "start": str(first), "end": str(last)})
        assert examine()["calendar"]["status"] == "ok"


class TestFreshness:
    @pytest.fixture
    def change(self, examine: Examine, database_url: str) -> Callable[[str], Check]:
        """A function that changes the only run and returns the check."""
        load(examine, DATABASE_URL=database_url)
        engine: Engine = open_engine(database_url)

        def apply(assignment: str) -> Check:
            with transaction(engine) as connection:
                connection.execute(text(f"UPDATE job_runs SET {assignment}"))
            return examine({"DATABASE_URL": database_url})["freshness"]

        return apply

    def test_a_good_run(self, change: Callable[[str], Check]) -> None:
        check = change("error = NULL")
        assert check["status"] == "ok"
        assert check["message"].startswith("initialize of ")
        assert check["message"].endswith(" UTC: ok")

    def test_a_run_that_died(self, change: Callable[[str], Check]) -> None:
        check = change("status = 'running', leased_until = '2013-03-02 00:00:00.000000+00:00'")
        assert check["status"] == "warning"
        assert "stands as running, and its process is gone" in check["message"]
        assert str(check["cure"]).startswith("nothing to do: the next run closes it")

    def test_a_run_at_work(self, change: Callable[[str], Check]) -> None:
        check = change("status = 'running', leased_until = '2099-03-02 00:00:00.000000+00:00'")
        assert "its process is gone" not in check["message"]

    def test_a_run_that_failed(self, change: Callable[[str], Check]) -> None:
        check = change("status = 'failed', error = 'the provider is down'")
        assert check["status"] == "warning"
        assert check["message"].endswith("UTC: failed: the provider is down")
        assert check["cure"] == "run initialize again; nothing is lost"

    def test_a_table_that_nobody_has_updated_for_days(self, change: Callable[[str], Check]) -> None:
        third, *_ = last_sessions(3, TODAY)
        check = change(f"started_at = '{third} 15:00:00.000000+00:00'")
        assert check["status"] == "warning"
        assert check["message"].startswith("3 sessions have ended since the last load, initialize of ")
        assert check["cure"] == "run daily_update, and check its schedule"

    def test_a_load_of_the_last_session_is_fresh_enough(self, change: Callable[[str], Check]) -> None:
        assert change(f"started_at = '{previous_session(TODAY)} 15:00:00.000000+00:00'")["status"] == "ok"


class TestOnLambda:
    def test_places_that_lambda_does_not_keep_fail(self, examine: Examine) -> None:
        settings = {"DATABASE_URL": "sqlite:///x.db", "SMTP_HOST": None, "SECRET_ID": None, "POLYGON_API_KEY": None}
        checks = examine({name: value for name, value in settings.items() if name != "SECRET_ID"}, on_lambda=True)
        assert checks["database"]["message"].startswith("DATABASE_URL is a file in the folder of the code")
        assert checks["mail"]["message"].startswith("MAIL_TRANSPORT is 'auto' and SMTP_HOST is ''")
        assert checks["key"]["message"] == "POLYGON_API_KEY is not set: no job runs"

    def test_it_ends_within_the_time_of_the_invocation(self, examine: Examine) -> None:
        examine()
        diagnosis = diagnose(Deadline(0.0, SystemClock()), on_lambda=True)
        assert not diagnosis["ok"]


class TestView:
    def shown(self, checks: list[Check], *, terminal: bool) -> str:
        screen = Console(file=io.StringIO(), width=80, force_terminal=terminal, no_color=True, soft_wrap=True)
        for check in checks:
            show_check(screen, check)
        show_summary(screen, checks)
        assert isinstance(screen.file, io.StringIO)
        return screen.file.getvalue()

    def test_a_line_outside_a_terminal_stays_one(self) -> None:
        check: Check = {"name": "key", "status": "failed", "message": "word " * 40, "cure": "[red]do[/red] " * 30}
        printed = self.shown([check], terminal=False)
        assert [line[:26].rstrip() for line in printed.splitlines()] == [
            "failed   key        word w",
            "                    cure:",
            "1 of 1 checks failed.",
        ]
        assert "[red]do[/red]" in printed, "markup is text"

    def test_a_terminal_wraps_at_words_under_the_message(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TERM", "dumb")
        check: Check = {"name": "key", "status": "failed", "message": "word " * 40, "cure": "do " * 30}
        lines = self.shown([check], terminal=True).splitlines()
        assert max(len(line) for line in lines) <= 80
        assert all(line.startswith(" " * 20) for line in lines[1:-1])

    @pytest.mark.parametrize(
        ("statuses", "summary"),
        [
            (["ok", "skipped"], "The set-up is in order."),
            (["ok", "warning"], "Nothing failed; 1 of 2 checks warn."),
            (["failed", "warning", "failed"], "2 of 3 checks failed."),
        ],
    )
    def test_the_last_line_sums_up(self, statuses: list[Any], summary: str) -> None:
        checks: list[Check] = [{"name": "x", "status": status, "message": "m", "cure": None} for status in statuses]
        assert self.shown(checks, terminal=False).splitlines()[-1] == summary

    @pytest.mark.parametrize(
        ("answer", "status", "said"),
        [
            (
                'START …\n{"ok": true, "checks": [{"name": "key", "status": "ok", "message": "m", "cure": null}]}\n',
                0,
                "",
            ),
            ('{"ok": false, "checks": [{"name": "key", "status": "failed", "message": "m", "cure": "c"}]}', 1, ""),
            (
                '{"errorMessage": "job_type is \\"doctor\\": valid are …", "errorType": "PayloadError"}',
                1,
                "job_type is",
            ),
            ("", 1, "is the stack deployed? (make deploy)"),
        ],
    )
    def test_the_answer_of_the_function_is_shown(
        self, answer: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        screen = Console(file=io.StringIO(), width=80)
        assert show_answer(screen, answer) == status
        assert said in capsys.readouterr().err
