"""Causes in the rewards and in the length of texts, on a trainer's log from elsewhere."""

import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from grpo_dual.diagnosis.control import in_a_row, trend
from grpo_dual.diagnosis.foreign import SETTINGS
from grpo_dual.diagnosis.history import History, Series
from grpo_dual.diagnosis.rule import LIMITS, cut, finding, percent, show
from grpo_dual.metrics import names
from grpo_dual.types import Finding, Severity

_PART = re.compile(r"(?:rewards|gdpo)/(.+)/std")
_NONE = 1e-6
"""Of a spread: less is what rounding leaves."""
_DEAD_ROWS, _DEAD_GROUPS = 5, 20
"""Least rows, and groups in them: of a single prompt a step, dead ones in a row are no rarity."""
_PAYS = 0.5
"""Correlation of a reward's changes with those of length from which it is named."""


@dataclass(frozen=True, slots=True)
class Part:
    """One reward function."""

    name: str
    mean: Series
    std: Series
    """Over the whole batch."""

    @property
    def varies(self) -> bool:
        """It tells completions of a batch apart, in each of the last rows."""
        return in_a_row(self.std, lambda s: s > _NONE)


def parts(history: History) -> list[Part]:
    """The reward functions whose spread was logged."""
    found = [(m[1], m[0]) for m in map(_PART.fullmatch, history.columns) if m]
    return [
        Part(name, history.column(key[: -len("std")] + "mean"), history.column(key))
        for name, key in found
    ]


def total_spread(history: History) -> Series:
    """Of the whole reward over a batch: its std, or for verl largest minus smallest."""
    std = history.column("reward_std")
    return std or _range(history, "critic/score")


def dead_share(history: History, objective: str) -> Series:
    """Share of groups with equal rewards; for verl 1 where all advantages are, else 0."""
    logged = history.of(names.ZERO_VARIANCE_FRAC, objective)
    if logged:
        return logged
    spread = _range(history, "critic/advantages")
    return Series(tuple(None if v is None else float(v < _NONE) for v in spread.values))


def dead_rewards(history: History, objective: str) -> Iterator[Finding]:
    """Within their groups completions earn the same."""
    share = dead_share(history, objective)
    rows = _rows(share)
    if not in_a_row(share, lambda s: s >= LIMITS.dead, rows=rows):
        return
    if any(cancelling_rewards(history, objective)):
        return
    reward, total = history.of(names.REWARD_MEAN, objective), total_spread(history)
    varying = [p for p in parts(history) if p.varies]
    now, best = reward.last(rows) or 0.0, max(reward.known, default=0.0)
    severity, says, remedy = _which_death(
        history,
        all_dead=in_a_row(share, lambda s: s > 1 - _NONE, rows=rows),
        between=bool(varying) or (total.last(rows) or 0.0) > _NONE,
        less=now < best - _NONE * max(1.0, abs(best)),
        moved=trend(reward),
    )
    yield finding(
        "dead-rewards",
        objective,
        severity,
        says,
        [
            f"groups whose rewards are all equal {percent(share.last(rows))} (from "
            f"{percent(LIMITS.dead)} over {rows} rows)",
            f"reward {show(now)}, the largest so far {show(best)}",
            f"spread of the reward over a batch {show(total.last(rows))}",
            *(f"of {p.name} alone {show(p.std.last(3))}" for p in varying),
            f"gradient norm {show(history.run(names.GRAD_NORM).last(3))}",
        ],
        remedy,
        confidence=0.7 if severity is Severity.ACT else 0.5,
    )


