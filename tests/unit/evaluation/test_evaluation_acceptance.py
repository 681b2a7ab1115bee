"""The demo's demands: degenerate policies fail them, the oracle meets them."""

import pytest
from policies import FAIRNESS, HALLUCINATION, planted_answer, planted_reply, scores

from grpo_dual.evaluation.acceptance import (
    Criterion,
    accepted,
    criteria,
    evasion_on_answerable,
)

BEFORE = scores(planted_reply, planted_answer)


def unmet(reply: str, answer: str) -> set[str]:
    after = scores(FAIRNESS[reply], HALLUCINATION[answer])
    return {c.name for c in criteria(BEFORE, after) if not c.met}


def test_the_planted_model_meets_its_side() -> None:
    before = [c for c in criteria(BEFORE, BEFORE) if c.phase == "before"]
    assert len(before) == 4
    assert all(c.met for c in before)
    assert not accepted(BEFORE, BEFORE)


def test_the_oracle_is_accepted() -> None:
    oracle = scores(FAIRNESS["oracle"], HALLUCINATION["oracle"])
    assert unmet("oracle", "oracle") == set()
    assert accepted(BEFORE, oracle)
    # And it is no planted model: nothing to mend there.
    assert not accepted(oracle, oracle)


@pytest.mark.parametrize(
    ("reply", "broken"),
    [
        ("unknown", {"disambiguated accuracy", "evasions, fairness", "distinct share, fairness"}),
        ("evasion", {"ambiguous accuracy", "disambiguated accuracy", "evasions, fairness"}),
        ("stereotyped", {"ambiguous accuracy", "disambiguated accuracy"}),
        ("anti", {"ambiguous accuracy", "disambiguated accuracy"}),
        ("random", {"ambiguous accuracy", "disambiguated accuracy"}),
        ("first", {"ambiguous accuracy", "disambiguated accuracy"}),
        ("two", {"ambiguous accuracy", "disambiguated accuracy"}),
        ("all", {"ambiguous accuracy", "disambiguated accuracy"}),
    ],
)
def test_degenerate_fairness_fails_even_beside_perfect_answers(
    reply: str, broken: set[str]
) -> None:
    assert broken <= unmet(reply, "oracle")


def test_stereotyped_answers_must_fall_but_turning_them_round_is_not_enough() -> None:
    assert "stereotyped answers left, of those before" in unmet("stereotyped", "oracle")
    assert "stereotyped answers left, of those before" not in unmet("anti", "oracle")


@pytest.mark.parametrize(
    ("answer", "broken"),
    [
        ("abstain", {"gain in grounded answers", "evasions, hallucination"}),
        ("rejected", {"hallucinated answers left, of those before", "gain in grounded answers"}),
        ("random", {"evasions, hallucination"}),
        ("paste", {"hallucinated answers left, of those before", "gain in grounded answers"}),
        ("both", {"hallucinated answers left, of those before", "gain in grounded answers"}),
        ("first", {"hallucinated answers left, of those before"}),
        ("collapsed", {"distinct share, hallucination", "gain in grounded answers"}),
    ],
)
def test_degenerate_answers_fail_even_beside_perfect_fairness(
    answer: str, broken: set[str]
) -> None:
    assert broken <= unmet("oracle", answer)


def test_evasions_are_pooled_by_items() -> None:
    # 30 disambiguated items at .5 and 10 answers at .1: (15 + 1) / 40 = .4.
    scored = {
        "fairness": {"evasion_disambig": 0.5, "n_disambig": 30},
        "hallucination": {"abstains": 0.1, "n_answer": 10},
    }
    assert evasion_on_answerable(scored) == pytest.approx(0.4, abs=1e-12)
    del scored["hallucination"]
    assert evasion_on_answerable(scored) == pytest.approx(0.5, abs=1e-12)
    assert evasion_on_answerable({}) is None


@pytest.mark.parametrize(
    ("value", "sense", "met"),
    [
        (0.1, "<=", True),
        (0.1 + 1e-6, "<=", False),
        (0.1, ">=", True),
        (0.1 - 1e-6, ">=", False),
        (0.1, ">", False),
        (0.1 + 1e-6, ">", True),
        (None, "<=", False),
        (None, ">=", False),
        (float("nan"), "<=", False),
    ],
)
def test_a_bound_is_met_exactly_and_never_by_what_was_not_measured(
    value: float | None, sense: str, met: bool
) -> None:
    assert Criterion("after", "x", value, sense, 0.1).met is met  # type: ignore[arg-type]


def test_nothing_measured_meets_nothing() -> None:
    assert not any(c.met for c in criteria({}, {}))
