"""Where an objective began and whether it has arrived: what entropy and KL are judged against."""

from grpo_dual.diagnosis.history import History
from grpo_dual.metrics import health, names


def baseline_entropy(history: History, objective: str) -> float | None:
    """H0: of the frozen probe before step 0, or else of the first rows.

    Where completions have a shortest length, the column's entropy is of forced tokens too, which
    the probe does not have: then of the first rows.
    """
    known = history.baseline.get(objective)
    if known is None or history.number("rollout.sampling.min_new_tokens"):
        return history.of(names.ENTROPY, objective).first(2)
    return known


def solved(history: History, objective: str) -> bool:
    """Sure because it is right: low entropy is what was wanted then."""
    right = history.of(health.RIGHT_FRAC, objective).last(5)
    solved_groups = history.of(names.SOLVED_FRAC, objective).last(5)
    return (right or 0.0) >= 0.8 or (solved_groups or 0.0) >= 0.5
