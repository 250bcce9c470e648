"""What belongs into the function's zip: the modules that the handler reaches, and the files that they read.

What comes in: the project's folder. What goes out: names and contents. A module is found by its import, wherever that
stands in the code, so that a new one is packed without being listed anywhere, and the terminal, the sandbox and the
tests never are. Nothing is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HANDLER = "lambda_main"
FILES = ("templates/*.j2", "symbols*.txt")


def function_files(root: Path) -> dict[str, bytes]:
    """Everything that runs on Lambda and is ours.

    Parameters
    ----------
    root : Path
        The project's folder.

    Returns
    -------
    dict of str to bytes
    """
    modules = {f"{name}.py": root / f"{name}.py" for name in reached_modules(root)}
    others = {str(path.relative_to(root)): path for pattern in FILES for path in root.glob(pattern)}
    return {name: path.read_bytes() for name, path in sorted({**modules, **others}.items())}


def reached_modules(root: Path, start: str = HANDLER) -> set[str]:
    """The modules of a folder that a module imports, and those that these import, and so on.

    Parameters
    ----------
    root : Path
    start : str

    Returns
    -------
    set of str
    """
    reached, waiting = set[str](), {start}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        tree = ast.parse((root / f"{name}.py").read_text(encoding="utf-8"))
        waiting |= {each for each in _imported(tree) if (root / f"{each}.py").is_file()} - reached
    return reached


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
