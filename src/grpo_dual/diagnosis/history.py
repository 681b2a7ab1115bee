"""What is known of a run: its columns by step, its configuration, and samples of what it wrote."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import cast

from grpo_dual.metrics.kinds import ObjectiveMetric, RunMetric
from grpo_dual.types import Finding

Value = float | None
OWN = "grpo-dual"
"""``History.source`` of this package's own runs."""


@dataclass(frozen=True, slots=True)
class Series:
    """One column, row by row; None where nothing was measured."""

    values: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return any(v is not None for v in self.values)

    @property
    def known(self) -> list[float]:
        """The measured values in order."""
        return [v for v in self.values if v is not None]

    def first(self, rows: int = 3) -> Value:
        """Mean of the first ``rows`` measured values; None when nothing was measured."""
        return _mean(list(islice((v for v in self.values if v is not None), rows)))

    def last(self, rows: int = 5) -> Value:
        """Mean of the measured values in the last ``rows`` rows; None when there is none."""
        return _mean([v for v in self.values[-rows:] if v is not None])

    def total(self, rows: int | None = None) -> float:
        """Sum of the measured values in the last ``rows`` rows (None: all)."""
        return math.fsum(v for v in self.values[-rows if rows else 0 :] if v is not None)

    def smoothed(self, weight: float = 0.2) -> "Series":
        """EWMA, ``z_t = weight x_t + (1 - weight) z_(t-1)``, begun at the first value."""
        smooth: list[Value] = []
        state: Value = None
        for value in self.values:
            if value is not None:
                state = value if state is None else weight * value + (1 - weight) * state
            smooth.append(state)
        return Series(tuple(smooth))


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion that the run wrote down."""

    step: int
    objective: str
    prompt: str
    completion: str
    verdict: str = ""
    total: Value = None


@dataclass(frozen=True, slots=True)
class History:
    """A run up to some step."""

    objectives: tuple[str, ...]
    steps: tuple[int, ...]
    """Number of each row, ascending."""
    columns: Mapping[str, tuple[Value, ...]]
    """Column -> a value for each row."""
    config: Mapping[str, object] = field(default_factory=dict[str, object])
    """The resolved configuration; empty when it is not known."""
    evaluations: Mapping[int, Mapping[str, Mapping[str, object]]] = field(
        default_factory=dict[int, Mapping[str, Mapping[str, object]]]
    )
    """Held-out yardstick: step -> objective -> numbers."""
    samples: tuple[Sample, ...] = ()
    baseline: Mapping[str, float] = field(default_factory=dict[str, float])
    """Objective -> entropy H0 of plain decoding on the frozen probe, before step 0."""
    ended: str | None = None
    """The error that stopped the run; None when none did."""
    before: tuple[Finding, ...] = ()
    """What the pre-flight found."""
    source: str = OWN
    """Whose columns these are: ours, or those of a trainer elsewhere (foreign.py)."""

    @property
    def own(self) -> bool:
        """A run of this package, not a file from elsewhere."""
        return self.source == OWN

    @property
    def idle(self) -> tuple[str, ...]:
        """Objectives of weight 0: drawn and evaluated, but nothing is learnt from them."""
        return tuple(o for o in self.objectives if self.number(f"objectives.{o}.weight") == 0)

    @property
    def trained(self) -> "History":
        """Without the idle objectives, of which no rule says anything worth acting on."""
        return replace(self, objectives=tuple(o for o in self.objectives if o not in self.idle))

    def __len__(self) -> int:
        return len(self.steps)

    def of(self, metric: ObjectiveMetric, objective: str) -> Series:
        """A column of an objective; empty when the run does not have it."""
        return self.column(metric.of(objective))

    def run(self, metric: RunMetric) -> Series:
        """A column of the run."""
        return self.column(metric.key)

    def column(self, key: str) -> Series:
        """A column by its name."""
        return Series(self.columns.get(key, ()))

    def until(self, step: int) -> "History":
        """As it was known after ``step``."""
        rows = bisect_right(self.steps, step)
        return replace(
            self,
            steps=self.steps[:rows],
            columns={key: values[:rows] for key, values in self.columns.items()},
            evaluations={s: e for s, e in self.evaluations.items() if s <= step},
            samples=tuple(s for s in self.samples if s.step <= step),
            ended=self.ended if rows == len(self.steps) else None,
        )

    def setting(self, key: str) -> object:
        """A value of the configuration by its dotted key; None when it is not known."""
        node: object = self.config
        for part in key.split("."):
            if not isinstance(node, Mapping):
                return None
            node = cast("dict[str, object]", node).get(part)

        return node

    def number(self, key: str) -> Value:
        """The same, where it is a number."""
        value = self.setting(key)
        return float(value) if isinstance(value, int | float) else None

    def pick(self, objective: str, count: int = 2, verdicts: Sequence[str] = ()) -> tuple[str, ...]:
        """The latest completions of an objective, those with one of the ``verdicts`` first."""
        own = [s for s in reversed(self.samples) if s.objective == objective]
        chosen = sorted(own, key=lambda s: s.verdict not in verdicts) if verdicts else own
        return tuple(dict.fromkeys(s.completion for s in chosen))[:count]


def _mean(values: Sequence[float]) -> Value:
    return math.fsum(values) / len(values) if values else None
