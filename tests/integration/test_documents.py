"""The documents are true: their commands run, their output is what the product prints, and what they name exists."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import shlex
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import certifi
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from commands.app import app
from config import Settings, load_settings
from domain.errors import PayloadError
from domain.models import Status
from entrypoints.payload import Payload, is_for_doctor, parse_doctor_payload, parse_payload
from network.http import BUNDLES
from pipeline import jobs
from sandbox.local_http import LocalServer, Reply
from storage.engine import open_engine
from storage.schema import METADATA, STOCK_DATA
from storage.sockets import SSL_MODES
from tests.support.notebook import CELL, run_cells
from tests.support.terminal import Terminal
from tests.support.terminal_pictures import PICTURES, draw

ROOT = Path(__file__).parents[2]
ANYTHING = "…"  # as a line of output: whatever follows; inside a message: whatever stands there
COMMAND = "python main.py "
HERE = "/home/you/stock-tracker"  # the folder of the project, as the documents show it
LATER = date(2099, 12, 31)  # a today that makes every documented date a past one
Typed = tuple[str, list[str]]  # a command and the lines that it prints


@dataclass(frozen=True)
class Document:
    """A Markdown file and its parts."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """The fenced blocks: language and content."""
        return re.findall(r"^```(\w*)\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @cached_property
    def prose(self) -> str:
        return re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL)

    @cached_property
    def inline(self) -> list[str]:
        """The text between backticks."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @cached_property
    def console(self) -> list[list[Typed]]:
        """The console blocks, each as its commands with their output."""
        return [split_block(block) for kind, block in self.blocks if kind == "console"]

    @property
    def typed(self) -> list[str]:
        return [command for block in self.console for command, _ in block]

    @property
    def commands(self) -> list[str]:
        """All commands, those in the prose among them."""
        return self.typed + [span for span in self.inline if span.startswith((COMMAND, "make ", "docker "))]

    def block(self, language: str) -> str:
        """The only block of a language."""
        (block,) = [content for kind, content in self.blocks if kind == language]
        return block

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the first table after some text."""
        rows = []
        for line in self.prose[self.prose.index(heading) :].splitlines():
            if line.startswith("|"):
                rows.append([cell.strip() for cell in line.strip("|").split("|")])
            elif rows:
                break
        return rows[2:]

    @cached_property
    def anchors(self) -> set[str]:
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def split_block(block: str) -> list[Typed]:
    """The commands of a console block, each with the lines that it prints."""
    typed: list[Typed] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            typed.append((line.removeprefix("$ "), []))
        else:
            typed[-1][1].append(line)
    return typed


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


FILES = ["README.md", "CONTRIBUTING.md", *sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/**/*.md"))]
DOCUMENTS = {name: Document(name) for name in FILES}
CHANGELOG = Document("CHANGELOG.md")  # it also names what is no more
README, JOBS, SETTINGS = DOCUMENTS["README.md"], DOCUMENTS["docs/jobs.md"], DOCUMENTS["docs/settings.md"]
TABLES, WORKS, TROUBLES = (DOCUMENTS[f"docs/{name}.md"] for name in ("tables", "how-it-works", "troubleshooting"))
DEPLOYMENT = (ROOT / ".github" / "workflows" / "deploy.yml").read_text(encoding="utf-8")
ANALYSIS = DOCUMENTS["docs/analysis.md"]
STORY = DOCUMENTS["docs/tutorial.md"]  # its blocks follow one another in one folder

COMMANDS = list(dict.fromkeys(command for document in DOCUMENTS.values() for command in document.commands))
INLINE = {span for document in DOCUMENTS.values() for span in document.inline}
MAIN_COMMANDS = [shlex.split(c, comments=True)[2:] for c in COMMANDS if c.startswith(COMMAND)]
PRINTED = {
    f"{document.name}: {block[0][0][:40]}": block
    for document in DOCUMENTS.values()
    if document is not STORY
    for block in document.console
    if any(printed for _, printed in block)
} | {STORY.name: [typed for block in STORY.console for typed in block]}
SQL = [block for document in DOCUMENTS.values() for kind, block in document.blocks if kind == "sql"]
INI = [block for document in DOCUMENTS.values() for kind, block in document.blocks if kind == "ini"]


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def png() -> bytes:
    """A picture of one white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, pixel = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0), zlib.compress(b"\0\xff")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def terminal() -> Iterator[Terminal]:
    """A terminal of 100 columns, with charts from a server that draws one pixel: the same with and without Node.js."""
    painter = LocalServer(lambda _: Reply(200, png(), {"Content-Type": "image/png"}))
    painter.start()
    with Terminal({"QUICKCHART_URL": f"{painter.url}/chart"}) as terminal:
        yield terminal
    painter.stop()


