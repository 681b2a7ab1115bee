"""Pairs by likelihood against cases worked by hand."""

from pathlib import Path

import pytest

from grpo_dual.errors import DataError
from grpo_dual.evaluation.preference import (
    Preference,
    compare_preference,
    pair_choices,
    pairs_of,
    score_preference,
)
from grpo_dual.records.halueval import iter_halueval
from grpo_dual.types import Choices, ContinuationScore, HaluEvalRecord
from made_records import halueval_record

Scores = tuple[ContinuationScore, ContinuationScore]


def pair(number: int, words: int, longer_by: int) -> HaluEvalRecord:
    """A pair whose rejected side has ``longer_by`` words more than the accepted one."""
    return halueval_record(
        record_id=f"halueval/qa/{number}",
        context=f"Passage {number}.",
        accepted=" ".join(["yes"] * words),
        rejected=" ".join(["no"] * (words + longer_by)),
    )


PAIRS = [pair(0, 1, 6), pair(1, 2, 3), pair(2, 4, -2), pair(3, 5, 0), pair(4, 9, -8)]


def scores(*values: tuple[float, int, float, int]) -> list[Scores]:
    return [(ContinuationScore(a, m), ContinuationScore(b, n)) for a, m, b, n in values]


GIVEN = scores(
    (-4.0, 1, -9.0, 6),  # sum: wins; mean -4 against -1.5: loses
    (-6.0, 3, -6.0, 6),  # sum: tie; mean -2 against -1: loses
    (-8.0, 8, -7.0, 2),  # sum: loses; mean -1 against -3.5: wins
    (-5.0, 5, -6.0, 6),  # sum: wins; mean: tie
    (-9.0, 9, -2.0, 1),  # sum: loses; mean -1 against -2: wins
)


def values(found: Preference) -> dict[str, float | None]:
    return {name: number.value for name, number in found.numbers.items()}


def test_worked_scores() -> None:
    got = values(score_preference(PAIRS, GIVEN))
    assert got["sum"] == pytest.approx((1 + 0.5 + 0 + 1 + 0) / 5, abs=1e-12)
    assert got["mean"] == pytest.approx((0 + 0 + 1 + 0.5 + 1) / 5, abs=1e-12)
    assert (got["ties_sum"], got["ties_mean"]) == (1 / 5, 1 / 5)
    # At most three words apart are pairs 1, 2 and 3.
    assert got["matched"] == 3 / 5
    assert got["sum_matched"] == pytest.approx(1.5 / 3, abs=1e-12)
    assert got["mean_matched"] == pytest.approx(1.5 / 3, abs=1e-12)
    # Shorter wins: pairs 0 and 1, not 2 and 4; 3 is a coin.
    assert got["null_shorter"] == pytest.approx(2.5 / 5, abs=1e-12)
    assert got["null_shorter_matched"] == pytest.approx(1.5 / 3, abs=1e-12)
    # Accepted shorter (0, 1): 1 and 1/2; accepted longer (2, 4): 0 and 0: (3/4 + 0) / 2.
    assert got["sum_balanced"] == pytest.approx(3 / 8, abs=1e-12)
    assert got["mean_balanced"] == pytest.approx((0 + 1) / 2, abs=1e-12)


def test_a_rule_of_length_alone_gains_nothing_when_balanced() -> None:
    """A nat a word prefers the shorter side always: right on 9 of 10 pairs, balanced 1/2."""
    pairs = [pair(n, 3, 5) for n in range(9)] + [pair(9, 8, -5)]
    by_length = [
        (
            ContinuationScore(-float(len((r.accepted or "").split())), 1),
            ContinuationScore(-float(len((r.rejected or "").split())), 1),
        )
        for r in pairs
    ]
    got = values(score_preference(pairs, by_length))
    assert (got["sum"], got["null_shorter"], got["sum_balanced"]) == (0.9, 0.9, 0.5)
    assert got["sum_matched"] is None


def test_one_sided_length_has_no_balance() -> None:
    got = values(score_preference(PAIRS[:2], GIVEN[:2]))
    assert got["sum_balanced"] is None
    assert got["sum"] == 0.75


def test_two_models_on_the_same_pairs() -> None:
    first = score_preference(PAIRS, GIVEN)
    wins = [(ContinuationScore(-1.0, 1), ContinuationScore(-2.0, 1))] * 5
    gain = compare_preference(first, score_preference(PAIRS, wins))
    assert gain["sum"].value == pytest.approx(1 - 0.5, abs=1e-12)
    assert gain["ties_sum"].value == pytest.approx(-1 / 5, abs=1e-12)
    assert gain["null_shorter"].value == 0
    assert gain["sum"].items == 5
    with pytest.raises(DataError, match="same items"):
        compare_preference(first, score_preference(PAIRS[:4], wins[:4]))


def test_only_pairs_have_a_preference() -> None:
    odd = [halueval_record(rejected=None), halueval_record(rejected="Oslo"), PAIRS[0]]
    assert pairs_of(odd) == [PAIRS[0]]
    with pytest.raises(DataError, match="no two sides"):
        score_preference(odd[:1], GIVEN[:1])
    # Accepted first; PAIRS[1] has two words against five.
    item = pair_choices(PAIRS[1], (7, 8), lambda text: (len(text.split()), 0))
    assert item == Choices((7, 8), ((2, 0), (5, 0)))
    with pytest.raises(DataError, match="no two sides"):
        pair_choices(odd[0], (7,), lambda _: (1,))


def test_nulls_on_the_real_rows(shared_data: Path) -> None:
    """Reference values, with other word counts: 97.4 %, on matched pairs 85.7 % (n = 269)."""
    rows = pairs_of(iter_halueval(shared_data / "halueval", subsets=("qa",)))
    tied = [(ContinuationScore(-1.0, 1), ContinuationScore(-1.0, 1))] * len(rows)
    got = score_preference(rows, tied, draws=0).numbers
    assert got["null_shorter"].value == pytest.approx(0.9756, abs=5e-5)
    assert got["null_shorter_matched"].value == pytest.approx(0.8709, abs=5e-5)
    assert got["null_shorter_matched"].items == 275
    assert (got["sum"].value, got["ties_mean"].value) == (0.5, 1)
