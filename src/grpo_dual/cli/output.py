"""What the commands print and write: tables for a terminal or a pipe, and JSON files."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table

from grpo_dual.errors import CheckpointError, GrpoDualError
from grpo_dual.metrics.files import write_atomically

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


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to be written line by line, which is there whole once the block ends without error.

    Raises:
        CheckpointError: The file system refuses.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except GrpoDualError:  # of what was to be written; some are OSErrors too
        raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror or error}; name another file."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Fail before the work is done rather than after.

    Raises:
        CheckpointError: No file can be made there.
    """
    if path.is_dir():
        why = "it is a folder"
    elif not path.absolute().parent.is_dir():
        why = "there is no such folder"
    elif not os.access(path.absolute().parent, os.W_OK):
        why = "the folder may not be written to"
    else:
        return
    raise CheckpointError(f"{path}: cannot be written: {why}; name another file.")