def _which_death(
    history: History, *, all_dead: bool, between: bool, less: bool, moved: int | None
) -> tuple[Severity, str, str]:
    """Severity, sentence and remedy of groups without spread."""
    back = "Go back to a checkpoint from before, and read what is written now."
    if not all_dead and moved == -1:
        return Severity.ACT, "Most groups earn the same throughout, and less than before.", back
    if not all_dead:
        return (
            Severity.NOTE if moved == 1 else Severity.WARN,
            "Most groups earn the same throughout: they are solved or hopeless, this file cannot "
            "tell, and only the others teach.",
            "Draw prompts that are neither always nor never solved.",
        )
    if between:
        return (
            Severity.ACT,
            "Rewards differ between prompts, not within them: some prompts are always solved and "
            "others never, or a reward looks at the prompt alone.",
            "Draw prompts that are neither always nor never solved, and more completions of each "
            f"({SETTINGS[history.source]['group']}); check that every reward reads the completion.",
        )
    if less:
        return (
            Severity.ACT,
            "Every completion earns the same, and less than has been earned before.",
            back,
        )
    return (
        Severity.WARN,
        "Every completion earns the same: solved or dead, this file cannot tell. Only a share of "
        "right answers could.",
        "Read a few completions: right ones need harder prompts, wrong ones a reward that tells "
        "them apart.",
    )


def _rows(share: Series) -> int:
    """Rows that make ``_DEAD_GROUPS`` groups; a row's groups show in the steps of its share."""
    values = sorted({0.0, 1.0, *share.known})
    if len(values) == 2:
        return _DEAD_ROWS  # all or nothing: as many groups as there may be
    step = min(b - a for a, b in pairwise(values))
    return max(_DEAD_ROWS, math.ceil(_DEAD_GROUPS * step - _NONE))


def cancelling_rewards(history: History, objective: str) -> Iterator[Finding]:
    """Several reward functions tell completions apart, their sum does not."""
    varying = [p for p in parts(history) if p.varies]
    total, reward = total_spread(history), history.of(names.REWARD_MEAN, objective)
    if len(varying) < 2:
        return  # one alone cannot cancel: its groups differ, not its completions
    largest = max(p.std.last(3) or 0.0 for p in varying)
    if not in_a_row(total, lambda s: s < 0.1 * largest):
        return
    # TRL before 0.27 logs the spread within groups, where parts may differ between prompts only:
    # their sum then wanders from batch to batch.
    recent = reward.known[-10:]
    if len(recent) < 2 or statistics.pstdev(recent) > 0.1 * largest:
        return
    share = dead_share(history, objective).last(3)
    opposite = _opposite(varying)
    yield finding(
        "cancelling-rewards",
        objective,
        Severity.ACT,
        "Reward functions take each other back: each tells completions apart, their sum does not.",
        [
            *(
                f"{p.name}: mean {show(p.mean.last(3))}, spread {show(p.std.last(3))}"
                for p in varying
            ),
            f"their sum: mean {show(reward.last(3))}, spread {show(total.last(3))}",
            *([opposite] if opposite else []),
            f"groups whose rewards are all equal {percent(share)}, gradient norm "
            f"{show(history.run(names.GRAD_NORM).last(3))}",
        ],
        f"Take one of them out, or change {SETTINGS[history.source]['weights']}.",
        confidence=0.95 if opposite else 0.8,
    )


def length_hacking(history: History, objective: str) -> Iterator[Finding]:
    """Completions grow; what for, the file does not say."""
    length, reward = history.of(names.GEN_LEN, objective), history.of(names.REWARD_MEAN, objective)
    before, now = length.first(3), length.last(3)
    if not before or now is None or now <= 1.25 * before or trend(length) != 1:
        return
    moved = trend(reward)
    paid = [p for p in parts(history) if (r := _together(p.mean, length)) is not None and r > _PAYS]
    share = history.of(names.COMPLETION_TRUNC_FRAC, objective)
    at_limit = cut(share) is Severity.ACT and (share.first(3) or 0.0) < LIMITS.cut_warn
    if paid and at_limit:
        severity = Severity.ACT
    else:
        severity = Severity.WARN if paid or moved != 1 else Severity.NOTE
    yield finding(
        "length-hacking",
        objective,
        severity,
        "Completions grow "
        + ("with their reward" if moved == 1 else "and earn no more")
        + "; whether the longer ones are better, this file cannot tell.",
        [
            f"completions {show(before)} tokens at the start, {show(now)} now",
            f"reward {show(reward.first(5))} at the start, {show(reward.last(5))} now",
            *(
                f"{p.name} moves with length from step to step (correlation "
                f"{show(_together(p.mean, length))})"
                for p in paid
            ),
            *([f"{percent(share.last(3))} have grown to the limit"] if at_limit else []),
        ],
        "Compare short with long completions that are right; if length itself is paid, take that "
        "reward out or penalise length.",
        confidence=0.5 if paid else 0.3,
    )


