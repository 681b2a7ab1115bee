"""The learning rate over a run."""

import math

from grpo_dual.config.schema import OptimizerConfig


def learning_rate_at(update: int, total: int, config: OptimizerConfig) -> float:
    """Learning rate of an optimiser update: linear warm-up, then constant, linear or cosine to 0.

    Args:
        update: Updates done so far, from 0.
        total: Updates of the whole run.
        config: Peak, shape and warm-up.
    """
    if update < config.warmup_steps:
        return config.learning_rate * (update + 1) / config.warmup_steps
    progress = (update - config.warmup_steps) / max(1, total - config.warmup_steps)
    shape = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[config.schedule]
    return config.learning_rate * max(0.0, shape)
