"""Histories made by hand: a column is a number for all rows, or one for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_dual.config.load import load_config
from grpo_dual.diagnosis.history import History, Sample, Value
from grpo_dual.diagnosis.remedies import patched
from grpo_dual.types import Finding, Severity

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DEMO: dict[str, Any] = load_config(CONFIGS / "demo.yaml").model_dump(mode="json")
"""The demo's resolved configuration, as config.json of a run folder holds it."""
BOTH = ("fairness", "hallucination")
Column = Value | Sequence[Value]


def made(
    rows: int = 6,
    *,
    changes: Mapping[str, object] | None = None,
    objectives: tuple[str, ...] = BOTH,
    ended: str | None = None,
    evaluations: Mapping[int, Mapping[str, Mapping[str, object]]] | None = None,
    baseline: Mapping[str, float] | None = None,
    samples: tuple[Sample, ...] = (),
    **columns: Column,
) -> History:
    """A run of ``rows`` steps of the demo with some ``changes`` (dotted keys)."""
    return History(
        objectives=objectives,
        steps=tuple(range(1, rows + 1)),
        columns={
            key: (value,) * rows if value is None or isinstance(value, int | float) else _of(value)
            for key, value in columns.items()
        },
        config=patched(DEMO, changes or {}),
        evaluations=evaluations or {},
        baseline=baseline or {},
        ended=ended,
        samples=samples,
    )


def _of(values: Sequence[Value]) -> tuple[Value, ...]:
    return tuple(values)


def steps(*blocks: tuple[Value, int]) -> list[Value]:
    """``steps((2.0, 3), (0.5, 2))`` is ``[2.0, 2.0, 2.0, 0.5, 0.5]``."""
    return [value for value, count in blocks for _ in range(count)]


def found(
    code: str = "learning-rate",
    objective: str | None = "fairness",
    severity: Severity = Severity.ACT,
    *,
    confidence: float = 0.5,
    step: int | None = 1,
    until: int | None = None,
    evidence: tuple[str, ...] = ("a number",),
    patch: Mapping[str, object] | None = None,
    samples: tuple[str, ...] = (),
) -> Finding:
    """A finding."""
    return Finding(
        code=code,
        objective=objective,
        severity=severity,
        says=f"{code} is what it is.",
        evidence=evidence,
        confidence=confidence,
        remedy="Change it.",
        patch=patch or {},
        samples=samples,
        step=step,
        until=until,
    )
