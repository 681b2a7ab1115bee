"""The file of all that was drawn: written chunk by chunk, so that a kill costs one chunk.

The first line says what is drawn from what, the others are chunks of prompts. A chunk is one line:
it is whole or it is dropped, and since each chunk has random numbers of its own, a draw that goes
on gives the completions of one that was never stopped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from grpo_dual.errors import CheckpointError, DataError
from grpo_dual.metrics.files import write_atomically
from grpo_dual.types import Message

_FINISHED = '{"finished": true}'


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion with what it earned."""

    text: str
    finished: bool
    tokens: int
    total: float | None
    """The reward; None where it could not be judged."""
    parts: Mapping[str, float]
    verdict: str
    provider: str
    failure: str | None
    gold: float | None
    """1 right, 0 wrong, None where no label says."""

    def score(self, proxy: str) -> float | None:
        """By ``reward``: the whole reward; by ``judge``: its task part, without shaping."""
        return self.total if proxy == "reward" else self.parts.get("task")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and its completions."""

    objective: str
    record_id: str
    stratum: tuple[str, ...]
    cluster: str
    """Prompts of one cluster are alike; intervals are over clusters."""
    messages: tuple[Message, ...]
    samples: tuple[Sample, ...]


class DrawnFile:
    """All chunks that are on the disk, and the place of the next."""

    def __init__(self, path: Path, meta: Mapping[str, object]) -> None:
        """Read what is there; nothing is written yet.

        Args:
            path: The file; it need not exist.
            meta: JSON-able: what the draw is of. A file of another draw is refused.

        Raises:
            DataError: It is of another draw, or damaged.
            CheckpointError: It cannot be read.
        """
        self.path = path
        self._meta = json.loads(json.dumps(meta))
        self._begun = False
        self.finished = False
        """All chunks are there: nothing is left to draw."""
        self.chunks: list[tuple[Asked, ...]] = []
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # the last may be half a line
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
        if lines:
            self._check(lines[0])
            if lines[-1] == _FINISHED:
                self.finished = bool(lines.pop())
            self.chunks = [
                _chunk(line, f"{path}:{number}") for number, line in enumerate(lines[1:], start=2)
            ]

    @property
    def asked(self) -> tuple[Asked, ...]:
        """All prompts, in order."""
        return tuple(asked for chunk in self.chunks for asked in chunk)

    def _check(self, line: str) -> None:
        try:
            found = dict(json.loads(line)["draw"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path}:1: is no file of drawn completions ({error}); move it away, or "
                "choose another --out"
            ) from error
        keys = sorted(found.keys() | self._meta.keys())
        differ = [key for key in keys if found.get(key) != self._meta.get(key)]
        if differ:
            told = ", ".join(
                f"{key} is {found.get(key)!r} there and {self._meta.get(key)!r} now"
                for key in differ[:3]
            )
            raise DataError(
                f"{self.path}: holds another draw ({told}). Delete it, choose another --out, or "
                "give the flags that it was drawn with"
            )

    def _begin(self) -> None:
        """Go on behind the whole lines: a kill may have left half of one."""
        lines = [json.dumps({"draw": self._meta})]
        if self.chunks:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        write_atomically(self.path, "".join(f"{line}\n" for line in lines).encode())
        self._begun = True

    def append(self, chunk: Sequence[Asked]) -> None:
        """Write a chunk.

        Raises:
            CheckpointError: The file system refuses.
        """
        content = {"chunk": len(self.chunks), "asked": [asdict(asked) for asked in chunk]}
        self._write(json.dumps(content, allow_nan=False))
        self.chunks.append(tuple(chunk))

    def finish(self) -> None:
        """Say that no chunk is missing.

        Raises:
            CheckpointError: The file system refuses.
        """
        self._write(_FINISHED)
        self.finished = True

    def _write(self, line: str) -> None:
        if not self._begun:
            self._begin()
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            raise CheckpointError(
                f"{self.path}: cannot be written ({error.strerror or error}); what was drawn "
                "before is in it. Make room and give the same command again"
            ) from error


def _chunk(line: str, origin: str) -> tuple[Asked, ...]:
    try:
        rows = cast("list[dict[str, Any]]", json.loads(line)["asked"])
        return tuple(
            Asked(
                objective=row["objective"],
                record_id=row["record_id"],
                stratum=tuple(row["stratum"]),
                cluster=row["cluster"],
                messages=tuple(Message(**turn) for turn in row["messages"]),
                samples=tuple(Sample(**sample) for sample in row["samples"]),
            )
            for row in rows
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{origin}: is no chunk of drawn completions ({error}); delete that line and the ones "
            "behind it, and they will be drawn again"
        ) from error
