"""Some tokens by captured steps before the first rollout, scored by the training pass.

An architecture nobody has thought of may refuse to be captured, or give other numbers in a replay.
The trainer would find out before its first update; an evaluation would not.
"""

from collections.abc import Sequence

import torch

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.packing import flatten
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.types import Prompt, Record, Task

_TOKENS = 8
_MEAN_GAP = 0.25
"""Nats by which a log-prob of another pass may differ in the mean: bf16 gives a tenth of it, other
keys or positions several."""


class _Endless:
    """No completion ends, so that each has steps that were replayed."""

    eos_ids = (-1,)
    pad_id = 0

    def decode(self, ids: Sequence[int]) -> str:
        """Nobody reads it."""
        del ids
        return ""


def rehearse(policy: Policy) -> None:
    """Draw greedily of two made-up prompts, and compare.

    Raises:
        UnsupportedError: Steps cannot be captured, or give other log-probs than the training pass.
    """
    vocabulary = policy.causal_lm.config.get_text_config().vocab_size
    ids = [int(i) for i in torch.linspace(1, vocabulary - 1, 14).tolist()]
    sampling = SamplingConfig(max_new_tokens=_TOKENS, min_new_tokens=0)
    engine = GraphEngine(policy, _Endless(), sampling, max_sequences=4)
    groups = engine.generate([_prompt(ids[:5]), _prompt(ids[5:])], 2, greedy=True)
    rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
    with policy.inference():
        batch = flatten(rows).to(policy.device)
        scored = policy.token_stats(batch, temperature=1.0, chunk=64).logprobs
    recorded = scored.new_tensor([p for g in groups for r in g.rollouts for p in r.logprobs])
    gap = float((scored - recorded).abs().mean())
    if not gap <= _MEAN_GAP:
        raise UnsupportedError(
            f"steps of {type(policy.causal_lm).__name__}'s modules give other log-probs than its "
            f"training pass, by {gap:.2g} nats in the mean"
        )


def _prompt(ids: Sequence[int]) -> Prompt:
    record = Record(
        record_id="rehearsal", objective="fairness", subset="", task=Task.ANSWER, origin="synthetic"
    )
    return Prompt(record=record, messages=(), token_ids=tuple(ids), shortened=False)
