"""Causes in the policy and its optimisation, on a trainer's log from elsewhere.

Such a log says neither which answers were right nor how the run was configured, so a rule leans on
the reward, compared with itself, and asks for action only where that does not rise.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from grpo_dual.diagnosis.control import in_a_row, trend
from grpo_dual.diagnosis.foreign import SETTINGS, VERL
from grpo_dual.diagnosis.history import History, Series
from grpo_dual.diagnosis.rule import LIMITS, finding, last_step, percent, show
from grpo_dual.metrics import names
from grpo_dual.types import Finding, Severity

_KL_EXACTLY_ZERO_AFTER = 10
"""Steps after which a KL of zero cannot be patience any more."""
_MOVING = 1e-9
"""Nats per token: less is what rounding leaves."""
_CLIPPED = 0.2
"""Share of tokens removed by the clip (heuristic)."""
_WIDE = 1.0
"""Nats per token within a step that no reward makes up for."""
_STILL = 1e-8
"""Learning rates below it move nothing."""


def entropy_collapse(history: History, objective: str) -> Iterator[Finding]:
    """Entropy fell to a quarter of its first rows, and the reward does not say why."""
    entropy = history.of(names.ENTROPY, objective)
    start = entropy.first(3)
    if not start:
        return
    deep = in_a_row(entropy, lambda h: h < LIMITS.entropy_act * start)
    if not deep and not in_a_row(entropy, lambda h: h < LIMITS.entropy_warn * start):
        return
    reward = history.of(names.REWARD_MEAN, objective)
    moved = trend(reward)
    dead = history.of(names.ZERO_VARIANCE_FRAC, objective).last(5)
    if not deep and moved == 1:
        return  # it is getting sure while it earns more
    if moved == 1 or moved is None:
        says = "whether it has become right too, this file cannot tell."
    elif moved == -1:
        says = "its reward has fallen meanwhile."
    else:
        says = "its reward has not risen meanwhile."
    # A reward that stands still where groups have no spread may be the best there is.
    maybe_solved = moved == 0 and (dead or 0.0) >= LIMITS.dead
    if moved == 1:
        severity = Severity.NOTE
    else:
        severity = (
            Severity.ACT if deep and moved is not None and not maybe_solved else Severity.WARN
        )
    yield finding(
        "entropy-collapse",
        objective,
        severity,
        f"The policy has become sure of what it says; {says}",
        [
            f"entropy {show(entropy.last(3))} nats per token, "
            f"{percent((entropy.last(3) or 0.0) / start)} of its start {show(start)} (warn below "
            f"{percent(LIMITS.entropy_warn)}, act below {percent(LIMITS.entropy_act)})",
            _reward(reward),
            *([f"groups whose rewards are all equal {percent(dead)}"] if dead is not None else []),
        ],
        "Read completions of before and now. If they are alike and wrong, go back to a checkpoint "
        f"before the fall with a lower {_named(history, 'rate')}, or a KL term "
        f"({_named(history, 'beta')}).",
        confidence=0.6 if moved == -1 else 0.5 if moved == 0 else 0.3,
    )


def learning_rate(history: History, objective: str) -> Iterator[Finding]:
    """The policy is thrown about within single steps, and earns no more for it."""
    reward = history.of(names.REWARD_MEAN, objective)
    kl = history.of(names.KL, objective).known
    jumps = [b - a for a, b in pairwise(kl) if abs(b - a) >= LIMITS.kl_jump]
    moves = [v for v in history.column("actor/ppo_kl").known if abs(v) >= LIMITS.kl_jump]
    clipped = history.run(names.CLIP_FRAC)
    thrown, moved = len(jumps) >= 2 and max(jumps) > 0, len(moves) >= 2
    evidence: list[str] = []
    if thrown:
        evidence.append(
            f"KL to the reference jumps by up to {show(max(jumps))} nats per token within a step "
            f"({len(jumps)} jumps of {LIMITS.kl_jump} or more)"
        )
    if moved:
        evidence.append(
            f"KL to the policy that sampled reaches {show(max(moves, key=abs))} nats per token "
            f"({len(moves)} steps with {LIMITS.kl_jump} or more)"
        )
    if in_a_row(clipped, lambda c: c > _CLIPPED):
        evidence.append(
            f"the clip removes {percent(clipped.last(3))} of the tokens (healthy below "
            f"{percent(_CLIPPED)})"
        )
    way = trend(reward) if evidence else None
    if not evidence or way == 1:
        return  # wide steps that lead where they should are none too many
    # A reward that has not risen yet may be noise; one that falls, or a step that wide, is not.
    # verl may sum its KL over mini-batches, and clips grow with the updates of a step.
    wide = moved or (thrown and history.source != VERL)
    sure = wide and (way == -1 or max(map(abs, [*jumps, *moves])) > _WIDE)
    rate = history.run(names.LEARNING_RATE).last(3)
    yield finding(
        "learning-rate",
        objective,
        Severity.ACT if sure else Severity.WARN,
        "Single updates throw the policy far from where it was: the learning rate is too high.",
        [*evidence, f"learning rate {show(rate)}", _reward(reward)],
        f"Lower {_named(history, 'rate')} tenfold and go back to a checkpoint before the jumps.",
        confidence=0.7 if sure else 0.4,
    )


def kl_runaway(history: History, objective: str) -> Iterator[Finding]:
    """KL stays above what any target would allow."""
    kl = history.of(names.KL, objective)
    if not in_a_row(kl, lambda v: v > LIMITS.kl_absolute):
        return
    reward = history.of(names.REWARD_MEAN, objective)
    earns, summed = trend(reward) == 1, history.source == VERL
    yield finding(
        "kl-runaway",
        objective,
        Severity.WARN if earns or summed else Severity.ACT,
        "The policy has left the reference far behind.",
        [
            f"KL {show(kl.last(3))} nats per token (act above {LIMITS.kl_absolute}, whatever the "
            f"target), at the start {show(kl.first(3))}"
            + ("; verl up to 0.8 sums it over mini-batches" if summed else ""),
            _reward(reward),
        ],
        f"Raise {_named(history, 'beta')}, or let it follow KL.",
        confidence=0.4 if earns or summed else 0.6,
    )


def kl_frozen(history: History, objective: str) -> Iterator[Finding]:
    """KL stays at zero though there is something to learn from."""
    kl = history.of(names.KL, objective)
    if len(kl.known) < _KL_EXACTLY_ZERO_AFTER or not _has_signal(history, objective):
        return
    later = kl.known[_KL_EXACTLY_ZERO_AFTER // 2 :]
    if not all(abs(v) < _MOVING for v in later):
        return
    norm, rate = history.run(names.GRAD_NORM), history.run(names.LEARNING_RATE)
    still = bool(rate) and (rate.last(3) or 0.0) < _STILL
    yield finding(
        "kl-frozen",
        objective,
        Severity.ACT,
        f"KL to the reference is zero after {last_step(history)} steps: "
        + (
            "nothing is trained."
            if still
            else "nothing is trained, or KL is measured against the policy itself."
        ),
        [
            f"largest KL of the later rows {max(abs(v) for v in later):.1g} nats per token",
            f"learning rate {show(rate.last(3))}, gradient norm {show(norm.last(3))}",
            "rewards differ within groups: there is something to learn from",
        ],
        f"Raise {_named(history, 'rate')}."
        if still
        else "Check that the optimiser holds the parameters that are meant to be trained, and that "
        "the reference is a frozen copy.",
        confidence=0.85,
    )


def numerics(history: History, _: str) -> Iterator[Finding]:
    """Loss or gradient is not finite."""
    loss, norm = history.run(names.LOSS), history.run(names.GRAD_NORM)
    broken = sorted(
        {
            step
            for column in (loss, norm)
            for step, value in zip(history.steps, column.values, strict=False)
            if value is not None and not math.isfinite(value)
        }
    )
    blank: list[int] = []
    if norm and None in norm.values:
        rows = zip(history.steps, loss.values, norm.values, strict=False)
        blank = [step for step, a, b in rows if a is not None and b is None]
    if not broken and not blank:
        return
    evidence: list[str] = []
    if broken:
        evidence.append(f"{len(broken)} of {len(history)} rows hold a nan or inf: {_steps(broken)}")
    if blank:
        evidence.append(
            f"{len(blank)} of {len(history)} rows have a loss but no gradient norm, which is how "
            f"pandas writes nan: {_steps(blank)}"
        )
    finite = Series(tuple(v for v in norm.values if v is not None and math.isfinite(v)))
    yield finding(
        "numerics",
        None,
        Severity.ACT if len(broken) >= 3 else Severity.WARN,
        "Losses or gradients overflow.",
        [
            *evidence,
            f"finite gradient norms: {show(finite.first(3))} at the start, {show(finite.last(3))} "
            "now",
        ],
        "Train in float32 or bfloat16 instead of float16, clip the gradient, and look for a "
        "reward that is huge.",
        confidence=0.85 if broken else 0.4,
    )


def _has_signal(history: History, objective: str) -> bool:
    """Do rewards differ within groups, as far as the file says?"""
    dead = history.of(names.ZERO_VARIANCE_FRAC, objective).last(5)
    if dead is not None:
        return dead < LIMITS.dead
    high = history.column("critic/advantages/max").last(5)
    low = history.column("critic/advantages/min").last(5)
    if high is not None and low is not None:
        return high - low > _MOVING
    return (history.column("reward_std").last(5) or 0.0) > 0


def _reward(reward: Series) -> str:
    return f"reward {show(reward.first(5))} at the start, {show(reward.last(5))} now"


def _named(history: History, what: str) -> str:
    """A setting by its name in the trainer."""
    return SETTINGS[history.source][what]


def _steps(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"step {shown}" + (", ..." if len(numbers) > 5 else "")


RULES = (entropy_collapse, learning_rate, kl_runaway, kl_frozen, numerics)
