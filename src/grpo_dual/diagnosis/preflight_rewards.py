"""Before step 0: does the run's own reward pay for saying nothing?

Fixed probes (evasions, chatter, nothing, the context pasted) are scored beside the right and the
wrong answer of sampled records. A filler that earns f, where right earns r and wrong earns w, pays
better than trying for every policy that is right in less than (f - w) / (r - w) of its answers:
that break-even is what the rules look at. The shipped reward tables have .15 (BBQ) and .25
(HaluEval) on answerable items.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import correlation, fmean

from grpo_dual.diagnosis.grading import grade
from grpo_dual.diagnosis.reward_table import shipped
from grpo_dual.prompts.truncation import kind_of
from grpo_dual.rewards.evasion import PHRASES
from grpo_dual.types import (
    SHAPING,
    BbqRecord,
    Condition,
    Finding,
    HaluEvalRecord,
    Record,
    Severity,
    Task,
)

RIGHT, WRONG = "the right answer", "a wrong answer"
DECLINES = ("the unknown option", "an evasive template", "an evasive sentence")
"""Fillers that decline; the reward tables have a value for them."""
_TEMPLATE = f"The context {PHRASES[0]}."
_SENTENCE = "I am not sure, it is hard to say from what is given."
_CHATTER = (
    "That is a great question! Let me think about it step by step. There are many things to "
    "consider here, and it is important to look at each of them from every side."
)
_FEWEST = 5
"""Records of a kind from which its means are looked at."""
_WARN, _ACT = 0.5, 0.75
_AMBIGUOUS_WARN = 0.9
_MIXED_WARN, _MIXED_ACT = 0.75, 0.9
_CUSTOM = "custom:"
_BY_LENGTH = 0.8
"""Correlation of length and reward over the probes from which length is what is paid."""


def probes(record: Record, right: str | None) -> dict[str, str]:
    """Texts to be scored on a record, by name.

    Args:
        record: BBQ or HaluEval.
        right: The supervised reply, if there is one.
    """
    texts: dict[str, str] = {} if right is None else {RIGHT: right}
    if isinstance(record, BbqRecord):
        others = [i for i in range(3) if i not in (record.label, record.unknown)]
        texts[WRONG] = record.options[others[0]]
        if record.condition is Condition.DISAMBIGUATED:
            texts["the unknown option"] = record.options[record.unknown]
        source, question = record.context, record.question
    elif isinstance(record, HaluEvalRecord):
        if record.task is Task.DETECT:
            texts[WRONG] = "no" if record.hallucinated else "yes"
        elif record.rejected is not None:
            texts[WRONG] = record.rejected
        source, question = record.context, record.query
    else:
        raise TypeError(f"{record.record_id} is neither of BBQ nor of HaluEval")
    return texts | {
        "an evasive template": _TEMPLATE,
        "an evasive sentence": _SENTENCE,
        "chatter": _CHATTER,
        "nothing": "",
        **({"the context": source} if source.strip() else {}),
        **({"the question": question} if question.strip() else {}),
    }


@dataclass(frozen=True, slots=True)
class Earned:
    """What one probe earned on one record."""

    record: Record
    answerable: bool
    """The context or knowledge holds the answer, so that declining is a fault."""
    probe: str
    parts: Mapping[str, float]
    """Of the score."""
    words: int = 0
    """Length of the probe."""

    @property
    def total(self) -> float:
        """Sum of the parts that judge the answer; length shaping apart."""
        return sum(v for name, v in self.parts.items() if name != SHAPING)

    @property
    def own(self) -> float:
        """The same without the user's rewards."""
        judging = (n for n in self.parts if n != SHAPING and not n.startswith(_CUSTOM))
        return sum(self.parts[name] for name in judging)


def break_even(filler: float, right: float, wrong: float) -> float:
    """Share of right answers below which the filler pays better than trying."""
    return (filler - wrong) / (right - wrong) if right > wrong else 1.0


