"""The two zips: complete, small, reproducible, and without anything that does not run on Lambda."""

from __future__ import annotations

import fcntl
import hashlib
import marshal
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import numpy
import pytest
from packaging.requirements import Requirement

from layer import bytecode
from layer.archive import MEGABYTE, PackageError, check_sizes, sizes, write_zip
from layer.build import FUNCTION_ZIPPED, LAYER_ZIPPED, PANDAS_LAYER, UNPACKED, build, main
from layer.bytecode import can_compile, with_bytecode
from layer.function import MODULES, PACKAGES, function_files
from layer.wheels import HERE, KEPT_METADATA, ON_TERMINAL_ONLY, layer_files, required
from sandbox.server import MarketServer

ROOT = HERE.parent
HELD = set(required(HERE / "constraints.txt"))
LOCKED = {name: Requirement(line.split(" --hash")[0]) for name, line in required(HERE / "requirements.txt").items()}
ON_LAMBDA = sys.version_info[:2] == (3, 13) and (sys.platform, platform.machine()) == ("linux", "x86_64")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


BuildLayer = Callable[[str], Path]


@pytest.fixture(scope="session")
def layer_zip(tmp_path_factory: pytest.TempPathFactory) -> BuildLayer:
    """Build the layer for an architecture, once for all workers; a second word makes another build of it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def built(name: str) -> Path:
        architecture, folder = name.partition(" ")[0], shared / f"layer {name}"
        folder.mkdir(exist_ok=True)
        path = folder / f"layer-{architecture}.zip"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                build("layer", architecture, folder)
        return path

    return built


class TestFunction:
    def test_it_holds_the_handlers_modules_and_packages_with_their_templates(self):
        names = set(function_files(ROOT))
        assert {"lambda_main.py", "pipeline/jobs.py", "storage/engine.py", "report/templates/report.html.j2"} <= names

    def test_it_holds_nothing_for_the_command_line_the_sandbox_or_the_tests(self):
        names = set(function_files(ROOT))
        assert {path.name for path in ROOT.glob("*.py")} - names == {"main.py", "stock_tracker.py"}
        assert {path.split("/")[0] for path in names if "/" in path} == set(PACKAGES)

    def test_a_file_of_symbols_is_packed(self, tmp_path):
        for name in MODULES:
            (tmp_path / name).write_text("")
        (tmp_path / "symbols-tech.txt").write_text("GOOG\n")
        (tmp_path / "requirements.txt").write_text("pandas\n")
        assert set(function_files(tmp_path)) == {*MODULES, "symbols-tech.txt"}

    @pytest.mark.parametrize("name", ["symbols-private.txt", "domain/private.py"])
    def test_a_link_is_not_followed_into_the_zip(self, tmp_path, name):
        for module in MODULES:
            (tmp_path / module).write_text("")
        (tmp_path / "domain").mkdir()
        (tmp_path / name).symlink_to("/etc/passwd")

        with pytest.raises(PackageError, match=rf"^{name} is a link, which is not followed into the zip: put a copy"):
            function_files(tmp_path)

    def test_the_same_files_give_the_same_bytes(self, tmp_path):
        names = list(function_files(ROOT))
        random.Random(1).shuffle(names)
        for name in names:  # another order, other times and other rights
            copy = tmp_path / "copy" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy)
            copy.chmod(0o600)
            os.utime(copy, (1, 1))
        write_zip(tmp_path / "one.zip", function_files(ROOT))
        write_zip(tmp_path / "two.zip", function_files(tmp_path / "copy"))
        assert digest(tmp_path / "one.zip") == digest(tmp_path / "two.zip")

    def test_neither_the_order_nor_the_time_of_a_build_is_in_it(self, tmp_path):
        files = function_files(ROOT)
        write_zip(tmp_path / "one.zip", files)
        write_zip(tmp_path / "two.zip", dict(reversed(files.items())))
        assert digest(tmp_path / "one.zip") == digest(tmp_path / "two.zip")
        with zipfile.ZipFile(tmp_path / "one.zip") as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}

    def test_it_is_small(self, tmp_path):
        build("function", "x86_64", tmp_path)
        assert sizes(tmp_path / "function.zip")[0] < FUNCTION_ZIPPED == 1024 * 1024


@pytest.mark.skipif(not can_compile(), reason="the bytecode is that of Python 3.13")
class TestBytecode:
    def test_each_module_has_it_where_python_looks_for_it(self, tmp_path):
        build("function", "x86_64", tmp_path)
        with zipfile.ZipFile(tmp_path / "function.zip") as archive:
            names = set(archive.namelist())
            modules = {name for name in names if name.endswith(".py")}
            assert {cache_from_source(name) for name in modules} == {name for name in names if name.endswith(".pyc")}
            for name in modules:
                compiled = archive.read(cache_from_source(name))
                assert compiled[:4] == MAGIC_NUMBER
                assert compiled[4:8] == b"\1\0\0\0", "by hash, and taken without a look at the source"

    def test_a_traceback_names_the_file_on_lambda(self):
        compiled = with_bytecode({"domain/errors.py": b"x = 1\n"}, "/var/task")
        code = marshal.loads(compiled["domain/__pycache__/errors.cpython-313.pyc"][16:])
        assert code.co_filename == "/var/task/domain/errors.py"

    def test_two_builds_are_the_same_bytes(self):
        files = function_files(ROOT)
        assert with_bytecode(files, "/var/task") == with_bytecode(dict(reversed(files.items())), "/var/task")

    def test_a_file_that_is_no_module_has_none(self):
        files = {"template.py": b"{{ name }} is no Python\n", "read.me": b""}
        assert with_bytecode(files, "/opt") == files

    def test_another_python_leaves_it_out_and_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setattr(bytecode, "PYTHON", (3, 99))
        shown = build("function", "x86_64", tmp_path)
        assert "unpacked; without bytecode, which needs Python 3.13" in shown
        with zipfile.ZipFile(tmp_path / "function.zip") as archive:
            assert not [name for name in archive.namelist() if name.endswith(".pyc")]


class TestLock:
    def test_it_holds_what_the_project_needs_in_the_versions_that_it_allows(self):
        needed = {n: Requirement(line) for n, line in required(ROOT / "requirements.txt").items()}
        expected = set(needed) - HELD - set(ON_TERMINAL_ONLY)
        assert expected <= set(LOCKED)
        for name in expected:
            (pin,) = LOCKED[name].specifier
            assert pin.operator == "=="
            assert needed[name].specifier.contains(pin.version)

    def test_it_holds_nothing_that_is_there_already_or_for_the_terminal(self):
        assert not set(LOCKED) & (HELD | set(ON_TERMINAL_ONLY))
        assert {"numpy", "pandas", "pyarrow", "boto3", "botocore"} <= HELD

    def test_every_wheel_is_known_by_its_hash(self):
        lines = required(HERE / "requirements.txt").values()
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", line) for line in lines)

    def test_a_wheel_that_is_not_the_locked_one_is_refused(self, tmp_path):
        lock = tmp_path / "requirements.txt"
        lock.write_text(f"idna=={next(iter(LOCKED['idna'].specifier)).version} --hash=sha256:{'0' * 64}\n")
        with pytest.raises(
            PackageError, match=r"pip cannot install the packages for arm64: ERROR: .*DO NOT MATCH THE HASHES"
        ):
            layer_files("arm64", lock)


class TestLayer:
    @pytest.mark.deep
    def test_two_builds_are_the_same_bytes(self, layer_zip):
        assert digest(layer_zip("arm64")) == digest(layer_zip("arm64 again"))

    @pytest.mark.parametrize("architecture", ["x86_64", pytest.param("arm64", marks=pytest.mark.slow)])
    def test_it_is_small(self, layer_zip, architecture):
        zipped, unpacked = sizes(layer_zip(architecture))
        assert zipped < 20 * MEGABYTE == LAYER_ZIPPED
        assert unpacked + PANDAS_LAYER + MEGABYTE < UNPACKED == 250 * MEGABYTE

    @pytest.mark.parametrize(
        ("architecture", "machine"), [("x86_64", 0x3E), pytest.param("arm64", 0xB7, marks=pytest.mark.slow)]
    )
    def test_its_libraries_are_for_the_architecture(self, layer_zip, architecture, machine):
        with zipfile.ZipFile(layer_zip(architecture)) as archive:
            libraries = [name for name in archive.namelist() if name.endswith(".so")]
            assert len(libraries) > 5
            for name in libraries:
                assert "cpython-313" in name or "abi3" in name
                assert archive.read(name)[:4] == b"\x7fELF"
                assert int.from_bytes(archive.read(name)[18:20], "little") == machine

    def test_it_holds_no_tests_documents_or_declarations_and_of_sqlalchemy_what_is_used(self, layer_zip):
        with zipfile.ZipFile(layer_zip("x86_64")) as archive:
            names = archive.namelist()
        assert not [name for name in names if re.search(r"(^|/)(tests?|testing|bin|mysql|oracle|orm)/", name)]
        assert not [name for name in names if name.endswith((".pyi", ".pyx", ".c", ".h", ".md", ".rst", ".typed"))]
        metadata = {name.split("/")[1].split("-")[0] for name in names if ".dist-info/" in name}
        assert metadata == set(KEPT_METADATA)
        assert {name.split("/")[0] for name in names} == {"python", "rds-ca.pem"}

    @pytest.mark.skipif(not ON_LAMBDA, reason="the zips' libraries are for Python 3.13 on Linux, x86_64")
    def test_the_two_zips_and_what_is_there_already_run_the_jobs(
        self, layer_zip, tmp_path, market: MarketServer, database_url
    ):
        """In a process that sees no other package."""
        task, opt, there = tmp_path / "task", tmp_path / "opt", tmp_path / "there"
        build("function", "x86_64", tmp_path)
        zipfile.ZipFile(tmp_path / "function.zip").extractall(task)
        zipfile.ZipFile(layer_zip("x86_64")).extractall(opt)
        there.mkdir()
        site = Path(numpy.__file__).parent.parent
        modules = {"python-dateutil": ("dateutil",), "six": ("six.py",), "numpy": ("numpy", "numpy.libs")}
        for name in HELD:
            for module in modules.get(name, (name,)):
                if (site / module).exists():
                    (there / module).symlink_to(site / module)
        code = f"""
