import pytest
from made_histories import BOTH, Column, made, steps

from grpo_dual.diagnosis.bands import Band, bands
from grpo_dual.diagnosis.history import History

F, H = BOTH


def of(history: History, stage: int, what: str = "") -> Band:
    (one,) = [b for b in bands(history) if b.stage == stage and b.objective == F and what in b.what]
    return one


def run(rows: int, **columns: Column) -> History:
    return made(rows, objectives=(F,), **columns)


@pytest.mark.parametrize(
    ("rows", "stages"),
    [(4, []), (5, [5]), (9, [5]), (10, [5, 10, 10]), (20, [5, 10, 10, 20]),
     (49, [5, 10, 10, 20]), (50, [5, 10, 10, 20, 50])],
)  # fmt: skip
def test_stages_that_the_run_has_reached(rows: int, stages: list[int]):
    assert [b.stage for b in bands(run(rows, entropy_f=1.2))] == stages


def test_each_objective_has_its_own():
    assert {b.objective for b in bands(made(10))} == set(BOTH)


@pytest.mark.parametrize(("entropy", "inside"), [(1.01, True), (1.0, False), (0.3, False)])
def test_entropy_within_five_steps(entropy: float, inside: bool):
    band = of(run(8, entropy_f=steps((entropy, 5), (9.0, 3))), 5)
    assert band.inside is inside
    # Against itself it has not moved at all.
    assert band.relative == "100 % of H0"


def test_a_low_entropy_is_whole_against_the_probe():
    history = made(5, objectives=(F,), entropy_f=0.2, baseline={F: 0.25})
    band = of(history, 5)
    assert (band.inside, band.relative) == (False, "80 % of H0")


@pytest.mark.parametrize(("spread", "inside"), [(0.11, True), (0.1, False)])
def test_reward_std_within_ten(spread: float, inside: bool):
    band = of(run(10, reward_std_f=spread, reward_spread_f=0.5), 10, "reward std")
    assert band.inside is inside
    assert "variance 0.5 of what" in band.relative


@pytest.mark.parametrize(("signal", "inside"), [(0.01, True), (0.0, False)])
def test_gradient_signal_within_ten(signal: float, inside: bool):
    columns = steps((0.5, 3), (signal, 7))
    assert of(run(10, gradient_signal_f=[signal] * 10), 10, "gradient").inside is inside
    assert of(run(10, gradient_signal_f=columns), 10, "gradient").relative == "at the start 0.5"


@pytest.mark.parametrize(("count", "inside"), [(8, True), (9, False)])
def test_template_detector_after_twenty(count: int, inside: bool):
    # Of 16 judgements a step half are the template detector's.
    history = run(20, by_template_detector_f=count, by_rule_f=6, by_heuristic_f=2, by_other_f=0)
    assert of(history, 20).inside is inside


def test_the_template_detector_counts_the_last_five_steps():
    history = run(25, by_template_detector_f=steps((16, 20), (1, 5)), by_rule_f=3)
    band = of(history, 20)
    assert (band.value, band.inside) == ("25 %", True)  # 5 of 20


def test_reward_trend_at_fifty():
    rising = run(60, reward_f_mean=steps((0.1, 10), (0.2, 40), (-1.0, 10)))
    band = of(rising, 50)
    assert (band.inside, band.value, band.relative) == (True, "0.2", "at the start 0.1")
    assert of(run(50, reward_f_mean=0.3), 50).inside is False


def test_what_was_not_measured_is_neither_in_nor_out():
    for band in bands(run(50)):
        assert band.inside is None
