import json
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_dual.config.objectives import BbqData, HaluEvalData
from grpo_dual.errors import CheckpointError, ConfigError, DataError
from grpo_dual.records.apportion import (
    largest_remainder,
    next_by_quota,
    own_rng,
    shares_of,
    water_fill,
)
from grpo_dual.records.halueval import as_detection, iter_halueval
from grpo_dual.records.length import length_auroc, length_matched
from grpo_dual.records.mixture import Sampler, bbq_sampler, halueval_sampler
from grpo_dual.records.strata import branch, leaf, take_bbq, take_halueval
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Task

WEIGHTS = st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.5, 3.0, 10.0]), min_size=1, max_size=6)


def bbq(key: int, subset: str, condition: Condition, polarity: Polarity) -> BbqRecord:
    return BbqRecord(
        record_id=f"bbq/{subset}/{condition}/{polarity}/{key}",
        objective="fairness",
        subset=subset,
        task=Task.CHOOSE,
        origin="test",
        example_id=key,
        question_index="1",
        condition=condition,
        polarity=polarity,
        context="c",
        question="q",
        options=("a", "b", "unknown"),
        label=2,
        unknown=2,
        biased=0,
        names=False,
    )


def world(sizes: dict[str, int]) -> list[BbqRecord]:
    """``size`` rows in each of the four cells of every category."""
    return [
        bbq(k, subset, condition, polarity)
        for subset, size in sizes.items()
        for condition in Condition
        for polarity in Polarity
        for k in range(size)
    ]


def halu(
    key: int, subset: str, label: bool | None = None, accepted: str = "right", rejected: str = "no"
) -> HaluEvalRecord:
    detect = label is not None
    return HaluEvalRecord(
        record_id=f"halueval/{subset}/{key}",
        objective="hallucination",
        subset=subset,
        task=Task.DETECT if detect else Task.ANSWER,
        origin="test",
        context="",
        query=f"{subset} {key}",
        accepted=None if detect else accepted,
        rejected=None if detect else rejected,
        shown="text" if detect else None,
        hallucinated=label,
    )


def general(yes: int, no: int) -> list[HaluEvalRecord]:
    return [halu(k, "general", label=k < yes) for k in range(yes + no)]


# --- exact shares -------------------------------------------------------------------------------


@given(WEIGHTS, st.integers(0, 500))
def test_largest_remainder_is_exact(weights: list[float], total: int) -> None:
    shares = shares_of(dict(enumerate(weights)))
    counts = largest_remainder(total, shares)
    assert sum(counts.values()) == total
    for key, share in shares.items():
        assert floor(share * total) <= counts[key] <= ceil(share * total)


@given(WEIGHTS, st.integers(0, 300), st.data())
def test_room_is_kept_and_used(weights: list[float], total: int, data: st.DataObject) -> None:
    shares = shares_of(dict(enumerate(weights)))
    room = {key: data.draw(st.integers(0, 100)) for key in shares}
    counts = largest_remainder(total, shares, room)
    assert all(0 <= counts[key] <= room[key] for key in room)
    assert sum(counts.values()) == min(total, sum(room.values()))


def test_largest_remainder_worked() -> None:
    # 400 x (1.5, 1.5, 1, .5) / 4.5 = 133.33, 133.33, 88.89, 44.44: two are left after rounding
    # down to 398, for the largest remainders .89 and .44
    shares = shares_of({"qa": 1.5, "dialogue": 1.5, "summarization": 1.0, "general": 0.5})
    assert largest_remainder(400, shares) == {
        "qa": 133,
        "dialogue": 133,
        "summarization": 89,
        "general": 45,
    }
    # with room for 17 and 2 of the middle two, 381 are divided 3 : 1 = 285.75 : 95.25
    room = {"qa": 1700, "dialogue": 17, "summarization": 2, "general": 900}
    assert largest_remainder(400, shares, room) == {
        "qa": 286,
        "dialogue": 17,
        "summarization": 2,
        "general": 95,
    }


