"""The controller of one KL branch: gates, gathering, emergency, alarm, state."""

import json
import math

import pytest

from grpo_dual.loss.kl import KlController

TARGET = 0.05


def controller(**options):
    """Without averaging, gathering or gate, unless the test asks for them."""
    plain = {"beta": 0.3, "target": TARGET, "gain": 0.1, "beta_min": 0.03, "beta_max": 1.0}
    return KlController(
        **(plain | {"smoothing": 0.0, "min_tokens": 1, "no_decrease_steps": 0} | options)
    )


def feed(control, kls, tokens=100):
    return [control.update(kl * tokens, tokens) for kl in kls]


def test_no_decrease_in_the_first_twenty_steps_then_a_quarter_of_the_gain_near_zero():
    control = controller(no_decrease_steps=20)
    moves = feed(control, [0.0] * 21)
    assert [m.beta for m in moves[:20]] == [0.3] * 20
    # KL 0 is below a quarter of the target: .3 (1 - .025 * .2) = .2985
    assert moves[20].beta == pytest.approx(0.2985, abs=1e-12)


def test_increases_are_never_gated():
    assert feed(controller(no_decrease_steps=20), [0.10])[0].beta == pytest.approx(0.306, abs=1e-12)


def test_full_gain_between_a_quarter_of_the_target_and_the_target():
    # .02 is .4 of the target: e = -.6 -> -.2, .3 (1 - .1 * .2) = .294; .0124 gets a quarter gain
    assert feed(controller(), [0.02])[0].beta == pytest.approx(0.294, abs=1e-12)
    assert feed(controller(), [0.0124])[0].beta == pytest.approx(0.2985, abs=1e-12)


def test_average_is_eight_tenths_old_and_two_tenths_new():
    # .05, then .8 * .05 + .2 * .10 = .06: e = .2, .3 * 1.02
    moves = feed(controller(smoothing=0.8), [0.05, 0.10])
    assert moves[0].average == pytest.approx(0.05, abs=1e-15)
    assert moves[1].average == pytest.approx(0.06, abs=1e-15)
    assert moves[1].beta == pytest.approx(0.306, abs=1e-12)


def test_tokens_are_gathered_then_beta_moves_once_on_their_mean():
    control = controller(min_tokens=256)
    assert control.update(10.0, 100).kl is None
    assert control.update(0.0, 0).kl is None
    assert control.update(20.0, 100).kl is None
    assert control.beta == 0.3
    move = control.update(0.0, 100)
    # 30 nats over 300 tokens = .1, twice the target
    assert move.kl == pytest.approx(0.1, abs=1e-15)
    assert move.beta == pytest.approx(0.306, abs=1e-12)
    assert control.update(0.0, 255).kl is None


def test_without_tokens_nothing_moves():
    control = controller(smoothing=0.8)
    feed(control, [0.1])
    before = control.state_dict()
    for _ in range(5):
        move = control.update(0.0, 0)
    assert (move.kl, move.beta) == (None, before["beta"])
    assert control.state_dict() == before | {"steps": 6}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_skipped_and_counted(bad):
    control = controller()
    move = control.update(bad, 100)
    assert (move.skipped, move.kl, move.beta, control.skipped) == (True, None, 0.3, 1)
    assert feed(control, [0.10])[0].beta == pytest.approx(0.306, abs=1e-12)


def test_emergency_after_three_in_a_row():
    moves = feed(controller(), [0.21] * 4)
    # .3, two ordinary moves of 1.02 to .31212, then 1.5 times that = .46818, then 1.02 again
    assert [m.halve_learning_rate for m in moves] == [False, False, True, False]
    assert [m.beta for m in moves] == pytest.approx([0.306, 0.31212, 0.46818, 0.4775436], abs=1e-12)


def test_emergency_needs_three_in_a_row_and_more_than_four_targets():
    assert not any(
        m.halve_learning_rate for m in feed(controller(), [0.21, 0.21, 0.05, 0.21, 0.21])
    )
    # 12.8 nats / 64 tokens = .2 and 4 * .05 = .2: equal is not above
    assert not any(controller().update(12.8, 64).halve_learning_rate for _ in range(5))


def test_emergency_asks_for_the_learning_rate_even_at_the_upper_bound():
    control = controller(beta=1.0)
    move = feed(control, [1.0] * 3)[-1]
    assert (move.beta, move.halve_learning_rate) == (1.0, True)


def test_one_outlier_does_not_hold_beta_up():
    # One token with d = -8 among 256: k3 = 2972 nats, 232 targets. Heard as 4 targets, the average
    # is .8 + .8 = 1.6 targets and falls below 1.2 after .6 * .8^n < .2, n = 5.
    control = controller(smoothing=0.8)
    feed(control, [TARGET] * 5)
    control.update(2972.0 + 255 * TARGET, 256)
    averages = [m.average for m in feed(control, [TARGET] * 5)]
    assert averages[3] > 1.2 * TARGET
    assert averages[4] < 1.2 * TARGET


@pytest.mark.parametrize(("kl", "bound"), [(0.10, 1.0), (0.02, 0.03)])
def test_alarm_after_twenty_moves_stopped_at_a_bound(kl, bound):
    control = controller(beta=bound)
    moves = feed(control, [kl] * 20)
    assert all(m.beta == bound for m in moves)
    assert [m.pinned for m in moves] == [False] * 19 + [True]
    assert not feed(control, [TARGET])[0].pinned


def test_a_gated_beta_at_its_bound_is_no_alarm():
    moves = feed(controller(beta=0.03, no_decrease_steps=50), [0.0] * 40)
    assert not any(m.pinned for m in moves)


def test_constant_beta_is_watched_and_never_moved():
    control = controller(adaptive=False, beta=0.0)
    moves = feed(control, [1.0] * 30)
    assert {m.beta for m in moves} == {0.0}
    assert not any(m.halve_learning_rate or m.pinned for m in moves)
    assert moves[-1].kl == pytest.approx(1.0, abs=1e-12)


def test_two_branches_share_nothing():
    f, h = controller(), controller()
    feed(f, [0.2] * 10)
    assert h.beta == 0.3
    assert h.state_dict() == controller().state_dict()


def test_a_loop_around_it_reaches_the_target():
    # A plant whose KL is .05 (.6 / beta): the fixed point is beta = .6.
    control = controller(smoothing=0.8, no_decrease_steps=20)
    for _ in range(200):
        control.update(0.05 * 0.6 / control.beta * 256, 256)
    assert control.beta == pytest.approx(0.6, rel=0.02)


def test_state_through_json_continues_to_the_bit():
    # Every kind of step: gather, gate, outlier, skip, emergency, decrease.
    steps = [(0.0, 100), (20.0, 300), (math.nan, 5), (90.0, 256), (90.0, 256), (90.0, 256)]
    steps += [(1.0, 256), (0.0, 0)] * 20
    for cut in range(1, len(steps), 5):
        whole, first, second = (
            controller(min_tokens=256, smoothing=0.8, no_decrease_steps=20) for _ in range(3)
        )
        expected = [whole.update(*s) for s in steps]
        got = [first.update(*s) for s in steps[:cut]]
        second.load_state_dict(json.loads(json.dumps(first.state_dict(), allow_nan=False)))
        got += [second.update(*s) for s in steps[cut:]]
        assert got == expected


def test_foreign_state_and_bad_bounds_are_refused():
    with pytest.raises(ValueError, match="keys"):
        controller().load_state_dict({"beta": 0.3})
    with pytest.raises(ValueError, match="not between"):
        controller(beta=2.0)
