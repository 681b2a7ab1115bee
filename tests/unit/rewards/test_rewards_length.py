"""Soft overlong: the worked numbers of the paper and of the note."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.rewards.length import soft_overlong


@pytest.mark.parametrize(
    ("tokens", "limit", "margin", "expected"),
    [
        # L = 20480, Lc = 4096 = .2 L: 0 at L - Lc, (16384 - 18432) / 4096 = -.5, -1 at L.
        (16384, 20480, 0.2, 0.0),
        (18432, 20480, 0.2, -0.5),
        (20480, 20480, 0.2, -1.0),
        (20481, 20480, 0.2, -1.0),
        # L = 128, Lc = 32: (96 - 100) / 32 = -.125, (96 - 112) / 32 = -.5.
        (96, 128, 0.25, 0.0),
        (100, 128, 0.25, -0.125),
        (112, 128, 0.25, -0.5),
        (128, 128, 0.25, -1.0),
        (0, 128, 1.0, 0.0),
        (64, 128, 1.0, -0.5),
    ],
)
def test_worked_numbers(tokens: int, limit: int, margin: float, expected: float) -> None:
    assert soft_overlong(tokens, limit=limit, margin=margin) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 500), st.integers(1, 400), st.floats(0.01, 1.0))
def test_it_is_bounded_and_never_rises_with_length(n: int, limit: int, margin: float) -> None:
    here = soft_overlong(n, limit=limit, margin=margin)
    assert -1.0 - 1e-9 <= here <= 0.0
    assert soft_overlong(n + 1, limit=limit, margin=margin) <= here