def test_credit_evens_out_rounding() -> None:
    shares = shares_of({"a": 1.0, "b": 1.0})
    credit: dict[str, Fraction] = {}
    given_out: Counter[str] = Counter()
    for _ in range(10):  # 1 each time: halves are carried, so the two take turns
        given_out.update(largest_remainder(1, shares, credit=credit))
    assert given_out == {"a": 5, "b": 5}


def test_weights_are_the_decimals_written() -> None:
    assert shares_of({"a": 0.1, "b": 0.9}) == {"a": Fraction(1, 10), "b": Fraction(9, 10)}
    for wrong in ({"a": 0.0}, {"a": -1.0, "b": 2.0}, {}):
        with pytest.raises(ValueError, match="weights"):
            shares_of(wrong)


@given(WEIGHTS, st.integers(1, 200))
def test_quota_holds_after_every_draw(weights: list[float], draws: int) -> None:
    shares = shares_of(dict(enumerate(weights)))
    counts = dict.fromkeys(shares, 0)
    for n in range(1, draws + 1):
        counts[next_by_quota(counts, shares)] += 1
        for key, share in shares.items():
            assert floor(share * n) <= counts[key] <= ceil(share * n)


def test_water_fill() -> None:
    third = Fraction(1, 3)
    shares = {"a": third, "b": third, "c": third}
    caps = {"a": Fraction(1, 10), "b": Fraction(4, 10), "c": Fraction(1)}
    # a is cut to .1, the rest .9 is .45 each, b is cut to .4, c takes .5
    assert water_fill(shares, caps) == {
        "a": Fraction(1, 10),
        "b": Fraction(4, 10),
        "c": Fraction(5, 10),
    }
    # caps sum to 1/2: shares in proportion to them
    caps = {"a": Fraction(1, 10), "b": Fraction(1, 10), "c": Fraction(3, 10)}
    assert water_fill(shares, caps) == {
        "a": Fraction(1, 5),
        "b": Fraction(1, 5),
        "c": Fraction(3, 5),
    }


def test_own_rng_leaves_the_global_one_alone() -> None:
    random.seed(1)
    state = random.getstate()
    assert own_rng(1, "a").random() == own_rng(1, "a").random() != own_rng(1, "b").random()
    assert random.getstate() == state


# --- taking -------------------------------------------------------------------------------------


def test_take_bbq_is_exact() -> None:
    rows = world({"Age": 400, "SES": 400})
    taken = take_bbq(rows, 1100, ambiguous_fraction=0.5, seed=0)
    assert taken.notes == ()
    assert len({r.record_id for r in taken.records}) == 1100
    assert Counter(r.condition for r in taken.records) == dict.fromkeys(Condition, 550)
    assert Counter(r.polarity for r in taken.records) == dict.fromkeys(Polarity, 550)
    assert Counter(r.subset for r in taken.records) == {"Age": 550, "SES": 550}
    cells = Counter((r.condition, r.polarity, r.subset) for r in taken.records)
    assert set(cells.values()) == {137, 138}  # 1100 / 8 = 137.5


@given(st.integers(1, 600), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0]), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_take_bbq_counts(n: int, fraction: float, seed: int) -> None:
    rows = world(dict.fromkeys(("a", "b", "c", "d", "e"), 150))
    taken = take_bbq(rows, n, ambiguous_fraction=fraction, seed=seed)
    assert len(taken.records) == n
    ambiguous = sum(r.condition is Condition.AMBIGUOUS for r in taken.records)
    assert abs(ambiguous - fraction * n) < 1
    subsets = Counter(r.subset for r in taken.records)
    assert max(subsets.values()) - min(subsets[c] for c in "abcde") <= 2
    polarity = Counter(r.polarity for r in taken.records)
    assert abs(polarity[Polarity.NEGATIVE] - polarity[Polarity.NON_NEGATIVE]) <= 2


