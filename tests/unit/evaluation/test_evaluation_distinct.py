"""Distinct share of completions, measured against the gold answers' own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.evaluation.distinct import distinct_share


def test_worked_numbers() -> None:
    # 3 distinct golds; 2 distinct completions up to case, period and blanks: 2/3.
    golds = ["a b", "c", "d", "c"]
    assert distinct_share(["X y", "x  y.", "z", "Z!"], golds) == pytest.approx(2 / 3, abs=1e-12)
    # Different answers to items that share one: more than the golds' own.
    assert distinct_share(["1", "2"], ["a", "a"]) == 2
    assert distinct_share([], []) is None


@given(st.lists(st.text(min_size=1), min_size=1))
def test_the_golds_themselves_have_one(golds: list[str]) -> None:
    assert distinct_share(golds, golds) == 1


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="1 texts for 2"):
        distinct_share(["a"], ["a", "b"])
