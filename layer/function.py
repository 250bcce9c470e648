"""The content of the function's zip: the handler's modules and packages, and the files that they read."""

from __future__ import annotations

from pathlib import Path

from layer.archive import PackageError

MODULES = (
    "lambda_main.py",
    "config.py",
    "api_client.py",
    "transformations.py",
    "database.py",
    "utils.py",
    "reporting.py",
)
PACKAGES = ("domain", "network", "storage", "pipeline", "report", "web", "entrypoints")
TEMPLATES = "report/templates/*.j2"
PAGE = "web/assets/*.*"  # of the market page, if it has been built
BUILDER = "web/build.py"  # of the page; it needs Node.js, and runs here
SYMBOL_FILES = "symbols*.txt"  # for SYMBOLS=@symbols.txt


def function_files(root: Path) -> dict[str, bytes]:
    """Read every file of ours that runs on Lambda.

    Returns
    -------
    dict of str to bytes
        Content by name inside the zip.

    Raises
    ------
    PackageError
        If one is a link, or cannot be read.
    """
    paths = [root / name for name in MODULES]
    for pattern in (*(f"{package}/*.py" for package in PACKAGES), TEMPLATES, PAGE, SYMBOL_FILES):
        paths += root.glob(pattern)
    paths = sorted(path for path in paths if path != root / BUILDER)
    return {path.relative_to(root).as_posix(): _content(path, root) for path in paths}


def _content(path: Path, root: Path) -> bytes:
    """Read a file. A link could carry any file of this machine into the zip, so it is not followed."""
    name = path.relative_to(root).as_posix()
    if path.resolve() != root.resolve() / name:
        raise PackageError(f"{name} is a link, which is not followed into the zip: put a copy of the file in its place")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PackageError(f"{name} cannot be read: {error.strerror}") from None
