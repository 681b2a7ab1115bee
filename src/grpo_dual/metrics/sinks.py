"""The metric files of a run folder: written row by row, cut back exactly on resume.

Every file holds one line after another, each with its step, flushed as it happens. After
``kill -9`` the last line may be half-written and rows may lie beyond the last checkpoint:
``RunMetrics.resume`` drops both, so that the continued files are those of a run that was never
killed. The same numbers always give the same bytes: floats are written by ``repr`` (the shortest
text that reads back to the same double).
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Literal, Self, cast

from grpo_dual.errors import CheckpointError
from grpo_dual.metrics.files import write_atomically, writing
from grpo_dual.metrics.listening import Listener
from grpo_dual.metrics.step_file import StepFile
from grpo_dual.metrics.values import Value

STEP_CSV = "train_step_metrics.csv"
STEP_JSONL = "train_step_metrics.jsonl"
COMPLETIONS = "completions.jsonl"
EVALUATIONS = "eval_metrics.jsonl"
EVAL_COMPLETIONS = "eval_completions.jsonl"
PROBES = "probe_metrics.jsonl"
SUMMARY = "training_metrics_summary.json"

LAST_ROWS = 10
"""Rows behind ``mean_last_10`` of the summary."""

Cell = float | int | bool | Value | None
"""What a row may hold: a number, a value that knows its number, or None (missing)."""


def _plain(cell: Cell) -> float | int | None:
    """The number of a cell; bool becomes 0/1, numpy's doubles plain ones."""
    number = cell if cell is None or isinstance(cell, (int, float)) else cell.value
    if isinstance(number, float):
        return float(number)
    return None if number is None else int(number)


def _csv_text(number: float | None) -> str:
    return "" if number is None else repr(number)


def _json_value(number: float | None) -> float | str | None:
    """JSON has no NaN: a non-finite number is written as the string that float() reads."""
    return repr(number) if number is not None and not math.isfinite(number) else number


def _csv_line(cells: Sequence[str]) -> str:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _csv_step(line: str) -> int:
    return int(line.split(",", 1)[0])


def _json_step(line: str) -> int:
    return int(json.loads(line)["step"])


