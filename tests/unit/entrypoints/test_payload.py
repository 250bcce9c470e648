import json
from datetime import date

import pytest

from config import Settings
from domain.errors import PayloadError
from domain.models import Request
from entrypoints.payload import parse_payload
from lambda_main import handler

NOW = date(2013, 3, 2)
JOBS = "initialize, daily_update, weekly_report, doctor"
KEYS = "job_type, symbols, as_of, sessions, start, end, dry_run, force"
HIDDEN = "hunter2-do-not-tell"

WRONG = [
    # no job
    ({}, ["{}", "job_type", JOBS]),
    (None, ["null", "job_type", JOBS]),
    ([], ["[]", "job_type", JOBS]),
    ("daily_update", ['"daily_update"', "job_type", JOBS]),
    (5, ["5", "job_type", JOBS]),
    ({"as_of": "2013-03-01"}, ['{"as_of": "2013-03-01"}', "job_type", JOBS]),
    ({"detail-type": "Scheduled Event", "source": "aws.events"}, ["Scheduled Event", "job_type", JOBS]),
    # an unknown job
    ({"job_type": "explode"}, ["job_type", "explode", JOBS]),
    ({"job_type": "Daily_Update"}, ["job_type", "Daily_Update", JOBS]),
    ({"job_type": ""}, ["job_type is ", JOBS]),
    ({"job_type": "daily_update\n"}, ["job_type", r"daily_update\n", JOBS]),
    ({"job_type": None}, ["job_type", "null", "initialize"]),
    ({"job_type": 1}, ["job_type", "1", "initialize"]),
    ({"job_type": True}, ["job_type", "true", "initialize"]),
    ({"job_type": ["daily_update"]}, ["job_type", '["daily_update"]', "initialize"]),
    # an unknown key
    ({"job_type": "daily_update", "symbol": "GOOG"}, ["'symbol'", KEYS]),
    ({"job_type": "daily_update", "Symbols": "GOOG"}, ["'Symbols'", KEYS]),
    ({"job_type": "daily_update", "": 1}, ["''", KEYS]),
    ({"job_type": "daily_update", "a\nb": 1}, [r"'a\nb'", KEYS]),
    # symbols
    ({"job_type": "daily_update", "symbols": None}, ["symbols", "null", "list of symbols"]),
    ({"job_type": "daily_update", "symbols": 5}, ["symbols", "5", "list of symbols"]),
    ({"job_type": "daily_update", "symbols": True}, ["symbols", "true", "list of symbols"]),
    ({"job_type": "daily_update", "symbols": {"GOOG": 1}}, ["symbols", '{"GOOG": 1}', "list of symbols"]),
    ({"job_type": "daily_update", "symbols": []}, ["symbols", "[]", "at least one"]),
    ({"job_type": "daily_update", "symbols": ""}, ["symbols", '""', "at least one"]),
    ({"job_type": "daily_update", "symbols": " ,"}, ["symbols", '" ,"', "at least one"]),
    ({"job_type": "daily_update", "symbols": ["GOOG", ""]}, ["symbols", "''", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": ["GOOG", 5]}, ["symbols", "5", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": ["GOOG", None]}, ["symbols", "null", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": [["GOOG"]]}, ["symbols", '[["GOOG"]]', "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": "TOOLONGNAME"}, ["symbols", "'TOOLONGNAME'", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": "GO OG"}, ["symbols", "'GO OG'", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": ["GOOG\n"]}, ["symbols", r"'GOOG\n'", "1 to 10 letters"]),
    ({"job_type": "daily_update", "symbols": "*,GOOG"}, ["symbols", "'*'", "'*' alone"]),
    # dates
    ({"job_type": "daily_update", "as_of": "yesterday"}, ["as_of", '"yesterday"', "2013-03-01"]),
    ({"job_type": "daily_update", "as_of": "2013-02-30"}, ["as_of", '"2013-02-30"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": "20130301"}, ["as_of", '"20130301"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": "2013-W09-5"}, ["as_of", '"2013-W09-5"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": "2013-3-1"}, ["as_of", '"2013-3-1"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": "2013-03-01T00:00:00Z"}, ["as_of", "T00:00:00Z", "ISO date"]),
    ({"job_type": "daily_update", "as_of": " 2013-3-01"}, ["as_of", '" 2013-3-01"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": ""}, ["as_of", '""', "ISO date"]),
    ({"job_type": "daily_update", "as_of": "1362096000"}, ["as_of", '"1362096000"', "ISO date"]),
    ({"job_type": "daily_update", "as_of": 1362096000}, ["as_of", "1362096000", "ISO date"]),
    ({"job_type": "daily_update", "as_of": 20130301}, ["as_of", "20130301", "ISO date"]),
    ({"job_type": "daily_update", "as_of": ["2013-03-01"]}, ["as_of", '["2013-03-01"]', "ISO date"]),
    ({"job_type": "daily_update", "as_of": True}, ["as_of", "true", "ISO date"]),
    ({"job_type": "daily_update", "as_of": None}, ["as_of", "null", "ISO date"]),
    ({"job_type": "daily_update", "as_of": "2999-12-31"}, ["as_of", "2999-12-31", "1990-01-01 to today", "2013-03-02"]),
    ({"job_type": "daily_update", "as_of": "1989-12-31"}, ["as_of", "1989-12-31", "1990-01-01"]),
    ({"job_type": "initialize", "start": "2999-12-31"}, ["start", "2999-12-31", "2013-03-02"]),
    ({"job_type": "initialize", "start": "1989-12-31"}, ["start", "1989-12-31", "1990-01-01"]),
    ({"job_type": "initialize", "start": "2013-03-01", "end": "2999-12-31"}, ["end", "2999-12-31", "2013-03-02"]),
    ({"job_type": "initialize", "start": "soon"}, ["start", '"soon"', "ISO date"]),
    ({"job_type": "initialize", "start": None}, ["start", "null", "ISO date"]),
    ({"job_type": "initialize", "start": "2013-03-01", "end": 5}, ["end", "5", "ISO date"]),
    ({"job_type": "initialize", "start": "2013-03-01", "end": None}, ["end", "null", "ISO date"]),
    # keys that do not fit together
    (
        {"job_type": "initialize", "start": "2013-03-01", "end": "2013-02-28"},
        ["start", "2013-03-01", "end", "2013-02-28", "start up to end"],
    ),
    ({"job_type": "initialize", "end": "2013-02-28"}, ["end", "2013-02-28", "start"]),
    ({"job_type": "initialize", "sessions": 5, "start": "2013-02-28"}, ["sessions", "5", "start"]),
    ({"job_type": "initialize", "sessions": 5, "end": "2013-02-28"}, ["sessions", "5", "end"]),
    ({"job_type": "daily_update", "sessions": 5}, ["sessions", "initialize", "daily_update"]),
    ({"job_type": "weekly_report", "start": "2013-02-28"}, ["start", "initialize", "weekly_report"]),
    ({"job_type": "daily_update", "end": "2013-02-28"}, ["end", "initialize", "daily_update"]),
    # number of sessions
    ({"job_type": "initialize", "sessions": 0}, ["sessions", "0", "whole number from 1 to 10000"]),
    ({"job_type": "initialize", "sessions": -1}, ["sessions", "-1", "from 1 to 10000"]),
    ({"job_type": "initialize", "sessions": 10_001}, ["sessions", "10001", "whole number from 1 to 10000"]),
    ({"job_type": "initialize", "sessions": 10**400}, ["sessions", "1000", "whole number from 1 to 10000"]),
    ({"job_type": "initialize", "sessions": "70"}, ["sessions", '"70"', "whole number"]),
    ({"job_type": "initialize", "sessions": 7.5}, ["sessions", "7.5", "whole number"]),
    ({"job_type": "initialize", "sessions": True}, ["sessions", "true", "whole number"]),
    ({"job_type": "initialize", "sessions": [70]}, ["sessions", "[70]", "whole number"]),
    ({"job_type": "initialize", "sessions": None}, ["sessions", "null", "whole number"]),
    # flags
    *[
        ({"job_type": "daily_update", key: value}, [key, json.dumps(value), "true or false"])
        for key in ("dry_run", "force")
        for value in ("true", "false", "", 0, 1, None, [True])
    ],
]


def request(**payload):
    return parse_payload({"job_type": "initialize", **payload}, Settings(), NOW)


class TestWrongPayloads:
    @pytest.mark.parametrize(("event", "named"), WRONG)
    def test_a_wrong_payload_is_refused_naming_key_value_and_what_is_valid(self, event, named):
        with pytest.raises(PayloadError) as caught:
            parse_payload(event, Settings(), NOW)
        message = str(caught.value)
        assert message.isprintable(), "a message is one line"
        assert [part for part in named if part not in message] == [], message
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("payload", [{"as_of": "2013-03-03"}, {"start": "2013-03-03"}])
    def test_tomorrow_is_refused(self, payload):
        with pytest.raises(
            PayloadError, match=r" is 2013-03-03: valid is from 1990-01-01 to today in New York, 2013-03-02$"
        ):
            request(**payload)

    def test_all_errors_are_reported_at_once(self):
        with pytest.raises(PayloadError, match=r"^sessions is 0: .*; dry_run is \"yes\": .*; the key 'x' is unknown"):
            request(sessions=0, dry_run="yes", x=1)

    @pytest.mark.parametrize(
        "payload",
        [
            {"symbols": "A" * 100_000},
            {"symbols": ["A" * 100_000]},
            {"symbols": ["A" * 11] * 100_000},
            {"as_of": "2" * 100_000},
            {"job_type": "x" * 100_000},
            {"x" * 100_000: 1},
            {f"key{number}": 1 for number in range(10_000)},
        ],
    )
    def test_a_message_is_short_whatever_the_payload(self, payload):
        with pytest.raises(PayloadError) as caught:
            request(**payload)
        assert len(str(caught.value)) < 1000

    def test_no_payload_reads_a_file_into_a_message(self, tmp_path):
        (tmp_path / "environ").write_text(f"KEY={HIDDEN}\0PATH=/bin")
        with pytest.raises(PayloadError) as caught:
            request(symbols=f"@{tmp_path}/environ")
        assert HIDDEN not in str(caught.value)

    @pytest.mark.parametrize("event", [event for event, _ in WRONG[::3]])
    def test_a_wrong_payload_fetches_and_writes_nothing(self, event, market, tmp_path, monkeypatch):
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/stock_tracker.db")
        monkeypatch.setenv("POLYGON_BASE_URL", market.url)
        monkeypatch.setenv("POLYGON_API_KEY", market.key)
        before = sorted(tmp_path.iterdir())
        with pytest.raises(PayloadError):
            handler(event)
        assert market.calls == {}
        assert sorted(tmp_path.iterdir()) == before


class TestRequest:
    def test_a_scheduled_event_is_completed_from_settings_and_clock(self):
        assert parse_payload({"job_type": "daily_update"}, Settings(), NOW) == Request(
            job_type="daily_update",
            symbols=("GOOG", "MSFT", "NVDA", "QUBT", "RKLB"),
            as_of=NOW,
            sessions=70,
            payload='{"job_type": "daily_update"}',
        )

    def test_settings_give_the_default_symbols_and_history(self, monkeypatch):
        monkeypatch.setenv("SYMBOLS", "*")
        monkeypatch.setenv("HISTORY_SESSIONS", "5")
        assert (request().symbols, request().sessions) == (("*",), 5)

    def test_every_key_reaches_the_request(self):
        event = {
            "job_type": "initialize",
            "symbols": ["BRK.B", "KIMpL"],
            "as_of": "2013-02-28",
            "start": "2013-01-02",
            "end": "2013-02-27",
            "dry_run": True,
            "force": True,
        }
        assert parse_payload(event, Settings(), NOW) == Request(
            job_type="initialize",
            symbols=("BRK.B", "KIMpL"),
            as_of=date(2013, 2, 28),
            start=date(2013, 1, 2),
            end=date(2013, 2, 27),
            dry_run=True,
            force=True,
            payload=json.dumps(event, sort_keys=True),
        )

    @pytest.mark.parametrize("job_type", ["initialize", "daily_update", "weekly_report"])
    def test_every_job_takes_the_common_keys(self, job_type):
        parsed = parse_payload(
            {"job_type": job_type, "symbols": "GOOG", "as_of": "2013-03-01", "dry_run": False, "force": True},
            Settings(),
            NOW,
        )
        assert (parsed.job_type, parsed.symbols, parsed.dry_run, parsed.force) == (job_type, ("GOOG",), False, True)

    @pytest.mark.parametrize(
        ("symbols", "expected"),
        [
            ("GOOG, MSFT", ("GOOG", "MSFT")),
            (["GOOG", "MSFT", "GOOG"], ("GOOG", "MSFT")),
            ("*", ("*",)),
            (["*"], ("*",)),
        ],
    )
    def test_symbols_are_a_list_or_text(self, symbols, expected):
        assert request(symbols=symbols).symbols == expected

    @pytest.mark.parametrize("sessions", [1, 70, 10_000])
    def test_sessions_can_be_chosen(self, sessions):
        assert request(sessions=sessions).sessions == sessions

    def test_today_and_the_first_known_day_are_valid(self):
        assert request(as_of="2013-03-02").as_of == NOW
        assert request(start="1990-01-01", end="2013-03-02").start == date(1990, 1, 1)

    def test_a_range_may_be_open_ended_or_a_single_day(self):
        assert request(start="2013-01-02").end is None
        assert request(start="2013-01-02", end="2013-01-02").end == date(2013, 1, 2)

    def test_the_event_is_not_changed(self):
        event = {"job_type": "initialize", "symbols": ["GOOG", "GOOG"], "as_of": "2013-03-01"}
        before = json.dumps(event)
        parse_payload(event, Settings(), NOW)
        assert json.dumps(event) == before
