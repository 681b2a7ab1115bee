"""The sequences that a decode step runs, and looks at which of them have finished."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grpo_dual.rollouts.drawing import Drawer
from grpo_dual.rollouts.pool import Rows


@dataclass(slots=True)
class Batch:
    """Active sequences; a captured graph reads and writes these very tensors."""

    rows: Rows
    drawer: Drawer
    """Held here since the graph reads its EOS ids."""
    place: Tensor
    """[b] row of the output."""
    finished: Tensor
    """[b] bool."""
    seen: Tensor | None
    """[b, V] bool."""
    graph: Any = None

    @property
    def size(self) -> int:
        """b, fillers included."""
        return len(self.place)


class Look:
    """Which sequences were going on when it was cast; it is read later."""

    def __init__(self, finished: Tensor) -> None:
        """``finished``: [b] bool."""
        cuda = finished.is_cuda
        self._finished = torch.empty(finished.shape, dtype=torch.bool, pin_memory=cuda)
        self._finished.copy_(finished, non_blocking=True)
        self._cast = torch.cuda.Event() if cuda else None
        if self._cast is not None:
            self._cast.record()

    def going(self) -> Tensor:
        """Their places, on the CPU; waits until the look has been cast."""
        if self._cast is not None:
            self._cast.synchronize()
        return (~self._finished).nonzero().squeeze(1)
