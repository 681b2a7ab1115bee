"""Patches that make a run gentler: a lower learning rate, a KL term that is felt."""

from grpo_dual.diagnosis.history import History

_FELT = 0.1
"""Least beta of a KL term that holds a policy."""


def slower(history: History, times: float) -> dict[str, object]:
    """The learning rate divided; nothing where it is not known."""
    rate = history.number("train.optimizer.learning_rate")
    return {"train.optimizer.learning_rate": rate / times} if rate else {}


def held(
    history: History, objective: str, *, twice: bool = False, adaptive: bool = False
) -> dict[str, object]:
    """A beta that is felt, within the bounds that an adaptive one has to keep."""
    prefix = f"objectives.{objective}.kl."
    beta = history.number(f"{prefix}beta") or 0.0
    felt = max(_FELT, 2 * beta if twice else beta)
    low, high = history.number(f"{prefix}beta_min"), history.number(f"{prefix}beta_max")
    if (adaptive or history.setting(f"{prefix}adaptive")) and low is not None and high is not None:
        felt = min(max(felt, low), high)
    return {f"{prefix}beta": felt}


def rising(before: float | None, now: float | None, *, by: float = 0.1) -> bool:
    """Is ``now`` more than ``by`` above ``before``? False where either is unknown."""
    return before is not None and now is not None and now > before + by
