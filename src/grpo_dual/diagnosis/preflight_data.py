"""Before step 0: what the data give away, and what they leave out."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from grpo_dual.diagnosis.grading import grade
from grpo_dual.diagnosis.intervals import balanced, wilson
from grpo_dual.types import BbqRecord, Condition, Finding, Polarity, Severity

_FEWEST = 20
"""Texts of each label from which a leak is looked for."""
_FEWEST_ITEMS = 40
"""BBQ items from which positions and shares are looked at."""
_LEAK_NOTE, _LEAK_WARN, _LEAK_ACT = 0.55, 0.65, 0.8
"""Lower end of a cue's balanced accuracy; .5 is chance."""
_COUNTS = 0.2
"""Share of an objective's draws from which a leak teaches the objective, and not a corner of it."""
_POSITION_WARN, _POSITION_ACT = 0.6, 0.9
_SHARE_WARN, _SHARE_ACT = 0.75, 0.95

Text = tuple[str, bool]
"""A text, and whether it is the wrong (hallucinated) one."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A property of a text that may tell right from wrong."""

    name: str
    of: Callable[[str], float]
    """A number; texts above a threshold are taken for one label, the others for the other."""
    unit: str = ""
    """Of the number; empty where it is yes or no."""


CUES = (
    Cue("a final period", lambda text: text.rstrip().endswith(".")),
    Cue("a final . ! or ?", lambda text: text.rstrip().endswith((".", "!", "?"))),
    Cue("a final line break", lambda text: text.endswith("\n")),
    Cue("the length", len, "characters"),
    Cue("the number of words", lambda text: len(text.split()), "words"),
)
"""What a policy can see without reading."""


@dataclass(frozen=True, slots=True)
class Told:
    """How well one cue tells the labels apart."""

    cue: Cue
    accuracy: float
    """Balanced; .5 is chance."""
    low: float
    high: float
    threshold: float
    wrong_above: bool
    """True: what is above the threshold is taken for wrong."""

    def text(self) -> str:
        """The rule, and how often it is right."""
        rule = self.cue.name
        if self.cue.unit:
            rule = f"more than {self.threshold:.0f} {self.cue.unit}"
        meaning = "wrong" if self.wrong_above else "right"
        return (
            f"`{rule} means {meaning}` is right in {self.accuracy:.1%} "
            f"[{self.low:.1%}, {self.high:.1%}], chance 50 %"
        )


def told_by(cue: Cue, texts: Sequence[Text]) -> Told:
    """How well a threshold on one cue tells wrong texts from right ones.

    The threshold is chosen on one half of the texts and tried on the other, and the other way
    round, so that the best of many thresholds is not praised for its luck.

    Args:
        cue: What is looked at.
        texts: Both labels, at least two texts of each.
    """
    wrong = [cue.of(text) for text, is_wrong in texts if is_wrong]
    right = [cue.of(text) for text, is_wrong in texts if not is_wrong]
    hits = [0, 0]
    for half in (0, 1):
        threshold, above = _best(wrong[half::2], right[half::2])
        hits[0] += sum((value > threshold) == above for value in wrong[1 - half :: 2])
        hits[1] += sum((value > threshold) != above for value in right[1 - half :: 2])
    accuracy, low, high = balanced((hits[0], hits[1]), (len(wrong), len(right)))
    return Told(cue, accuracy, low, high, *_best(wrong, right))


def _best(wrong: Sequence[float], right: Sequence[float]) -> tuple[float, bool]:
    """The threshold of the best balanced accuracy, and whether wrong is above it."""
    values = sorted([(v, True) for v in wrong] + [(v, False) for v in right])
    above = [len(wrong), len(right)]
    best = (0.0, values[0][0] - 1, True)
    for place, (value, is_wrong) in enumerate(values):
        above[0 if is_wrong else 1] -= 1
        if place + 1 < len(values) and values[place + 1][0] == value:
            continue
        gap = above[0] / len(wrong) - above[1] / len(right)
        best = max(best, (abs(gap), value, gap > 0))
    return best[1], best[2]


