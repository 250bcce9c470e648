"""Pictures of the terminal in the documentation: ``python -m tests.support.terminal_pictures``, or ``make pictures``.

Each shows what a command prints on a terminal of 80 columns, in the demo.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

ROOT = Path(__file__).parents[2]
COLUMNS, LINES = 80, 22
PICTURES = {
    "terminal-show.svg": ("show", "AAPL", "--days", "64"),
    "terminal-status.svg": ("status",),
}
# Rich's picture takes its font from elsewhere; here the reader's own does.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "font-family: Fira Code", "font-family: ui-monospace, Menlo, Consolas"
)


def draw(folder: Path, arguments: tuple[str, ...]) -> str:
    """Run a command of ``main.py`` in a folder, and return its first lines on a terminal as SVG."""
    shown = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *arguments],
        cwd=folder,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "COLUMNS": str(COLUMNS),
            "FORCE_COLOR": "1",
            "TERM": "xterm-256color",
            "PYTHONUTF8": "1",
        },
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    ).stdout.replace(str(folder), "/home/you/stock-tracker")
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, force_terminal=True, color_system="truecolor")
    console.print(Text("\n").join(Text.from_ansi(shown).split("\n")[:LINES]))
    title = " ".join(("python main.py", *arguments))
    return console.export_svg(title=title, theme=SVG_EXPORT_THEME, code_format=FORMAT, unique_id=arguments[0])


def main() -> None:
    """Run the demo and take the pictures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, ("run",))
        for name, arguments in PICTURES.items():
            path = ROOT / "docs" / name
            path.write_text(draw(folder, arguments) + "\n", encoding="utf-8")
            print(f"docs/{name}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
