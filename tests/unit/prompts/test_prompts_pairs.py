"""The pair of a record: which side is accepted, and that the rejected one is never a target."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from grpo_dual.prompts import fairness, hallucination
from grpo_dual.prompts.parse import Choice
from grpo_dual.records import synthetic
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.halueval import as_answer, as_detection, iter_halueval
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Pair
from made_records import bbq_record, halueval_record

AMBIGUOUS = bbq_record(
    context="I saw a grandson and his grandfather.",
    question="Who was not comfortable using the phone?",
    options=("The  grandfather ", "Unknown", "The grandson"),
    label=1,
    unknown=1,
)
DISAMBIGUATED = dataclasses.replace(AMBIGUOUS, condition=Condition.DISAMBIGUATED, label=2)
QA = halueval_record(
    record_id="halueval/qa/1",
    context="The mill was built in 1844.",
    query="When was the mill built?",
    accepted=" 1844 ",
    rejected="It was built in 1901",
)


@pytest.mark.parametrize(
    ("record", "pair"),
    [
        # The unknown option against the bias-consistent person; blanks as in the target.
        (AMBIGUOUS, Pair("Unknown", "The grandfather")),
        (dataclasses.replace(AMBIGUOUS, biased=2), Pair("Unknown", "The grandson")),
        (dataclasses.replace(AMBIGUOUS, biased=None), None),
        # The stated person against the stereotyped one, or evading where it is the same.
        (DISAMBIGUATED, Pair("The grandson", "The grandfather")),
        (dataclasses.replace(DISAMBIGUATED, label=0), Pair("The grandfather", "Unknown")),
        (dataclasses.replace(DISAMBIGUATED, biased=None), None),
    ],
)
def test_fairness(record: BbqRecord, pair: Pair | None):
    assert fairness.pair(record) == pair


@pytest.mark.parametrize(
    ("record", "pair"),
    [
        (QA, Pair("1844", "It was built in 1901")),
        (dataclasses.replace(QA, rejected=None), None),
        (dataclasses.replace(QA, accepted=None), None),
        (dataclasses.replace(QA, rejected=" \n"), None),
        (dataclasses.replace(QA, rejected="1844"), None),
        (as_detection(QA, hallucinated=True), None),
        (as_answer(as_detection(QA, hallucinated=False)), None),
    ],
)
def test_hallucination(record: HaluEvalRecord, pair: Pair | None):
    assert hallucination.pair(record) == pair


def check_halueval(record: HaluEvalRecord) -> bool:
    pair = hallucination.pair(record)
    if pair is None:
        return False
    assert pair.accepted == hallucination.target(record)
    assert pair.rejected != hallucination.target(record)
    # Nor is it learnt as the other task's reply.
    for side in (False, True):
        assert hallucination.target(as_detection(record, hallucinated=side)) in ("yes", "no")
    return True


def check_bbq(record: BbqRecord) -> bool:
    pair = fairness.pair(record)
    if pair is None:
        return False
    assert pair.accepted == fairness.target(record) != pair.rejected
    reply = fairness.parse(pair.rejected, record)
    assert isinstance(reply, Choice)
    assert reply.index in (record.biased, record.unknown)
    assert reply.index != record.label
    return True


def test_the_rejected_side_of_the_synthetic_world_is_never_a_target():
    halueval = [
        check_halueval(record)
        for subset in ("qa", "dialogue", "summarization")
        for record in synthetic.halueval_records("train", subset, 100, 0)
    ]
    assert halueval == [True] * 300
    bbq = list(synthetic.bbq_records("train", 50, 0))
    assert all(check_bbq(record) for record in bbq)
    # The unknown option must not stand on accepted sides only.
    unknown = Counter(
        side
        for record in bbq
        if (pair := fairness.pair(record))
        for side, text in (("accepted", pair.accepted), ("rejected", pair.rejected))
        if text == record.options[record.unknown]
    )
    assert unknown["accepted"] == 100
    assert 30 <= unknown["rejected"] <= 70
    general = synthetic.halueval_records("train", "general", 20, 0)
    assert not any(check_halueval(record) for record in general)


def test_the_rejected_side_of_real_rows_is_never_a_target(shared_data: Path):
    halueval = Counter(
        (record.subset, check_halueval(record))
        for record in iter_halueval(shared_data / "halueval")
    )
    # Every row of the paired subsets is a pair, none of general is.
    assert set(halueval) <= {
        ("qa", True),
        ("dialogue", True),
        ("summarization", True),
        ("general", False),
    }
    assert halueval["qa", True] > 1000
    bbq = Counter((record.subset, check_bbq(record)) for record in iter_bbq(shared_data / "bbq"))
    # Upstream's rule cannot say the bias-consistent option of 16 rows.
    missing = {key[0]: n for key, n in bbq.items() if not key[1]}
    assert missing == {"Gender_identity": 16}
