"""A file of lines with steps: appended to, flushed line by line, cut back exactly on resume."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from grpo_dual.errors import CheckpointError
from grpo_dual.metrics.files import writing


class StepFile:
    """Of a run folder; the last line may be half-written after a kill."""

    def __init__(self, path: Path, step_of: Callable[[str], int], header: str = "") -> None:
        """Bind to a file, which need not exist.

        Args:
            path: The file.
            step_of: Reads a line's step; ValueError, KeyError or TypeError where it has none.
            header: First line, with its end; empty: none.
        """
        self.path = path
        self._step_of = step_of
        self._header = header
        self._file: IO[str] | None = None
        self._continues = False

    def append(self, line: str) -> None:
        """Write a line, with its end, behind those that are there.

        Raises:
            CheckpointError: The rows of another run are there, or the file system refuses.
        """
        with writing(self.path):
            if self._file is None:
                if self.path.exists() and not self._continues:
                    raise CheckpointError(
                        f"{self.path}: holds the rows of an earlier run. Continue that run with "
                        "--resume, or choose another folder with --out."
                    )
                fresh = not self.path.exists()
                self._file = self.path.open("a", encoding="utf-8", newline="")
                line = self._header + line if fresh else line
            self._file.write(line)
            self._file.flush()

    def steps(self, last: int | None) -> list[int]:
        """Steps of the whole lines up to step ``last`` (None: none)."""
        if not self.path.exists():
            return []
        return [step for step, _ in self._whole_lines() if last is not None and step <= last]

    def cut(self, last: int | None) -> None:
        """Keep the whole lines up to step ``last`` (None: none), atomically; go on behind them."""
        self.close()
        if not self.path.exists():
            return
        part = self.path.with_name(f".{self.path.name}.part")
        with writing(self.path):
            try:
                with part.open("w", encoding="utf-8", newline="") as file:
                    file.write(self._header)
                    for step, line in self._whole_lines():
                        if last is not None and step <= last:
                            file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.path)
            finally:
                part.unlink(missing_ok=True)
        self._continues = True

    def _whole_lines(self) -> Iterator[tuple[int, str]]:
        """Each complete line with its step; the header is checked, a half-written end left out."""
        with self.path.open(encoding="utf-8", newline="", errors="replace") as file:
            if self._header:
                first = file.readline()
                if first.endswith("\n") and first != self._header:
                    raise CheckpointError(
                        f"{self.path}, line 1: the columns are not those of this run; the "
                        "configuration or the package has changed since it was started. Resume "
                        "with the version that started it, or start a new run."
                    )
            for number, line in enumerate(file, start=2 if self._header else 1):
                if not line.endswith("\n"):
                    return
                try:
                    yield self._step_of(line), line
                except (ValueError, KeyError, TypeError) as error:
                    raise CheckpointError(
                        f"{self.path}, line {number}: not a metric row ({error}). The file was "
                        "damaged or edited; restore that line to resume this run."
                    ) from error

    def sync(self) -> None:
        """Make what was written survive a power cut."""
        if self._file is not None:
            with writing(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the file back; a later ``append`` opens it anew."""
        if self._file is not None:
            self._file.close()
            self._file = None
