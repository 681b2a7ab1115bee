"""How much each objective counts in the loss. Axes: none, one float an objective."""

import math
from collections.abc import Mapping


def objective_weights(
    weight: Mapping[str, float],
    reward_scale: Mapping[str, float],
    balance: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """``w_k = weight_k reward_scale_k balance_k``, normalised to sum to 1.

    The weights multiply the loss, L = sum_k w_k (PG_k + beta_k KL_k), after the advantages were
    normalised. In front of a division by the group's std a scale would cancel and the weight would
    do nothing.

    Args:
        weight: Weight of each objective, at least 0, not all 0.
        reward_scale: Reward scale of each objective, above 0.
        balance: Factors of ``EmaBalance``; None means 1 for all.

    Returns:
        Weights that sum to 1, in the order of ``weight``.

    Raises:
        ValueError: The mappings name different objectives, or a value is out of range.
    """
    if balance is None:
        balance = dict.fromkeys(weight, 1.0)
    for name, values in (("reward_scale", reward_scale), ("balance", balance)):
        if values.keys() != weight.keys():
            raise ValueError(f"weight is given for {sorted(weight)}, {name} for {sorted(values)}")
    products = {k: weight[k] * reward_scale[k] * balance[k] for k in weight}
    for k, product in products.items():
        if not (
            math.isfinite(product) and weight[k] >= 0 and reward_scale[k] > 0 and balance[k] > 0
        ):
            raise ValueError(
                f"objective {k}: weight {weight[k]} (>= 0), reward_scale {reward_scale[k]} (> 0), "
                f"balance {balance[k]} (> 0) must be finite and in range"
            )
    total = sum(products.values())
    if not total > 0:
        raise ValueError("the weights of all objectives are 0: nothing would be trained")
    return {k: product / total for k, product in products.items()}
