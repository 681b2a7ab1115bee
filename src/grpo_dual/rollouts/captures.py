"""CUDA graphs of steps: what they share, and what a capture must leave as it was."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from grpo_dual.model.family import UnsupportedError


class Captures:
    """Captures steps that are never replayed beside each other."""

    def __init__(self, device: torch.device) -> None:
        """Graphs share a pool of memory: none leaves anything in it that another must not touch."""
        self._device = device
        self._pool: Any = torch.cuda.graph_pool_handle()

    def capture(self, step: Callable[[], None], again: Callable[[], None]) -> Any:
        """The graph of a step.

        Random numbers are as if it had not been captured: who replays draws what who captures does.

        Args:
            step: Runs it.
            again: Sets back what a run has moved, behind each of the runs in front of the capture.

        Raises:
            UnsupportedError: The step waits for the device.
        """
        state = torch.cuda.get_rng_state(self._device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step()  # compiles kernels and lets libraries allocate
            again()
            with _no_waiting():
                step()
            again()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool):
                step()
        except BaseException:  # raised again, whatever it is
            _mend_generator(self._device)
            raise
        torch.cuda.set_rng_state(state, self._device)
        return graph


def _mend_generator(device: torch.device) -> None:
    """Behind a capture that broke off the generator goes on as if it still went on."""
    number = torch.cuda.current_device() if device.index is None else device.index
    generator: Any = torch.cuda.default_generators[number]
    generator.graphsafe_set_state(generator.clone_state())


@contextmanager
def _no_waiting() -> Iterator[None]:
    """Inside, what waits for the device is refused: it would break a capture off.

    Raises:
        UnsupportedError: Something waits.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchronizing CUDA operation" not in str(error):
            raise
        raise UnsupportedError("a step of its modules waits for the device") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
