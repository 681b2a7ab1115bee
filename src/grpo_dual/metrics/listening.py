"""Who hears of a run's rows behind their files."""

from collections.abc import Mapping
from typing import Protocol


class Listener(Protocol):
    """Hears of every row in the order in which they are written, once it is."""

    def step(self, step: int, numbers: Mapping[str, float | int | None]) -> None:
        """The numbers of a step by column; None where nothing was measured."""
        ...

    def sample(self, step: int, sample: Mapping[str, object]) -> None:
        """One sample completion."""
        ...

    def evaluation(self, step: int, result: Mapping[str, object]) -> None:
        """The held-out yardstick's result behind a step (0: before training)."""
        ...

    def probe(self, step: int, result: Mapping[str, object]) -> None:
        """The frozen probe's."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...
