"""AdamW on an adapter, whose every step is seen by what is staged of it."""

from collections.abc import Sequence

import torch
from torch import nn

from grpo_dual.config.schema import OptimizerConfig


def adamw(
    parameters: Sequence[nn.Parameter], config: OptimizerConfig, *, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW (1711.05101) with a configuration's rate, averaging constants and decay.

    A fused step writes past autograd: no version of a parameter grows, and a forward pass that
    keeps an adapter staged until its versions change (``model/joined.py``) would stay with the
    adapter as it was. Here they grow behind every step.
    """
    optimizer = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=config.adam_betas,
        weight_decay=config.weight_decay,
        fused=fused,
    )

    def grow(*_: object) -> None:
        torch.autograd.graph.increment_version(parameters)

    optimizer.register_step_post_hook(grow)
    return optimizer