def completion_truncation(history: History, objective: str) -> Iterator[Finding]:
    """Completions end at the limit, not where they would."""
    share = history.of(names.COMPLETION_TRUNC_FRAC, objective)
    severity = cut(share)
    if severity is None:
        return
    length, ended = (
        history.of(names.GEN_LEN, objective),
        history.column("completions/mean_terminated_length"),
    )
    grown = (length.last(3) or 0.0) > 1.3 * (length.first(3) or 0.0)
    yield finding(
        "completion-truncation",
        objective,
        severity,
        "Completions are cut by the limit, and what they would have said is judged as missing.",
        [
            f"{percent(share.last(3))} of the completions reach the limit (warn above "
            f"{percent(LIMITS.cut_warn)}, act above {percent(LIMITS.cut_act)}; at the start "
            f"{percent(share.first(3))})",
            f"mean length {show(length.first(3))} tokens at the start, {show(length.last(3))} now"
            + (f"; of those that ended {show(ended.last(3))}" if ended else ""),
        ],
        f"Raise {SETTINGS[history.source]['new_tokens']}, and look first whether EOS is sampled at "
        "all (chat template, stop tokens).",
        # Completions that have grown to the limit have another cause.
        confidence=0.5 if grown else 0.8,
    )


def prompt_truncation(history: History, objective: str) -> Iterator[Finding]:
    """Prompts fill the limit."""
    share = history.of(names.TRUNC_FRAC, objective)
    severity = cut(share)
    if severity is None:
        return
    limit = SETTINGS[history.source]["prompt_tokens"]
    yield finding(
        "prompt-truncation",
        objective,
        severity,
        "Prompts are as long as the limit: what they lost may have been the answer.",
        [
            f"{percent(share.last(3))} of the prompts fill {limit} (warn above "
            f"{percent(LIMITS.cut_warn)}, act above {percent(LIMITS.cut_act)})",
        ],
        f"Raise {limit}, or leave out prompts that do not fit.",
        confidence=0.75,
    )


def _range(history: History, prefix: str) -> Series:
    """``prefix/max`` minus ``prefix/min`` by row."""
    pair = zip(
        history.column(f"{prefix}/max").values, history.column(f"{prefix}/min").values, strict=False
    )
    return Series(tuple(None if a is None or b is None else a - b for a, b in pair))


def _opposite(varying: list[Part]) -> str:
    """Two parts whose means move against each other, in words."""
    for i, one in enumerate(varying):
        for other in varying[i + 1 :]:
            r = _correlation(one.mean.values, other.mean.values)
            if r is not None and r < -0.9:
                return f"{one.name} and {other.name} move against each other (correlation {r:.2f})"
    return ""


def _together(one: Series, other: Series) -> float | None:
    """Correlation of the changes from row to row: two trends alone do not make it."""
    return _correlation(_changes(one), _changes(other))


def _changes(series: Series) -> tuple[float | None, ...]:
    return tuple(
        None if a is None or b is None else b - a
        for a, b in zip(series.values, series.values[1:], strict=False)
    )


def _correlation(a: tuple[float | None, ...], b: tuple[float | None, ...]) -> float | None:
    """Over the rows that have both; None with fewer than six, or where one never moves."""
    both = [(x, y) for x, y in zip(a, b, strict=False) if x is not None and y is not None]
    if len(both) < 6:
        return None
    xs, ys = zip(*both, strict=True)
    if min(max(xs) - min(xs), max(ys) - min(ys)) <= _NONE:
        return None
    return statistics.correlation(xs, ys)


RULES = (
    dead_rewards,
    cancelling_rewards,
    length_hacking,
    completion_truncation,
    prompt_truncation,
)
