"""The installed command: ``pipx install .`` and ``uv tool install .``, in any folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from layer.wheels import required

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LISTED = PROJECT["tool"]["setuptools"]
NOT_INSTALLED = {"benchmarks", "deploy", "layer", "tests"}  # what measures, deploys, builds and tests

Installed = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installed a copy of the project, with its dependencies from this environment."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installation")
    files = ["pyproject.toml", "README.md", "LICENSE", "requirements.txt", *(path.name for path in ROOT.glob("*.py"))]
    for name in files:
        shutil.copy(ROOT / name, source)
    for package in ROOT.glob("*/__init__.py"):
        if package.parent.name not in NOT_INSTALLED:
            ignored = shutil.ignore_patterns("node_modules", "__pycache__")
            shutil.copytree(package.parent, source / package.parent.name, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", str(source)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def installed(installation: Path, tmp_path: Path) -> Installed:
    """Run the installed command in an empty folder, without Node.js; keywords are environment variables."""
    folder, programs = tmp_path / "anywhere", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(programs), "HOME": str(tmp_path), "PYTHONPATH": str(installation), **variables}
        command = [str(installation / "bin" / "stock-tracker"), *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_the_demonstration_runs_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    done = installed("run", "--json")

    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["status"] for result in results] == ["ok", "ok", "sent"]
    assert [result["rows"]["inserted"] for result in results] == [350, 5, 0]
    assert done.stderr.startswith("note: charts need Node.js")
    assert sorted(path.name for path in (tmp_path / "anywhere").iterdir()) == ["outbox", "stock_tracker.db"]
    assert (tmp_path / "anywhere" / "outbox" / "weekly-report-2013-03-01.html").stat().st_size > 10_000


def test_settings_and_symbols_come_from_the_working_directory(installed: Installed, tmp_path: Path) -> None:
    (tmp_path / "anywhere" / ".env").write_text("SYMBOLS=@mine.txt\nDATABASE_URL=sqlite:///mine.db\n")
    (tmp_path / "anywhere" / "mine.txt").write_text("IBM # of old\nGOOG\n")

    state = json.loads(installed("status", "--json").stdout)

    assert state["database"] == f"SQLite file {tmp_path}/anywhere/mine.db"
    assert {symbol["symbol"] for symbol in state["symbols"]} == {"IBM", "GOOG"}


def test_a_notebook_loads_from_the_database_of_its_folder(
    installed: Installed, installation: Path, tmp_path: Path
) -> None:
    installed("initialize", "--sandbox", "--as-of", "2013-03-01", "--symbols", "IBM", "--sessions", "6")

    program = "import stock_tracker; print(stock_tracker.__file__, len(stock_tracker.load('IBM')))"
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": str(installation)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "anywhere",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert (done.stdout, done.stderr) == (f"{installation / 'stock_tracker.py'} 6\n", "")


def test_it_names_itself_and_completes_in_shells(installed: Installed) -> None:
    assert installed("--version").stdout.startswith("stock-tracker ")
    assert "Usage: stock-tracker [OPTIONS] COMMAND [ARGS]..." in installed("--help").stdout
    shell = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # which shell runs the tests is no matter
    shown = installed("--show-completion", "bash", **shell).stdout
    assert "complete -o default -F _stock_tracker_completion stock-tracker" in shown
    typed = {"COMP_WORDS": "stock-tracker st", "COMP_CWORD": "1", "_STOCK_TRACKER_COMPLETE": "complete_bash"}
    assert installed(**typed).stdout.split() == ["status"]


def test_the_chart_renderer_is_installed_with_it(installation: Path) -> None:
    names = {path.name for path in (installation / "sandbox" / "quickchart").iterdir()}
    assert names == {path.name for path in (ROOT / "sandbox" / "quickchart").iterdir()} - {"node_modules"}


def test_every_module_and_package_is_installed(installation: Path) -> None:
    modules = {path.stem for path in ROOT.glob("*.py")}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - NOT_INSTALLED
    assert set(LISTED["py-modules"]) == modules
    assert set(LISTED["packages"]) == packages
    assert {path.stem for path in installation.glob("*.py")} == modules
    assert {path.parent.name for path in installation.glob("*/__init__.py")} == packages


def test_it_needs_what_the_requirements_say(installation: Path) -> None:
    (metadata,) = installation.glob("*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()
    stated = {Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")}
    assert stated == {Requirement(line) for line in required(ROOT / "requirements.txt").values()}
