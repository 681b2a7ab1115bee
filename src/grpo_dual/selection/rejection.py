"""Rejection sampling: which completions the next round of SFT learns from, and why not the others.

RAFT keeps the best completion of each prompt (Dong et al. 2023, arXiv 2304.06767), RFT all that are
right, without repetitions (Yuan et al. 2023, arXiv 2308.01825). Only what is liked is learnt, so
the policy narrows: few completions of a prompt, and strata of like size.

Nothing is made up: a stratum of which nothing is kept stays empty and is named.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from grpo_dual.records.apportion import largest_remainder
from grpo_dual.records.normalise import one_line, without_final_period
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

Stratum = tuple[str, ...]
"""Objective, then BBQ condition and category, or HaluEval subset and task."""

Fate = Literal["kept", "unscored", "cut", "below", "repeated", "surplus", "balance"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion that may be kept."""

    prompt: str
    """What tells prompts apart: the record's id."""
    stratum: Stratum
    text: str
    finished: bool
    """False when the limit cut it: learnt, it would teach to stop in the middle of a sentence."""
    score: float | None
    """The proxy's; None where it could not be judged."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is kept."""

    keep: Literal["best", "all"] = "all"
    """The best completion of a prompt, or all, in both cases from the threshold on."""
    threshold: float = 0.5
    """Lowest score that is kept."""
    per_prompt: int = 4
    """Most completions of a prompt."""
    ratio: float = 2.0
    """Largest stratum over smallest non-empty one at each level, at most (to one completion)."""
    seed: int = 0
    """Of the lot by which surplus completions of like rank are left out."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the completions of one stratum."""

    prompts: int
    prompts_kept: int
    """Prompts of which something is kept."""
    fates: Mapping[Fate, int]

    @property
    def drawn(self) -> int:
        """All of them."""
        return sum(self.fates.values())


@dataclass(frozen=True, slots=True)
class Selection:
    """The places of the kept candidates, in order, and the account of all."""

    kept: tuple[int, ...]
    counts: Mapping[Stratum, Counts]

    @property
    def empty(self) -> tuple[Stratum, ...]:
        """Strata of which nothing is kept."""
        return tuple(s for s, counts in self.counts.items() if not counts.fates.get("kept"))


def stratum_of(objective: str, record: Record) -> Stratum:
    """Where a record counts.

    Args:
        objective: Its name in the run, which need not be the record's own.
        record: What is asked.
    """
    if isinstance(record, BbqRecord):
        return objective, record.condition.value, record.subset
    if isinstance(record, HaluEvalRecord):
        return objective, record.subset, record.task.value
    return objective, record.subset


def normalised(text: str) -> str:
    """What two completions of a prompt have in common when they say the same."""
    return without_final_period(one_line(text)).casefold()


def select(candidates: Sequence[Candidate], rule: Rule) -> Selection:
    """Keep what the rule says.

    Args:
        candidates: Completions of all prompts.
        rule: What is kept.

    Returns:
        Places of the kept ones in ``candidates``, ascending, and what became of each stratum's.
    """
    fates: list[Fate] = ["balance"] * len(candidates)
    by_prompt: dict[tuple[Stratum, str], list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        by_prompt[candidate.stratum, candidate.prompt].append(place)
    ranked: dict[Stratum, list[tuple[int, int]]] = {c.stratum: [] for c in candidates}
    for (stratum, _), places in by_prompt.items():
        passed = _of_prompt(candidates, places, rule, fates)
        ranked[stratum] += enumerate(passed)
    taken = _balanced({s: len(own) for s, own in ranked.items()}, rule.ratio)
    for stratum, own in ranked.items():
        own.sort(key=lambda pair: (pair[0], _lot(rule.seed, candidates[pair[1]])))
        for _, place in own[: taken[stratum]]:
            fates[place] = "kept"
    kept = tuple(place for place, fate in enumerate(fates) if fate == "kept")
    return Selection(kept, _counts(candidates, by_prompt, fates))


def _of_prompt(
    candidates: Sequence[Candidate], places: Sequence[int], rule: Rule, fates: list[Fate]
) -> list[int]:
    """Places of a prompt's completions that pass, the best first; the others get their fate."""
    passed: list[int] = []
    seen: set[str] = set()
    most = 1 if rule.keep == "best" else rule.per_prompt
    # Unscored ones sort last; of equal scores the first drawn comes first.
    scores = {place: candidates[place].score for place in places}
    for place in sorted(places, key=lambda p: -(s if (s := scores[p]) is not None else -1e300)):
        candidate, score = candidates[place], scores[place]
        text = normalised(candidate.text)
        if score is None:
            fates[place] = "unscored"
        elif not candidate.finished or not text:
            fates[place] = "cut"
        elif score < rule.threshold:
            fates[place] = "below"
        elif text in seen:
            fates[place] = "repeated"
        elif len(passed) == most:
            fates[place] = "surplus"
        else:
            seen.add(text)
            passed.append(place)
    return passed


def _balanced(sizes: Mapping[Stratum, int], ratio: float) -> dict[Stratum, int]:
    """How many of each stratum, so that at each level none has over ``ratio`` times another's.

    From the leaves up: children that have anything are cut to ``ratio`` times the smallest of them.
    What a child loses, its own largest children lose.
    """
    if () in sizes:
        return dict(sizes)
    inner = {name: _balanced(own, ratio) for name, own in _children(sizes).items()}
    totals = {name: sum(own.values()) for name, own in inner.items()}
    smallest = min((total for total in totals.values() if total), default=0)
    most = max(int(ratio * smallest), smallest)
    return _joined({name: _shrunk(own, min(totals[name], most)) for name, own in inner.items()})


def _shrunk(sizes: Mapping[Stratum, int], total: int) -> dict[Stratum, int]:
    """``total`` divided as equally as sizes allow, level by level."""
    if () in sizes:
        return {(): total}
    children = _children(sizes)
    room = {name: sum(own.values()) for name, own in children.items()}
    counts = largest_remainder(total, dict.fromkeys(room, Fraction(1, len(room))), room)
    return _joined({name: _shrunk(own, counts[name]) for name, own in children.items()})


def _children(sizes: Mapping[Stratum, int]) -> dict[str, dict[Stratum, int]]:
    """By the first name: what stands below it."""
    found: dict[str, dict[Stratum, int]] = defaultdict(dict)
    for stratum, size in sizes.items():
        found[stratum[0]][stratum[1:]] = size
    return found


def _joined(children: Mapping[str, Mapping[Stratum, int]]) -> dict[Stratum, int]:
    return {(name, *rest): n for name, own in children.items() for rest, n in own.items()}


def _lot(seed: int, candidate: Candidate) -> str:
    """Order among equals, independent of the order of the file."""
    whole = f"{seed}/{candidate.prompt}/{candidate.text}"
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def _counts(
    candidates: Sequence[Candidate],
    by_prompt: Mapping[tuple[Stratum, str], Sequence[int]],
    fates: Sequence[Fate],
) -> dict[Stratum, Counts]:
    tallies: dict[Stratum, Counter[Fate]] = {}
    for candidate, fate in zip(candidates, fates, strict=True):
        tallies.setdefault(candidate.stratum, Counter())[fate] += 1
    prompts = Counter(stratum for stratum, _ in by_prompt)
    alive = Counter(
        stratum
        for (stratum, _), places in by_prompt.items()
        if any(fates[place] == "kept" for place in places)
    )
    return {s: Counts(prompts[s], alive[s], dict(tallies[s])) for s in sorted(tallies)}
