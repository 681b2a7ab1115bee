"""Worked numbers of DAPO's soft overlong punishment (T1.4); Lc = margin L."""

import pytest

from grpo_dual.rewards.length import soft_overlong


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # L = 20480, Lc = 4096: ((L - Lc) - n) / Lc is 0 at 16384, (16384 - 18432) / 4096 = -.5,
        # (16384 - 20480) / 4096 = -1, and -1 beyond the limit.
        (16383, 0.0),
        (16384, 0.0),
        (18432, -0.5),
        (20480, -1.0),
        (20481, -1.0),
    ],
)
def test_t14_of_the_paper(tokens, expected):
    assert soft_overlong(tokens, limit=20480, margin=0.2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # L = 128, Lc = 32: (96 - 100) / 32 = -.125, (96 - 112) / 32 = -.5, (96 - 127) / 32
        (96, 0.0),
        (100, -0.125),
        (112, -0.5),
        (127, -0.96875),
        (128, -1.0),
    ],
)
def test_t14_at_the_default_margin_of_a_quarter(tokens, expected):
    assert soft_overlong(tokens, limit=128, margin=0.25) == pytest.approx(expected, abs=1e-12)
