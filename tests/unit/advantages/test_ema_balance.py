"""EMA-ratio balance: floor, freeze, hold, bounds, and the state that survives a kill."""

import json
import math

import pytest

from grpo_dual.advantages.balance import EmaBalance, balance_factors

LIVE = {"f": 4, "h": 4}


def test_frozen_until_every_objective_was_seen_often_enough():
    balance = EmaBalance(["f", "h"], warmup=10)
    for _ in range(9):
        assert balance.update({"f": 0.8, "h": 0.2}, LIVE) == {"f": 1.0, "h": 1.0}
    # ten constant signals, bias-corrected: s is exactly the constant, so the factors are T3.3's
    assert balance.update({"f": 0.8, "h": 0.2}, LIVE) == pytest.approx(
        {"f": 2 / 3, "h": 4 / 3}, abs=1e-12
    )


def test_bias_correction():
    # rate .1, signals 1 then 3: raw .1, then .1 * .9 + .3 = .39; over 1 - .9^2 = .19: 2.0526316
    # against a constant 1: mean 1.5263158, ratios .7435897, 1.5263158, roots .8623165, 1.2354415,
    # sum 2.0977580, times 2: .8221315, 1.1778685
    balance = EmaBalance(["f", "h"], warmup=2)
    balance.update({"f": 1.0, "h": 1.0}, LIVE)
    factors = balance.update({"f": 3.0, "h": 1.0}, LIVE)
    assert factors == pytest.approx({"f": 0.8221315, "h": 1.1778685}, abs=1e-6)


def test_floor_keeps_a_nearly_dead_objective_from_blowing_up():
    # mean .5, floor .05: ratios (.5, 10), roots (.7071068, 3.1622777), sum 3.8693845:
    # factors .3654881, 1.6345119; without the floor the second would be 1.9999
    factors = balance_factors({"f": 1.0, "h": 1e-9})
    assert factors == pytest.approx({"f": 0.3654881, "h": 1.6345119}, abs=1e-6)


def test_bounds_are_applied_last():
    balance = EmaBalance(["f", "h"], warmup=1)
    factors = balance.update({"f": 1.0, "h": 1e-9}, LIVE)
    assert factors == pytest.approx({"f": 0.5, "h": 1.6345119}, abs=1e-6)


@pytest.mark.parametrize(
    ("signals", "live"),
    [
        ({"f": 0.8, "h": 0.0}, {"f": 4, "h": 0}),
        ({"f": 0.8, "h": math.nan}, LIVE),
        ({"f": 0.8, "h": math.inf}, LIVE),
    ],
)
def test_an_objective_that_says_nothing_is_held(signals, live):
    balance = EmaBalance(["f", "h"], warmup=1)
    before = balance.update({"f": 0.8, "h": 0.2}, LIVE)
    state = balance.state_dict()
    after = balance.update(signals, live)
    assert after["h"] == before["h"]
    assert after["f"] == pytest.approx(before["f"], abs=1e-12)
    assert balance.state_dict()["averages"]["h"] == state["averages"]["h"]
    assert balance.state_dict()["seen"] == {"f": 2, "h": 1}


def test_with_three_the_others_share_what_they_had():
    balance = EmaBalance("abc", warmup=1)
    before = balance.update({"a": 1.0, "b": 1.0, "c": 1.0}, dict.fromkeys("abc", 1))
    after = balance.update({"a": 4.0, "b": 1.0, "c": 0.0}, {"a": 1, "b": 1, "c": 0})
    assert after["c"] == before["c"]
    assert after["a"] < after["b"]
    assert after["a"] + after["b"] == pytest.approx(before["a"] + before["b"], abs=1e-12)


def test_all_signals_zero_leaves_the_factors_alone():
    balance = EmaBalance(["f", "h"], warmup=1)
    assert balance.update({"f": 0.0, "h": 0.0}, LIVE) == {"f": 1.0, "h": 1.0}


def test_alpha_zero_is_no_balance_and_alpha_one_equalises():
    assert balance_factors({"f": 0.8, "h": 0.2}, alpha=0.0) == {"f": 1.0, "h": 1.0}
    factors = balance_factors({"f": 0.8, "h": 0.2}, alpha=1.0)
    assert factors["f"] * 0.8 == pytest.approx(factors["h"] * 0.2, abs=1e-12)


def test_state_through_json_continues_to_the_bit():
    signals = [{"f": 0.8 + 0.1 * (i % 3), "h": 0.3 / (i + 1)} for i in range(12)]
    whole, first, second = (EmaBalance(["f", "h"], warmup=3) for _ in range(3))
    expected = [whole.update(s, LIVE) for s in signals]
    got = [first.update(s, LIVE) for s in signals[:5]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += [second.update(s, LIVE) for s in signals[5:]]
    assert got == expected


def test_foreign_states_and_names_are_refused():
    balance = EmaBalance(["f", "h"])
    with pytest.raises(ValueError, match="keys"):
        balance.load_state_dict({"beta": {}})
    with pytest.raises(ValueError, match="is of"):
        balance.load_state_dict(EmaBalance(["f", "g"]).state_dict())
    with pytest.raises(ValueError, match="names"):
        balance.update({"f": 1.0}, LIVE)
    with pytest.raises(ValueError, match="negative"):
        balance.update({"f": -1.0, "h": 1.0}, LIVE)
    with pytest.raises(ValueError, match="at least one"):
        EmaBalance([])
    with pytest.raises(ValueError, match="all signals are 0"):
        balance_factors({"f": 0.0})
