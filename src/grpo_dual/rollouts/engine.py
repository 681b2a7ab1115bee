"""What draws completions, whatever it runs on."""

from collections.abc import Sequence
from typing import Protocol

from grpo_dual.types import Prompt, RolloutGroup


class Engine(Protocol):
    """Draws K completions per prompt from the current policy."""

    def generate(
        self, prompts: Sequence[Prompt], k: int, *, greedy: bool = False
    ) -> list[RolloutGroup]:
        """Draw ``k`` completions of every prompt, in the order given.

        Args:
            prompts: rendered prompts.
            k: completions per prompt.
            greedy: take the most likely token each time, without penalties, forbidden EOS or
                truncation (the yardstick's decode). The recorded log-probs are then the model's own
                at T = 1.

        Returns:
            One group per prompt. Log-probs are those of the distribution that was sampled from.
        """
        ...


class Codec(Protocol):
    """What an engine needs of the chat encoder (``grpo_dual.prompts.chat.ChatEncoder``)."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a completion."""
        ...

    @property
    def pad_id(self) -> int:
        """Any valid id, written where the mask hides it."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        ...
