"""Fairer? More faithful? What did it cost? Said in sentences, from held-out items."""

from dataclasses import dataclass
from typing import cast

from grpo_dual.evaluation.pareto import AXIS
from grpo_dual.metrics.names import KL, REWARD_MEAN
from grpo_dual.report.held_out import Measure, measures
from grpo_dual.report.reading import Run
from grpo_dual.report.texts import duration, number

_WORDS = {
    "fairness": ("Fairer", "Less fair", "fairness"),
    "hallucination": ("More faithful", "Less faithful", "faithfulness"),
}
_MADE_OF = {
    "fairness": ("accuracy_ambig", "accuracy_disambig", "s_amb", "s_dis"),
    "hallucination": ("grounded",),
}
"""What an axis is made of: that fewer answers are abstained from makes none more faithful."""
_EDGE = 5
"""Steps at each end of training over which rewards are averaged."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one objective."""

    objective: str
    word: str
    """``Fairer``, ``Less fair``, ``No clear change`` ..."""
    axis: str
    """What the numbers are of."""
    before: str
    after: str
    better: bool | None
    """None where it cannot be said."""
    why: str
    """What the word rests on."""
    measured: bool = True
    """On held-out items, before and after."""


def verdicts(run: Run) -> tuple[Verdict, ...]:
    """One for each objective, in the order of the configuration."""
    found = measures(run)
    return tuple(_verdict(run, name, found) for name in run.history.objectives)


def sentence(run: Run) -> str:
    """The headline: a word for each objective."""
    found = verdicts(run)
    if not any(v.measured for v in found):
        return "Not measured on held-out items before and after."
    return f"{'. '.join(_told(v) for v in found)}."


def cost(run: Run) -> str:
    """What it took, and which held-out measures got worse, in sentences."""
    kl = [
        f"{number(last)} ({name})"
        for name in run.history.objectives
        if (last := run.history.of(KL, name).last(_EDGE)) is not None
    ]
    took = f"It took {duration(run.seconds)} of training" if run.seconds is not None else ""
    away = f"{', '.join(kl)} nats a token away from where it began" if kl else ""
    parts = [part for part in (took, away) if part]
    told = [f"{' and ended '.join(parts)}."] if parts else []
    return " ".join([*told, worse(run)])


def worse(run: Run) -> str:
    """The held-out measures that moved the wrong way."""
    found = measures(run)
    if not found:
        return "What it cost on held-out items was not measured."
    directed = [m for m in found if m.row.better]
    # What is the same in the digits that are shown is no news.
    lost = [m for m in directed if m.improved is False and len({*m.row.cells()[1:3]}) > 1]
    if not lost:
        return f"None of {len(directed)} held-out measures got worse."
    named = "; ".join(
        f"{m.row.words.strip()} {m.row.cells()[1]} to {m.row.cells()[2]}"
        + ("" if m.sure else " (within the intervals)" if m.before.known else " (no interval)")
        for m in lost
    )
    return f"Of {len(directed)} held-out measures {len(lost)} got worse: {named}."


def _told(verdict: Verdict) -> str:
    ends = "" if verdict.before == "-" else f" {verdict.before} to {verdict.after}"
    return f"{verdict.word}: {verdict.axis}{ends}"


def _verdict(run: Run, objective: str, found: tuple[Measure, ...]) -> Verdict:
    up, down, axis = _WORDS.get(
        objective, (f"Better ({objective})", f"Worse ({objective})", objective)
    )
    before, after = (_axis(run, step, objective) for step in _ends(run))
    if before is None or after is None:
        return _by_reward(run, objective, axis)
    shown = f"{before:.2f}", f"{after:.2f}"
    axis += _judge(run, objective)
    moved = after - before
    parts = _MADE_OF.get(objective, [m.row.key for m in found])
    own = [
        m
        for m in found
        if m.row.objective == objective and m.row.key in parts and m.before.known and m.row.better
    ]
    sure = [m for m in own if m.sure and m.improved is (moved > 0)]
    against = [m for m in own if m.sure and m.improved is (moved < 0)]
    if sure and against:
        why = f"{sure[0].row.words} and {against[0].row.words} moved surely, in opposite ways"
        return Verdict(objective, "No clear change", axis, *shown, None, why)
    if own and not sure:
        why = "the intervals of before and after overlap in every measure"
        return Verdict(objective, "No clear change", axis, *shown, None, why)
    if moved == 0:
        return Verdict(objective, "No change", axis, *shown, None, "the same axis")
    why = (
        f"{sure[0].row.words}: the intervals of before and after do not overlap"
        if sure
        else "the evaluation has no interval to hold it against"
    )
    return Verdict(objective, up if moved > 0 else down, axis, *shown, moved > 0, why)


def _judge(run: Run, objective: str) -> str:
    """Answers judged by the judge that training rewards are no independent evidence."""
    scores = run.held_out[max(run.held_out)].get(objective, {})
    by = str(scores.get("judged_by") or "")
    return " by the judge that training rewards" if "heuristic" in by else ""


def _by_reward(run: Run, objective: str, axis: str) -> Verdict:
    """Without held-out items only training's own reward is known, which is no evidence."""
    reward = run.history.of(REWARD_MEAN, objective)
    why = "training's own reward; held-out items were not evaluated before and after"
    ends = number(reward.first(_EDGE)), number(reward.last(_EDGE))
    return Verdict(objective, f"Not measured: {axis}", "reward", *ends, None, why, False)


def _ends(run: Run) -> tuple[int, int]:
    """Steps of the first and the last evaluation; -1 where there are not two."""
    if len(run.held_out) < 2:
        return -1, -1
    return min(run.held_out), max(run.held_out)


def _axis(run: Run, step: int, objective: str) -> float | None:
    value = run.held_out.get(step, {}).get(objective, {}).get(AXIS)
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(cast("float", value)) if known else None
