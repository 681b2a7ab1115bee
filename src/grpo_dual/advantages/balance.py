"""EMA-ratio balance: an objective with a weak signal counts for more.

Axes: none, one float an objective.

The signal S_k must not be normalised already: the norm of the objective's policy gradient, or its
raw within-group std times its live fraction. With std-normalised advantages a reward magnitude
would be corrected twice. Relatives: GradNorm (arXiv 1711.02257), DWA (arXiv 1803.10704); the rule
itself is this project's.
"""

import math
from collections.abc import Iterable, Mapping


def balance_factors(
    signals: Mapping[str, float],
    *,
    alpha: float = 0.5,
    floor: float = 0.1,
    total: float | None = None,
) -> dict[str, float]:
    """``b_k`` proportional to ``(mean_j s_j / max(s_k, floor mean_j s_j))^alpha``.

    Args:
        signals: Averaged signal s_k >= 0 of each objective, not all 0.
        alpha: Strength; 0 gives all ones, 1 equalises b_k s_k.
        floor: Smallest s_k as a share of the mean, so that a nearly dead objective does not blow
            up.
        total: What the factors sum to; None means the number of objectives.

    Returns:
        Factors above 0 in the order of ``signals``.

    Raises:
        ValueError: All signals are 0.
    """
    mean = sum(signals.values()) / len(signals)
    if not mean > 0:
        raise ValueError("all signals are 0: their ratio says nothing")
    raw = {k: (mean / max(s, floor * mean)) ** alpha for k, s in signals.items()}
    scale = (len(signals) if total is None else total) / sum(raw.values())
    return {k: value * scale for k, value in raw.items()}


class EmaBalance:
    """Keeps s_k <- (1 - rate) s_k + rate S_k, bias-corrected, and the factors that follow from it.

    Frozen at 1 until every objective was seen ``warmup`` times. An objective without live groups in
    a step says nothing about its signal: its average and its factor are held, and the others share
    what they had. The factors are clipped to ``bounds`` last.
    """

    def __init__(
        self,
        objectives: Iterable[str],
        *,
        alpha: float = 0.5,
        rate: float = 0.1,
        floor: float = 0.1,
        bounds: tuple[float, float] = (0.5, 2.0),
        warmup: int = 10,
    ) -> None:
        self._alpha = alpha
        self._rate = rate
        self._floor = floor
        self._bounds = bounds
        self._warmup = warmup
        self._factors = dict.fromkeys(objectives, 1.0)
        self._averages = dict.fromkeys(self._factors, 0.0)
        self._seen = dict.fromkeys(self._factors, 0)
        if not self._factors:
            raise ValueError("EmaBalance needs at least one objective")

    @property
    def factors(self) -> dict[str, float]:
        """Current factor of each objective."""
        return dict(self._factors)

    def update(
        self, signals: Mapping[str, float], live_groups: Mapping[str, int]
    ) -> dict[str, float]:
        """Take one optimiser step's signals; call it once a step, after the all-reduce.

        Args:
            signals: S_k, for instance the policy-gradient norm; one that is not finite is not
                taken.
            live_groups: Number of live groups behind each signal.

        Returns:
            The factors to use in the next step.

        Raises:
            ValueError: The mappings do not name the objectives, or a signal is negative.
        """
        for name, values in (("signals", signals), ("live_groups", live_groups)):
            if values.keys() != self._factors.keys():
                raise ValueError(f"{name} names {sorted(values)}, not {sorted(self._factors)}")
        if any(s < 0 for s in signals.values()):
            raise ValueError(f"a signal is a norm and cannot be negative: {dict(signals)}")
        heard = [k for k, s in signals.items() if live_groups[k] > 0 and math.isfinite(s)]
        for k in heard:
            self._averages[k] += self._rate * (signals[k] - self._averages[k])
            self._seen[k] += 1
        if heard and min(self._seen.values()) >= self._warmup:
            self._move(heard)
        return self.factors

    def _move(self, heard: list[str]) -> None:
        averages = {k: self._averages[k] / (1 - (1 - self._rate) ** self._seen[k]) for k in heard}
        if not sum(averages.values()) > 0:
            return
        everyone = len(heard) == len(self._factors)
        total = None if everyone else sum(self._factors[k] for k in heard)
        moved = balance_factors(averages, alpha=self._alpha, floor=self._floor, total=total)
        low, high = self._bounds
        self._factors |= {k: min(max(value, low), high) for k, value in moved.items()}

    def state_dict(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """Everything that moves, JSON-able."""
        return {
            "factors": dict(self._factors),
            "averages": dict(self._averages),
            "seen": dict(self._seen),
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ValueError: The state is of other objectives or of another class.
        """
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(f"balance state has the keys {sorted(state)}, not {sorted(own)}")
        for key, values in state.items():
            if values.keys() != self._factors.keys():
                raise ValueError(
                    f"balance state {key} is of {sorted(values)}, not {sorted(self._factors)}"
                )
        self._factors = {k: float(state["factors"][k]) for k in self._factors}
        self._averages = {k: float(state["averages"][k]) for k in self._factors}
        self._seen = {k: int(state["seen"][k]) for k in self._factors}
