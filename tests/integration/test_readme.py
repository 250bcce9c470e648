"""The README is held to its word: its commands run, their output is what it shows, and what it names exists."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import certifi
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import main
from config import Settings, load_settings
from entrypoints.payload import Payload, parse_payload
from pipeline import jobs
from sandbox.local_http import LocalServer, Reply
from storage.engine import SSL_MODES, open_engine
from storage.schema import METADATA, STOCK_DATA

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ANYTHING = "…"  # as a line of output: whatever follows; inside a message: whatever stands there
COMMAND = "python main.py "
LATER = date(2099, 12, 31)  # a today that makes every date of the README a past one

BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
INLINE = re.findall(r"`([^`\n]+)`", PROSE)


def split_block(block: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines that it prints."""
    typed: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            typed.append((line.removeprefix("$ "), []))
        else:
            typed[-1][1].append(line)
    return typed


CONSOLE = [split_block(block) for kind, block in BLOCKS if kind == "console"]
TYPED = [command for block in CONSOLE for command, _ in block]
COMMANDS = TYPED + [span for span in INLINE if span.startswith((COMMAND, "make ", "docker "))]
MAIN_COMMANDS = [shlex.split(c, comments=True)[2:] for c in COMMANDS if c.startswith(COMMAND)]
PRINTED = [block for block in CONSOLE if any(printed for _, printed in block)]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table after some text, cells without backticks."""
    lines = iter(PROSE[PROSE.index(heading) :].splitlines())
    rows = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def png() -> bytes:
    """A picture of one white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


