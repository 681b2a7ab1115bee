"""Were the rollouts drawn from the policy that is trained? Asked before every update."""

import math

from torch import Tensor

from grpo_dual.errors import NumericsError

CANARY_MEAN = 0.01
CANARY_TAIL = 0.5
"""Before the first update trainer and sampler must agree: |mean ratio - 1| and the 99.9th
percentile of |log ratio|. bf16 rounding stays well within both."""


def refuse_strangers(gap_N: Tensor) -> None:
    """Refuse to train on completions that another policy has drawn.

    The mean ratio may be off by ``CANARY_MEAN`` and four standard errors: in bf16 a few hundred
    tokens spread more than that.

    Raises:
        NumericsError: Trainer and sampler differ by more than rounding.
    """
    gap_N = gap_N.double()
    ratio_N = gap_N.exp()
    error = 4 * ratio_N.std().item() / math.sqrt(len(ratio_N)) if len(ratio_N) > 1 else 0.0
    mean = abs(ratio_N.mean().item() - 1)
    tail = gap_N.abs().quantile(0.999).item()
    if not (mean < CANARY_MEAN + error and tail < CANARY_TAIL):
        raise NumericsError(
            "the rollouts were not drawn from the policy that is trained: the mean ratio is off by "
            f"{mean:.3g} (allowed {CANARY_MEAN + error:.3g}), the 99.9th percentile of |log ratio| "
            f"is {tail:.3g} (allowed {CANARY_TAIL}). Check rollout.sampling, model.dtype and that "
            "no other adapter is active in the rollouts."
        )
