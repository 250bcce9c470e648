"""Build the packages to deploy: ``python -m layer.build function``, ``layer``, ``lock`` or ``calendar``.

It writes ``build/function.zip``, ``build/layer-<architecture>.zip``, a new ``layer/requirements.txt`` or a new
``domain/holidays.py``, and prints its size. A zip that is too large for Lambda is an error and is removed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from layer.archive import MEGABYTE, PackageError, check_sizes, write_zip
from layer.bytecode import LEFT_OUT, can_compile, with_bytecode
from layer.function import function_files
from layer.holidays import holidays_module
from layer.wheels import HERE, PLATFORMS, layer_files, resolve

ROOT = HERE.parent
UNPACKED = 250 * MEGABYTE  # Lambda's limit for a function with all its layers
PANDAS_LAYER = 204 * MEGABYTE  # the largest release so far of the AWS SDK for pandas, 3.16.1
FUNCTION_ZIPPED = 1 * MEGABYTE
FUNCTION_UNPACKED = 3 * MEGABYTE
LAYER_ZIPPED = 20 * MEGABYTE
TASK, OPT = "/var/task", "/opt"  # where Lambda unpacks the function and its layers


def build(what: str, architecture: str, folder: Path) -> str:
    """Build a zip, the lock or the calendar, and return its name and size in one line.

    Parameters
    ----------
    what : {"function", "layer", "lock", "calendar"}
    architecture : {"x86_64", "arm64"}
        Of the layer; the others are the same for both.
    folder : Path
        The folder for zips.

    Raises
    ------
    PackageError
        If it cannot be built or is too large.
    """
    if what == "lock":
        (HERE / "requirements.txt").write_text(resolve(ROOT), encoding="utf-8")
        return "layer/requirements.txt: written"
    if what == "calendar":
        (ROOT / "domain" / "holidays.py").write_text(holidays_module(), encoding="utf-8")
        return "domain/holidays.py: written"
    if what == "function":
        path, limits = folder / "function.zip", (FUNCTION_ZIPPED, FUNCTION_UNPACKED)
        write_zip(path, with_bytecode(function_files(ROOT), TASK))
    else:
        path, limits = folder / f"layer-{architecture}.zip", (LAYER_ZIPPED, UNPACKED - PANDAS_LAYER - FUNCTION_UNPACKED)
        write_zip(path, with_bytecode(layer_files(architecture), OPT))
    try:
        shown = check_sizes(path, zipped=limits[0], unpacked=limits[1])
    except PackageError:
        path.unlink()
        raise
    return shown if can_compile() else f"{shown}; {LEFT_OUT}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; on an error, print one line to standard error and return 1."""
    parser = argparse.ArgumentParser(prog="python -m layer.build", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["function", "layer", "lock", "calendar"])
    parser.add_argument("--architecture", choices=list(PLATFORMS), default="x86_64")
    parser.add_argument("--folder", type=Path, default=ROOT / "build")
    given = parser.parse_args(arguments)
    try:
        print(build(given.what, given.architecture, given.folder))
    except (PackageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
