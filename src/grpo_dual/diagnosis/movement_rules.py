"""Causes that lie in how far the policy moves: from step to step, and from its reference."""

from collections.abc import Iterator
from itertools import pairwise

from grpo_dual.diagnosis.gentler import held, rising, slower
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import LIMITS, above, finding, last_step, percent, show
from grpo_dual.diagnosis.start import baseline_entropy, solved
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity

_KL_EXACTLY_ZERO_AFTER = 10
"""Steps after which a KL of zero cannot be patience any more."""
MOVING = 1e-9
"""Nats per token: less is what rounding leaves."""


def learning_rate(history: History, objective: str) -> Iterator[Finding]:
    """The policy is thrown about: KL jumps within single steps."""
    kl = history.of(names.KL, objective).known
    jumps = [b - a for a, b in pairwise(kl)]
    largest = max(jumps, default=0.0)
    set_to = history.number("train.optimizer.learning_rate")
    rate = (history.run(names.LEARNING_RATE).last(3) if set_to is None else set_to) or 0.0
    thrown = sum(1 for j in jumps if abs(j) >= LIMITS.kl_jump)
    unparsed, right = (history.of(m, objective) for m in (health.UNPARSED_FRAC, health.RIGHT_FRAC))
    fell = (right.last(5) or 0.0) < (right.first(5) or 0.0) - 0.05
    # One leap is enough where it cost right answers.
    leapt = largest >= LIMITS.kl_leap and fell
    if not leapt and (largest < LIMITS.kl_jump or thrown < 2):
        return
    if (right.last(5) or 0.0) > (right.first(5) or 0.0) + 0.05:
        return  # wide steps that lead where they should
    entropy, start = history.of(names.ENTROPY, objective), baseline_entropy(history, objective)
    yield finding(
        "learning-rate",
        objective,
        # Where nobody has counted what is right, they may have led there.
        Severity.ACT if right else Severity.WARN,
        "Single updates throw the policy far from where it was: the learning rate is too high.",
        [
            f"KL to the reference jumps by up to {show(largest)} nats per token within a step "
            f"({thrown} of {LIMITS.kl_jump} or more, up or down), learning rate {rate:g}",
            f"entropy {show(start)} at the start, {show(entropy.last(3))} now",
            f"unparsed {percent(unparsed.last(3))}, right {percent(right.first(5))} at the start, "
            f"{percent(right.last(5))} now",
        ],
        "Lower the learning rate tenfold and go back to a checkpoint before the jumps.",
        confidence=0.85 if largest > 1 or rate >= 1e-2 else 0.6,
        patch=slower(history, 10),
        samples=history.pick(objective),
    )


def clipping(history: History, objective: str) -> Iterator[Finding]:
    """Updates on the same completions lead far from the policy that drew them."""
    if objective != history.objectives[0]:
        return
    clipped = history.run(names.CLIP_FRAC)
    severity = above(clipped, warn=LIMITS.clipped_warn, act=LIMITS.clipped)
    if severity is None:
        return
    updates = history.number("train.num_iterations") or 1
    patch = slower(history, 4)
    yield finding(
        "learning-rate",
        None,
        severity,
        "Much of each update is clipped away: the policy leaves the completions' region within one "
        "batch.",
        [
            f"clipped tokens {percent(clipped.last(3))} (warn above {percent(LIMITS.clipped_warn)},"
            f" act above {percent(LIMITS.clipped)})",
            f"updates a batch {updates:.0f}"
            + (": with one none can be clipped, log-probs disagree" if updates == 1 else ""),
        ],
        "Lower the learning rate, or use each batch in fewer updates.",
        confidence=0.6,
        patch=patch,
    )


