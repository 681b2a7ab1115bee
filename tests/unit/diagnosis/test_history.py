import math

import pytest
from made_histories import made

from grpo_dual.diagnosis.history import History, Sample, Series
from grpo_dual.metrics import health, names


def test_means_of_the_first_and_the_last():
    series = Series((None, 1.0, 2.0, None, 6.0, None))
    assert series.known == [1.0, 2.0, 6.0]
    assert series.first(2) == 1.5  # the first two measured values
    assert series.first() == 3.0
    assert series.last(2) == 6.0  # the measured ones of the last two rows
    assert series.last(4) == 4.0
    assert series.last(1) is None


def test_an_empty_series_has_no_mean():
    for series in (Series(), Series((None, None))):
        assert not series
        assert (series.first(), series.last(), series.total()) == (None, None, 0.0)
    assert Series((None, 0.0))


def test_totals():
    series = Series((1.0, None, 2.0, 4.0))
    assert series.total() == 7.0
    assert series.total(3) == 6.0
    assert series.total(9) == 7.0


def test_nan_is_measured():
    last = Series((1.0, math.nan)).last(1)
    assert last is not None
    assert math.isnan(last)


def test_columns_by_metric_and_by_name():
    history = made(2, kl_f=0.5, kl_h=(0.1, 0.2), grad_norm=(3.0, 4.0))
    assert history.of(names.KL, "fairness").values == (0.5, 0.5)
    assert history.of(names.KL, "hallucination").values == (0.1, 0.2)
    assert history.run(names.GRAD_NORM).values == (3.0, 4.0)
    assert history.column("kl_h") == history.of(names.KL, "hallucination")
    assert not history.of(health.RIGHT_FRAC, "fairness")
    assert history.of(names.KL, "my_own").values == ()


def test_settings_by_their_dotted_key():
    history = made(changes={"rollout.sampling.top_p": 0.9})
    assert history.number("rollout.sampling.top_p") == 0.9
    assert history.number("objectives.fairness.kl.target") == 0.08
    assert history.setting("objectives.fairness.kind") == "fairness"
    assert history.number("objectives.fairness.kind") is None
    assert history.setting("objectives.nobody.kind") is None
    assert history.setting("rollout.sampling.top_p.deeper") is None


def run() -> History:
    return made(
        4,
        kl_f=(0.1, 0.2, 0.3, 0.4),
        ended="the end",
        evaluations={0: {"fairness": {"axis": 0.1}}, 2: {}, 4: {}},
        baseline={"fairness": 1.5},
        samples=tuple(Sample(s, "fairness", "?", f"text {s}") for s in (1, 2, 3, 4)),
    )


def test_as_it_was_known_after_a_step():
    then = run().until(2)
    assert then.steps == (1, 2)
    assert then.column("kl_f").values == (0.1, 0.2)
    assert set(then.evaluations) == {0, 2}
    assert [s.step for s in then.samples] == [1, 2]
    assert then.baseline == {"fairness": 1.5}
    assert then.ended is None  # not yet
    assert len(then) == 2


def test_the_end_is_known_with_the_last_row_alone():
    assert run().until(4) == run()
    assert run().until(99) == run()
    assert run().until(3).ended is None
    # A run that stopped before its first row.
    stopped = made(0, ended="no prompt fits")
    assert stopped.until(0).ended == "no prompt fits"


@pytest.mark.parametrize("step", [0, -1])
def test_before_the_first_step(step: int):
    then = run().until(step)
    assert (len(then), then.column("kl_f").values, then.samples) == (0, (), ())


def test_the_latest_completions_of_some_verdicts_come_first():
    samples = tuple(
        Sample(step, objective, "?", text, verdict)
        for step, objective, text, verdict in (
            (1, "fairness", "no idea", "evades"),
            (2, "fairness", "Ann", "right"),
            (3, "hallucination", "Paris", "grounded"),
            (4, "fairness", "Bob", "wrong"),
            (5, "fairness", "Bob", "wrong"),
        )
    )
    history = made(5, samples=samples)
    assert history.pick("fairness") == ("Bob", "Ann")  # the latest, each text once
    assert history.pick("fairness", verdicts=("evades",)) == ("no idea", "Bob")
    assert history.pick("fairness", count=9) == ("Bob", "Ann", "no idea")
    assert history.pick("nobody") == ()
