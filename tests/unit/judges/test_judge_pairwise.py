"""Matching, nulls and summary of benchmarks/judge_pairwise.py, on cases worked by hand."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from grpo_dual.judges.lexical import content, words
from grpo_dual.types import HaluEvalRecord, Task


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "judge_pairwise.py"
    spec = importlib.util.spec_from_file_location("judge_pairwise", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["judge_pairwise"] = module
    spec.loader.exec_module(module)
    return module


def pair(
    benchmark: ModuleType,
    right: str,
    wrong: str,
    *,
    number: int = 1,
    context: str = "Ann was born in Delft. Bob was born in Gouda.",
    query: str = "Where was Ann born?",
) -> Any:
    record = HaluEvalRecord(
        record_id=f"halueval/qa/{number}",
        objective="hallucination",
        subset="qa",
        task=Task.ANSWER,
        origin=f"here:{number}",
        context=context,
        query=query,
        accepted=right.rstrip("."),
        rejected=wrong.rstrip("."),
    )
    return benchmark.Pair(record, right, wrong)


@pytest.mark.parametrize(
    ("right", "wrong", "matched", "not_shorter"),
    [
        ("one", "one two three four", True, False),  # 1 and 4: just within 3
        ("one", "one two three four five", False, False),  # 1 and 5
        ("one two three four", "one", True, True),  # either side may be longer
        ("one two three four five", "one", False, True),
        ("one two", "two one", True, True),  # equal is not shorter
    ],
)
def test_length_is_matched_in_words(
    benchmark: ModuleType, right: str, wrong: str, matched: bool, not_shorter: bool
) -> None:
    case = pair(benchmark, right, wrong)
    assert benchmark.length_matched(case) is matched
    assert benchmark.right_not_shorter(case) is not_shorter


def test_punctuation_and_capitals_are_taken_from_both_sides(benchmark: ModuleType) -> None:
    case = benchmark.punctuation_matched(pair(benchmark, "New  York ", 'He sang "Hee Haw." .'))
    assert (case.right, case.wrong) == ("new york", 'he sang "hee haw"')
    # The record, which the judge sees, stays.
    assert case.record.accepted == "New  York "


def test_a_frame_has_as_many_words_as_it_says_and_claims_nothing(benchmark: ModuleType) -> None:
    assert list(benchmark.FRAMES) == list(range(3, 17))
    for count, frame in benchmark.FRAMES.items():
        assert benchmark.word_count(frame.format("Delft")) == count + 1
        assert content(words(frame.format(""))) == []


@pytest.mark.parametrize(
    ("wrong_words", "frame_words"),
    # The right answer has two words: the gap, but at least 3 and at most 16.
    [(1, 3), (2, 3), (5, 3), (7, 5), (18, 16), (40, 16)],
)
def test_the_frame_fills_the_gap(benchmark: ModuleType, wrong_words: int, frame_words: int) -> None:
    frame = benchmark.length_frame("New York", " ".join(["word"] * wrong_words))
    assert frame == benchmark.FRAMES[frame_words]


def test_a_framed_answer_brings_no_period_of_its_own(benchmark: ModuleType) -> None:
    assert benchmark.put("The answer is {}.", "Delft.") == "The answer is Delft."
    assert benchmark.put("{}", "Delft.") == "Delft."


def test_another_rows_answer_is_as_long_and_not_the_same(benchmark: ModuleType) -> None:
    rights = ["Delft", "delft.", "Gouda", "New York", "Den Haag", "one two three"]
    pairs = [pair(benchmark, r, "wrong", number=i) for i, r in enumerate(rights)]
    others = benchmark.other_answers(pairs, 0)
    assert others[0] == others[1] == "Gouda"  # "delft." is Delft again
    assert others[2] in ("Delft", "delft.")
    assert others[3:] == ["Den Haag", "New York", None]
    assert benchmark.other_answers(pairs, 0) == others


@pytest.mark.parametrize(
    ("right", "query", "context", "span"),
    [
        # Ann and Delft are taken, Bob and Gouda left; Bob is in the question.
        ("Delft", "Not Bob, where was Ann born?", "Ann was born in Delft. Bob in Gouda.", "Gouda"),
        # Small letters look for small letters, and no function word.
        ("sailor", "What was Ann?", "Ann was a sailor. Bob was a miller.", "miller"),
        # Two words beside each other in one sentence; "Den Haag" is the only such run.
        ("New York", "Where is it?", "It is in New York. He is in Den Haag, Gouda.", "Den Haag"),
        ("1844", "When did it begin?", "It began in 1844 and ended in 1846.", "1846"),
        ("yes", "Is it so?", "It is so.", None),
    ],
)
def test_a_rival_span_looks_like_the_answer(
    benchmark: ModuleType, right: str, query: str, context: str, span: str | None
) -> None:
    case = pair(benchmark, right, "wrong", query=query, context=context)
    assert {benchmark.rival_span(case, seed) for seed in range(8)} == {span}


@pytest.mark.parametrize(
    ("right", "wrong", "repeats"),
    [
        ("the Old Church", "It is not the Old Church.", True),
        ("Old Church", "The church is in Delft.", False),
        ("yes", "Yes, it is so.", True),  # no content word: any of its words
        ("no", "It is so.", False),
    ],
)
def test_a_hallucination_may_hold_the_right_answer(
    benchmark: ModuleType, right: str, wrong: str, repeats: bool
) -> None:
    assert benchmark.repeats_answer(pair(benchmark, right, wrong)) is repeats


@pytest.mark.parametrize(
    ("right", "wrong", "shorter", "characters", "no_period"),
    [
        ("Delft", "She was born in Gouda.", 1.0, 1.0, 1.0),
        ("born in Delft.", "Rotterdam", 0.0, 0.0, 0.0),
        ("Delft", "Gouda", 0.5, 0.5, 0.5),
        ("The Hague.", "Rotterdam city.", 0.5, 1.0, 0.5),  # two words each, 10 and 15 characters
    ],
)
def test_nulls(
    benchmark: ModuleType,
    right: str,
    wrong: str,
    shorter: float,
    characters: float,
    no_period: float,
) -> None:
    case = pair(benchmark, right, wrong)
    assert benchmark.shorter(case) == shorter
    assert benchmark.fewer_characters(case) == characters
    assert benchmark.no_period(case) == no_period


def test_the_coin_is_fair_and_the_same_for_a_row(benchmark: ModuleType) -> None:
    cases = [pair(benchmark, "a", "b", number=i) for i in range(1000)]
    tossed = [benchmark.coin(case, 0) for case in cases]
    assert set(tossed) == {0.0, 1.0}
    # Four standard deviations of 1000 tosses: 4 sqrt(1000)/2 = 63.
    assert abs(sum(tossed) - 500) < 63
    assert tossed == [benchmark.coin(case, 0) for case in cases]
    assert tossed != [benchmark.coin(case, 1) for case in cases]


def test_a_summary_counts_ties_half_and_leaves_out_what_was_not_scored(
    benchmark: ModuleType,
) -> None:
    # (1 + 1 + 1/2 + 0) / 4 = 62.5 %, one tie of four.
    made = benchmark.summary([1.0, 1.0, 0.5, 0.0, None])
    assert (made["n"], made["unscored"]) == (4, 1)
    assert (made["accuracy"], made["ties"]) == (62.5, 25.0)
    assert benchmark.summary([None]) == {
        "n": 0,
        "unscored": 1,
        "accuracy": None,
        "ties": None,
        "interval": None,
    }


def test_the_interval_is_that_of_a_mean(benchmark: ModuleType) -> None:
    # 800 of 2000: 40 % +- 1.96 sqrt(.4 x .6 / 2000) = 2.15 points. The percentile of 4000 draws has
    # a standard error of about .04 points here.
    low, high = benchmark.summary([1.0] * 800 + [0.0] * 1200, draws=4000)["interval"]
    assert low == pytest.approx(40 - 2.15, abs=0.15)
    assert high == pytest.approx(40 + 2.15, abs=0.15)
    # Ties have half the spread: 40 % as 1600 ties of 2000 has .5 sqrt(.8 x .2 / 2000) = .447 %.
    low, high = benchmark.summary([0.5] * 1600 + [0.0] * 400, draws=4000)["interval"]
    assert low == pytest.approx(40 - 1.96 * 0.447, abs=0.1)
    assert high == pytest.approx(40 + 1.96 * 0.447, abs=0.1)
    assert benchmark.summary([1.0] * 9)["interval"] == [100.0, 100.0]


def test_the_judge_sees_what_a_condition_says(benchmark: ModuleType) -> None:
    record = pair(benchmark, "Delft", "Gouda").record
    assert benchmark.both_known(record) == record
    hidden = benchmark.rejected_hidden(record)
    assert (hidden.accepted, hidden.rejected) == ("Delft", None)
    for known in (benchmark.reference_free, benchmark.reference_free_long):
        shown = known(record)
        assert (shown.accepted, shown.rejected) == (None, None)
        assert (shown.context, shown.query) == (record.context, record.query)


def test_every_form_and_set_of_pairs_is_measured(benchmark: ModuleType, tmp_path: Path) -> None:
    rows = [
        ("Ann was born in Delft. Bob was born in Gouda.", "Where was Ann born?", "Delft", "Paris."),
        ("Ann is a miller. Bob is a sailor.", "What is Ann?", "miller", "She is a lawyer."),
    ]
    keys = ("knowledge", "question", "right_answer", "hallucinated_answer")
    file = tmp_path / "qa_data.json"
    file.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    pairs = benchmark.pairs_of(file)
    assert [p.wrong for p in pairs] == ["Paris.", "She is a lawyer."]  # periods are a leak: kept
    measured = benchmark.measure(pairs, draws=10)
    assert len(measured) == 8 * len(benchmark.FORMS)
    by_name = {(row["right answer"], row["pairs"]): row for row in measured}
    bare = by_name["bare", "all pairs"]
    assert bare["judges"]["1 as shipped"]["accuracy"] == 100.0
    # Delft and Paris have a word each, miller is shorter: (1/2 + 1) / 2.
    assert bare["nulls"]["shorter wins"]["accuracy"] == 75.0
    assert bare["nulls"]["ends without a period wins"]["accuracy"] == 100.0
    flat = by_name["bare", "both matched"]
    assert flat["nulls"]["ends without a period wins"]["accuracy"] == 50.0
    # Gouda and sailor are supported as well: nothing but the question tells.
    rival = by_name["bare", "rival span of the knowledge"]["judges"]
    assert rival["2b reference-free, long rule"]["ties"] == 100.0
    assert "| all pairs | 2 |" in benchmark.table(measured)


def test_the_leaks_of_the_real_rows_are_as_published(
    benchmark: ModuleType, shared_data: Path
) -> None:
    pairs = benchmark.pairs_of(shared_data / "halueval" / "qa_data.json")
    assert len(pairs) == 1700
    # Evaluation note 2.2 has 97.4 by tokens for "pick the shorter"; here by words between blanks.
    assert benchmark.summary([benchmark.shorter(p) for p in pairs])["accuracy"] == 97.6
    assert benchmark.summary([benchmark.no_period(p) for p in pairs])["accuracy"] == 96.9
    bare = benchmark.pair_sets(pairs, "{}", 0)
    assert len(bare["length matched"]) == 275
    assert len(bare["shorter right removed"]) == 61
    # A frame takes the length away: chance is left.
    framed = benchmark.pair_sets(pairs, None, 0)["both matched"]
    assert len(framed) > 1500
    assert abs(benchmark.summary([benchmark.shorter(p) for p in framed])["accuracy"] - 50) < 3
    assert benchmark.summary([benchmark.no_period(p) for p in framed])["ties"] == 100.0
