"""The recognition task's scores against cases worked by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from grpo_dual.errors import DataError
from grpo_dual.evaluation.detection import (
    Detection,
    cluster_of,
    compare_detection,
    likelier,
    score_detection,
    score_verdicts,
    shown_texts,
    verdict_choices,
)
from grpo_dual.evaluation.preference import pairs_of
from grpo_dual.records.halueval import as_detection, iter_halueval
from grpo_dual.types import Choices, ContinuationScore, HaluEvalRecord
from made_records import halueval_record


def pair(number: int, accepted: str, rejected: str, context: str = "") -> HaluEvalRecord:
    return halueval_record(
        record_id=f"halueval/qa/{number}",
        context=context or f"Passage {number}.",
        accepted=accepted,
        rejected=rejected,
    )


PAIRS = [
    pair(0, "Oslo", "She was born in Bergen"),  # 1 and 5 words
    pair(1, "Rome", "It is in Paris"),  # 1 and 4
    pair(2, "In the year 1900", "1901"),  # 4 and 1: the wrong side is the shorter
    pair(3, "Bob Dylan", "Joan Baez"),  # 2 and 2
]
ITEMS = shown_texts(PAIRS, seed=0)


def values(found: Detection) -> dict[str, float | None]:
    return {name: number.value for name, number in found.numbers.items()}


def test_both_sides_of_every_pair_are_shown() -> None:
    assert [item.record.record_id for item in ITEMS[:2]] == [
        "halueval/qa/0/right",
        "halueval/qa/0/hallucinated",
    ]
    assert [item.record.hallucinated for item in ITEMS] == [False, True] * 4
    assert [item.longer for item in ITEMS] == [0, 1, 0, 1, 1, 0, 0.5, 0.5]
    # The coin takes one side of each pair, the same one whatever stands beside it.
    assert [a.drawn + b.drawn for a, b in zip(ITEMS[::2], ITEMS[1::2], strict=True)] == [1] * 4
    assert shown_texts(PAIRS[2:], seed=0) == ITEMS[4:]
    coins = [[item.drawn for item in shown_texts(PAIRS, seed=seed)] for seed in range(8)]
    assert any(coin != coins[0] for coin in coins)


def test_worked_scores() -> None:
    """Right sides: No, No, invalid, No. Hallucinated sides: Yes, No, Yes, invalid.

    Right are 3 of 4 and 2 of 4: accuracy 5/8, balanced (3/4 + 2/4) / 2 = 5/8, invalid 2/8,
    of the six valid 5 right, of the six valid 2 say Yes.
    Shorter wins: pairs 0 and 1 right, 2 wrong, 3 a coin: 2.5/4 = 5/8.
    """
    replies = ["No", "Yes", "No.", "No", "maybe", "Yes", "no", ""]
    found = score_detection(ITEMS, replies)
    got = values(found)
    assert got["accuracy"] == got["balanced_accuracy"] == got["null_shorter"] == 5 / 8
    assert got["invalid"] == 2 / 8
    assert got["accuracy_valid"] == pytest.approx(5 / 6, abs=1e-12)
    assert got["says_hallucinated"] == pytest.approx(2 / 6, abs=1e-12)
    assert got["null_majority"] == 1 / 2
    # Lengths 1 1 1 2 2 4 4 5 with labels n n y n y n y y. Called hallucinated from 2 words on:
    # two n below and three y above are right, 5 of 8; from 4 on 3 + 2, from 5 on 4 + 1.
    assert got["null_length"] == 5 / 8
    drawn = [o for o in found.outcomes if o.drawn]
    assert got["accuracy_drawn"] == sum(o.right for o in drawn) / 4
    assert found.numbers["accuracy"].clusters == 4
    assert found.numbers["accuracy_drawn"].items == 4


def test_unequal_labels_need_balance() -> None:
    """Three hallucinated texts and one right one, always called hallucinated: 3/4, balanced 1/2."""
    one_sided = [
        as_detection(PAIRS[n], hallucinated=label) for n, label in enumerate([True] * 3 + [False])
    ]
    got = values(score_verdicts(shown_texts(one_sided, seed=0), [True] * 4))
    assert (got["accuracy"], got["balanced_accuracy"], got["null_majority"]) == (0.75, 0.5, 0.75)
    assert got["null_shorter"] is None
    assert got["accuracy_drawn"] == 0.75


def test_reading_decides_what_is_invalid() -> None:
    replies = ["Not at all", "The verdict is Yes"] * 4
    strict = values(score_detection(ITEMS, replies))
    upstream = values(score_detection(ITEMS, replies, reading="upstream"))
    assert (strict["invalid"], strict["accuracy"], strict["accuracy_valid"]) == (1, 0, None)
    assert (upstream["invalid"], upstream["accuracy"]) == (0, 1)


def test_verdicts_by_likelihood() -> None:
    item = verdict_choices((5, 6), lambda text: (len(text), 1))
    assert item == Choices((5, 6), ((3, 1), (2, 1)))
    yes, no = ContinuationScore(-1.0, 2), ContinuationScore(-2.0, 2)
    assert [likelier(pair) for pair in ((yes, no), (no, yes), (no, no))] == [True, False, None]


def test_degenerate_policies() -> None:
    for said in (True, False):
        got = values(score_verdicts(ITEMS, [said] * 8))
        assert got["accuracy"] == got["balanced_accuracy"] == 0.5
        assert got["says_hallucinated"] == said
    mute = values(score_verdicts(ITEMS, [None] * 8))
    assert (mute["accuracy"], mute["balanced_accuracy"], mute["invalid"]) == (0, 0, 1)
    assert mute["accuracy_valid"] is mute["says_hallucinated"] is None
    nothing = score_verdicts([], [])
    assert set(values(nothing).values()) == {None}
    by_length = values(score_verdicts(ITEMS, [item.longer == 1 for item in ITEMS]))
    assert by_length["accuracy"] == by_length["null_shorter"] == 5 / 8


def test_texts_of_one_passage_are_one_cluster() -> None:
    twins = [pair(7, "a", "b", "The same."), pair(8, "c", "d", "The same.")]
    items = shown_texts(twins, seed=0)
    assert len({item.cluster for item in items}) == 1
    assert score_verdicts(items, [True] * 4).numbers["accuracy"].low is None
    assert cluster_of(PAIRS[0]) != cluster_of(PAIRS[1])
    bare = [pair(9, "a", "b"), pair(10, "a", "b")]
    without = [cluster_of(halueval_record(context="", query=q)) for q in ("who?", "who?", "why?")]
    assert without[0] == without[1] != without[2]
    assert cluster_of(bare[0]) != cluster_of(bare[1])


def test_two_models_on_the_same_texts() -> None:
    """The second is right on everything, the first on 5 of 8 as above: gain 3/8."""
    first = score_detection(ITEMS, ["No", "Yes", "No.", "No", "maybe", "Yes", "no", ""])
    order = ITEMS[::-1]
    second = score_verdicts(order, [item.record.hallucinated for item in order])
    gain = compare_detection(first, second)
    assert gain["accuracy"].value == pytest.approx(3 / 8, abs=1e-12)
    assert gain["invalid"].value == -2 / 8
    # Gains by pair: 0, 1/2, 1/2, 1/2. All four draws of the first: (1/4)^4 = .4 % < 2.5 %.
    assert gain["accuracy"].low == pytest.approx(1 / 8, abs=1e-12)
    assert gain["null_shorter"].value == 0
    with pytest.raises(DataError, match="halueval/qa/3/hallucinated"):
        compare_detection(first, score_verdicts(ITEMS[:7], [True] * 7))
    with pytest.raises(DataError, match="twice"):
        compare_detection(first, score_verdicts([*ITEMS, ITEMS[0]], [True] * 9))


def test_what_has_no_verdict_is_refused() -> None:
    with pytest.raises(DataError, match="no rejected side"):
        shown_texts([halueval_record(rejected=None)], seed=0)
    silent = replace(ITEMS[0].record, hallucinated=None)
    with pytest.raises(DataError, match="no text with a verdict"):
        shown_texts([silent], seed=0)
    with pytest.raises(ValueError, match="zip"):
        score_verdicts(ITEMS, [True])


def test_length_tells_on_the_real_rows(shared_data: Path) -> None:
    """On 1,700 qa pairs a rule that only counts words is right 97.6 % of the time, ties halved."""
    rows = pairs_of(iter_halueval(shared_data / "halueval", subsets=("qa",)))
    assert len(rows) == 1700
    found = score_verdicts(shown_texts(rows, seed=0), [False] * 3400, draws=200)
    got = found.numbers["null_shorter"]
    assert got.value == pytest.approx(0.9756, abs=5e-5)
    assert found.numbers["balanced_accuracy"].value == 0.5