def data_leak(
    objective: str,
    subset: str,
    texts: Sequence[Text],
    *,
    form: Literal["detection items", "pairs"],
    preferred: bool = False,
    share: float,
    matched: bool,
) -> tuple[Finding, ...]:
    """Can right and wrong texts be told apart without reading them?

    Args:
        objective: Its name.
        subset: Whose texts these are.
        texts: As the run shows them, freed of what the reader takes away.
        form: ``detection items`` are judged yes or no by the policy; of ``pairs`` it is shown
            neither side, so that a leak is worth knowing and no more.
        preferred: Of pairs, one side is taught to be preferred (``sft.pairs``).
        share: Of the objective's draws.
        matched: Lengths are matched already.
    """
    labels = Counter(is_wrong for _, is_wrong in texts)
    if min(labels[True], labels[False]) < _FEWEST:
        return ()
    told = sorted((told_by(cue, texts) for cue in CUES), key=lambda t: -t.low)
    best = told[0]
    if best.low < _LEAK_NOTE:
        return ()
    severity = grade(best.low, act=_LEAK_ACT, warn=_LEAK_WARN)
    if form == "pairs":
        if severity is not Severity.ACT:
            return ()
        severity = Severity.WARN if preferred else Severity.NOTE
    elif severity is Severity.ACT and share < _COUNTS:
        severity = Severity.WARN
    by_length = bool(best.cue.unit) and not matched
    remedy = (
        "Match the lengths of both labels; fewer items remain."
        if by_length
        else "Take the cue out of the texts of both labels."
    )
    if form == "pairs":
        remedy = (
            "Take few steps of pairs, and compare the lengths of answers before and after them."
            if preferred
            else "Nothing, unless both sides are to be told apart: then match their lengths first."
        )
    return (
        Finding(
            code="data-leak",
            objective=objective,
            severity=severity,
            says=(
                f"{best.cue.name.capitalize()} tells right from wrong in {subset}'s {form}: a "
                "policy that tells them apart need not read."
            ),
            evidence=(
                *(t.text() for t in told if t.low >= _LEAK_NOTE),
                f"{labels[True]} wrong and {labels[False]} right texts; {share:.0%} of the "
                "objective's draws",
            ),
            confidence=0.9,
            remedy=remedy,
            patch={f"objectives.{objective}.data.length_matched": True}
            if by_length and form == "detection items"
            else {},
        ),
    )


def positions(objective: str, records: Sequence[BbqRecord]) -> tuple[Finding, ...]:
    """Does the place of an option say that it is the unknown, or the right, one?

    Args:
        objective: Its name.
        records: BBQ items as the run draws them.
    """
    known = [r.label for r in records if r.condition is Condition.DISAMBIGUATED]
    asked = (
        ("unknown", [r.unknown for r in records], "The unknown option stands", 0.95),
        ("right", known, "The right option of disambiguated items stands", 0.9),
    )
    found: list[Finding] = []
    for what, places, says, confidence in asked:
        if len(places) < _FEWEST_ITEMS:
            continue
        place, count = Counter(places).most_common(1)[0]
        low, high = wilson(count, len(places))
        if low < _POSITION_WARN:
            continue
        found.append(
            Finding(
                code="unknown-position",
                objective=objective,
                severity=grade(low, act=_POSITION_ACT, warn=_POSITION_WARN),
                says=f"{says} in one place: a policy can name it by its letter, without reading.",
                evidence=(
                    f"{what} option is ({'abc'[place]}) in {count} of {len(places)} drawn items, "
                    f"{count / len(places):.0%} [{low:.0%}, {high:.0%}]; balanced is 33 %",
                ),
                confidence=confidence,
                remedy="Shuffle the options of the rows, their labels with them.",
            )
        )
    return tuple(found)


