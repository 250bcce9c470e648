"""DuckDB's extensions from packages of PyPI: DuckDB itself would download them."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


def scanner(name: str, folder: Path) -> Path:
    """Copy the extension that reads a kind of database into a folder, and return its path, for ``LOAD``.

    DuckDB takes the name of the file for that of the extension, which the packages shorten.

    Parameters
    ----------
    name : {"sqlite", "postgres"}
    folder : pathlib.Path
    """
    package = find_spec(f"duckdb_extension_{name}")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"the package duckdb-extension-{name} is not installed")
    (file,) = Path(package.origin).parent.glob(f"extensions/*/{name}.duckdb_extension")
    return Path(shutil.copy(file, folder / f"{name}_scanner.duckdb_extension"))
