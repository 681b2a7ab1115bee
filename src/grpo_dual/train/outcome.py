"""What came out of a run, from its folder alone: axes, scores, hypervolume, the doctor's word."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from grpo_dual.diagnosis.doctor import diagnose
from grpo_dual.diagnosis.reading import read_run
from grpo_dual.errors import CheckpointError
from grpo_dual.evaluation.evaluated import OBJECTIVES
from grpo_dual.evaluation.pareto import AXIS, Point, hypervolume
from grpo_dual.metrics.sinks import EVALUATIONS, SUMMARY, evaluations

HEADLINES = {
    "fairness": ("accuracy_ambig", "accuracy_disambig", "s_amb", "s_dis"),
    "hallucination": ("hallucinated", "abstains"),
}
"""Scores of an objective that a table shows beside its axis."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a run, finished or not."""

    step: int | None
    """Of its last evaluation; None without one."""
    fairness: float | None
    faithfulness: float | None
    """Axes of the last evaluation; None where it has not both objectives' items."""
    scores: dict[str, float | None]
    """`HEADLINES` of the last evaluation."""
    hypervolume: float | None
    """Of the front over its own evaluations; None where one of them has no axes."""
    seconds: float | None
    """None until the run is finished."""
    finding: str | None
    """The doctor's gravest finding that holds; None when there is none."""


def outcome(folder: Path) -> Outcome:
    """Read a run folder.

    Raises:
        DataError: A file in it is damaged.
        CheckpointError: The same of evaluations or summary.
    """
    results = evaluations(folder / EVALUATIONS)
    points = [_point(result) for _, result in sorted(results.items())]
    whole = [point for point in points if point is not None]
    last = results[max(results)] if results else {}
    found = diagnose(read_run(folder))
    worst = next((f for f in found.present if f.severity is found.worst), None)
    return Outcome(
        step=max(results, default=None),
        fairness=_number(last, OBJECTIVES[0], AXIS),
        faithfulness=_number(last, OBJECTIVES[1], AXIS),
        scores={key: _number(last, name, key) for name, keys in HEADLINES.items() for key in keys},
        hypervolume=hypervolume(whole) if whole and len(whole) == len(points) else None,
        seconds=_seconds(folder / SUMMARY),
        finding=None
        if worst is None
        else f"{worst.severity.value} {worst.code}"
        + (f" ({worst.objective})" if worst.objective else ""),
    )


def _point(result: dict[str, object]) -> Point | None:
    x, y = (_number(result, name, AXIS) for name in OBJECTIVES)
    return None if x is None or y is None else Point("", x, y)


def _number(result: dict[str, object], objective: str, key: str) -> float | None:
    scores = result.get(objective)
    value = cast("dict[str, object]", scores).get(key) if isinstance(scores, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _seconds(path: Path) -> float | None:
    if not path.exists():
        return None
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["wall_seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); the run was damaged") from error