@pytest.fixture(scope="module")
def demo(terminal: Terminal, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``make run`` was typed."""
    folder = tmp_path_factory.mktemp("demo") / "project"
    folder.mkdir()
    terminal.run(folder, ["run"])
    return folder


@pytest.fixture
def project(demo: Path, tmp_path: Path) -> Path:
    """A copy of :func:`demo`."""
    return Path(shutil.copytree(demo, tmp_path / "project"))


def masked(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"\b\d+\.\d s\b", "0.0 s", line)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", "2000-01-01 00:00:00", line).rstrip()


def as_arguments(command: str) -> list[str]:
    return ["run"] if command == "make run" else shlex.split(command.removeprefix(COMMAND), comments=True)


def all_options() -> set[str]:
    """Every option of every command of ``main.py``."""
    group: Any = typer.main.get_command(app)
    options = {
        option for command in (group, *group.commands.values()) for each in command.params for option in each.opts
    }
    return {*options, *group.context_settings["help_option_names"]}


class TestCommands:
    @pytest.mark.parametrize("block", PRINTED.values(), ids=PRINTED)
    def test_a_command_prints_what_the_document_shows(self, terminal, demo, tmp_path, block):
        folder, variables = tmp_path / "project", dict[str, str]()
        if any(line.startswith("Making ") for line in block[0][1]):
            folder.mkdir()
        else:
            shutil.copytree(demo, folder)
        for command, shown in block:
            words = shlex.split(command, comments=True)
            if words[0] == "export":
                name, value = words[1].split("=", 1)
                variables[name] = value
            elif words[0] == "unset":
                del variables[words[1]]
            else:
                expected = [masked(line) for line in shown if not line.startswith(("Making ", "Installing "))]
                printed = terminal.run(folder, as_arguments(command), variables).replace(str(folder), HERE)
                printed = [masked(line) for line in printed.splitlines()]
                if expected[-1] == ANYTHING:
                    del expected[-1], printed[len(expected) :]
                assert printed == expected

    def test_what_make_prints_before_is_in_the_makefile(self):
        for document in (README, STORY):
            (making, installing) = document.console[0][0][1][:2]
            assert f'"{making.split(" .venv")[0]} $(VENV) with' in makefile()
            assert f'"{installing}"' in makefile()

    def test_invoke_prints_the_result_that_the_document_shows(self, terminal, project):
        (command,) = [command for command in JOBS.typed if command.startswith(f"{COMMAND}invoke")]
        shown = json.loads(JOBS.block("json"))
        printed = json.loads(terminal.run(project, as_arguments(command)))
        varying = {"run_id", "elapsed_seconds"}
        assert list(printed) == list(shown)
        assert {k: v for k, v in printed.items() if k not in varying} == {
            k: v for k, v in shown.items() if k not in varying
        }

    def test_every_key_of_a_reports_result_is_named(self, terminal, project):
        payload = {"job_type": "weekly_report", "as_of": "2013-03-02", "symbols": "AAPL,FB"}
        shown = json.loads(JOBS.block("json"))
        for option in ({"force": True}, {"force": True, "dry_run": True}, {}):
            result = json.loads(terminal.run(project, ["invoke", json.dumps({**payload, **option}), "--sandbox"]))
            assert set(result) - set(shown) <= set(JOBS.inline)
            assert result["status"] in JOBS.inline

    @pytest.mark.parametrize("arguments", MAIN_COMMANDS, ids=" ".join)
    def test_every_command_is_one_that_main_takes(self, monkeypatch, arguments):
        events: list[Any] = []
        monkeypatch.setattr("commands.jobs.run_event", lambda event, **_: events.append(event))
        group: Any = typer.main.get_command(app)
        context = group.make_context("main.py", [a for a in arguments if a != "--help"] or ["run"])
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(name, rest, parent=context)
        if name in (*jobs.JOBS, "invoke"):
            assert CliRunner().invoke(app, arguments).exit_code == 0
            (event,) = events
            assert parse_payload(event, Settings(), LATER).job_type == event["job_type"]

    def test_every_option_named_in_the_text_exists(self):
        benchmarks = set(DOCUMENTS["docs/benchmarks.md"].inline)  # whose scripts have options of their own
        named = {option for span in INLINE - benchmarks for option in re.findall(r"^--[a-z-]+", span)}
        assert len(named) > 5
        assert named <= all_options()

    def test_all_other_commands_are_the_shells_own(self):
        typed = [command for document in DOCUMENTS.values() for command in document.typed]
        others = [c for c in typed if not c.startswith((COMMAND, "make "))]
        assert {shlex.split(command, comments=True)[0] for command in others} == {
            *("cp", "rm", "export", "unset", "docker")
        }
        assert "stock_tracker.db" in load_settings().database_url.get_secret_value()

    def test_make_has_every_target(self):
        commands = [*COMMANDS, *(c for c in CHANGELOG.commands if "aws-" in c)]
        targets = {words[1] for c in commands if len(words := c.split()) > 1 and words[0] == "make"}
        assert {"run", "test", "check", "docs", "help", "aws-invoke"} <= targets
        assert {target for target in targets if not re.search(rf"^{target}:", makefile(), re.MULTILINE)} == set()
        assert "$(ARGS)" in makefile()

    def test_a_payload_in_the_text_is_valid(self):
        payloads = [json.loads(span) for span in INLINE if span.startswith("{")]
        assert payloads
        for payload in payloads:
            if is_for_doctor(payload):
                parse_doctor_payload(payload)
            else:
                parse_payload(payload, Settings(), LATER)

    def test_a_deployment_takes_its_parameters_from_the_stages_file(self):
        shown = [text for text in (*COMMANDS, *INLINE) if text.startswith("make ")]
        assert not [text for text in shown if re.search(r"\b(PARAMETERS|ARCH)=", text)]

    def test_a_payload_of_a_make_command_is_valid(self):
        payloads = [word.removeprefix("PAYLOAD=") for c in COMMANDS for word in shlex.split(c) if "PAYLOAD=" in word]
        assert len(payloads) > 1
        for payload in payloads:
            parse_payload(json.loads(payload), Settings(), LATER)

    def test_a_command_that_fails_fails_its_test(self, terminal, project):
        with pytest.raises(AssertionError, match=r"error: the event .* has no job_type"):
            terminal.run(project, ["invoke", "{}"])

    @pytest.mark.parametrize("query", SQL, ids=lambda query: " ".join(query.split())[:50])
    def test_a_query_runs_on_the_tables(self, demo, query):
        database = sqlite3.connect(demo / "stock_tracker.db")
        columns = [column for column, *_ in database.execute(query).description]
        database.close()
        assert len(columns) > 1


class TestAnalysis:
    """The recipes of the page on analysis, in its order, on the recorded prices."""

    def test_each_block_of_python_prints_what_the_page_shows(self, terminal, project):
        terminal.run(project, ["export", "--output", "prices.parquet"])
        cells = CELL.findall(ANALYSIS.text)
        assert len(cells) == sum(kind == "python" for kind, _ in ANALYSIS.blocks) > 15

        printed = run_cells([cell for cell, _ in cells], project, DATABASE_URL=f"sqlite:///{project}/stock_tracker.db")

        for (cell, shown), output in zip(cells, printed):
            assert output == shown.rstrip("\n"), cell

    @pytest.mark.parametrize(
        "query",
        [block for kind, block in ANALYSIS.blocks if kind == "sql"],
        ids=lambda query: " ".join(query.split())[:50],
    )
    def test_a_query_answers_alike_on_both_databases(self, demo, postgresql_url, query):
        stored = sqlite3.connect(demo / "stock_tracker.db")
        columns = [column for column, *_ in stored.execute("SELECT * FROM stock_data LIMIT 1").description]
        rows = stored.execute("SELECT * FROM stock_data").fetchall()
        expected = stored.execute(query).fetchall()
        stored.close()
        engine = open_engine(postgresql_url)
        with engine.begin() as connection:
            STOCK_DATA.create(connection)
            values = [dict(zip(columns, row)) | {"date": datetime.fromisoformat(row[0])} for row in rows]
            connection.execute(STOCK_DATA.insert(), values)
            found = connection.exec_driver_sql(query).all()

        assert len(found) == len(expected)
        for row, other in zip(found, expected):
            for value, same in zip(row, other):
                is_number = isinstance(value, (Decimal, int))
                assert float(value) == pytest.approx(float(same)) if is_number else str(value) == str(same)


class TestReference:
    @pytest.mark.parametrize("document", [README, JOBS], ids=lambda document: document.name)
    def test_the_jobs_are_all_jobs(self, document):
        assert [name for row in document.table("| job | does") for name in names(row[0])] == list(jobs.JOBS)

    def test_the_keys_are_all_keys_of_a_payload(self):
        keys = [name for row in JOBS.table("A payload is") for name in names(row[0])]
        assert ["job_type", *keys] == list(Payload.model_fields)

    @pytest.mark.parametrize("row", JOBS.table("A payload is"), ids=lambda row: row[0])
    def test_a_key_is_for_the_jobs_that_it_says_and_for_no_other(self, row):
        dates = {"as_of": "2013-03-01", "start": "2013-01-02", "end": "2013-01-31"}
        values = {"symbols": "*", "sessions": 5, "dry_run": True, "force": True, **dates}
        valid = set(jobs.JOBS) if row[1] == "all" else set(names(row[1]))
        assert valid
        assert valid <= set(jobs.JOBS)
        for key in names(row[0]):
            beside = {"start": dates["start"]} if key == "end" else {}
            for job_type in valid:
                parse_payload({"job_type": job_type, **beside, key: values[key]}, Settings(), LATER)
            for job_type in set(jobs.JOBS) - valid:
                with pytest.raises(PayloadError, match=rf"^{key} is for {' or '.join(sorted(valid))} only"):
                    parse_payload({"job_type": job_type, key: values[key]}, Settings(), LATER)

    def test_the_statuses_are_all_statuses(self):
        assert tuple(name for row in JOBS.table("| status |") for name in names(row[0])) == get_args(Status)

    def test_the_settings_are_all_settings_and_have_the_defaults_shown(self):
        example = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
        rows = SETTINGS.table("## All settings")
        for cells in rows:
            assert f"{names(cells[0])[0]}={''.join(names(cells[1]))}" in example
        assert sorted(names(cells[0])[0].lower() for cells in rows) == sorted(Settings.model_fields)

    def test_a_word_in_capitals_is_a_setting(self):
        words = {word for span in INLINE for word in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", span)}
        others = {"TEST_DATABASE_URL", *BUNDLES, "NO_PROVIDER"}  # of tests, of requests, and of make
        others |= {word for word in words if f"vars.{word} " in DEPLOYMENT}
        assert words - others <= {name.upper() for name in Settings.model_fields}

    @pytest.mark.parametrize("block", INI, ids=lambda block: block.partition("\n")[0])
    def test_settings_in_a_block_are_valid(self, monkeypatch, block):
        lines = [line.split("=", 1) for line in block.splitlines()]
        for name, value in lines:
            assert name.lower() in Settings.model_fields
            monkeypatch.setenv(name, value)
            if name == "DATABASE_URL":
                make = open_engine.__wrapped__  # not to push other tests' engines out of the cache
                make(re.sub(r"(?<=sslrootcert=)[^&]*", certifi.where(), value)).dispose()
        load_settings()

    def test_the_tls_modes_are_all_modes(self):
        said = SETTINGS.prose[SETTINGS.prose.index("`sslmode` is") :].partition("`sslrootcert`")[0]
        assert tuple(names(said)[1:]) == SSL_MODES

    def test_the_columns_are_those_of_stock_data(self):
        shown = [(name, *names(cells[1])) for cells in TABLES.table("`stock_data` has") for name in names(cells[0])]
        assert shown == [(column.name, str(column.type)) for column in STOCK_DATA.columns]

    def test_the_tables_are_all_tables(self):
        shown = [names(cells[0])[0] for cells in TABLES.table("| table | one row per")]
        assert sorted([*shown, STOCK_DATA.name]) == sorted(METADATA.tables)

    def test_the_files_are_all_files(self):
        shown = [name for cells in WORKS.table("| file | holds") for name in names(cells[0])]
        assert len(shown) == len(set(shown))
        assert {name for name in shown if name.endswith(".py")} == {file.name for file in ROOT.glob("*.py")}
        assert {f"{file.parent.name}/" for file in ROOT.glob("*/__init__.py")} <= set(shown)
        assert all((ROOT / name).exists() for name in shown)

    def test_the_drawings_name_files(self):
        drawn = re.findall(r"\w+\.py", WORKS.block(""))
        assert len(drawn) > 7
        assert all((ROOT / name).exists() for name in drawn)
        way = re.findall(r"^([\w/]+\.py) ", WORKS.block("text"), re.MULTILINE)
        assert len(way) == 6
        assert all((ROOT / name).is_file() for name in way)

    def test_a_file_named_in_the_text_exists(self):
        made = {
            "index.html",
            "market.html",
            "weekly-report-2013-03-01.html",
            "symbols-tech.txt",
        }  # not files of the repository
        named = {span for span in INLINE if re.fullmatch(r"[\w./-]+\.(py|ya?ml|md|txt|toml|pem|html)", span)}
        assert len(named) > 20
        assert {name for name in named if not (ROOT / name).exists() and Path(name).name not in made} == set()


class TestPages:
    @pytest.mark.parametrize("document", [*DOCUMENTS.values(), CHANGELOG], ids=lambda document: document.name)
    def test_links_lead_to_files_and_headings(self, document):
        for target in re.findall(r"\]\(([^)]+)\)|src=\"([^\"]+)\"", document.prose):
            link = "".join(target)
            if not link.startswith("https://"):
                name, _, anchor = link.partition("#")
                file = (document.path.parent / name).resolve() if name else document.path
                assert file.is_file(), link
                assert not anchor or anchor in Document(str(file.relative_to(ROOT))).anchors, link

    @pytest.mark.parametrize(("page", "least"), [("docs/faults.md", 40), ("docs/runbook.md", 15)])
    def test_each_fault_names_a_test_that_is_there(self, page, least):
        text = DOCUMENTS[page].text
        rows = re.findall(r"^\| .* `([\w/]+\.py)::(\w+)` \|$", text, re.MULTILINE)
        assert len(rows) == len(re.findall(r"^\| (?!fault |event |---)", text, re.MULTILINE)) > least
        for file, name in rows:
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), name

    def test_the_readme_is_one_page(self):
        assert len(README.text.splitlines()) <= 160

    def test_every_page_is_in_the_sites_navigation_and_in_the_index(self):
        navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
        pages = [name.removeprefix("docs/") for name in DOCUMENTS if name.startswith("docs/")]
        assert sorted(re.findall(r"[\w/-]+\.md", navigation)) == sorted(pages)
        for page in pages:
            index = "adr/index.md" if page.startswith("adr/0") else "index.md"
            assert page == "index.md" or f"({Path(page).name}" in DOCUMENTS[f"docs/{index}"].text.replace("(adr/", "(")

    def test_the_site_asks_for_nothing_from_elsewhere(self):
        site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
        assert site["theme"]["font"] is False
        scripts = site["extra"]["polyfills"]  # with none named iframe-worker, the offline plugin adds one of a CDN
        assert any("iframe-worker" in script for script in scripts)
        assert all((ROOT / "docs" / file).is_file() for file in [*scripts, *site["extra_css"]])

    def test_the_picture_is_one(self):
        with Image.open(ROOT / "docs" / "report.png") as picture:
            picture.load()
            assert min(picture.size) > 1000
        assert (ROOT / "docs" / "report.png").stat().st_size < 300_000


@cache
def messages() -> list[str]:
    """All texts in the code, with ``…`` for what is filled in; and the Makefile."""
    texts = [makefile()]
    packages = ("domain", "network", "storage", "pipeline", "report", "entrypoints", "commands")
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
    @pytest.mark.parametrize("message", [names(cells[0])[0] for cells in TROUBLES.table("## Messages")])
    def test_a_message_is_one_that_the_code_gives(self, message):
        assert any(message in text for text in messages())

    def test_an_error_starts_as_the_document_says(self):
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


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_the_terminal_shows_what_the_command_prints(name: str, demo: Path) -> None:
    def words(picture: str) -> list[str]:
        texts = re.findall(r"<text [^>]*>(.*?)</text>", picture)
        return [masked(html.unescape(text).replace("\xa0", " ")) for text in texts]

    shown = (ROOT / "docs" / name).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:  # its path is short enough for a line of 80 columns
        shutil.copytree(demo, folder, dirs_exist_ok=True)
        assert words(draw(Path(folder), PICTURES[name])) == words(shown), "make pictures takes it again"
