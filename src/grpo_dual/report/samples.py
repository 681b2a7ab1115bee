"""Completions of the same prompt early and late in a run, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

from grpo_dual.diagnosis.history import Sample
from grpo_dual.report.reading import Run

MOST = 3
"""Prompts of an objective."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Two completions, the earlier one first; of one prompt, or of two."""

    early: Sample
    late: Sample

    @property
    def same_prompt(self) -> bool:
        """Both answer one prompt."""
        return self.early.prompt == self.late.prompt


@dataclass(frozen=True, slots=True)
class Compared:
    """The completions of one objective that are shown."""

    objective: str
    sides: tuple[Sides, ...]
    repeats: bool
    """Prompts repeat, so each pair is of one prompt."""


def side_by_side(run: Run) -> tuple[Compared, ...]:
    """For each objective its prompts that were sampled early and late.

    Of the prompts that repeat, those whose first and last completion lie furthest apart. Where none
    repeats, the earliest completions beside the latest ones, of different prompts.
    """
    return tuple(
        _of([s for s in run.history.samples if s.objective == name], name)
        for name in run.history.objectives
        if any(s.objective == name for s in run.history.samples)
    )


def _of(samples: Sequence[Sample], objective: str) -> Compared:
    ends: dict[str, tuple[Sample, Sample]] = {}
    for sample in sorted(samples, key=lambda s: s.step):
        first = ends.get(sample.prompt, (sample, sample))[0]
        ends[sample.prompt] = (first, sample)
    repeated = [Sides(*pair) for pair in ends.values() if pair[1].step > pair[0].step]
    if repeated:
        # Far apart, and early to begin with.
        repeated.sort(key=lambda s: (s.early.step - s.late.step, s.early.step))
        return Compared(objective, tuple(repeated[:MOST]), True)
    ordered = sorted(samples, key=lambda s: s.step)
    count = min(MOST, len(ordered) // 2)
    pairs = zip(ordered[:count], ordered[len(ordered) - count :], strict=True)
    sides = tuple(Sides(early, late) for early, late in pairs)
    if not sides:
        sides = (Sides(ordered[0], ordered[0]),)
    return Compared(objective, sides, False)
