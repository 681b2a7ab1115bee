"""The reward tables that the package ships, as patches: what a departure is mended with."""

from grpo_dual.config.objectives import FairnessRewardConfig, HallucinationRewardConfig

_SHIPPED = {
    "fairness": (
        FairnessRewardConfig(),
        ("right", "ambiguous_evasion", "disambiguated_unknown", "wrong"),
    ),
    "hallucination": (
        HallucinationRewardConfig(),
        (
            "grounded",
            "abstains",
            "general_evasion",
            "hallucinated",
            "detect_right",
            "detect_wrong",
        ),
    ),
}


def shipped(kind: str, objective: str) -> dict[str, object]:
    """Dotted key -> value of what right, wrong and evading completions earn.

    Args:
        kind: Of the objective; others than the two that are shipped have no table.
        objective: Its name in the configuration.
    """
    if kind not in _SHIPPED:
        return {}
    table, keys = _SHIPPED[kind]
    return {f"objectives.{objective}.reward.{key}": getattr(table, key) for key in keys}
