"""A run folder -> ``Run``: all that the page tells of it, and what it lacks."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from grpo_dual.diagnosis.doctor import Diagnosis, diagnose
from grpo_dual.diagnosis.history import History, Sample
from grpo_dual.diagnosis.journal import JOURNAL
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.diagnosis.tree import Tree, ask
from grpo_dual.errors import DataError
from grpo_dual.evaluation.evaluated import names_apart
from grpo_dual.metrics.files import read_object
from grpo_dual.metrics.names import TIMING
from grpo_dual.metrics.sinks import (
    COMPLETIONS,
    EVAL_COMPLETIONS,
    EVALUATIONS,
    PROBES,
    STEP_CSV,
    SUMMARY,
    evaluations,
)
from grpo_dual.report.texts import label

ENVIRONMENT = "environment.json"
Results = Mapping[int, Mapping[str, Mapping[str, object]]]
"""Step -> objective -> scores."""
_FILES = (STEP_CSV, COMPLETIONS, EVALUATIONS, EVAL_COMPLETIONS, PROBES, JOURNAL)


MANY = 4
"""Runs whose names a legend can hold."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion of a held-out item."""

    sample: Sample
    wanted: str | None
    """The right reply; None where the item has none."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the page sees it."""

    name: str
    """For legends and headings: the folder's name, with a letter in front where there are several.
    """
    folder: Path
    history: History
    diagnosis: Diagnosis
    tree: Tree | None
    held_out: Results
    """The yardstick by step; of the frozen probe where there is no evaluation."""
    by_probe: bool
    """``held_out`` is of the frozen probe."""
    replies: tuple[Reply, ...]
    """Completions of held-out items, the same ones at each evaluation."""
    environment: Mapping[str, object]
    summary: Mapping[str, object]
    """Empty while the run is not finished."""
    gaps: tuple[str, ...]
    """What the folder lacks, one sentence each."""
    tag: str
    """In legends: the name, or among more than `MANY` runs its letter."""

    @property
    def seconds(self) -> float | None:
        """Training's seconds: of the summary, or else of the steps so far."""
        whole = self.summary.get("wall_seconds")
        if isinstance(whole, int | float):
            return float(whole)
        timed = [self.history.column(k) for k in self.history.columns if k.endswith(TIMING)]
        return sum(series.total() for series in timed) if any(timed) else None

    @property
    def planned(self) -> int | None:
        """Steps of the configuration."""
        steps = self.history.number("train.steps")
        return None if steps is None else int(steps)

    @property
    def state(self) -> str:
        """Finished, stopped or going on, in words."""
        done = self.history.steps[-1] if self.history.steps else 0
        if self.history.ended is not None:
            return f"stopped by an error behind step {done}"
        of = "" if self.planned is None else f" of {self.planned}"
        if self.summary:
            return f"finished, {done} steps"
        return f"not finished: {done}{of} steps so far"


