"""The hand-off's absolute bands and stages, shown beside the relative ones; nothing hangs on them.

Literature sits far from some of them (entropy of instruct models: docs/doctor.md), which is why
findings compare a run with itself.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import percent, show
from grpo_dual.diagnosis.start import baseline_entropy
from grpo_dual.metrics import health, names


@dataclass(frozen=True, slots=True)
class Band:
    """One of them, on one objective."""

    stage: int
    """Steps within which it is looked at."""
    objective: str
    what: str
    value: str
    band: str
    inside: bool | None
    """None before its stage, or when it was not measured."""
    relative: str
    """The same against the run's own start."""


def bands(history: History) -> tuple[Band, ...]:
    """All stages that the run has reached."""
    return tuple(band for name in history.trained.objectives for band in _of(history, name))


def _of(history: History, objective: str) -> Iterator[Band]:
    done = len(history)
    entropy = history.until(5).of(names.ENTROPY, objective).last(5)
    start = baseline_entropy(history, objective)
    if done >= 5:
        yield Band(
            5,
            objective,
            "entropy, nats per token",
            show(entropy),
            "> 1.0 expected, > 1.5 ideal, < .5 failed",
            None if entropy is None else entropy > 1.0,
            f"{percent(entropy / start)} of H0" if entropy is not None and start else "-",
        )
    if done >= 10:
        first = history.until(10)
        spread = first.of(names.REWARD_STD, objective).last(10)
        yield Band(
            10,
            objective,
            "reward std within a group",
            show(spread),
            "> .1",
            None if spread is None else spread > 0.1,
            f"variance {show(first.of(health.REWARD_SPREAD, objective).last(10))} of what "
            "independent prompts would give",
        )
        signal = first.of(names.GRADIENT_SIGNAL, objective).last(10)
        yield Band(
            10,
            objective,
            "gradient signal",
            show(signal),
            "> 0",
            None if signal is None else signal > 0,
            f"at the start {show(history.of(names.GRADIENT_SIGNAL, objective).first(3))}",
        )
    if done >= 20:
        yield _template_band(history, objective)
    if done >= 50:
        reward = history.until(50).of(names.REWARD_MEAN, objective)
        before, now = reward.first(10), reward.last(10)
        rises = None if before is None or now is None else now > before
        yield Band(
            50,
            objective,
            "reward trend",
            show(now),
            "rising",
            rises,
            f"at the start {show(before)}",
        )


def _template_band(history: History, objective: str) -> Band:
    """The template detector's share of all judgements, after step 20."""
    counted = (names.BY_RULE, names.BY_HEURISTIC, names.BY_TEMPLATE, names.BY_OTHER)
    total = sum(history.of(m, objective).total(5) for m in counted)
    share = history.of(names.BY_TEMPLATE, objective).total(5) / total if total else None
    template = history.of(health.TEMPLATE_FRAC, objective)
    return Band(
        20,
        objective,
        "judged by the template detector",
        percent(share),
        "some in steps 1 to 5, falling by 20, locked if > 50 %",
        None if share is None else share <= 0.5,
        f"common start {percent(template.last(5))}, at the start {percent(template.first(3))}",
    )
