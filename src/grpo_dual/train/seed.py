"""Seeds: everything random in a run comes from one number, and each purpose has its own stream."""

import hashlib
import os
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices).

    Args:
        seed: Any non-negative integer; numpy takes its lowest 32 bits.
    """
    random.seed(seed)
    # Libraries below us may draw from numpy's legacy global generator; this package never does.
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def step_seed(seed: int, step: int, purpose: str) -> int:
    """Seed of one purpose in one step, independent of every other (63 bits of SHA-256).

    A step that draws from its own stream gives the same numbers after a resume, whatever was drawn
    before it. ``step_seed(0, 3, "rollout/fairness")`` is the same on every machine.

    Args:
        seed: The run's seed.
        step: The step.
        purpose: What is drawn, e.g. ``rollout/fairness``.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def use_deterministic(on: bool = True) -> None:
    """Have torch use deterministic kernels only; one without a deterministic form then raises.

    Call it before the first CUDA operation: cuBLAS reads its workspace setting when it starts.
    """
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.deterministic = on
    if on:
        torch.backends.cudnn.benchmark = False