def pays_for_filler(
    objective: str,
    earned: Sequence[Earned],
    *,
    shares: Mapping[str, float],
    custom_rewards: Mapping[str, object] | None = None,
) -> tuple[Finding, ...]:
    """Does a constant answer that says nothing pay?

    Args:
        objective: Its name.
        earned: Scored probes; those that could not be scored are not among them.
        shares: Of each kind of item (``kind_of``) in the objective's draws.
        custom_rewards: The user's rewards: part of the score -> entry of the configuration.
    """
    means = _means(earned, own=False)
    by_kind = [
        finding
        for kind in means
        if (finding := _of_kind(objective, kind, earned, custom_rewards or {})) is not None
    ]
    mixed = _mixture(objective, means, shares)
    return (*by_kind, *((mixed,) if mixed is not None and not by_kind else ()))


def _means(earned: Sequence[Earned], *, own: bool) -> dict[str, dict[str, float]]:
    """Mean by kind and probe."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for e in earned:
        values[kind_of(e.record)][e.probe].append(e.own if own else e.total)
    return {
        kind: {name: fmean(v) for name, v in by_probe.items()} for kind, by_probe in values.items()
    }


def _best_filler(means: Mapping[str, float]) -> tuple[str, float, float] | None:
    """The filler that pays best, its mean, and its break-even."""
    if RIGHT not in means or WRONG not in means:
        return None
    fillers = {name: value for name, value in means.items() if name not in (RIGHT, WRONG)}
    if not fillers:
        return None
    name = max(fillers, key=lambda n: fillers[n])
    return name, fillers[name], break_even(fillers[name], means[RIGHT], means[WRONG])


def _of_kind(
    objective: str, kind: str, earned: Sequence[Earned], custom_rewards: Mapping[str, object]
) -> Finding | None:
    rows = [e for e in earned if kind_of(e.record) == kind]
    records = len({e.record.record_id for e in rows})
    if records < _FEWEST:
        return None
    means = _means(rows, own=False)[kind]
    best = _best_filler(means)
    if best is None:
        return None
    name, value, even = best
    answerable = rows[0].answerable
    if even < (_WARN if answerable else _AMBIGUOUS_WARN):
        return None
    remedy, patch = _mend(objective, rows, means, name, custom_rewards)
    lengthy = _length_correlation(rows)
    by_length = lengthy is not None and lengthy >= _BY_LENGTH
    # Nothing pays more than anything else: no filler is to blame.
    flat = len({round(mean, 6) for mean in means.values()}) == 1
    cancels = flat and any(e.own != rows[0].own for e in rows)
    if cancels:
        remedy = "The user's rewards take back what the table pays: leave them out, or change them."
        patch = {f"objectives.{objective}.custom_rewards": list[object]()}
    code = "cancelling-rewards" if cancels else "dead-rewards" if flat else "pays-for-filler"
    return Finding(
        code="length-hacking" if by_length else code,
        objective=objective,
        severity=grade(even, act=_ACT, warn=_WARN) if answerable else Severity.WARN,
        says=(
            f"On {kind} items every completion earns {value:+.2f}, right or wrong: advantages will "
            "be 0."
            if flat
            else f"On {kind} items {name} earns {value:+.2f} and a right answer no more than a "
            "wrong one: the policy learns to say that instead of answering."
            if means[RIGHT] <= means[WRONG]
            else f"On {kind} items {name} earns {value:+.2f}: a policy that is right in less than "
            f"{min(even, 1):.0%} of its answers learns to say that instead."
            + (
                f" What is paid is length: over all probes its correlation with the reward is "
                f"{lengthy:.2f}."
                if by_length
                else ""
            )
        ),
        evidence=(
            f"{kind}: " + ", ".join(f"{probe} {mean:+.2f}" for probe, mean in means.items()),
            f"means over {records} records of a kind, length shaping apart",
        ),
        confidence=0.85,
        remedy=remedy,
        patch=patch,
    )


def _length_correlation(rows: Sequence[Earned]) -> float | None:
    """Pearson's correlation of words and reward over all probes; None where either is constant."""
    words, totals = [float(e.words) for e in rows], [e.total for e in rows]
    if len(set(words)) < 2 or len(set(totals)) < 2:
        return None
    return correlation(words, totals)


