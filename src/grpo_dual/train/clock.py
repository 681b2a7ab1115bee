"""Seconds of the parts of a step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds by name; blocks of one name add up, and time is kept when a block raises."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
