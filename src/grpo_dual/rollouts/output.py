"""What the in-place engine draws, on the device, and the rollouts that are made of it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import NumericsError
from grpo_dual.rollouts.engine import Codec
from grpo_dual.types import Rollout


@dataclass(slots=True)
class Output:
    """What has been drawn; the last row is for those that only fill a batch up."""

    tokens: Tensor
    """[S + 1, T]"""
    logprobs: Tensor
    kept_ids: Tensor | None
    """[S + 1, T, top_k] int32"""
    kept: Tensor | None
    """[S + 1, T]"""

    @classmethod
    def allocate(
        cls, count: int, sampling: SamplingConfig, dtype: torch.dtype, device: torch.device
    ) -> Self:
        """For ``count`` sequences and one row to spare; ``dtype`` is the model's."""
        span, top_k = sampling.max_new_tokens, sampling.top_k
        # A captured step writes behind the first token, also where no second is ever drawn.
        shape = (count + 1, max(span, 2))
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        kept_ids = kept = None
        if top_k > 0:
            kept_ids = torch.zeros(*shape, top_k, dtype=torch.int32, device=device)
            kept = torch.zeros(*shape, dtype=torch.int64, device=device)
        return cls(
            torch.zeros(shape, dtype=torch.int64, device=device),
            torch.zeros(shape, dtype=wide, device=device),
            kept_ids,
            kept,
        )

    def rollouts(
        self, count: int, sampling: SamplingConfig, codec: Codec, *, truncated: bool
    ) -> list[Rollout]:
        """The first ``count`` rows, each up to its first EOS.

        Raises:
            NumericsError: A log-prob is NaN.
        """
        span = sampling.max_new_tokens
        tokens = self.tokens[:count, :span].tolist()
        logprobs = self.logprobs[:count, :span].tolist()
        truncates = truncated and self.kept_ids is not None and self.kept is not None
        kept_ids = self.kept_ids[:count, :span].tolist() if truncates else None  # type: ignore[index]
        kept = self.kept[:count, :span].tolist() if truncates else None  # type: ignore[index]
        eos = set(codec.eos_ids)
        rollouts: list[Rollout] = []
        for i in range(count):
            end = next((j for j, token in enumerate(tokens[i]) if token in eos), None)
            length = len(tokens[i]) if end is None else end + 1
            own = tuple(logprobs[i][:length])
            if any(value != value for value in own):
                raise NumericsError(
                    "the model's logits became NaN or infinite while completions were drawn; the "
                    "adapter has diverged: lower train.optimizer.learning_rate or resume from an "
                    "earlier checkpoint"
                )
            ids = None
            if kept_ids is not None and kept is not None:
                ids = tuple(tuple(kept_ids[i][j][: kept[i][j]]) for j in range(length))
            rollouts.append(
                Rollout(
                    token_ids=tuple(tokens[i][:length]),
                    logprobs=own,
                    text=codec.decode(tokens[i][:length]).strip(),
                    finished=end is not None,
                    kept_ids=ids,
                )
            )
        return rollouts