def test_take_bbq_does_not_depend_on_order() -> None:
    rows = world({"Age": 30, "SES": 30})
    first = take_bbq(rows, 50, ambiguous_fraction=0.5, seed=4).records
    random.Random(0).shuffle(rows)
    assert take_bbq(rows, 50, ambiguous_fraction=0.5, seed=4).records == first
    assert take_bbq(rows, 50, ambiguous_fraction=0.5, seed=5).records != first


def test_take_bbq_says_what_is_short() -> None:
    taken = take_bbq(world({"Age": 100, "SES": 5}), 200, ambiguous_fraction=0.5, seed=0)
    # 200 / 8 = 25 per cell, SES has 5 in each: Age gives 20 more in each of the four
    assert Counter(r.subset for r in taken.records) == {"Age": 180, "SES": 20}
    assert Counter(r.condition for r in taken.records) == dict.fromkeys(Condition, 100)
    assert len(taken.notes) == 4
    assert "SES has 5 of the 25 wanted" in taken.notes[0]
    assert "20 more" in taken.notes[0]


def test_take_bbq_says_what_is_absent() -> None:
    rows = [r for r in world({"Age": 50, "SES": 50}) if r.condition is Condition.AMBIGUOUS]
    taken = take_bbq(rows, 20, ambiguous_fraction=0.5, seed=0)
    assert len(taken.records) == 20
    assert "no disambig rows" in " ".join(taken.notes)
    mixed = [
        r
        for r in world({"Age": 50, "SES": 50})
        if r.subset == "Age" or r.condition is Condition.AMBIGUOUS
    ]
    taken = take_bbq(mixed, 40, ambiguous_fraction=0.5, seed=0)
    assert Counter(r.condition for r in taken.records) == dict.fromkeys(Condition, 20)
    assert "no disambig neg rows of SES" in " ".join(taken.notes)


def test_take_more_than_there_is() -> None:
    taken = take_bbq(world({"Age": 3}), 20, ambiguous_fraction=0.5, seed=0)
    assert len(taken.records) == 12
    assert "20 records were asked for, but only 12 fit" in taken.notes[0]
    with pytest.raises(DataError, match="cannot take"):
        take_bbq([], 20, ambiguous_fraction=0.5, seed=0)


def test_take_halueval_weights_and_labels() -> None:
    rows = [halu(k, s) for s in ("qa", "dialogue", "summarization") for k in range(300)]
    rows += general(yes=60, no=300)
    subsets = {"qa": 1.5, "dialogue": 1.5, "summarization": 1.0, "general": 0.5}
    taken = take_halueval(rows, 400, subsets=subsets, seed=0)
    assert taken.notes == ()
    assert Counter(r.subset for r in taken.records) == {
        "qa": 133,
        "dialogue": 133,
        "summarization": 89,
        "general": 45,
    }
    shown = Counter(r.hallucinated for r in taken.records if r.subset == "general")
    assert shown == {True: 22, False: 23}


# --- drawing ------------------------------------------------------------------------------------


