"""``grpo-dual data``: what is in the data, as a table or as JSON."""

import dataclasses
import json as json_library
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from grpo_dual.cli.output import console, table
from grpo_dual.records.stats import BbqCount, DataStats, HaluEvalCount, survey


def stats(
    path: Path, *, json: bool = False, on_bad_row: Literal["error", "skip"] = "error"
) -> None:
    """Print how many rows of which kind a file or folder holds.

    Args:
        path: A BBQ or HaluEval file, or a folder with such files in it or in its subfolders.
        json: Print one JSON object instead of tables.
        on_bad_row: Stop at a malformed row, or count and list it and go on.

    Raises:
        DataError: Nothing is found there, or a row is malformed (only under ``error``).
    """
    found = survey(path, on_bad_row=on_bad_row)
    if json:
        content = dataclasses.asdict(found)
        content["bad_rows"] = {
            "count": found.bad_rows.count,
            "listed": [str(row) for row in found.bad_rows.listed],
        }
        print(json_library.dumps(content, indent=2))
        return
    out = console()
    if found.bbq:
        out.print(_bbq_table(found.bbq, path, out))
    if found.halueval:
        out.print(_halueval_table(found.halueval, path, out))
    _print_notes(out, found, path)


def _bbq_table(counts: Sequence[BbqCount], path: Path, out: Console) -> Table:
    columns = "file,category,rows,upstream,templates,ambig,disambig,neg,nonneg,label 0/1/2,"
    columns += "unknown 0/1/2,bias known,unresolved,names"
    made = table("BBQ", columns.split(","), ("file", "category"), out)
    for count in counts:
        made.add_row(_short(count.file, path), count.category, *_bbq_cells(_numbers(count)))
    total = [sum(values) for values in zip(*map(_numbers, counts), strict=True)]
    made.add_row("total", "", *_bbq_cells(total), style="bold")
    return made


def _numbers(count: BbqCount) -> tuple[int, ...]:
    return (
        *(count.rows, count.upstream_rows, count.templates, count.ambiguous, count.disambiguated),
        *(count.negative, count.nonnegative, *count.labels, *count.unknown_positions),
        *(count.resolved, count.unresolved, count.names),
    )


def _bbq_cells(numbers: Sequence[int]) -> list[str]:
    texts = [str(number) for number in numbers]
    return [*texts[:7], "/".join(texts[7:10]), "/".join(texts[10:13]), *texts[13:]]


def _halueval_table(counts: Sequence[HaluEvalCount], path: Path, out: Console) -> Table:
    columns = (
        *("file", "subset", "form", "rows", "upstream", "right", "hallucinated"),
        *("after the filter", "whole words", "shorter wins", "ties", "length AUROC"),
    )
    made = table("HaluEval", columns, ("file", "subset", "form"), out)
    for count in counts:
        made.add_row(
            _short(count.file, path),
            count.subset,
            "pairs" if count.length.shorter_wins is not None else "one-sided",
            str(count.rows),
            "" if count.upstream_rows is None else str(count.upstream_rows),
            str(count.right),
            str(count.hallucinated),
            _kept(count, "handoff"),
            _kept(count, "whole-words"),
            _percent(count.length.shorter_wins),
            _percent(count.length.ties),
            "" if count.length.auroc is None else f"{count.length.auroc:.3f}",
        )
    return made


def _kept(count: HaluEvalCount, mode: str) -> str:
    if count.kept is None or count.kept_hallucinated is None:
        return ""
    return (
        f"{count.rows} -> {count.kept[mode]} "
        f"(yes {count.hallucinated} -> {count.kept_hallucinated[mode]})"
    )


def _print_notes(console: Console, found: DataStats, path: Path) -> None:
    notes: list[str] = []
    for count in found.bbq:
        if count.rows < count.upstream_rows:
            lacks = "" if count.disambiguated else ", ambiguous rows only"
            lacks = lacks if count.ambiguous else ", disambiguated rows only"
            share = count.rows / count.upstream_rows
            notes.append(
                f"partial: {_short(count.file, path)} has {count.rows} of upstream's "
                f"{count.upstream_rows} rows ({share:.0%}){lacks}"
            )
    notes += [f"metadata, held against the rows: {_short(file, path)}" for file in found.metadata]
    notes += [
        f"not read (named after no category or subset): {_short(file, path)}"
        for file in found.not_read
    ]
    if any(count.length.auroc is not None for count in found.halueval):
        notes.append(
            "length AUROC: of the rule 'longer means hallucinated', in characters; detection "
            "results mean little unless they stand beside it"
        )
    if found.bad_rows.count:
        notes.append(found.bad_rows.summary())
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _short(file: str, path: Path) -> str:
    return os.path.relpath(file, path) if path.is_dir() else file
