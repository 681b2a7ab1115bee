"""Counts of a step: hidden time."""

import pytest

from grpo_dual.judges.tally import StepTally, Tally


def test_overlapping_groups_are_busy_once() -> None:
    clock = iter([10.0, 14.0, 20.0, 21.5])
    tally = Tally(lambda: next(clock))
    tally.began()  # 10
    tally.began()
    tally.ended()
    tally.ended()  # 14
    tally.began()  # 20
    tally.ended()  # 21.5
    tally.waited(1.1)
    step = tally.take()
    assert step.busy_seconds == pytest.approx(5.5)
    assert step.hidden == pytest.approx(0.8)
    assert tally.take().hidden is None


def test_more_waiting_than_work_hides_nothing() -> None:
    assert StepTally(busy_seconds=1.0, waited_seconds=1.5).hidden == 0.0