def balance(
    objective: str, records: Sequence[BbqRecord], *, ambiguous_fraction: float
) -> tuple[Finding, ...]:
    """Are conditions, polarities and stereotypes mixed, so that no constant answer wins?

    Args:
        objective: Its name.
        records: BBQ items as the run draws them.
        ambiguous_fraction: What the configuration asks for.
    """
    if len(records) < _FEWEST_ITEMS:
        return ()
    ambiguous = [r for r in records if r.condition is Condition.AMBIGUOUS]
    told = [r for r in records if r.condition is Condition.DISAMBIGUATED and r.biased is not None]
    negative = sum(r.polarity is Polarity.NEGATIVE for r in records)
    stereotyped = sum(r.label == r.biased for r in told)
    found = (
        _conditions(objective, len(ambiguous), len(records), ambiguous_fraction),
        _one_sided(
            objective,
            negative,
            len(records),
            ("negative questions", "non-negative questions"),
            "The questions are nearly all of one polarity: which answer is the stereotype follows "
            "from the groups alone.",
        ),
        _one_sided(
            objective,
            stereotyped,
            len(told),
            ("stereotype-consistent answers", "answers against the stereotype"),
            "The right answer of disambiguated items nearly always sides the same way with the "
            "stereotype: a policy can answer by prejudice, or against it, without reading.",
        ),
    )
    return tuple(finding for finding in found if finding is not None)


def _conditions(objective: str, ambiguous: int, total: int, asked: float) -> Finding | None:
    share = ambiguous / total
    larger = max(share, 1 - share)
    if larger < _SHARE_WARN:
        return None
    says = (
        "The items are nearly all ambiguous: always naming the unknown option wins, read or unread."
        if share > 0.5
        else "The items are nearly all disambiguated: that a context may not say who it was is not "
        "taught."
    )
    # As asked for: then the key mends it. Otherwise rows of the other condition are missing.
    meant = abs(asked - share) < 0.05
    return Finding(
        code="condition-imbalance",
        objective=objective,
        severity=grade(larger, act=_SHARE_ACT, warn=_SHARE_WARN),
        says=says,
        evidence=(
            f"{ambiguous} of {total} drawn items are ambiguous ({share:.0%}); "
            f"data.ambiguous_fraction asks for {asked:.0%}",
        ),
        confidence=0.95,
        remedy="Draw both conditions alike."
        if meant
        else "Add the rows of the other condition: the data have too few.",
        patch={f"objectives.{objective}.data.ambiguous_fraction": 0.5} if meant else {},
    )


def _one_sided(
    objective: str, count: int, total: int, names: tuple[str, str], says: str
) -> Finding | None:
    if total < _FEWEST_ITEMS:
        return None
    share = count / total
    larger, name = max((share, names[0]), (1 - share, names[1]))
    if larger < _SHARE_WARN:
        return None
    return Finding(
        code="condition-imbalance",
        objective=objective,
        severity=grade(larger, act=_SHARE_ACT, warn=_SHARE_WARN),
        says=says,
        evidence=(f"{larger:.0%} of {total} drawn items have {name}; balanced is 50 %",),
        confidence=0.8,
        remedy="Add the rows of the other side: the data have too few.",
    )


def noisy_general(
    objective: str, *, share: float, hallucinated: int, noisy: int
) -> tuple[Finding, ...]:
    """Are HaluEval's noisy ``general`` rows kept?

    Args:
        objective: Its name.
        share: Of ``general`` in the objective's draws.
        hallucinated: Its rows labelled as hallucinated.
        noisy: Of these, rows that ``general_filter: whole-words`` would drop.
    """
    if not share or not noisy:
        return ()
    return (
        Finding(
            code="noisy-general",
            objective=objective,
            severity=Severity.WARN,
            says=(
                "`general` is not filtered: some of its `hallucinated` labels mean an incomplete "
                "answer, a disclaimer or a format."
            ),
            evidence=(
                f"{noisy} of {hallucinated} hallucinated rows ({noisy / hallucinated:.0%}) are of "
                f"that kind; general is {share:.0%} of the objective's draws",
            ),
            confidence=0.9,
            remedy="Filter them out.",
            patch={f"objectives.{objective}.data.general_filter": "whole-words"},
        ),
    )
