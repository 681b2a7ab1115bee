"""Soft overlong: its extremes and its shape; the worked numbers are in tests/numerics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.rewards.length import soft_overlong


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0.0), (64, -0.5), (128, -1.0)])
def test_a_margin_of_one_is_a_slope_from_the_first_token(tokens: int, expected: float) -> None:
    # Lc = L = 128: (0 - 64) / 128.
    assert soft_overlong(tokens, limit=128, margin=1.0) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 500), st.integers(1, 400), st.floats(0.01, 1.0))
def test_it_is_bounded_and_never_rises_with_length(n: int, limit: int, margin: float) -> None:
    here = soft_overlong(n, limit=limit, margin=margin)
    assert -1.0 - 1e-9 <= here <= 0.0
    assert soft_overlong(n + 1, limit=limit, margin=margin) <= here
