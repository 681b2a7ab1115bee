"""The reward's judge against the embedded world's own gold, which shares no code with it."""

import random

import pytest

from grpo_dual.evaluation.world import judge_by_gold
from grpo_dual.judges.heuristic import judge
from grpo_dual.records import synthetic
from grpo_dual.records.vocabulary import EVASIONS, Split
from grpo_dual.types import HaluEvalRecord


def candidates(rng: random.Random, record: HaluEvalRecord, other: HaluEvalRecord) -> list[str]:
    """True and false statements, most made by exchanging words between true ones."""
    # The four facts; a summary's document ends with a fifth sentence that states none.
    facts = [s.strip() for s in record.context.split(".") if s.strip()][:4]
    accepted, foreign = str(record.accepted).rstrip("."), str(other.accepted).rstrip(".")
    first, last = accepted.split()[0], accepted.split()[-1]
    return [
        accepted,
        str(record.rejected),
        rng.choice(facts),
        foreign,
        accepted.replace(last, foreign.split()[-1]),
        accepted.replace(first, foreign.split()[0]),
        accepted.replace(first, rng.choice(facts).split()[0]),
        accepted.replace(last, rng.choice(facts).split()[-1]),
        rng.choice(EVASIONS),
        "I don't know.",
        record.query or "Summary",
    ]


def test_declining_and_answering_counts_as_the_answer_here_and_as_declining_there() -> None:
    # The one difference of convention: for the reward an evasion names no answer.
    for record in synthetic.halueval_records("train", "qa", 20, 5):
        text = f"{EVASIONS[0]} {str(record.accepted).rstrip('.')}."
        assert judge(record, text).verdict == "grounded"
        assert judge_by_gold(record, text) == "abstains"


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("subset", ["qa", "dialogue", "summarization"])
def test_the_judge_agrees_with_the_worlds_gold(split: Split, subset: str) -> None:
    rng = random.Random(0)
    records = list(synthetic.halueval_records(split, subset, 300, 5))
    agreed = undeserved = total = 0
    for index, record in enumerate(records):
        for text in candidates(rng, record, records[(index + 7) % len(records)]):
            verdict, gold = judge(record, text).verdict, judge_by_gold(record, text)
            total += 1
            agreed += verdict == gold
            undeserved += verdict == "grounded" and gold != "grounded"
    # What is left: "Mormir admired Mormir".
    assert agreed / total >= 0.99
    assert undeserved / total <= 0.005