@given(
    st.integers(0, 5),
    st.lists(st.integers(1, 7), min_size=1, max_size=12),
    st.integers(0, 12),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_resume_gives_identical_draws(seed: int, steps: list[int], cut: int, rows: int) -> None:
    records = world({"Age": rows, "SES": 2})
    data = BbqData(ambiguous_fraction=0.3)
    whole = bbq_sampler(records, data, seed=seed)
    expected = [whole.draw(n) for n in steps]
    first = bbq_sampler(records, data, seed=seed)
    got = [first.draw(n) for n in steps[:cut]]
    state = json.loads(json.dumps(first.state_dict()))
    first.draw(3)  # what a killed run drew after its checkpoint does not matter
    second = bbq_sampler(list(reversed(records)), data, seed=seed)
    second.load_state_dict(state)
    got += [second.draw(n) for n in steps[cut:]]
    assert got == expected
    assert second.state_dict() == whole.state_dict()


def test_every_step_has_both_conditions_and_over_time_all_cells() -> None:
    sampler = bbq_sampler(world({"Age": 10, "SES": 10}), BbqData(), seed=0)
    steps = [sampler.draw(2) for _ in range(40)]
    for step in steps:  # the hand-off's two prompts a step: one of each condition
        assert {r.condition for r in step} == set(Condition)
    drawn = [record for step in steps for record in step]
    cells = Counter((r.condition, r.polarity, r.subset) for r in drawn)
    assert set(cells.values()) == {10}  # 80 draws over 8 cells
    assert len({r.record_id for r in drawn}) == 80  # and every record once


def test_epochs_are_reshuffled() -> None:
    sampler = Sampler(leaf(world({"Age": 10})), seed=0)
    first, second = sampler.draw(40), sampler.draw(40)
    assert {r.record_id for r in first} == {r.record_id for r in second}
    assert first != second
    assert Sampler(leaf(world({"Age": 10})), seed=1).draw(40) != first


def test_small_subsets_are_capped_and_it_says_so() -> None:
    rows = [halu(k, "qa") for k in range(300)] + [halu(k, "dialogue") for k in range(10)]
    data = HaluEvalData(subsets={"qa": 1.5, "dialogue": 1.5, "summarization": 1.0}, max_repeats=4)
    sampler = halueval_sampler(rows, data, seed=0)
    drawn = sampler.draw(310)  # one epoch
    # dialogue: 4 x 10 of 310 draws, instead of half
    assert Counter(r.subset for r in drawn) == {"dialogue": 40, "qa": 270}
    assert max(Counter(r.record_id for r in drawn).values()) == 4
    told = " ".join(sampler.notes)
    assert "no rows of summarization" in told
    assert "dialogue has 10 records" in told
    assert "12.9% of them instead of 50.0%" in told


def test_cap_is_not_reached_without_need() -> None:
    rows = [halu(k, s) for s in ("qa", "dialogue") for k in range(50)]
    data = HaluEvalData(subsets={"qa": 1.0, "dialogue": 1.0})
    sampler = halueval_sampler(rows, data, seed=0)
    assert sampler.notes == ()
    assert Counter(r.subset for r in sampler.draw(100)) == {"qa": 50, "dialogue": 50}


def test_detection_is_half_yes_half_no() -> None:
    data = HaluEvalData(subsets={"qa": 1.0, "general": 1.0}, detect_fraction=0.5)
    rows = [halu(k, "qa") for k in range(100)] + general(yes=40, no=160)
    sampler = halueval_sampler(rows, data, seed=0)
    assert sampler.notes == ()
    drawn = sampler.draw(80)
    # qa 40: 20 answers, 20 detections; general 40 detections; each half yes
    assert Counter((r.subset, r.task, r.hallucinated) for r in drawn) == {
        ("qa", Task.ANSWER, None): 20,
        ("qa", Task.DETECT, True): 10,
        ("qa", Task.DETECT, False): 10,
        ("general", Task.DETECT, True): 20,
        ("general", Task.DETECT, False): 20,
    }


def test_general_as_answer_and_one_label_only() -> None:
    rows = general(yes=5, no=5) + [halu(k, "qa") for k in range(10)]
    answer = HaluEvalData(subsets={"qa": 1.0, "general": 1.0}, general_as="answer")
    drawn = halueval_sampler(rows, answer, seed=0).draw(20)
    assert {r.task for r in drawn} == {Task.ANSWER}
    one = general(yes=0, no=5) + [halu(k, "qa") for k in range(10)]
    sampler = halueval_sampler(one, HaluEvalData(subsets={"qa": 1.0, "general": 1.0}), seed=0)
    assert {r.subset for r in sampler.draw(20)} == {"qa"}
    assert "one label only" in sampler.notes[0]


def test_sampler_refusals() -> None:
    rows = [halu(k, "qa") for k in range(10)]
    with pytest.raises(ConfigError, match=r"data\.subsets\.qaa"):
        halueval_sampler(rows, HaluEvalData(subsets={"qaa": 1.0}), seed=0)
    with pytest.raises(ConfigError, match="all weights are 0"):
        halueval_sampler(rows, HaluEvalData(subsets={"qa": 0.0}), seed=0)
    with pytest.raises(DataError, match="no records"):
        halueval_sampler([], HaluEvalData(), seed=0)
    with pytest.raises(DataError, match="no records"):
        bbq_sampler([], BbqData(), seed=0)


def test_state_of_other_data_is_refused() -> None:
    records = world({"Age": 4})
    state = bbq_sampler(records, BbqData(), seed=0).state_dict()
    for other in (
        bbq_sampler(records, BbqData(), seed=1),
        bbq_sampler(records[:-1], BbqData(), seed=0),
        bbq_sampler(records, BbqData(ambiguous_fraction=0.4), seed=0),
    ):
        with pytest.raises(CheckpointError, match="other data"):
            other.load_state_dict(state)
    sampler = bbq_sampler(records, BbqData(), seed=0)
    for drawn in (None, {}, {"x": 1}, dict.fromkeys(sampler.state_dict()["drawn"], -1)):  # pyright: ignore
        with pytest.raises(CheckpointError, match="damaged"):
            sampler.load_state_dict({**state, "drawn": drawn})


# --- length -------------------------------------------------------------------------------------


def test_length_auroc_by_hand() -> None:
    # pairs (3,1) (3,3) (5,1) (5,3): wins 1, .5, 1, 1 of 4
    assert length_auroc([3, 5], [1, 3]) == pytest.approx(0.875)
    assert length_auroc([1, 2], [1, 2]) == 0.5
    assert length_auroc([1], [2]) == 0.0


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=80), st.integers(0, 2))
@settings(deadline=None)
def test_matching_balances_every_length(items: list[tuple[int, bool]], seed: int) -> None:
    base = halu(0, "qa", label=True)
    rows = [
        replace(base, record_id=f"r{i:03}", shown="x" * length, hallucinated=label)
        for i, (length, label) in enumerate(items)
    ]
    yes, no = length_matched(rows, seed=seed)
    assert all(r.hallucinated for r in yes)
    assert not any(r.hallucinated for r in no)
    exact = [
        Counter(len(r.shown or "") for r in side if len(r.shown or "") <= 20) for side in (yes, no)
    ]
    assert exact[0] == exact[1]
    assert len(yes) == len(no)
    assert (yes, no) == length_matched(rows[::-1], seed=seed)


