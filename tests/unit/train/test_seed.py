"""Seeds: reproducible, and one stream per purpose."""

import os
import random

import numpy as np
import pytest
import torch

from grpo_dual.train.seed import seed_everything, step_seed, use_deterministic
from grpo_dual.train.state import restore_rng, rng_state


def test_step_seed_is_the_same_everywhere():
    # printf '0/3/rollout/fairness' | sha256sum, first 16 hex digits, shifted right by one bit:
    # it depends on nothing but its arguments, so resumed runs on other machines agree.
    assert step_seed(0, 3, "rollout/fairness") == 8440417541122898485  # 0xea44c6119d36746a >> 1


def test_streams_are_apart():
    keys = [(seed, step, p) for seed in range(5) for step in range(50) for p in ("a", "b")]
    assert len({step_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= step_seed(*key) < 2**63 for key in keys)
    # Seed 1, step 12 is not seed 11, step 2.
    assert step_seed(1, 12, "x") != step_seed(11, 2, "x")


def test_seed_everything_repeats_all_generators():
    before = rng_state()
    try:
        draws = []
        for _ in range(2):
            seed_everything(2**40 + 5)
            normal = float(np.random.standard_normal())  # noqa: NPY002
            draws.append((random.random(), normal, float(torch.rand(()))))
        assert draws[0] == draws[1]
    finally:
        restore_rng(*before)


def test_deterministic_switch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        use_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        use_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()