def read_runs(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Several run folders in their order, each once, under names that differ.

    Raises:
        DataError: One is no run folder, or a file in it is damaged.
        CheckpointError: The same, of an evaluation file.
    """
    listed = list(dict.fromkeys(folders))
    runs = [read(folder) for folder in listed]
    if len(runs) == 1:
        return tuple(runs)
    many = len(runs) > MANY
    names = names_apart([folder.resolve() for folder in listed])
    named = [
        replace(run, name=f"{letter(i)}: {label(name)}")
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
    ]
    return tuple(replace(r, tag=letter(i) if many else r.name) for i, r in enumerate(named))


def letter(place: int) -> str:
    """A, B, ..., Z, R27, ...: the short name of a run among several."""
    return chr(ord("A") + place) if place < 26 else f"R{place + 1}"


def read(folder: Path) -> Run:
    """One run folder, live or finished; half-written last lines are left out.

    Raises:
        DataError: It is no run folder, or a file in it is damaged.
        CheckpointError: The same, of an evaluation file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the folder that the run printed")
    raw = read_run(folder)
    history = finite(raw)
    results, by_probe = _held_out(folder, history)
    bare = Run(
        name=label(folder.resolve().name),
        tag=label(folder.resolve().name),
        folder=folder,
        history=history,
        diagnosis=diagnose(raw),  # a number that is not finite is a symptom
        tree=ask(history),
        held_out=results,
        by_probe=by_probe,
        replies=tuple(_replies(folder / EVAL_COMPLETIONS)),
        environment=_json(folder / ENVIRONMENT),
        summary=_json(folder / SUMMARY),
        gaps=(),
    )
    return replace(bare, gaps=(*_gaps(bare), *_lost_cells(raw)))


def finite(history: History) -> History:
    """The history without cells that are not finite: a figure cannot show them, ``gaps`` tells."""
    columns = {
        key: tuple(v if v is None or math.isfinite(v) else None for v in values)
        for key, values in history.columns.items()
    }
    return replace(history, columns=columns)


def scores_of(result: Mapping[str, Mapping[str, object]]) -> dict[str, Mapping[str, object]]:
    """Objective -> scores, of what a run folder holds; what is no mapping is left out."""
    return {name: own for name, own in result.items() if isinstance(own, Mapping)}  # pyright: ignore[reportUnnecessaryIsInstance]


def _held_out(folder: Path, history: History) -> tuple[Results, bool]:
    """The evaluations; where there are none, what the probe's completions scored."""
    if history.evaluations:
        found = {s: scores_of(r) for s, r in sorted(history.evaluations.items())}
        return found, False
    probed: dict[int, dict[str, Mapping[str, object]]] = {}
    for step, result in sorted(evaluations(folder / PROBES).items()):
        own = scores_of(cast("Mapping[str, Mapping[str, object]]", result))
        scores = {
            name: cast("Mapping[str, object]", probe["scores"])
            for name, probe in own.items()
            if isinstance(probe.get("scores"), Mapping)
        }
        if scores:
            probed[step] = scores
    return probed, bool(probed)


def _replies(path: Path) -> Iterator[Reply]:
    """Whole lines of eval_completions.jsonl, which need not exist."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line_number, line in enumerate(lines[:-1], start=1):
        try:
            row = cast("dict[str, object]", json.loads(line))
            said = Sample(
                step=int(str(row["step"])),
                objective=str(row["objective"]),
                prompt=str(row["prompt"]),
                completion=str(row["completion"]),
            )
            wanted = row.get("wanted")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, line {line_number}: not a completion of a held-out item ({error}); the "
                "file was damaged or edited"
            ) from error
        yield Reply(said, None if wanted is None else str(wanted))


def _json(path: Path) -> Mapping[str, object]:
    """A JSON object; empty where the file is absent."""
    return read_object(path) if path.exists() else {}


def _gaps(run: Run) -> list[str]:
    history, found = run.history, list[str]()
    if history.ended is not None:
        found.append(f"The run was stopped by an error: {history.ended}")
    if not history.steps:
        found.append("No step is written down yet: there are no trends.")
    elif not run.summary and history.ended is None:
        found.append(
            f"The run is not finished ({run.state}): it is still going on, or was killed. This "
            "page is of what it has written so far."
        )
    if len(run.held_out) < 2:
        what = "No evaluation" if not run.held_out else "Only one evaluation"
        found.append(
            f"{what} on held-out items: before and after cannot be compared "
            "(eval.before_and_after, objectives.NAME.data.eval_samples)."
        )
    elif run.by_probe:
        found.append(
            "No evaluation on held-out items: before and after are of the frozen probe "
            "(fewer items, plain decoding at temperature 1)."
        )
    if not history.samples and not run.replies:
        found.append("No sample completions (train.completions_per_step).")
    if not (run.folder / JOURNAL).exists():
        found.append(
            f"No {JOURNAL}: the run had no doctor beside it, or it found nothing. The findings "
            "here are made from the metric files, without a pre-flight."
        )
    if len(history.objectives) == 1:
        found.append("One objective: there is neither a conflict of gradients nor a trade-off.")
    if not run.environment:
        found.append(f"No {ENVIRONMENT}: versions and revision are not known.")
    found += [f"{name}: the last line is half-written and left out." for name in _halves(run)]
    return found


def _halves(run: Run) -> list[str]:
    """Files whose last line was cut off by a kill, or is being written."""
    cut: list[str] = []
    for name in _FILES:
        path = run.folder / name
        if path.exists() and (content := path.read_bytes()) and not content.endswith(b"\n"):
            cut.append(name)
    return cut


def _lost_cells(raw: History) -> list[str]:
    """Columns that were not finite somewhere."""
    lost = {
        key: sum(v is not None and not math.isfinite(v) for v in values)
        for key, values in raw.columns.items()
    }
    return [
        f"{key}: not finite in {count} of {len(raw)} steps, which figures leave out."
        for key, count in lost.items()
        if count
    ]