def kl_runaway(history: History, objective: str) -> Iterator[Finding]:
    """KL is far above its target and stays there."""
    kl = history.of(names.KL, objective)
    target = history.number(f"objectives.{objective}.kl.target")
    if target is None and history.config:
        return
    # Without a configuration only the bound that holds whatever the target.
    act = LIMITS.kl_absolute if target is None else min(LIMITS.kl_act * target, LIMITS.kl_absolute)
    warn = act if target is None else LIMITS.kl_warn * target
    severity = above(kl, warn=warn, act=act)
    if severity is None:
        return
    beta = history.of(names.BETA, objective)
    adaptive = history.setting(f"objectives.{objective}.kl.adaptive")
    first = history.number(f"objectives.{objective}.kl.beta") or 0.0
    free = bool(history.config) and not adaptive and first < LIMITS.held
    right = history.of(health.RIGHT_FRAC, objective)
    chosen = bool(history.config) and not adaptive and not free
    # A constant beta asks for no target: what it costs is seen when right answers fall, or when KL
    # is beyond what any target would be and has brought nothing.
    far = above(kl, warn=LIMITS.kl_absolute, act=LIMITS.kl_absolute) is not None
    paid = rising(right.first(5), right.last(5), by=0.05) or solved(history, objective)
    if chosen and right and not rising(right.last(5), right.first(5), by=0.05):
        if not far or paid:
            return
        severity = Severity.ACT
    # A reference that was wrong itself is left for good reason, and a beta that rises is at work.
    led = bool(adaptive) and paid and (beta.last(3) or 0.0) > first
    if led:
        severity = Severity.WARN
    patch = (
        {f"objectives.{objective}.kl.target": float(f"{kl.last(3) or 0.0:.2g}")}
        if led
        else {
            f"objectives.{objective}.kl.adaptive": True,
            **held(history, objective, adaptive=True),
        }
    )
    yield finding(
        "kl-runaway",
        objective,
        severity,
        "The policy has left the reference far behind"
        + (
            ": nothing holds it."
            if free
            else ", beta rises, and right answers with it."
            if led
            else " and beta does not bring it back."
        ),
        [
            f"KL {show(kl.last(3))} nats per token, target {show(target)} (act above {show(act)})",
            f"beta {show(beta.last(3))}"
            + (f", {'adaptive' if adaptive else 'constant'}" if history.config else ""),
            f"right {percent(right.first(3))} at the start, {percent(right.last(3))} now",
        ],
        "Nothing, or a target that can be kept: this reference is not worth staying near."
        if led
        else "Let beta follow KL, from a value that is felt.",
        confidence=0.8 if free else 0.45,
        patch=patch,
        samples=history.pick(objective),
    )


def kl_frozen(history: History, objective: str) -> Iterator[Finding]:
    """KL stays at zero: the adapter does not train, or it is its own reference."""
    kl = history.of(names.KL, objective)
    if len(kl.known) < _KL_EXACTLY_ZERO_AFTER:
        return
    if not all(abs(v) < MOVING for v in kl.known[_KL_EXACTLY_ZERO_AFTER // 2 :]):
        return
    norm, rate = history.run(names.GRAD_NORM), history.run(names.LEARNING_RATE)
    signal = history.of(names.GRADIENT_SIGNAL, objective)
    if not (signal.last(5) or 0.0):
        return  # dead or solved groups: no reason to move
    still = (rate.last(3) or 0.0) < 1e-8
    yield finding(
        "kl-frozen",
        objective,
        Severity.ACT,
        "KL to the reference is zero after "
        f"{last_step(history)} steps: "
        + (
            "the adapter does not train."
            if still
            else "the adapter does not train, or KL is measured against the adapter itself."
        ),
        [
            f"largest KL of the later rows {max(abs(v) for v in kl.known[5:]):.1g} nats per token",
            f"learning rate {show(rate.last(3))}, gradient norm {show(norm.last(3))}, gradient "
            f"signal {show(signal.last(3))}",
        ],
        "Raise the learning rate."
        if still
        else "Check that the reference is a frozen copy (model.reference) and that the adapter's "
        "parameters are the optimiser's.",
        confidence=0.9,
        patch={"train.optimizer.learning_rate": 1e-5} if still else {},
    )


RULES = (learning_rate, clipping, kl_runaway, kl_frozen)
