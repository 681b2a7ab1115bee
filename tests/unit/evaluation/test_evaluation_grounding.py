"""Open answers: three outcomes counted apart, and no verdict in none of them."""

import random
from pathlib import Path

import pytest
from policies import EVASION, HALLUCINATION, HALU, accepted, rejected

from grpo_dual.errors import DataError
from grpo_dual.evaluation.grounding import Grounding, compare_answers, score_answers
from grpo_dual.records import synthetic
from grpo_dual.records.halueval import as_answer, iter_halueval


def values(found: Grounding) -> dict[str, float | None]:
    return {name: number.value for name, number in found.numbers.items()}


def test_worked_shares() -> None:
    """Ten items: 4 right, 3 decline, 1 wrong, 2 of general without knowledge and no verdict."""
    general = [as_answer(r) for r in synthetic.halueval_records("test", "general", 2, 0)]
    rows = HALU[:8]
    texts = [accepted(r) for r in rows[:4]] + [EVASION] * 3 + [rejected(rows[7])]
    found = score_answers([*rows, *general], [*texts, "anything", "anything"])
    assert values(found) == {
        "grounded": 4 / 8,
        "abstains": 3 / 8,
        "hallucinated": 1 / 8,
        "hallucinated_answering": 1 / 5,  # of the five that do not decline
        "no_verdict": 2 / 10,
    }
    assert [o.judged_by for o in found.outcomes] == ["gold"] * 8 + [None] * 2
    assert found.numbers["grounded"].items == 8
    assert found.numbers["no_verdict"].items == 10


@pytest.mark.parametrize(
    ("policy", "shares"),
    [("oracle", (1, 0, 0, 0)), ("abstain", (0, 1, 0, None)), ("rejected", (0, 0, 1, 1))],
)
def test_degenerate_policies(policy: str, shares: tuple[float, ...]) -> None:
    rng = random.Random(0)
    got = values(score_answers(HALU, [HALLUCINATION[policy](rng, r) for r in HALU]))
    names = ("grounded", "abstains", "hallucinated", "hallucinated_answering")
    assert tuple(got[name] for name in names) == shares


def test_declining_more_is_seen_as_that() -> None:
    """The second declines where the first hallucinated: no less hallucination among answers."""
    rows = HALU[:6]
    first = score_answers(rows, [rejected(r) for r in rows])
    second = score_answers(rows, [*[EVASION] * 3, *[rejected(r) for r in rows[3:]]])
    gain = compare_answers(first, second)
    assert gain["hallucinated"].value == -0.5
    assert gain["abstains"].value == 0.5
    assert gain["hallucinated_answering"].value == 0
    assert gain["grounded"].excludes_zero is False
    with pytest.raises(DataError, match="same items"):
        compare_answers(first, score_answers(rows[1:], [EVASION] * 5))


def test_real_rows_are_judged_by_the_heuristic(shared_data: Path) -> None:
    rows = list(iter_halueval(shared_data / "halueval", subsets=("qa",)))[:20]
    found = score_answers(rows, [accepted(r) for r in rows])
    assert values(found)["grounded"] == 1
    assert {o.judged_by for o in found.outcomes} == {"heuristic"}
