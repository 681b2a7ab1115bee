"""What a capture does, in which order, with stand-ins for CUDA; a card is in cuda_checks.py."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from grpo_dual.model.family import UnsupportedError
from grpo_dual.rollouts.captures import Captures, _no_waiting

CARD = torch.device("cuda:0")


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was done, in order."""
    found: list[Any] = []
    stream = SimpleNamespace(wait_stream=lambda _: None)

    @contextmanager
    def capturing(_graph: Any, pool: Any) -> Iterator[None]:
        found.append(("begin", pool))
        yield
        found.append("end")

    generator = SimpleNamespace(
        clone_state=lambda: "clone", graphsafe_set_state=lambda s: found.append(("mended", s))
    )
    stand_ins: dict[str, Any] = {
        "graph_pool_handle": lambda: "pool",
        "get_rng_state": lambda _: "state",
        "set_rng_state": lambda state, device: found.append((state, device)),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "CUDAGraph": lambda: "graph",
        "graph": capturing,
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": found.append,
        "default_generators": (generator,),
    }
    for name, instead in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, instead)
    return found


def test_two_runs_then_a_capture_and_random_numbers_as_before(done: list[Any]) -> None:
    captures = Captures(CARD)
    for _ in range(2):
        done.clear()
        graph = captures.capture(lambda: done.append("step"), lambda: done.append("again"))
        assert graph == "graph"
        assert done == [
            "step", "again", "error", "step", 0, "again", ("begin", "pool"), "step", "end",
            ("state", CARD),
        ]  # fmt: skip


def failing(number: int, error: BaseException, done: list[Any]) -> Callable[[], None]:
    """A step that fails when it is run for the ``number``-th time."""
    runs = iter(range(1, 9))

    def step() -> None:
        done.append("step")
        if next(runs) == number:
            raise error

    return step


@pytest.mark.parametrize("error", [RuntimeError("capture"), KeyboardInterrupt()])
def test_a_capture_that_breaks_off_mends_the_generator(
    error: BaseException, done: list[Any]
) -> None:
    with pytest.raises(type(error)):
        Captures(CARD).capture(failing(3, error, done), lambda: None)
    assert done[-1] == ("mended", "clone")


def test_what_waits_is_refused_before_a_capture_begins(done: list[Any]) -> None:
    error = RuntimeError("called a synchronizing CUDA operation")
    with pytest.raises(UnsupportedError, match="waits for the device"):
        Captures(CARD).capture(failing(2, error, done), lambda: None)
    assert done == ["step", "error", "step", 0]


def test_other_errors_are_not_taken_for_waiting(done: list[Any]) -> None:
    with pytest.raises(RuntimeError, match="out of memory"), _no_waiting():
        raise RuntimeError("CUDA out of memory")
    assert done == ["error", 0]
