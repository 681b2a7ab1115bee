"""``grpo-dual judge cache``: what is kept of the judges, and dropping it."""

import datetime
from dataclasses import asdict
from pathlib import Path

from grpo_dual.cli.output import check_writable, console, table, write_json
from grpo_dual.config.judging import JudgeCacheConfig
from grpo_dual.judges.build import cache_path
from grpo_dual.judges.cache import ModelStats, VerdictCache


def stats(path: Path | None, *, judge: str | None, json: Path | None) -> None:
    """Print what the cache holds, by judge, model and rubric.

    Args:
        path: The file; None for the one that runs use.
        judge: Only this judge's verdicts.
        json: Where the result is written too.

    Raises:
        JudgeError: The file is no cache, or cannot be read.
        CheckpointError: ``json`` cannot be written.
    """
    if json is not None:
        check_writable(json)
    file = _file(path)
    rows: list[ModelStats] = []
    size = 0
    if file.exists():
        with _open(file) as cache:
            rows = cache.stats()
        size = _size(file)
    shown = [row for row in rows if judge in (None, row.judge)]
    if json is not None:
        result = {
            "path": str(file),
            "exists": file.exists(),
            "bytes": size,
            "entries": sum(row.entries for row in shown),
            "verdicts": [asdict(row) for row in shown],
        }
        write_json(json, result)
    if not file.exists():
        print(f"{file}: no judge cache is there yet")
    elif not shown:
        print(f"{file}: no verdicts{_of(judge, rows)} ({_bytes(size)})")
    else:
        _print(shown, file, size)


def clear(path: Path | None, *, judge: str | None, json: Path | None) -> None:
    """Drop verdicts, without asking, and say how many.

    Args:
        path: The file; None for the one that runs use.
        judge: Only this judge's verdicts.
        json: Where the result is written too.

    Raises:
        JudgeError: The file is no cache, or cannot be written.
        CheckpointError: ``json`` cannot be written.
    """
    if json is not None:
        check_writable(json)
    file = _file(path)
    dropped = 0
    note = "no judge cache is there, nothing is dropped"
    if file.exists():
        with _open(file) as cache:
            known = cache.stats()
            dropped = cache.clear(judge)
        note = f"{dropped} verdict{'' if dropped == 1 else 's'} dropped"
        if dropped == 0:
            note = f"no verdicts{_of(judge, known)}, nothing is dropped"
    if json is not None:
        write_json(json, {"path": str(file), "dropped": dropped})
    print(f"{file}: {note}")


def _file(path: Path | None) -> Path:
    return path or cache_path(JudgeCacheConfig())


def _open(file: Path) -> VerdictCache:
    return VerdictCache(file, max_entries=JudgeCacheConfig().max_entries)


def _of(judge: str | None, known: list[ModelStats]) -> str:
    """`` of NAME`` where one was asked for, and who else is there."""
    if judge is None:
        return ""
    others = sorted({row.judge for row in known})
    return f" of {judge}" + (f", but of {', '.join(others)}" if others else "")


def _size(file: Path) -> int:
    """Bytes on disk, SQLite's write-ahead log included."""
    beside = (file.with_name(file.name + end) for end in ("", "-wal", "-shm"))
    return sum(part.stat().st_size for part in beside if part.exists())


def _print(rows: list[ModelStats], file: Path, size: int) -> None:
    out = console()
    columns = ("judge", "model", "rubric", "entries", "hits", "tokens", "usd", "first", "last use")
    made = table(None, columns, ("judge", "model", "first", "last use"), out)
    for row in rows:
        usd = "unknown price" if row.usd is None else f"{row.usd:.4f}"
        counts = (str(n) for n in (row.rubric, row.entries, row.hits, row.tokens))
        made.add_row(row.judge, row.model, *counts, usd, _time(row.oldest), _time(row.newest))
    out.print(made)
    total = sum(row.entries for row in rows)
    out.print(
        f"{file}: {total} verdicts, {_bytes(size)}", markup=False, highlight=False, soft_wrap=True
    )


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"
