"""Causes seen in a drift: a smoothed column beyond what its own noise explains."""

from collections.abc import Iterator

from grpo_dual.diagnosis.control import PERSISTENCE, drifted, in_a_row, moving_sigma
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.rule import LIMITS, finding, percent, show
from grpo_dual.diagnosis.start import baseline_entropy
from grpo_dual.metrics import health, names
from grpo_dual.types import Finding, Severity


def entropy_rise(history: History, objective: str) -> Iterator[Finding]:
    """Entropy climbs far above H0, and the policy does not become right by it."""
    entropy, right = (history.of(m, objective) for m in (names.ENTROPY, health.RIGHT_FRAC))
    start, sigma = baseline_entropy(history, objective), moving_sigma(entropy.known)
    if not start or sigma is None:
        return
    # A single wild step moves neither the smoothed curve beyond its limit nor three rows in a row.
    settled = drifted(entropy, start, sigma)[-PERSISTENCE:]
    if not all(settled) or not in_a_row(entropy, lambda h: h > LIMITS.entropy_high * start):
        return
    before, now = right.first(5), right.last(5)
    if before is not None and now is not None and now > before + 0.05:
        return  # it explores, and finds
    rate = history.number("train.optimizer.learning_rate")
    fallen = before is not None and now is not None and now < before - 0.05
    yield finding(
        "entropy-rise",
        objective,
        Severity.ACT if fallen else Severity.WARN,
        "The policy becomes less and less sure of what it says, and no more right.",
        [
            f"entropy {show(entropy.last(3))} nats per token, "
            f"{percent((entropy.last(3) or 0) / start)} of its start {show(start)} (above "
            f"{percent(LIMITS.entropy_high)} for {PERSISTENCE} rows, its EWMA beyond 3 sigma)",
            f"right {percent(before)} at the start, {percent(now)} now",
        ],
        "Lower the learning rate, and go back to a checkpoint before the rise; a stronger KL term "
        "holds the policy near its start.",
        confidence=0.6,
        patch={"train.optimizer.learning_rate": rate / 4} if rate else {},
        samples=history.pick(objective),
    )


RULES = (entropy_rise,)
