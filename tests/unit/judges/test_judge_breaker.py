"""The breaker: closed, open, half open, and what may report late."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_dual.judges.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, cooldown=10, clock=clock)


def opened(breaker: Breaker, clock: Clock) -> None:
    """Three requests sent at once, none answered."""
    sent = clock.now
    clock.now += 1
    for _ in range(3):
        breaker.failed(sent)


def test_it_opens_at_the_third_failure_in_a_row(breaker: Breaker, clock: Clock) -> None:
    for _ in range(2):
        breaker.failed(clock.now)
        assert breaker.closed
        assert breaker.admits()
    breaker.failed(clock.now)
    assert not breaker.closed
    assert not breaker.admits()
    assert breaker.waits() == 10
    assert breaker.opened == 1


def test_an_answer_between_failures_begins_the_count_anew(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        breaker.failed(clock.now)
        breaker.failed(clock.now)
        clock.now += 1
        breaker.succeeded()
        clock.now += 1
    assert breaker.closed
    assert breaker.opened == 0


def test_a_failure_sent_before_the_last_answer_says_nothing(breaker: Breaker, clock: Clock) -> None:
    sent = clock.now
    clock.now += 5
    breaker.succeeded()
    for _ in range(10):
        breaker.failed(sent)
    assert breaker.closed


def test_behind_the_cooldown_one_probe_goes_out(breaker: Breaker, clock: Clock) -> None:
    opened(breaker, clock)
    clock.now += 9.9
    assert not breaker.admits()
    assert breaker.waits() == pytest.approx(0.1)
    clock.now += 0.1
    assert breaker.waits() == 0
    assert [breaker.admits() for _ in range(4)] == [True, False, False, False]
    breaker.succeeded()
    assert breaker.closed
    assert breaker.admits()
    assert breaker.admits()


def test_a_probe_that_fails_waits_a_whole_cooldown_again(breaker: Breaker, clock: Clock) -> None:
    opened(breaker, clock)
    clock.now += 10
    assert breaker.admits()
    sent = clock.now
    clock.now += 2
    breaker.failed(sent)
    assert breaker.waits() == 10
    assert not breaker.admits()
    assert breaker.opened == 1, "it has been open all the time"
    clock.now += 10
    assert breaker.admits()


def test_a_cancelled_probe_makes_way_for_another(breaker: Breaker, clock: Clock) -> None:
    opened(breaker, clock)
    clock.now += 10
    assert breaker.admits()
    breaker.gave_up(clock.now)
    assert [breaker.admits() for _ in range(2)] == [True, False]
    assert not breaker.closed


def late_failure(breaker: Breaker, sent: float) -> None:
    breaker.failed(sent)


def late_cancel(breaker: Breaker, sent: float) -> None:
    breaker.gave_up(sent)


@pytest.mark.parametrize("late", [late_failure, late_cancel])
def test_what_went_out_before_it_opened_frees_no_second_probe(
    breaker: Breaker, clock: Clock, late: Callable[[Breaker, float], None]
) -> None:
    sent = clock.now
    opened(breaker, clock)
    clock.now += 10
    assert breaker.admits()
    late(breaker, sent)
    clock.now += 100
    assert not breaker.admits()


def test_the_server_says_how_long(breaker: Breaker, clock: Clock) -> None:
    breaker.open_for(300)
    assert breaker.opened == 1
    assert not breaker.closed
    clock.now += 299
    assert not breaker.admits()
    clock.now += 1
    assert [breaker.admits() for _ in range(2)] == [True, False]
    breaker.succeeded()
    assert breaker.closed


def test_what_was_sent_before_ends_no_pause_of_the_servers(breaker: Breaker, clock: Clock) -> None:
    sent = clock.now
    clock.now += 1
    breaker.open_for(300)
    clock.now += 1
    breaker.succeeded()
    assert not breaker.admits()
    assert breaker.waits() == 299
    for _ in range(3):
        breaker.failed(clock.now)
    assert breaker.waits() == 299, "a cooldown of 10 s is no shorter way out"
    breaker.open_for(20)
    assert breaker.waits() == 299
    breaker.failed(sent)
    assert breaker.waits() == 299


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "answer", "fail", "cancel", "hold"]),
        st.integers(0, 5),
        st.sampled_from([0.0, 0.5, 4.0, 11.0]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(ACTIONS)
def test_at_most_one_probe_is_out_and_none_before_its_time(
    actions: list[tuple[str, int, float]],
) -> None:
    """Requests that end in any order: from opening to closing, probes follow one another."""
    clock = Clock()
    breaker = Breaker(failures=2, cooldown=10, clock=clock)
    out: list[tuple[float, bool]] = []  # when sent, and is it a probe
    held_until = 0.0
    for action, which, seconds in actions:
        clock.now += seconds
        if action == "ask":
            was_closed = breaker.closed
            if breaker.admits():
                assert clock.now >= held_until
                assert was_closed or not any(probe for _, probe in out)
                out.append((clock.now, not was_closed))
        elif action == "hold":
            breaker.open_for(seconds)
            held_until = max(held_until, clock.now + seconds)
            out = [(sent, False) for sent, _ in out]
        elif out:
            sent, _ = out.pop(which % len(out))
            if action == "answer":
                breaker.succeeded()
            elif action == "fail":
                breaker.failed(sent)
            else:
                breaker.gave_up(sent)
        if breaker.closed:
            assert breaker.waits() == 0
            out = [(sent, False) for sent, _ in out]
