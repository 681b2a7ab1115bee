"""What happens to a malformed row: stop and name it, or count it, list it and go on."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from grpo_dual.errors import DataError

OnBadRow = Literal["error", "skip"]

_LISTED = 1000
"""Rows kept by name; the count goes on beyond it, so that a wholly wrong file cannot fill
memory."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that was left out."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(slots=True)
class BadRows:
    """Collects the rows that ``on_bad_row="skip"`` left out.

    Example: ``bad = BadRows(); list(iter_bbq(path, on_bad_row="skip", bad_rows=bad)); bad.count``.
    """

    count: int = 0
    """All rows left out."""
    listed: list[BadRow] = field(default_factory=list[BadRow])
    """The first thousand of them."""

    def add(self, path: Path, line: int, reason: str) -> None:
        """Count one row, and list it while there is room."""
        self.count += 1
        if len(self.listed) < _LISTED:
            self.listed.append(BadRow(path, line, reason))

    def __len__(self) -> int:
        return self.count

    def summary(self, limit: int = 10) -> str:
        """The count and the first ``limit`` rows, one per line; empty when no row was bad."""
        if not self.count:
            return ""
        shown = self.listed[:limit]
        lines = [f"{self.count} malformed row(s) left out:", *(f"  {row}" for row in shown)]
        if self.count > len(shown):
            lines.append(f"  ... and {self.count - len(shown)} more")
        return "\n".join(lines)


class Gate:
    """Applies one ``on_bad_row`` policy on behalf of an iterator."""

    def __init__(self, on_bad_row: OnBadRow, bad_rows: BadRows | None) -> None:
        self.on_bad_row = on_bad_row
        self.bad_rows = BadRows() if bad_rows is None else bad_rows
        self._listens = bad_rows is not None

    def reject(self, path: Path, line: int, error: DataError) -> None:
        """Raise ``error`` under ``error``; count and list the row under ``skip``.

        Args:
            path: File of the row.
            line: Its first line.
            error: What is wrong; its text may begin with ``path:line: ``.

        Raises:
            DataError: ``error`` itself, unless rows are skipped.
        """
        if self.on_bad_row == "error":
            raise error
        self.bad_rows.add(path, line, str(error).removeprefix(f"{path}:{line}: "))

    def close(self) -> None:
        """Say what was left out when nobody passed a collector: no row disappears unseen."""
        if self.bad_rows.count and not self._listens:
            _log.warning("%s", self.bad_rows.summary())
