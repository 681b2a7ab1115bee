"""A run folder -> ``History``: what every other file of this room works on."""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from grpo_dual.diagnosis.growing import baseline_of
from grpo_dual.diagnosis.history import History, Sample, Value
from grpo_dual.diagnosis.journal import before_the_run
from grpo_dual.errors import DataError
from grpo_dual.metrics.files import read_object
from grpo_dual.metrics.sinks import COMPLETIONS, EVALUATIONS, PROBES, STEP_CSV, evaluations

CONFIG = "config.json"
STOPPED = "stopped.json"
"""Why a run stopped with an error; absent when it did not."""


def read_run(folder: Path) -> History:
    """Everything of a run folder, live or finished; a half-written last line is left out.

    Raises:
        DataError: It is no run folder, or a file in it is damaged.
    """
    path = folder / STEP_CSV
    config = _config(folder / CONFIG)
    names = tuple(cast("Mapping[str, object]", config.get("objectives") or {}))
    if not names:
        raise DataError(
            f"{folder}: no run folder: it has no {CONFIG} that names objectives. Give a folder "
            "that `grpo-dual train` made, or a CSV file of metrics."
        )
    header, rows = read_table(path) if path.exists() else ((), [])
    steps = tuple(_step(path, i, row) for i, row in enumerate(rows))
    columns = {key: tuple(row[key] for row in rows) for key in header if key != "step"}
    results, probes = (
        cast("dict[int, Mapping[str, Mapping[str, object]]]", evaluations(folder / name))
        for name in (EVALUATIONS, PROBES)
    )
    return History(
        objectives=names,
        steps=steps,
        columns=columns,
        config=config,
        evaluations=results,
        samples=tuple(_samples(folder / COMPLETIONS)),
        baseline=baseline_of(probes.get(0, {})),
        ended=_stopped(folder / STOPPED),
        before=before_the_run(folder),
    )


def _step(path: Path, place: int, row: Mapping[str, Value]) -> int:
    """The number of a row; its place where the cell is empty."""
    value = row.get("step")
    if value is not None and not math.isfinite(value):
        raise DataError(
            f"{path}, row {place + 1}: step is {value}; the file was damaged or edited. Restore "
            "the number, or delete the row."
        )
    return int(value or place + 1)


def read_table(path: Path) -> tuple[tuple[str, ...], list[dict[str, Value]]]:
    """A CSV file of numbers; cells that hold none are None.

    Returns:
        The columns in order, and the rows.

    Raises:
        DataError: It cannot be read, or has no header.
    """
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    lines = text.split("\n")
    whole = lines if text.endswith("\n") else lines[:-1] or lines
    reader = csv.DictReader(whole)
    header = tuple(reader.fieldnames or ())
    if not header:
        raise DataError(f"{path}: is empty; a CSV file with a line of column names is expected")
    rows = [{key: number(row.get(key)) for key in header} for row in reader]
    return header, rows


def number(cell: object) -> Value:
    """A cell as a number; None for text and for nothing. ``nan`` and ``inf`` are numbers."""
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        return float(str(cell))
    except ValueError:
        return None


def _config(path: Path) -> dict[str, object]:
    return read_object(path) if path.exists() else {}


def _stopped(path: Path) -> str | None:
    return str(_config(path).get("error") or "") or None


def _samples(path: Path) -> Iterable[Sample]:
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line_number, line in enumerate(lines[:-1], start=1):
        try:
            row = cast("dict[str, object]", json.loads(line))
            yield Sample(
                step=int(str(row["step"])),
                objective=str(row["objective"]),
                prompt=str(row["prompt"]),
                completion=str(row["completion"]),
                verdict=str(row.get("verdict") or ""),
                total=number(row.get("total")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {line_number}: not a sample completion ({error}); the file was "
                "damaged or edited"
            ) from error
