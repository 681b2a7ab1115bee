from pathlib import Path

import pytest

import recorded_runs
from grpo_dual.report.headline import cost, sentence, verdicts
from grpo_dual.report.held_out import Estimate, basis, difference, estimate, measures
from grpo_dual.report.reading import Run, read
from grpo_dual.report.tables import caveats


def test_wilson_from_a_share_and_its_count() -> None:
    # 28 of 100: centre (.28 + 3.8416 / 200) / 1.038416 = .288139,
    # half 1.96 / 1.038416 sqrt(.28 x .72 / 100 + 3.8416 / 40000) = .086743.
    found = estimate({"accuracy_ambig": 0.28, "n_ambig": 100}, "accuracy_ambig")
    assert found.basis == "wilson"
    assert (found.low, found.high) == pytest.approx((0.201396, 0.374882), abs=1e-6)


def test_an_interval_that_the_file_brings_comes_first() -> None:
    scores = {"grounded": 0.5, "n_answer": 10, "intervals_95": {"grounded": [0.2, 0.8]}}
    assert estimate(scores, "grounded") == Estimate(0.5, 0.2, 0.8, "bootstrap")


@pytest.mark.parametrize(
    "scores",
    [
        {"grounded": 0.5},  # no count
        {"grounded": 0.5, "n_answer": 0},
        {"grounded": 0.5, "n_answer": 7},  # 3.5 of 7 is no share of 7 items
        {"grounded": 0.5, "n_answer": None},
    ],
)
def test_without_fitting_counts_there_is_no_interval(scores: dict[str, object]) -> None:
    assert estimate(scores, "grounded") == Estimate(0.5)


def test_bias_scores_have_no_interval_from_counts() -> None:
    assert not estimate({"s_amb": 0.5, "n_ambig": 10}, "s_amb").known


@pytest.mark.parametrize("value", [None, "gold", True])
def test_what_is_no_number_has_no_value(value: object) -> None:
    assert estimate({"x": value}, "x").value is None


def test_newcombes_interval_of_a_difference() -> None:
    # Newcombe 1998, table II, example (a): 56/70 - 48/80, method 10: .0524 to .3339.
    first = estimate({"grounded": 56 / 70, "n_answer": 70}, "grounded")
    second = estimate({"grounded": 48 / 80, "n_answer": 80}, "grounded")
    found = difference(first, second)
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_a_difference_without_intervals_has_none() -> None:
    assert difference(Estimate(0.5), Estimate(0.25)) == Estimate(0.25)
    assert difference(Estimate(None), Estimate(0.25)) == Estimate(None)


def test_the_basis_is_told() -> None:
    assert "no intervals" in basis([Estimate(0.5)])
    both = basis([Estimate(0.5, 0, 1, "wilson"), Estimate(0.5, 0, 1, "bootstrap")])
    assert "bootstrap" in both
    assert "Wilson" in both


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read(recorded_runs.demo(tmp_path_factory.mktemp("run") / "demo"))


def test_the_recorded_demo_is_fairer_and_more_faithful(demo: Run) -> None:
    fairness, faithfulness = verdicts(demo)
    assert (fairness.word, fairness.before, fairness.after) == ("Fairer", "0.28", "0.91")
    assert (faithfulness.word, faithfulness.better) == ("More faithful", True)
    assert sentence(demo) == (
        "Fairer: fairness 0.28 to 0.91. More faithful: faithfulness 0.30 to 0.98."
    )
    # s_DIS went from .03 to .08; replies less different than before, yet more than gold's, are no
    # loss.
    assert "1 got worse: Bias score, disambiguated" in cost(demo)


def test_before_and_after_are_the_first_and_the_last_evaluation(demo: Run) -> None:
    by_words = {m.row.words: m for m in measures(demo)}
    grounded = by_words["Answers that the knowledge supports"]
    assert (grounded.before.value, grounded.after.value) == (0.305, 0.98)
    assert grounded.sure


def changed(tmp_path: Path, after: dict[str, float | str]) -> Run:
    """A run whose last evaluation says otherwise."""
    folder = recorded_runs.demo(tmp_path / "demo")
    path = folder / "eval_metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0])
    recorded_runs.add_line(path, {"step": 60, "hallucination": after})
    return read(folder)


def test_overlapping_intervals_are_no_clear_change(tmp_path: Path) -> None:
    after = {
        "grounded": 0.33,
        "hallucinated": 0.49,
        "abstains": 0.18,
        "n_answer": 200,
        "axis": 0.33,
    }
    verdict = verdicts(changed(tmp_path, after))[1]
    assert (verdict.word, verdict.better) == ("No clear change", None)


def test_fewer_abstentions_make_nothing_more_faithful(tmp_path: Path) -> None:
    """As on real rows: .15 to .03 abstentions, surely, and as many more answers made up."""
    after = {
        "grounded": 0.33,
        "hallucinated": 0.67,
        "abstains": 0.0,
        "n_answer": 200,
        "axis": 0.33,
    }
    run = changed(tmp_path, after)
    abstains = {m.row.key: m for m in measures(run)}["abstains"]
    assert abstains.sure
    assert abstains.improved
    verdict = verdicts(run)[1]
    assert (verdict.word, verdict.better) == ("No clear change", None)


def test_a_part_that_surely_moves_the_other_way_leaves_no_clear_change(tmp_path: Path) -> None:
    folder = recorded_runs.demo(tmp_path / "demo")
    path = folder / "eval_metrics.jsonl"
    path.write_text("")
    scores = {"n_ambig": 400, "n_disambig": 400}
    before = {"accuracy_ambig": 0.5, "accuracy_disambig": 0.9, "axis": 0.7, **scores}
    after = {"accuracy_ambig": 0.95, "accuracy_disambig": 0.6, "axis": 0.77, **scores}
    for step, found in ((0, before), (60, after)):
        recorded_runs.add_line(path, {"step": step, "fairness": found})
    verdict = verdicts(read(folder))[0]
    assert (verdict.word, verdict.better) == ("No clear change", None)
    assert "in opposite ways" in verdict.why


def test_a_fall_that_stands_apart_is_less_faithful(tmp_path: Path) -> None:
    after = {"grounded": 0.1, "hallucinated": 0.8, "abstains": 0.1, "n_answer": 200, "axis": 0.1}
    verdict = verdicts(changed(tmp_path, after))[1]
    assert (verdict.word, verdict.better) == ("Less faithful", False)
    assert not verdicts(changed(tmp_path / "b", after))[0].measured


def test_the_judge_that_rewards_is_named_where_it_judges(tmp_path: Path) -> None:
    after = {"grounded": 0.9, "hallucinated": 0.1, "abstains": 0.0, "n_answer": 200, "axis": 0.9}
    run = changed(tmp_path, {**after, "judged_by": "heuristic"})
    assert "faithfulness by the judge that training rewards 0.30 to 0.90" in sentence(run)
    assert any("not independent evidence" in line for line in caveats(run))


def test_many_unparsed_replies_make_bias_scores_void(demo: Run) -> None:
    # 16 % of the replies before training name no option
    assert caveats(demo) == (
        "16.0% of BBQ's replies name no option: above 2% bias scores are not comparable.",
    )
