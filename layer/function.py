"""The content of the function's zip: the handler's modules and packages, and the files that they read."""

from __future__ import annotations

from pathlib import Path

MODULES = (
    "lambda_main.py",
    "config.py",
    "api_client.py",
    "transformations.py",
    "database.py",
    "utils.py",
    "reporting.py",
)
PACKAGES = ("domain", "storage", "pipeline", "report", "entrypoints")
TEMPLATES = "report/templates/*.j2"
SYMBOL_FILES = "symbols*.txt"  # for SYMBOLS=@symbols.txt


def function_files(root: Path) -> dict[str, bytes]:
    """Read every file of ours that runs on Lambda.

    Returns
    -------
    dict of str to bytes
        Content by name inside the zip.
    """
    paths = [root / name for name in MODULES]
    for pattern in (*(f"{package}/*.py" for package in PACKAGES), TEMPLATES, SYMBOL_FILES):
        paths += root.glob(pattern)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(paths)}