Terminal = Callable[[Path, list[str]], str]


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    """Runs ``main.py`` in a folder, as a person with a terminal of 100 columns would, and gives what it prints.

    Charts come from a server that draws one pixel, so that the README holds with and without Node.js.
    """
    painter = LocalServer(lambda _: Reply(200, png(), {"Content-Type": "image/png"}))
    painter.start()
    environment = {
        "PATH": os.environ["PATH"],
        "COLUMNS": "100",
        "PYTHONUTF8": "1",
        "QUICKCHART_URL": f"{painter.url}/chart",
    }

    def run(folder: Path, arguments: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    painter.stop()


@pytest.fixture(scope="module")
def demo(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``make run`` was typed."""
    folder = tmp_path_factory.mktemp("demo")
    terminal(folder, ["run"])
    return folder


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"\b\d+\.\d s\b", "0.0 s", line)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2000-01-01 00:00:00", line).rstrip()


def as_arguments(command: str) -> list[str]:
    return ["run"] if command == "make run" else shlex.split(command.removeprefix(COMMAND), comments=True)


class TestCommands:
    @pytest.mark.parametrize("block", PRINTED, ids=lambda block: block[0][0][:50])
    def test_a_command_prints_what_the_readme_shows(self, terminal, demo, tmp_path, block):
        folder = tmp_path / "project"
        if block is PRINTED[0]:
            folder.mkdir()
        else:
            shutil.copytree(demo, folder)
        for command, shown in block:
            expected = [masked(line) for line in shown if not line.startswith(("Making ", "Installing "))]
            printed = [masked(line) for line in terminal(folder, as_arguments(command)).splitlines()]
            if expected[-1] == ANYTHING:
                del expected[-1], printed[len(expected) :]
            assert printed == expected

    def test_what_make_prints_before_is_in_the_makefile(self):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        (making, installing) = PRINTED[0][0][1][:2]
        assert f'"{making.split(" .venv")[0]} $(VENV) with' in makefile
        assert f'"{installing}"' in makefile

    def test_invoke_prints_the_result_that_the_readme_shows(self, terminal, demo, tmp_path):
        shutil.copytree(demo, tmp_path / "project")
        (command,) = [command for command in TYPED if command.startswith(f"{COMMAND}invoke")]
        (shown,) = [json.loads(block) for kind, block in BLOCKS if kind == "json"]
        printed = json.loads(terminal(tmp_path / "project", as_arguments(command)))
        varying = {"run_id", "elapsed_seconds"}
        assert list(printed) == list(shown)
        assert {k: v for k, v in printed.items() if k not in varying} == {
            k: v for k, v in shown.items() if k not in varying
        }

    def test_every_key_of_a_reports_result_is_named(self, terminal, demo, tmp_path):
        shutil.copytree(demo, tmp_path / "project")
        payload = {"job_type": "weekly_report", "as_of": "2013-03-02", "symbols": "AAPL,FB", "force": True}
        (shown,) = [json.loads(block) for kind, block in BLOCKS if kind == "json"]
        for dry_run in (False, True):
            event = json.dumps({**payload, "dry_run": dry_run})
            result = json.loads(terminal(tmp_path / "project", ["invoke", event, "--sandbox"]))
            assert set(result) - set(shown) <= set(INLINE)
            assert result["status"] in INLINE

    @pytest.mark.parametrize("arguments", MAIN_COMMANDS, ids=" ".join)
    def test_every_command_is_one_that_main_takes(self, monkeypatch, arguments):
        events: list[Any] = []
        monkeypatch.setattr(main, "_invoke", lambda event, **_: events.append(event))
        group = typer.main.get_command(main.app)
        context = group.make_context("main.py", [a for a in arguments if a != "--help"] or ["run"])
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(name, rest, parent=context)
        if name in (*jobs.JOBS, "invoke"):
            assert CliRunner().invoke(main.app, arguments).exit_code == 0
            (event,) = events
            assert parse_payload(event, Settings(), LATER).job_type == event["job_type"]

    def test_all_other_commands_are_the_shells_own(self):
        others = {c for c in TYPED if not c.startswith((COMMAND, "make "))}
        assert {shlex.split(command, comments=True)[0] for command in others} == {"cp", "rm"}
        assert "stock_tracker.db" in load_settings().database_url.get_secret_value()

    def test_make_has_every_target(self):
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets = {words[1] for c in COMMANDS if len(words := c.split()) > 1 and words[0] == "make"}
        assert {"run", "test", "help"} <= targets
        for target in targets:
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
        assert "$(ARGS)" in makefile

    def test_a_payload_in_the_text_is_valid(self):
        payloads = [span for span in INLINE if span.startswith("{")]
        assert payloads
        for payload in payloads:
            parse_payload(json.loads(payload), Settings(), LATER)


class TestReference:
    def test_the_jobs_are_all_jobs(self):
        assert [name for row in table("## Jobs") for name in names(row[0])] == list(jobs.JOBS)

    def test_the_keys_are_all_keys_of_a_payload(self):
        keys = [name for row in table("A payload is") for name in names(row[0])]
        assert ["job_type", *keys] == list(Payload.model_fields)

    def test_a_key_is_for_the_jobs_that_it_says(self):
        values = {"symbols": "*", "as_of": "2013-03-01", "sessions": 5, "start": "2013-01-02", "dry_run": True}
        for cells in table("A payload is"):
            valid = set(jobs.JOBS) if cells[1] == "all" else set(names(cells[1]))
            key = names(cells[0])[0]
            for job_type in valid:
                parse_payload({"job_type": job_type, key: values.get(key, True)}, Settings(), LATER)

    def test_every_status_is_named(self):
        said = PROSE[PROSE.index("`status` is") :].partition("A report's result")[0]
        statuses = set(names(said)) - {"status"}
        source = "".join(
            (ROOT / name).read_text(encoding="utf-8") for name in ("pipeline/jobs.py", "pipeline/weekly_report.py")
        )
        assert statuses == {"ok", "nothing_to_do", "partial", "sent", "already_sent"}
        assert all(f'"{status}"' in source for status in statuses)

    def test_settings_exist_and_have_the_defaults_shown(self):
        example = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        for cells in table("## Settings"):
            for name in names(cells[0]):
                assert f"{name}={''.join(names(cells[1]))}" in example

    def test_a_word_in_capitals_is_a_setting(self):
        words = {word for span in INLINE for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", span)}
        assert words - {"TEST_DATABASE_URL"} <= {name.upper() for name in Settings.model_fields}

    def test_the_database_urls_are_valid(self):
        (block,) = [block for kind, block in BLOCKS if kind == "ini"]
        urls = re.findall(r"^DATABASE_URL=(.*)$", block, re.MULTILINE)
        assert len(urls) == len(block.splitlines())
        for url in urls:
            make = open_engine.__wrapped__  # not to push other tests' engines out of the cache
            make(re.sub(r"(?<=sslrootcert=)[^&]*", certifi.where(), url)).dispose()

    def test_the_tls_modes_are_all_modes(self):
        said = PROSE[PROSE.index("`sslmode` is") :].partition("`sslrootcert`")[0]
        assert tuple(names(said)[1:]) == SSL_MODES

    def test_the_columns_are_those_of_stock_data(self):
        shown = [(name, *names(cells[1])) for cells in table("`stock_data` has") for name in names(cells[0])]
        assert shown == [(column.name, str(column.type)) for column in STOCK_DATA.columns]

    def test_the_tables_are_all_tables(self):
        shown = {names(cells[0])[0] for cells in table("| table | one row for")}
        assert {*shown, STOCK_DATA.name} == set(METADATA.tables)

    def test_the_files_are_all_files(self):
        shown = [name for cells in table("| file | holds") for name in names(cells[0])]
        assert len(shown) == len(set(shown))
        assert {name for name in shown if name.endswith(".py")} == {file.name for file in ROOT.glob("*.py")}
        assert all((ROOT / name).exists() for name in shown)

    def test_the_drawing_names_files(self):
        (drawing,) = [block for kind, block in BLOCKS if not kind]
        drawn = re.findall(r"\w+\.py", drawing)
        assert len(drawn) > 7
        assert all((ROOT / name).exists() for name in drawn)

    def test_links_lead_to_files(self):
        targets = [target for target in re.findall(r"\]\(([^)]+)\)", PROSE) if not target.startswith("https://")]
        assert targets
        assert all((ROOT / target).is_file() for target in targets)

    def test_the_picture_is_one(self):
        with Image.open(ROOT / "docs" / "report.png") as picture:
            picture.load()
            assert min(picture.size) > 1000
        assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


@cache
def messages() -> list[str]:
    """All texts in the code, with ``…`` for what is filled in; and the Makefile."""
    texts = [(ROOT / "Makefile").read_text(encoding="utf-8")]
    packages = ("domain", "storage", "pipeline", "report", "entrypoints")
    product = [file for package in packages for file in (ROOT / package).glob("*.py")]
    for file in [*ROOT.glob("*.py"), *product, ROOT / "sandbox" / "npm.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else ANYTHING for part in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


class TestTroubleshooting:
    @pytest.mark.parametrize("message", [names(cells[0])[0] for cells in table("## Troubleshooting")])
    def test_a_message_is_one_that_the_code_gives(self, message):
        assert any(message in text for text in messages())

    def test_an_error_starts_as_the_readme_says(self):
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), "daily_update"],
            env={"PATH": os.environ["PATH"], "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("error: POLYGON_API_KEY is not set")
        assert done.stderr.count("\n") == 1


COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE_SETTINGS = dict(re.findall(r"^#   ([A-Z_]+)=(\S+)$", COMPOSE, re.MULTILINE))


class TestCompose:
    def test_no_port_is_open_to_other_machines(self):
        ports = re.findall(r"^      - \"([^\"]+)\"$", COMPOSE, re.MULTILINE)
        assert len(ports) == 4
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_its_settings_are_valid_and_name_its_ports(self, monkeypatch):
        for name, value in COMPOSE_SETTINGS.items():
            monkeypatch.setenv(name, value)
        configured = load_settings()
        assert {name.lower() for name in COMPOSE_SETTINGS} <= set(Settings.model_fields)
        assert configured.transport == "smtp"
        open_engine.__wrapped__(configured.database_url.get_secret_value()).dispose()
        for value in COMPOSE_SETTINGS.values():
            for port in re.findall(r":?\b(\d{4})\b", value):
                assert f'"127.0.0.1:{port}:{port}"' in COMPOSE

    def test_its_password_is_the_one_of_its_settings(self):
        assert "POSTGRES_PASSWORD: stock " in COMPOSE
        assert "//stock:stock@" in COMPOSE_SETTINGS["DATABASE_URL"]
