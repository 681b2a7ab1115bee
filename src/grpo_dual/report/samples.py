"""Completions of the same prompt early and late in a run, side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpo_dual.diagnosis.history import Sample
from grpo_dual.report.reading import Run

MOST = 4
"""Prompts of an objective."""


@dataclass(frozen=True, slots=True)
class Said:
    """One completion and whose it is."""

    who: str
    """``Early``, ``Late``, or a run's name with it."""
    sample: Sample


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt and what was made of it."""

    prompt: str
    wanted: str | None
    """The right reply, where it is known."""
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What is shown of one objective."""

    objective: str
    note: str
    """Where the completions are from."""
    asked: tuple[Asked, ...]


HELD_OUT = "Held-out items, the same ones at each evaluation."
REPEATED = "Training prompts that were sampled early and late."
DIFFERENT = (
    "No prompt was written down twice: these are the earliest and the latest completions, of "
    "different prompts."
)


def side_by_side(run: Run) -> tuple[Compared, ...]:
    """For each objective prompts with an early and a late completion.

    Held-out items where the run keeps them; else training prompts that repeat, those first whose
    completions lie furthest apart; else the earliest and the latest completions.
    """
    found = (_of(run, name) for name in run.history.objectives)
    return tuple(compared for compared in found if compared.asked)


def both(first: Run, second: Run) -> tuple[Compared, ...]:
    """For each objective the prompts that both runs answered, with the latest completion of each.

    Held-out items where both keep them, else training prompts.
    """
    found: list[Compared] = []
    for name in first.history.objectives:
        held = [_latest([r.sample for r in run.replies], name) for run in (first, second)]
        trained = [_latest(run.history.samples, name) for run in (first, second)]
        wanted = {r.sample.prompt: r.wanted for r in first.replies}
        for (own, other), note in ((held, HELD_OUT), (trained, "Training prompts of both runs.")):
            shared = [prompt for prompt in own if prompt in other]
            shared.sort(key=lambda prompt: -min(own[prompt].step, other[prompt].step))
            asked = tuple(
                Asked(p, wanted.get(p), (Said(first.name, own[p]), Said(second.name, other[p])))
                for p in shared[:MOST]
            )
            if asked:
                found.append(Compared(name, note, asked))
                break
    return tuple(found)


def _latest(samples: Sequence[Sample], objective: str) -> Mapping[str, Sample]:
    """Prompt -> its last completion."""
    own = sorted((s for s in samples if s.objective == objective), key=lambda s: s.step)
    return {sample.prompt: sample for sample in own}


def _of(run: Run, name: str) -> Compared:
    wanted = {r.sample.prompt: r.wanted for r in run.replies}
    held = _repeated([r.sample for r in run.replies if r.sample.objective == name])
    if held:
        asked = (Asked(a.prompt, wanted.get(a.prompt), a.said) for a in held[:MOST])
        return Compared(name, HELD_OUT, tuple(asked))
    samples = [s for s in run.history.samples if s.objective == name]
    repeated = _repeated(samples)
    if repeated:
        return Compared(name, REPEATED, tuple(repeated[:MOST]))
    return Compared(name, DIFFERENT, tuple(_ends(samples)))


def _repeated(samples: Sequence[Sample]) -> list[Asked]:
    """Prompts with completions of several steps: the furthest apart first, then the earliest."""
    ends: dict[str, tuple[Sample, Sample]] = {}
    for sample in sorted(samples, key=lambda s: s.step):
        first = ends.get(sample.prompt, (sample, sample))[0]
        ends[sample.prompt] = (first, sample)
    pairs = [pair for pair in ends.values() if pair[1].step > pair[0].step]
    pairs.sort(key=lambda pair: (pair[0].step - pair[1].step, pair[0].step))
    return [Asked(a.prompt, None, (Said("Early", a), Said("Late", b))) for a, b in pairs]


def _ends(samples: Sequence[Sample]) -> list[Asked]:
    """The earliest completions, then the latest."""
    ordered = sorted(samples, key=lambda s: s.step)
    count = min(MOST // 2, len(ordered) // 2)
    early, late = ordered[:count], ordered[len(ordered) - count :]
    if not early:
        return [Asked(s.prompt, None, (Said("Only", s),)) for s in ordered]
    pairs = (pair for both in zip(early, late, strict=True) for pair in enumerate(both))
    return [Asked(s.prompt, None, (Said(("Early", "Late")[i], s),)) for i, s in pairs]
