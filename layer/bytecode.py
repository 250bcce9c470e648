"""Compiled bytecode for the files of a zip: without it, every cold start compiles each module that it imports.

Lambda unpacks a zip into a folder that cannot be written, so Python could not keep what it compiled. The bytecode lies
where Python looks for it (``__pycache__/name.cpython-313.pyc``), and is taken without a look at the source
(unchecked hash): the two are always deployed together.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PYTHON = (3, 13)  # of Lambda; another version's bytecode would lie unused
LEFT_OUT = (
    f"without bytecode, which needs Python {PYTHON[0]}.{PYTHON[1]}, not {sys.version_info[0]}.{sys.version_info[1]}:"
    " a cold start takes longer"
)


def can_compile() -> bool:
    """Whether this Python compiles the bytecode that Lambda reads."""
    return sys.implementation.name == "cpython" and sys.version_info[:2] == PYTHON


def with_bytecode(files: Mapping[str, bytes], place: str) -> dict[str, bytes]:
    """Add the bytecode of each module; the same files give the same bytes.

    Parameters
    ----------
    files : mapping of str to bytes
        Content by name inside the zip.
    place : str
        The folder that Lambda unpacks the zip into, which tracebacks name.

    Returns
    -------
    dict of str to bytes
        The files, and their bytecode if :func:`can_compile`. A file that is no valid module has none.
    """
    if not can_compile():
        return dict(files)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for module in (module for module in files if module.endswith(".py")):
            path = folder / module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files[module])
        # A process of its own: what else a process has loaded shows in the bytes.
        options = ["-qq", "--invalidation-mode", "unchecked-hash", "-s", name, "-p", place]
        command = [sys.executable, "-P", "-s", "-m", "compileall", *options, name]
        subprocess.run(command, env={"PYTHONHASHSEED": "0"}, capture_output=True, check=False)
        compiled = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.pyc")}
    return {**files, **compiled}
