"""HaluEval's metrics: who judged, what is left out, and detection beside its baselines."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policies import EVASION, HALLUCINATION, HALU, accepted, rejected

from grpo_dual.errors import DataError
from grpo_dual.evaluation.halueval import length_baseline, score_halueval
from grpo_dual.records import synthetic
from grpo_dual.records.halueval import as_answer, as_detection, iter_halueval
from grpo_dual.types import HaluEvalRecord, Task


@pytest.mark.parametrize(
    ("policy", "shares"),
    [
        ("oracle", (1, 0, 0)),
        ("rejected", (0, 0, 1)),
        ("abstain", (0, 1, 0)),
        ("paste", (0, 0, 1)),
        ("both", (0, 0, 1)),
    ],
)
def test_answer_policies_on_the_world(policy: str, shares: tuple[float, float, float]) -> None:
    rng = random.Random(0)
    got = score_halueval(HALU, [HALLUCINATION[policy](rng, r) for r in HALU])
    assert (got["grounded"], got["abstains"], got["hallucinated"]) == shares
    assert (got["judged_by"], got["n_answer"], got["n_unjudged"]) == ("gold", len(HALU), 0)
    assert got["detect_accuracy"] is got["detect_always_no"] is got["detect_length_only"] is None
    assert got["n_detect"] == 0


def test_real_rows_are_judged_by_the_heuristic_and_say_so(shared_data: Path) -> None:
    real = list(iter_halueval(shared_data / "halueval", subsets=("qa",)))[:40]
    got = score_halueval(real, [accepted(r) for r in real])
    assert (got["judged_by"], got["grounded"]) == ("heuristic", 1)
    assert score_halueval(real, [EVASION] * len(real))["abstains"] == 1
    both = score_halueval([real[0], HALU[0]], [accepted(real[0]), rejected(HALU[0])])
    assert (both["judged_by"], both["grounded"]) == ("gold+heuristic", 0.5)


def test_answers_without_knowledge_are_counted_and_left_out() -> None:
    general = [as_answer(r) for r in synthetic.halueval_records("test", "general", 8, 0)]
    got = score_halueval([*general, HALU[0]], ["anything"] * 8 + [accepted(HALU[0])])
    assert (got["grounded"], got["n_answer"], got["n_unjudged"]) == (1, 1, 8)
    alone = score_halueval(general, ["anything"] * 8)
    assert alone["grounded"] is None
    assert alone["judged_by"] is None


def detect(lengths: list[int], labels: list[bool]) -> list[HaluEvalRecord]:
    return [
        replace(
            as_detection(HALU[0], hallucinated=label), shown=" ".join(["word"] * n), context="k"
        )
        for n, label in zip(lengths, labels, strict=True)
    ]


def test_detection_with_worked_numbers() -> None:
    # Lengths 2 2 5 5 9, labels no no yes yes no. "yes" from 3 words on: 4 of 5, the best there is;
    # always no: 3 of 5. Replies: right, wrong, right, unparsed, unparsed -> 2/5 and 2/5.
    items = detect([2, 2, 5, 5, 9], [False, False, True, True, False])
    got = score_halueval(items, ["no", "Yes.", "yes", "perhaps", ""])
    assert got["detect_accuracy"] == pytest.approx(0.4, abs=1e-12)
    assert got["detect_unparsed"] == pytest.approx(0.4, abs=1e-12)
    assert got["detect_always_no"] == pytest.approx(0.6, abs=1e-12)
    assert got["detect_length_only"] == pytest.approx(0.8, abs=1e-12)
    assert got["n_detect"] == 5
    assert got["grounded"] is None


def test_the_length_baseline_knows_both_directions() -> None:
    assert length_baseline(detect([1, 2, 3, 4], [True, True, False, False])) == 1
    assert length_baseline(detect([1, 2, 3, 4], [False, False, True, True])) == 1
    assert length_baseline([]) is None


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=20))
def test_the_length_baseline_is_the_best_of_all_thresholds(rows: list[tuple[int, bool]]) -> None:
    items = detect([n for n, _ in rows], [label for _, label in rows])
    tried = [
        sum(((n >= bound) == up) == label for n, label in rows)
        for bound in range(8)
        for up in (True, False)
    ]
    assert length_baseline(items) == pytest.approx(max(tried) / len(rows), abs=1e-12)


def test_real_qa_is_told_apart_by_length_alone(shared_data: Path) -> None:
    real = list(iter_halueval(shared_data / "halueval", subsets=("qa",)))
    items = [as_detection(r, hallucinated=side) for r in real for side in (True, False)]
    got = score_halueval(items, ["no"] * len(items))
    assert got["detect_accuracy"] == got["detect_always_no"] == 0.5
    # Pairwise "the shorter is right" wins 97.4 % of these pairs; one threshold for all is near it.
    assert isinstance(got["detect_length_only"], float)
    assert got["detect_length_only"] > 0.9


def test_a_detection_item_without_gold_is_refused() -> None:
    bad = replace(detect([1], [True])[0], hallucinated=None)
    with pytest.raises(DataError, match="no gold verdict"):
        score_halueval([bad], ["yes"])


def test_texts_and_records_must_match() -> None:
    assert HALU[0].task is Task.ANSWER
    with pytest.raises(ValueError, match="shorter"):
        score_halueval(HALU[:2], ["x"])
