"""What one optimiser update measured; the updates themselves are step.py's."""

from collections.abc import Mapping
from dataclasses import dataclass

from grpo_dual.metrics.values import Max, Mean
from grpo_dual.train.token_sums import TokenTotals


@dataclass(frozen=True, slots=True)
class ObjectiveUpdate:
    """What one update measured of one objective."""

    beta: float
    """Coefficient used."""
    loss: float
    """PG + beta KL."""
    kl: Mean
    """k3 at the sampling temperature, over all completion tokens."""
    kl_max: Max
    clipped: float
    live_tokens: float
    ratio_max: Max
    grad_norm: float
    half_cosine: float | None
    """Between the gradients of the first and the second half of its micro-batches; None where
    there is one only, or a half without gradient."""
    tokens: TokenTotals


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser update did."""

    objectives: Mapping[str, ObjectiveUpdate]
    loss: float
    grad_norm: float
    cosine: float | None
    """Smallest cosine between two objectives' gradients; None where undefined."""
    learning_rate: float
    skipped: bool
    forward_seconds: float
    update_seconds: float
    ratio_mean: float
    """Mean of policy / behaviour probability of the tokens, before the update."""
    gap_max: float
    """Largest difference of the two log-probs."""
