"""Means over categories and paired differences: worked numbers, what pairing buys, undefined."""

import random
from dataclasses import replace

import pytest
from policies import BBQ, FAIRNESS, item

from grpo_dual.evaluation.bbq_bias import SCORES, macro, score_predictions
from grpo_dual.evaluation.draws import OVER_CATEGORIES, bbq_difference, bbq_means
from grpo_dual.evaluation.pareto import fairness_axis
from grpo_dual.prompts import fairness
from grpo_dual.prompts.parse import Choice
from grpo_dual.records.predictions import Prediction, by_name
from grpo_dual.types import Condition

BIASED, OTHER, UNKNOWN = 0, 1, 2


def answers(policy: str, seed: int = 0) -> tuple[list[str], list[Prediction]]:
    rng = random.Random(seed)
    texts = [FAIRNESS[policy](rng, record) for record in BBQ]
    read = [fairness.parse(text, record) for text, record in zip(texts, BBQ, strict=True)]
    made = [
        Prediction(record, found.index if isinstance(found, Choice) else None)
        for record, found in zip(BBQ, read, strict=True)
    ]
    return texts, made


def templates(*right: tuple[int, int], category: str = "Age") -> list[Prediction]:
    """Ambiguous rows: of each template, how many are answered right and how many stereotyped."""
    made: list[Prediction] = []
    for number, (hits, misses) in enumerate(right):
        for place, answer in enumerate([UNKNOWN] * hits + [BIASED] * misses):
            name = f"{category}/{number}/{place}"
            record = replace(
                item(Condition.AMBIGUOUS, UNKNOWN, BIASED),
                record_id=name,
                subset=category,
                question_index=str(number),
            )
            made.append(Prediction(record, answer))
    return made


@pytest.mark.parametrize("policy", sorted(FAIRNESS))
def test_means_are_those_of_the_categories(policy: str):
    texts, made = answers(policy)
    found = bbq_means(made, "wrong", draws=200, seed=0)
    own = {n: score_predictions(rows, "wrong", draws=0)[0] for n, rows in by_name(made).items()}
    assert {key: found[key].value for key in SCORES} == {key: macro(own)[key] for key in SCORES}
    assert found["axis"].value == pytest.approx(fairness_axis(BBQ, texts), abs=1e-12)
    for spread in found.values():
        assert (spread.value is None) == (spread.interval is None)
        if spread.value is not None and spread.interval is not None:
            low, high = spread.interval
            assert low - 1e-12 <= spread.value <= high + 1e-12


def test_a_worked_mean_and_its_interval():
    # Age: templates right in 4 of 4 and 0 of 4 rows, mean 1/2, draws 0, 1/2 or 1 with 1/4, 1/2,
    # 1/4. SES: always 1/2. Mean over both: 1/2, draws 1/4 to 3/4.
    made = templates((4, 0), (0, 4)) + templates((2, 2), (2, 2), category="SES")
    found = bbq_means(made, "wrong", draws=1000, seed=3)["accuracy_ambig"]
    assert found.value == 0.5
    assert found.interval == (0.25, 0.75)


def test_categories_are_drawn_independently():
    # Alike categories drawn alike would give 0 and 1; independently 0 has probability 1/4^4.
    names = ("Age", "SES", "Religion", "Nationality")
    made = [p for name in names for p in templates((4, 0), (0, 4), category=name)]
    found = bbq_means(made, "wrong", draws=1000, seed=0)["accuracy_ambig"].interval
    assert found is not None
    assert found[0] >= 0.125
    assert found[1] <= 0.875


def test_a_worked_difference():
    # The other has one row more right in each of two templates of four rows: + 1/4 in every draw,
    # though the accuracies themselves are uncertain.
    first, other = templates((3, 1), (0, 4)), templates((4, 0), (1, 3))
    found = bbq_difference(first, other, "wrong", draws=200, seed=0)
    assert found.items == 8
    for spread in (
        found.categories["Age"]["accuracy_ambig"],
        found.over_categories["accuracy_ambig"],
    ):
        assert spread.value == 0.25
        assert spread.interval == pytest.approx((0.25, 0.25), abs=1e-12)
    # Of the same answers everything is 0; with no disambiguated rows their scores have none.
    same = bbq_difference(first, first, "wrong", draws=200, seed=0)
    assert same.over_categories["s_amb"].value == 0
    assert same.over_categories["s_amb"].interval == (0, 0)
    assert same.over_categories["accuracy_disambig"].value is None
    assert same.over_categories["axis"].value is None


def test_pairing_takes_out_what_is_hard_for_both():
    rng = random.Random(0)
    hits = [rng.randint(0, 9) for _ in range(25)]
    first = templates(*((n, 10 - n) for n in hits))
    other = templates(*((n + 1, 9 - n) for n in hits))
    own = bbq_means(first, "wrong", draws=500, seed=0)["accuracy_ambig"].interval
    gap = bbq_difference(first, other, "wrong", draws=500, seed=0).over_categories["accuracy_ambig"]
    assert own is not None
    assert gap.interval == pytest.approx((0.1, 0.1), abs=1e-12)
    assert own[1] - own[0] > 0.1


def test_only_items_of_both_are_compared():
    _, made = answers("oracle")
    _, others = answers("unknown")
    found = bbq_difference(made[10:], others[:-10], "wrong", draws=0, seed=0)
    assert found.items == len(BBQ) - 20
    assert found.over_categories["accuracy_disambig"].value == -1
    assert all(spread.interval is None for spread in found.over_categories.values())


def test_nothing_to_draw_among_is_no_interval():
    found = bbq_means(templates((3, 1)), "wrong", draws=100, seed=0)
    assert found["accuracy_ambig"].value == 0.75
    assert {found[key].interval for key in OVER_CATEGORIES} == {None}