def test_real_qa_length_is_at_chance(shared_data: Path) -> None:
    pairs = list(iter_halueval(shared_data / "halueval", subsets=("qa",)))
    shown = [as_detection(r, hallucinated=label) for r in pairs for label in (True, False)]
    assert len(shown) == 3400

    def aurocs(yes: list[HaluEvalRecord], no: list[HaluEvalRecord]) -> tuple[float, float]:
        texts = [[r.shown or "" for r in side] for side in (yes, no)]
        return (
            length_auroc(*[[len(t) for t in side] for side in texts]),
            length_auroc(*[[len(t.split()) for t in side] for side in texts]),
        )

    free = aurocs([r for r in shown if r.hallucinated], [r for r in shown if not r.hallucinated])
    assert min(free) > 0.95  # the artefact
    yes, no = length_matched(shown, seed=0)
    assert len(yes) == len(no) > 150
    for auroc in aurocs(yes, no):  # tolerance: what bins of 5 % above 20 leave
        assert abs(auroc - 0.5) < 0.01

    data = HaluEvalData(subsets={"qa": 1.0}, detect_fraction=1.0, length_matched=True)
    sampler = halueval_sampler(pairs, data, seed=0)
    assert "after matching lengths" in sampler.notes[0]
    drawn = sampler.draw(len(yes) * 2)
    for auroc in aurocs(
        [r for r in drawn if r.hallucinated], [r for r in drawn if not r.hallucinated]
    ):
        assert abs(auroc - 0.5) < 0.01


def test_branch_without_records() -> None:
    with pytest.raises(DataError):
        Sampler(branch({"a": 1.0}, {"a": leaf(list[BbqRecord]())}), seed=0)