class RunMetrics:
    """All metric files of one run folder.

    Steps are counted from 1; evaluations may have step 0 (before training). A checkpoint of step s
    holds the state after step s, and the loop writes everything of step s before it saves that
    checkpoint; then ``resume(s)`` continues without a duplicate or missing line.
    """

    def __init__(
        self, folder: Path, columns: Sequence[str], listener: Listener | None = None
    ) -> None:
        """Prepare the files; nothing is written before the first row.

        Args:
            folder: The run folder, which exists.
            columns: ``names.columns(objectives)``; ``step`` is the first.
            listener: Hears of every row, and is closed with the files.
        """
        if not columns or columns[0] != "step":
            raise ValueError("the first column must be step")
        self.folder = folder
        self.columns = tuple(columns)
        self._csv = StepFile(folder / STEP_CSV, _csv_step, _csv_line(self.columns))
        self._jsonl = StepFile(folder / STEP_JSONL, _json_step)
        self._completions = StepFile(folder / COMPLETIONS, _json_step)
        self._evaluations = StepFile(folder / EVALUATIONS, _json_step)
        self._replies = StepFile(folder / EVAL_COMPLETIONS, _json_step)
        self._probes = StepFile(folder / PROBES, _json_step)
        self._files = (
            self._csv,
            self._jsonl,
            self._completions,
            self._evaluations,
            self._replies,
            self._probes,
        )
        self._last = 0
        self._listener = listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self, step: int | None) -> None:
        """Cut all files back to the checkpoint and go on behind it.

        Args:
            step: Step of the checkpoint; None when there is none yet, which drops every row.

        Raises:
            CheckpointError: A file is damaged, has other columns or lacks a step up to ``step``.
        """
        last = 0 if step is None else step
        for (
            file
        ) in self._files:  # All are read before any is cut: a refusal leaves them as they are.
            steps = file.steps(step)
            if file not in (self._csv, self._jsonl):
                continue
            if steps != list(range(1, last + 1)):
                missing = sorted(set(range(1, last + 1)) - set(steps))
                what = f"step {missing[0]} is missing" if missing else "a step is there twice"
                raise CheckpointError(
                    f"{file.path}: {what}, but the checkpoint is of step {last}. Restore the file, "
                    "or resume from an earlier checkpoint by deleting the later ones."
                )
        for file in self._files:
            file.cut(step)
        self._last = last

    def write_step(self, row: Mapping[str, Cell]) -> dict[str, float | int | None]:
        """Append the metrics of one step to the CSV and the JSONL file.

        Args:
            row: ``step`` and any of the columns; what is left out is missing (an empty cell, null).

        Returns:
            The numbers of all columns, as they were written.

        Raises:
            ValueError: An unknown key, or not the step after the last one.
            CheckpointError: The file system refuses.
        """
        unknown = [key for key in row if key not in self.columns]
        if unknown:
            raise ValueError(
                f"no metric column is called {', '.join(unknown)}; see metrics/names.py"
            )
        numbers = {key: _plain(row.get(key)) for key in self.columns}
        if numbers["step"] != self._last + 1:
            raise ValueError(f"step {self._last} is followed by step {numbers['step']}")
        self._csv.append(_csv_line([_csv_text(number) for number in numbers.values()]))
        self._jsonl.append(
            json.dumps({key: _json_value(number) for key, number in numbers.items()}) + "\n"
        )
        self._last += 1
        if self._listener is not None:
            self._listener.step(self._last, numbers)
        return numbers

    def write_completion(self, step: int, sample: Mapping[str, object]) -> None:
        """Append one sample completion (JSON-able, no NaN) of a step to completions.jsonl."""
        self._completions.append(_json_line(step, sample))
        if self._listener is not None:
            self._listener.sample(step, sample)

    def write_evaluation(self, step: int, result: Mapping[str, object]) -> None:
        """Append the held-out yardstick's result (JSON-able, no NaN) after ``step`` steps."""
        self._evaluations.append(_json_line(step, result))
        if self._listener is not None:
            self._listener.evaluation(step, result)

    def write_reply(self, step: int, reply: Mapping[str, object]) -> None:
        """Append a completion of a held-out item (JSON-able, no NaN) to eval_completions.jsonl."""
        self._replies.append(_json_line(step, reply))

    def write_probe(self, step: int, result: Mapping[str, object]) -> None:
        """Append the frozen probe's result (JSON-able, no NaN) after ``step`` steps."""
        self._probes.append(_json_line(step, result))
        if self._listener is not None:
            self._listener.probe(step, result)

    def sync(self) -> None:
        """Force all rows to the disk; call it before a checkpoint that counts on them."""
        for file in self._files:
            file.sync()

    def close(self) -> None:
        """Close the files; a closed one cannot be written on."""
        for file in self._files:
            file.close()
        if self._listener is not None:
            self._listener.close()

    def write_summary(
        self,
        *,
        wall_seconds: float,
        better: Mapping[str, Literal["higher", "lower"]],
        evaluation: Mapping[str, object],
        judges: Mapping[str, object] | None = None,
    ) -> None:
        """Write training_metrics_summary.json from the rows in the CSV file, atomically.

        Args:
            wall_seconds: Seconds of training, those before a resume included.
            better: ``names.better(objectives)``; a column without direction has no best value.
            evaluation: The yardstick ``before`` and ``after`` (JSON-able).
            judges: What each judge took over the whole run (JSON-able); None without judges.
        """
        with writing(self._csv.path), self._csv.path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        summary = {
            "steps": len(rows),
            "wall_seconds": wall_seconds,
            "evaluation": dict(evaluation),
            **({} if judges is None else {"judges": dict(judges)}),
            "columns": {
                key: _summarise([row[key] for row in rows], better.get(key))
                for key in self.columns
                if key != "step"
            },
        }
        content = json.dumps(summary, indent=1, allow_nan=False) + "\n"
        write_atomically(self.folder / SUMMARY, content.encode())


def evaluations(path: Path) -> dict[int, dict[str, object]]:
    """Results of the held-out yardstick by step, as ``RunMetrics.write_evaluation`` wrote them.

    Those of the frozen probe (``write_probe``) are read alike.

    Args:
        path: eval_metrics.jsonl or probe_metrics.jsonl of a run folder; it need not exist. A
            half-written end is left out.

    Raises:
        CheckpointError: A line is not a result.
    """
    if not path.exists():
        return {}
    results: dict[int, dict[str, object]] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            result = cast("dict[str, object]", json.loads(line))
            step = int(str(result.pop("step")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}, line {number}: not a result of yardstick or probe ({error}). The file "
                "was damaged or edited; restore that line."
            ) from error
        results[step] = result
    return results


def _json_line(step: int, content: Mapping[str, object]) -> str:
    return json.dumps({"step": step, **content}, allow_nan=False) + "\n"


def _summarise(
    cells: Sequence[str], better: Literal["higher", "lower"] | None
) -> dict[str, float | int | None]:
    """First, last, mean over the last 10 rows and best of a column, over its finite values only."""
    steps = [(step, float(cell)) for step, cell in enumerate(cells, start=1) if cell]
    finite = [(step, value) for step, value in steps if math.isfinite(value)]
    recent = [value for step, value in finite if step > len(cells) - LAST_ROWS]
    summary: dict[str, float | int | None] = {
        "first": finite[0][1] if finite else None,
        "last": finite[-1][1] if finite else None,
        f"mean_last_{LAST_ROWS}": math.fsum(recent) / len(recent) if recent else None,
        "missing": len(cells) - len(steps),
        "non_finite": len(steps) - len(finite),
    }
    if better is not None and finite:
        sign = 1 if better == "higher" else -1
        step, value = max(finite, key=lambda pair: (sign * pair[1], -pair[0]))
        summary |= {"best": value, "best_step": step}
    return summary
