"""Before and after on held-out items: each measure with the interval that its file allows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from grpo_dual.diagnosis.intervals import wilson
from grpo_dual.evaluation.acceptance import Scores
from grpo_dual.evaluation.table import Better, Row, rows
from grpo_dual.report.reading import Run

BOOTSTRAP = "intervals_95"
"""Key of the intervals that an evaluation brings along: score -> [low, high]."""
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "accuracy_ambig": ("n_ambig",),
    "accuracy_disambig": ("n_disambig",),
    "stereotyped_ambig": ("n_ambig",),
    "evasion_disambig": ("n_disambig",),
    "unparsed": ("n_ambig", "n_disambig"),
    "grounded": ("n_answer",),
    "hallucinated": ("n_answer",),
    "abstains": ("n_answer",),
    "detect_accuracy": ("n_detect",),
}
"""Share -> the counts whose sum it is a share of."""
_ROUNDING = 1e-6
Ends = tuple[float, float]
Basis = Literal["bootstrap", "wilson", "seeds", ""]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score and how sure it is."""

    value: float | None
    low: float | None = None
    high: float | None = None
    basis: Basis = ""
    """Where the interval is from; empty without one."""

    @property
    def known(self) -> bool:
        """It has an interval."""
        return self.low is not None and self.high is not None

    def apart(self, other: "Estimate") -> bool:
        """Both have intervals, and these do not overlap."""
        if None in (self.low, self.high, other.low, other.high):
            return False
        low, high = cast("float", self.low), cast("float", self.high)
        return low > cast("float", other.high) or high < cast("float", other.low)


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table of one run."""

    row: Row
    before: Estimate
    after: Estimate

    @property
    def sure(self) -> bool:
        """The intervals of before and after do not overlap."""
        return self.before.apart(self.after)

    @property
    def improved(self) -> bool | None:
        """As the row has it; None for replies that stay as different as the gold's own (1)."""
        ends = self.before.value, self.after.value
        if self.row.key == "distinct" and None not in ends and min(cast("Ends", ends)) >= 1:
            return None
        return self.row.improved


def measures(run: Run) -> tuple[Measure, ...]:
    """The measures of the first and the last evaluation; none when there are fewer than two."""
    if len(run.held_out) < 2:
        return ()
    before, after = run.held_out[min(run.held_out)], run.held_out[max(run.held_out)]
    return tuple(
        Measure(row, _of(row, row.before, before), _of(row, row.after, after))
        for row in _rows(before, after)
    )


def estimate(scores: Mapping[str, object], key: str) -> Estimate:
    """A score with the bootstrap interval it brings, or else Wilson's from its count.

    Wilson's is given only where the share times the count is a whole number: anything else is no
    share of that count.
    """
    value = scores.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Estimate(None)
    brought = scores.get(BOOTSTRAP)
    if isinstance(brought, Mapping):
        pair = cast("Mapping[str, object]", brought).get(key)
        if isinstance(pair, list | tuple) and len(cast("Sequence[object]", pair)) == 2:
            low, high = cast("Sequence[float]", pair)
            return Estimate(float(value), float(low), float(high), "bootstrap")
    counts = [scores.get(name) for name in _COUNTS.get(key, ())]
    total = sum(n for n in counts if isinstance(n, int))
    hits = value * total
    if not total or len(counts) != sum(isinstance(n, int) for n in counts):
        return Estimate(float(value))
    if abs(hits - round(hits)) > _ROUNDING * total:
        return Estimate(float(value))
    return Estimate(float(value), *wilson(round(hits), total), "wilson")


def difference(new: Estimate, old: Estimate) -> Estimate:
    """``new - old`` of two shares, with Newcombe's interval where both have Wilson's.

    The items are taken as independent; where both answered the same ones, the true interval is
    narrower.

    Source: Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10.
    """
    if new.value is None or old.value is None:
        return Estimate(None)
    moved = new.value - old.value
    bounds = (new.low, new.high, old.low, old.high)
    if None in bounds or {new.basis, old.basis} != {"wilson"}:
        return Estimate(moved)
    new_low, new_high, old_low, old_high = cast("tuple[float, float, float, float]", bounds)
    down = math.hypot(new.value - new_low, old_high - old.value)
    up = math.hypot(new_high - new.value, old.value - old_low)
    return Estimate(moved, moved - down, moved + up, "wilson")


def basis(estimates: Sequence[Estimate]) -> str:
    """One sentence on where the intervals are from."""
    found = {e.basis for e in estimates if e.basis}
    named = {
        "bootstrap": "bootstrap over templates, as the evaluation file has them",
        "wilson": "Wilson's, from the counts of items (items of one template are alike, so the "
        "true ones are wider)",
    }
    if not found:
        return "The evaluation file has no intervals and no counts to make them from."
    told = "; ".join(named[b] for b in ("bootstrap", "wilson") if b in found)
    return f"95 % intervals: {told}. Numbers without one have none in the file."


def _rows(
    before: Mapping[str, Mapping[str, object]], after: Mapping[str, Mapping[str, object]]
) -> Iterator[Row]:
    """Those of the terminal's table, then every number of an objective that it does not know."""
    first, last = cast("Scores", before), cast("Scores", after)
    known = {row.objective for row in _known(first, last)}
    yield from _known(first, last)
    for name in last:
        if name in known or name in ("fairness", "hallucination"):
            continue
        for key, value in last[name].items():
            old = first.get(name, {}).get(key)
            if isinstance(value, float) and (old is None or isinstance(old, int | float)):
                better: Better = "higher" if key == "axis" else ""
                yield Row(f"{name}: {key}", old, value, better, False, name, key)


def _known(first: Scores, last: Scores) -> Iterator[Row]:
    yield from rows(first, last)


def _of(row: Row, value: object, result: Mapping[str, Mapping[str, object]]) -> Estimate:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Estimate(None)
    if not row.objective:
        return Estimate(float(value))
    return estimate(result.get(row.objective, {}), row.key)
