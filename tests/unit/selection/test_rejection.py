"""What is kept of drawn completions, and that every one that is not has a reason."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_dual.selection.rejection import (
    Candidate,
    Rule,
    Selection,
    normalised,
    select,
    stratum_of,
)
from grpo_dual.types import Condition, Record, Task
from made_records import bbq_record, halueval_record

AGE = ("fairness", "ambig", "Age")


def one(
    prompt: str, text: str, score: float | None, *, stratum: Any = AGE, finished: bool = True
) -> Candidate:
    return Candidate(prompt, stratum, text, finished, score)


def texts(candidates: Sequence[Candidate], found: Selection) -> list[str]:
    return [candidates[place].text for place in found.kept]


POOL = [
    one("a", "Unknown.", 1.0),
    one("a", "unknown", 0.9),
    one("a", "Not known", 1.0),
    one("a", "Ann", -1.0),
    one("a", "Cut of", 1.0, finished=False),
    one("a", "?", None),
    one("a", "Nobody knows", 0.5),
    one("b", "Bob", 0.4),
]


def test_all_that_are_good_are_kept_once_and_each_other_one_has_its_reason():
    found = select(POOL, Rule(keep="all", threshold=0.5, per_prompt=2))
    assert texts(POOL, found) == ["Unknown.", "Not known"]
    counts = found.counts[AGE]
    assert counts.fates == {
        "kept": 2,
        "repeated": 1,
        "below": 2,
        "cut": 1,
        "unscored": 1,
        "surplus": 1,
    }
    assert (counts.prompts, counts.prompts_kept, counts.drawn) == (2, 1, len(POOL))


def test_the_best_is_one_of_a_prompt_the_first_among_equals():
    assert texts(POOL, select(POOL, Rule(keep="best", threshold=0.5))) == ["Unknown."]
    assert texts(POOL, select(POOL, Rule(keep="best", threshold=0.4))) == ["Unknown.", "Bob"]
    assert select(POOL, Rule(keep="best", threshold=2.0)).empty == (AGE,)


def test_texts_that_say_the_same_are_one():
    assert normalised(' "Hee  Haw." .') == normalised('"hee haw"')
    assert normalised("Was it?") != normalised("Was it")


@pytest.mark.parametrize(
    ("record", "stratum"),
    [
        (bbq_record(condition=Condition.DISAMBIGUATED), ("mine", "disambig", "Age")),
        (halueval_record(task=Task.DETECT), ("mine", "qa", "detect")),
        (
            Record(record_id="x", objective="mine", subset="s", task=Task.ANSWER, origin="o"),
            ("mine", "s"),
        ),
    ],
)
def test_strata(record: Record, stratum: tuple[str, ...]):
    assert stratum_of("mine", record) == stratum


def pool(**sizes: int) -> list[Candidate]:
    """``fairness_ambig_Age=3``: so many good completions of as many prompts."""
    return [
        one(f"{name}{i}", f"t{i}", 1.0, stratum=tuple(name.split("_")))
        for name, size in sizes.items()
        for i in range(size)
    ]


def sizes(candidates: Sequence[Candidate], found: Selection) -> dict[str, int]:
    return dict(Counter("_".join(candidates[place].stratum) for place in found.kept))


def test_strata_are_balanced_level_by_level_by_hand():
    # Age and SES: 2 x 3 = 6 at most of SES. Conditions: ambig 3 + 6 = 9, disambig 5, so ambig 10 at
    # most: stays. Objectives: 14 and 100, so 28 of the other.
    there = pool(
        fairness_ambig_Age=3,
        fairness_ambig_SES=40,
        fairness_disambig_Age=5,
        hallucination_qa_answer=100,
    )
    assert sizes(there, select(there, Rule(ratio=2))) == {
        "fairness_ambig_Age": 3,
        "fairness_ambig_SES": 6,
        "fairness_disambig_Age": 5,
        "hallucination_qa_answer": 28,
    }
    # Strictly: Age 3, SES 3; ambig 6 and disambig 5, so ambig loses one; objectives 10 and 10.
    strict = sizes(there, select(there, Rule(ratio=1)))
    assert strict["hallucination_qa_answer"] == 10
    assert strict["fairness_ambig_Age"] + strict["fairness_ambig_SES"] == 5
    assert strict["fairness_disambig_Age"] == 5


def test_what_a_level_loses_its_own_largest_parts_lose():
    # Three of hallucination, so 6 of fairness at most: 3 of each condition, and of disambig's three
    # categories one each. An equal share of each leaf would give ambig 1 or 2 and disambig 4 or 5.
    there = pool(
        hallucination_qa_answer=3,
        fairness_ambig_Age=4,
        fairness_disambig_Age=2,
        fairness_disambig_SES=2,
        fairness_disambig_Religion=2,
    )
    assert sizes(there, select(there, Rule(ratio=2))) == {
        "hallucination_qa_answer": 3,
        "fairness_ambig_Age": 3,
        "fairness_disambig_Age": 1,
        "fairness_disambig_SES": 1,
        "fairness_disambig_Religion": 1,
    }


def test_an_empty_stratum_is_named_and_nothing_stands_in_for_it():
    there = [*pool(fairness_ambig_Age=4, fairness_ambig_SES=4)]
    bad = [one(f"z{i}", "x", -1.0, stratum=("fairness", "disambig", "Age")) for i in range(3)]
    found = select([*there, *bad], Rule())
    assert found.empty == (("fairness", "disambig", "Age"),)
    assert sizes(there, found) == {"fairness_ambig_Age": 4, "fairness_ambig_SES": 4}
    assert found.counts["fairness", "disambig", "Age"].fates == {"below": 3}


def test_what_balance_leaves_out_is_second_completions_before_first_ones():
    there = [one(f"p{i}", f"t{i}{k}", 1.0) for i in range(4) for k in range(3)]
    there += pool(fairness_disambig_Age=2)
    found = select(there, Rule(ratio=2))
    first = [there[place] for place in found.kept if there[place].stratum == AGE]
    assert sorted(c.prompt for c in first) == ["p0", "p1", "p2", "p3"]


candidates = st.lists(
    st.builds(
        Candidate,
        st.sampled_from("abc"),
        st.tuples(st.sampled_from("fh"), st.sampled_from("xy"), st.sampled_from("12")),
        st.sampled_from(["A", "a.", "b", "c", ""]),
        st.booleans(),
        st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.5, 1.0])),
    ),
    max_size=40,
)


@given(
    candidates,
    st.builds(
        Rule,
        st.sampled_from(["best", "all"]),
        st.sampled_from([0.0, 0.5]),
        st.integers(1, 3),
        st.sampled_from([1.0, 1.5, 3.0]),
    ),
)
def test_what_is_kept_keeps_the_rule(drawn: list[Candidate], rule: Rule):
    found = select(drawn, rule)
    assert sum(c.drawn for c in found.counts.values()) == len(drawn)
    kept = [drawn[place] for place in found.kept]
    by_prompt: dict[Any, list[str]] = defaultdict(list)
    for candidate in kept:
        assert candidate.score is not None
        assert candidate.score >= rule.threshold
        assert candidate.finished
        by_prompt[candidate.stratum, candidate.prompt].append(normalised(candidate.text))
    most = 1 if rule.keep == "best" else rule.per_prompt
    for own in by_prompt.values():
        assert len(own) == len(set(own)) <= most
    for depth in (1, 2, 3):
        levels: dict[Any, Counter[str]] = defaultdict(Counter)
        for candidate in kept:
            levels[candidate.stratum[: depth - 1]][candidate.stratum[depth - 1]] += 1
        for counter in levels.values():
            largest, smallest = max(counter.values()), min(counter.values())
            assert largest <= rule.ratio * smallest or largest - smallest <= 1
    # Balance leaves out some, never all.
    assert kept or not any(c.fates.get("balance") for c in found.counts.values())
