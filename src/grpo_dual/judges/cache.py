"""Verdicts on disk: SQLite in WAL mode, shared by runs, bounded, safe against kills.

What is kept: the hash of the whole request, the verdict and what it cost. No prompt, completion or
key is. Only validated verdicts are stored, each before its request counts as settled.
"""

import contextlib
import sqlite3
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Opinion, Usage, Verdict

_SCHEMA = 1
_BUSY_SECONDS = 10.0
_BUSY_PAUSE = 0.02
_TRIM_EVERY = 256
"""Insertions between two looks at the size; the bound is passed by no more than these."""
_TABLE = """
CREATE TABLE IF NOT EXISTS verdicts (
    key TEXT PRIMARY KEY,
    judge TEXT NOT NULL,
    model TEXT NOT NULL,
    rubric INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    confidence REAL NOT NULL,
    reason TEXT NOT NULL,
    chars INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    usd REAL,
    created REAL NOT NULL,
    used REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A verdict to be kept."""

    opinion: Opinion
    judge: str
    model: str
    """Id that the server reported."""
    rubric: int
    chars: int
    """Characters of the rendered request: with ``usage`` they tell tokens a character."""
    usage: Usage
    usd: float | None


@dataclass(frozen=True, slots=True)
class ModelStats:
    """What is kept of one judge and model."""

    judge: str
    model: str
    rubric: int
    entries: int
    hits: int
    tokens: int
    """That the kept verdicts took once."""
    usd: float | None
    oldest: float
    """Seconds since 1970."""
    newest: float


class VerdictCache:
    """One file; used from one thread."""

    def __init__(self, path: Path, *, max_entries: int) -> None:
        """Open it, and make it where it is missing.

        Raises:
            JudgeError: It cannot be opened, or is no cache of this version.
        """
        self.path = path
        self._max = max_entries
        self._since_trim = 0
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._open_patiently()
            except BaseException:
                self._db.close()
                raise

    def _open_patiently(self) -> None:
        """SQLite's own patience does not cover the change to WAL, which others may do just now."""
        end = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > end:
                    raise
            time.sleep(_BUSY_PAUSE)

    def _open(self) -> None:
        (version,) = cast("tuple[int]", self._db.execute("PRAGMA user_version").fetchone())
        (others,) = cast(
            "tuple[int]",
            self._db.execute(
                "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name != 'verdicts'"
            ).fetchone(),
        )
        if version not in (0, _SCHEMA) or others:
            raise JudgeError(
                f"{self.path}: no judge cache, or one of another version ({version}); choose "
                "another judge.cache.path, or remove the file"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        # A kill of this process loses nothing; a power cut may lose the last verdicts.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_TABLE)
        self._db.execute(f"PRAGMA user_version={_SCHEMA}")

    def get(self, key: str) -> Opinion | None:
        """The verdict of a request, and a note that it was used."""
        with _named(self.path):
            row = self._db.execute(
                "SELECT verdict, confidence, reason FROM verdicts WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            self._db.execute(
                "UPDATE verdicts SET used = ?, hits = hits + 1 WHERE key = ?", (time.time(), key)
            )
            verdict, confidence, reason = cast("tuple[str, float, str]", row)
            return Opinion(Verdict(verdict), confidence, reason)

    def holds(self, key: str) -> bool:
        """Is there a verdict? Asking leaves no trace, unlike ``get``."""
        with _named(self.path):
            row = self._db.execute("SELECT 1 FROM verdicts WHERE key = ?", (key,)).fetchone()
        return row is not None

    def put(self, key: str, entry: Entry) -> None:
        """Keep a verdict; one that another run has kept meanwhile stays."""
        now = time.time()
        row = (
            *(key, entry.judge, entry.model, entry.rubric),
            *(entry.opinion.verdict.value, entry.opinion.confidence, entry.opinion.reason),
            *(entry.chars, entry.usage.input, entry.usage.output, entry.usd, now, now),
        )
        with _named(self.path):
            self._db.execute(
                f"INSERT OR IGNORE INTO verdicts VALUES ({', '.join('?' * len(row))}, 0)", row
            )
            self._since_trim += 1
            if self._since_trim >= min(_TRIM_EVERY, self._max):
                self._since_trim = 0
                self._trim()

    def _trim(self) -> None:
        over = len(self) - self._max
        if over > 0:
            self._db.execute(
                "DELETE FROM verdicts WHERE key IN "
                "(SELECT key FROM verdicts ORDER BY used, key LIMIT ?)",
                (over,),
            )

    def __len__(self) -> int:
        """Verdicts kept."""
        with _named(self.path):
            (count,) = cast(
                "tuple[int]", self._db.execute("SELECT COUNT(*) FROM verdicts").fetchone()
            )
        return count

    def tokens_per_char(self, judge: str, rubric: int) -> tuple[float, float, int] | None:
        """Prompt tokens a rendered character, reply tokens a verdict, and verdicts counted.

        None before the judge has answered once.
        """
        with _named(self.path):
            row = self._db.execute(
                "SELECT SUM(input), SUM(chars), AVG(output), COUNT(*) FROM verdicts "
                "WHERE judge = ? AND rubric = ? AND chars > 0 AND input > 0",
                (judge, rubric),
            ).fetchone()
        tokens, chars, output, count = cast("tuple[int, int, float, int]", row)
        return (tokens / chars, output, count) if count else None

    def stats(self) -> list[ModelStats]:
        """What is kept, by judge, model and rubric."""
        with _named(self.path):
            rows = self._db.execute(
                "SELECT judge, model, rubric, COUNT(*), SUM(hits), SUM(input + output), SUM(usd), "
                "MIN(created), MAX(used) FROM verdicts GROUP BY judge, model, rubric "
                "ORDER BY judge, model, rubric"
            ).fetchall()
        return [ModelStats(*row) for row in rows]

    def clear(self, judge: str | None = None) -> int:
        """Drop all verdicts, or one judge's; return how many."""
        with _named(self.path):
            before = len(self)
            if judge is None:
                self._db.execute("DELETE FROM verdicts")
            else:
                self._db.execute("DELETE FROM verdicts WHERE judge = ?", (judge,))
            dropped = before - len(self)
            self._db.execute("VACUUM")
        return dropped

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_place(path: Path) -> None:
    """Find out early whether a cache can stand there; nothing is made.

    Raises:
        JudgeError: A folder stands there, or a file in the place of one of its folders.
    """
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    wrong = existing.is_dir() if existing == path else not existing.is_dir()
    if wrong:
        kind = "folder" if existing.is_dir() else "file"
        raise JudgeError(
            f"judge.cache.path: {path}: {existing} is a {kind}, so no cache can be made there; "
            "choose another file, or set judge.cache.enabled to false"
        )


@contextlib.contextmanager
def _named(path: Path) -> Generator[None]:
    """Name the file in what SQLite or the file system refuses."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise JudgeError(
            f"{path}: the judge cache cannot be used ({error}). Choose another judge.cache.path, "
            "set judge.cache.enabled to false, or remove the file if it is damaged."
        ) from error