import sys
sys.path[:0] = [{str(task)!r}, {str(opt / "python")!r}, {str(there)!r}]
import pg8000, aws_lambda_powertools
import lambda_main
for job_type in ("initialize", "daily_update", "weekly_report"):
    print(lambda_main.handler({{"job_type": job_type, "as_of": "2013-03-02"}})["status"])
"""
        environment = {
            "AWS_LAMBDA_FUNCTION_NAME": "stock-tracker",
            "DATABASE_URL": database_url,
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "SYMBOLS": "AAPL,IBM",
            "OUTBOX": str(tmp_path / "outbox"),
            "QUICKCHART_URL": "http://127.0.0.1:9/chart",
        }
        command = [sys.executable, "-I", "-S", "-B", "-c", code]
        done = subprocess.run(command, env=environment, cwd=task, capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["ok", "nothing_to_do", "sent"], done.stderr
        assert market.today == date(2013, 3, 2)


class TestLimits:
    def test_a_zip_that_is_too_large_is_an_error_that_says_what_is_valid(self, tmp_path):
        write_zip(tmp_path / "function.zip", {"a.py": b"x" * 5_000})
        shown = r"function\.zip: 0\.\d KB zipped, 4\.9 KB unpacked; valid is up to 1\.0 KB zipped and 4\.0 KB unpacked"
        with pytest.raises(PackageError, match=shown):
            check_sizes(tmp_path / "function.zip", zipped=1024, unpacked=4096)

    def test_a_zip_that_cannot_be_finished_leaves_the_one_before(self, tmp_path):
        write_zip(tmp_path / "function.zip", {"a.py": b"before"})
        with pytest.raises(TypeError):
            write_zip(tmp_path / "function.zip", {"a.py": b"after", "b.py": None})
        assert [path.name for path in tmp_path.iterdir()] == ["function.zip"]
        assert zipfile.ZipFile(tmp_path / "function.zip").read("a.py") == b"before"

    def test_a_wrong_architecture_is_an_error_that_says_what_is_valid(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            main(["layer", "--architecture", "riscv", "--folder", str(tmp_path)])
        assert "invalid choice: 'riscv' (choose from" in capsys.readouterr().err
