"""What the commands print and write: tables for a terminal or a pipe, and JSON files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from grpo_dual.metrics.sinks import write_atomically

_PLAIN_WIDTH = 220
"""Columns when not printing to a terminal: nothing is folded, so lines can be cut and compared."""


def console() -> Console:
    """A console for the terminal, or a wide one without colours for a pipe or file."""
    found = Console()
    return found if found.is_terminal else Console(width=_PLAIN_WIDTH, color_system=None)


def table(title: str | None, columns: Sequence[str], texts: Sequence[str], out: Console) -> Table:
    """An empty table; the columns in ``texts`` are aligned left, the others right."""
    plain = not out.is_terminal
    made = Table(
        title=title, title_justify="left", box=None if plain else box.SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="left" if column in texts else "right", no_wrap=plain)
    return made


def write_json(path: Path, result: Mapping[str, object]) -> None:
    """Write ``result`` whole or not at all.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_atomically(path, (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())
