"""The content of our layer: the libraries that the function needs and Lambda does not have.

``requirements.txt`` lists what the project needs, ``layer/constraints.txt`` what Lambda has, and the lock,
``layer/requirements.txt``, every package of the layer with its version and hashes. pip installs ready wheels for
Lambda's platform on any machine and compiles nothing. uv would be faster, but not every user has it, and its layers
differ in bytes from pip's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from layer.archive import PackageError

HERE = Path(__file__).parent
PLATFORMS = {
    "x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
    "arm64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
}  # Lambda's python3.13 runs on Amazon Linux 2023, which has glibc 2.34
PYTHON = "3.13"
ON_TERMINAL_ONLY = ("typer", "rich", "schedule", "pytz")
UNUSED_FOLDERS = ("tests", "test", "__pycache__", "bin")
UNUSED_PARTS = (  # of SQLAlchemy: databases that are not used, the ORM, and its own tests
    "sqlalchemy/dialects/mssql/",
    "sqlalchemy/dialects/mysql/",
    "sqlalchemy/dialects/oracle/",
    "sqlalchemy/ext/",
    "sqlalchemy/orm/",
    "sqlalchemy/testing/",
)
UNUSED_ENDINGS = (".pyi", ".pyx", ".pxd", ".c", ".h", ".pyc", ".md", ".rst", ".typed", ".exe")
KEPT_METADATA = ("pg8000", "scramp")  # they read their own version when imported
CERTIFICATES = "rds-ca.pem"

HEADER = """\
# The lock of our layer: its packages with the hash of each wheel. `make lock` renews it from requirements.txt.
"""


def canonical(name: str) -> str:
    """Normalize a package's name as PyPI does: ``Typing_Extensions`` to ``typing-extensions``."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required(path: Path) -> dict[str, str]:
    """Read the lines of a requirements file by canonical package name, without comments."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return {canonical(re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0]): line for line in lines if line}


def resolve(root: Path) -> str:
    """Resolve the text of the lock: the latest allowed versions for both architectures.

    Raises
    ------
    PackageError
        If pip finds no wheel, or different versions for the two architectures.
    """
    held = required(HERE / "constraints.txt")
    wanted = [line for name, line in required(root / "requirements.txt").items() if name not in ON_TERMINAL_ONLY]
    chosen: dict[str, set[str]] = {}
    for architecture in PLATFORMS:
        for item in _resolved(architecture, [*wanted, "-c", str(HERE / "constraints.txt")]):
            name = canonical(item["metadata"]["name"])
            if name not in held:
                pin = f"{name}=={item['metadata']['version']}"
                chosen.setdefault(pin, set()).add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    names = [pin.partition("==")[0] for pin in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PackageError(f"{', '.join(twice)} has different versions for {' and '.join(PLATFORMS)}")
    hashes = {pin: [f"    --hash=sha256:{each}" for each in sorted(chosen[pin])] for pin in sorted(chosen)}
    return HEADER + "".join(" \\\n".join([pin, *hashes[pin]]) + "\n" for pin in hashes)


def _resolved(architecture: str, arguments: list[str]) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--ignore-installed", "--report", str(report), *arguments]
        install_wheels(architecture, Path(folder) / "nothing", options)
        found: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["install"]
        return found


def layer_files(architecture: str, lock: Path = HERE / "requirements.txt") -> dict[str, bytes]:
    """Collect the files of our layer: the locked packages and the certificates of Amazon RDS.

    Parameters
    ----------
    architecture : {"x86_64", "arm64"}
    lock : Path
        A requirements file with hashes.

    Returns
    -------
    dict of str to bytes
        Content by name inside the zip.

    Raises
    ------
    PackageError
        If pip fails, for example because a wheel is not the one that was locked.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        install_wheels(architecture, target, ["--no-deps", "--no-compile", "--require-hashes", "-r", str(lock)])
        files = {
            f"python/{name}": path.read_bytes()
            for path in target.rglob("*")
            if path.is_file() and _runs(name := path.relative_to(target).as_posix())
        }
    return {**files, CERTIFICATES: (HERE / CERTIFICATES).read_bytes()}


def _runs(name: str) -> bool:
    """Whether a file of a wheel is needed at run time."""
    path = PurePosixPath(name)
    package, dot, _ = path.parts[0].partition("-")
    if path.parts[0].endswith((".dist-info", ".data")):
        return bool(dot) and package in KEPT_METADATA and path.name == "METADATA"
    if name.startswith(UNUSED_PARTS) or set(path.parts[:-1]) & set(UNUSED_FOLDERS):
        return False
    return not name.endswith(UNUSED_ENDINGS)


def install_wheels(architecture: str, target: Path, arguments: list[str]) -> None:
    """Install wheels for Lambda with pip, on any machine.

    Parameters
    ----------
    architecture : {"x86_64", "arm64"}
    target : Path
        The folder to install into.
    arguments : list of str
        Further arguments of ``pip install``.

    Raises
    ------
    PackageError
        With pip's last error message.
    """
    platforms = [option for name in PLATFORMS[architecture] for option in ("--platform", name)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += [
        "--target",
        str(target),
        *platforms,
        "--python-version",
        PYTHON,
        "--implementation",
        "cp",
        "--only-binary=:all:",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        raise PackageError(f"pip cannot install the packages for {architecture}: {(errors or ['unknown error'])[-1]}")