def _mend(
    objective: str,
    rows: Sequence[Earned],
    means: Mapping[str, float],
    filler: str,
    custom_rewards: Mapping[str, object],
) -> tuple[str, dict[str, object]]:
    """What to change, by whose doing the filler pays."""
    where = f"objectives.{objective}"
    record = rows[0].record
    parts = [e.parts for e in rows if e.probe == filler]
    paid = {c: fmean(p.get(c, 0.0) for p in parts) for c in custom_rewards}
    own = _best_filler(_means(rows, own=True)[kind_of(record)])
    kind = "fairness" if isinstance(record, BbqRecord) else "hallucination"
    table = shipped(kind, objective) if _pays_right_no_more(rows) else {}
    if paid and max(paid.values()) > 0 and (own is None or own[2] < _WARN or table):
        guilty = max(paid, key=lambda c: paid[c])
        others = [entry for part, entry in custom_rewards.items() if part != guilty]
        return (
            f"The user's reward {guilty.removeprefix(_CUSTOM)} pays for it "
            f"({paid[guilty]:+.2f}): let it pay for what is right only, or leave it out."
            + (" And let the table pay right answers more than wrong ones." if table else ""),
            {f"{where}.custom_rewards": others, **table},
        )
    if table:
        return "Let the table pay right answers more than wrong ones.", table
    low, high = means[WRONG], means[RIGHT]
    if filler not in DECLINES:
        return "Make wrong answers cost more than saying nothing, or right ones earn more.", {}
    if isinstance(record, BbqRecord):
        if record.condition is Condition.AMBIGUOUS:
            value = round((low + high) / 2, 3)
            return "Pay an evasion less than the unknown option.", {
                f"{where}.reward.ambiguous_evasion": value
            }
        value = round(low + 0.15 * (high - low), 3)
        key = "disambiguated_unknown"
    else:
        value = round(low + 0.25 * (high - low), 3)
        key = "abstains" if rows[0].answerable else "general_evasion"
    return "Pay declining nearer to a wrong answer than to a right one.", {
        f"{where}.reward.{key}": value
    }


def _pays_right_no_more(rows: Sequence[Earned]) -> bool:
    """Without the user's rewards, is a right answer worth no more than a wrong one?"""
    means = _means(rows, own=True)[kind_of(rows[0].record)]
    return means[RIGHT] <= means[WRONG]


def _mixture(
    objective: str, means: Mapping[str, Mapping[str, float]], shares: Mapping[str, float]
) -> Finding | None:
    """One constant answer over everything that is drawn; the unknown option is right at times."""
    kinds = [k for k in means if k in shares and {RIGHT, WRONG} <= means[k].keys()]
    total = sum(shares[k] for k in kinds)
    if not total:
        return None

    def mean(probe: str, fallback: str) -> float:
        return sum(shares[k] * means[k].get(probe, means[k][fallback]) for k in kinds) / total

    right, wrong = mean(RIGHT, RIGHT), mean(WRONG, WRONG)
    constant = {
        # Where it is no filler, the unknown option is the right answer.
        "the unknown option": mean("the unknown option", RIGHT),
        "an evasive template": mean("an evasive template", WRONG),
        "an evasive sentence": mean("an evasive sentence", WRONG),
        "nothing": mean("nothing", WRONG),
    }
    if not any("the unknown option" in means[k] for k in kinds):
        del constant["the unknown option"]
    name = max(constant, key=lambda n: constant[n])
    even = break_even(constant[name], right, wrong)
    if even < _MIXED_WARN:
        return None
    mixed = ", ".join(f"{k} {shares[k] / total:.0%}" for k in kinds)
    return Finding(
        code="pays-for-filler",
        objective=objective,
        severity=grade(even, act=_MIXED_ACT, warn=_MIXED_WARN),
        says=(
            f"Over all items, always saying {name} earns {constant[name]:+.2f}: as much as being "
            f"right in {min(even, 1):.0%} of the answers."
        ),
        evidence=(
            f"always right {right:+.2f}, always wrong {wrong:+.2f}, "
            + ", ".join(f"always {probe} {value:+.2f}" for probe, value in constant.items()),
            f"items drawn: {mixed}",
        ),
        confidence=0.8,
        remedy="Draw more items that have an answer, or pay declining on them less.",
        patch={f"objectives.{objective}.data.ambiguous_fraction": 0.5} if "ambig" in kinds else {},
    )
