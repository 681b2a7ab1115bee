"""Some tokens by captured steps before the first rollout, scored by the training pass.

An architecture nobody has thought of may refuse to be captured, or give other numbers in a replay.
The trainer would find out before its first update; an evaluation would not.
"""

from collections.abc import Sequence

import torch

from grpo_dual.config.schema import SamplingConfig
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.packing import flatten, unpack
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.types import Prompt, Record, Task

_TOKENS = 8
_MOST = 0.1
"""Nats by which a log-prob may differ in the mean, whatever the rounding: in bf16 a random 8B shape
has half of it, smaller and trained models less."""
_FLOOR, _TIMES = 0.005, 3.0
"""Nearer than that they must be where the training pass hardly differs from itself, rows padded
instead of flat: a position off by one is a tenth of a nat in a small trained model."""


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
        UnsupportedError: Steps cannot be captured, do not fit the memory, or give other log-probs
            than the training pass.
    """
    try:
        gap, noise = _gaps(policy)
    except UnsupportedError:
        raise
    except Exception as error:  # the modules are anybody's, and so are their errors
        said = (str(error).strip() or "no message").splitlines()[0][:200]
        raise UnsupportedError(
            f"a first step of its modules failed ({type(error).__name__}: {said})"
        ) from error
    if not gap <= min(_MOST, _FLOOR + _TIMES * noise):
        raise UnsupportedError(
            f"steps of {type(policy.causal_lm).__name__}'s modules give other log-probs than its "
            f"training pass, by {gap:.2g} nats in the mean, which has {noise:.2g} by rounding"
        )


def _gaps(policy: Policy) -> tuple[float, float]:
    """Nats between captured steps and the training pass, and between that and itself on other rows.

    Means over the absolute differences of log-probs.
    """
    vocabulary = policy.causal_lm.config.get_text_config().vocab_size
    ids = [int(i) for i in torch.linspace(1, vocabulary - 1, 14).tolist()]
    sampling = SamplingConfig(max_new_tokens=_TOKENS, min_new_tokens=0)
    engine = GraphEngine(policy, _Endless(), sampling, max_sequences=4)
    groups = engine.attempt([_prompt(ids[:5]), _prompt(ids[5:])], 2, greedy=True)
    rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
    with torch.no_grad():
        flat, plain = (
            policy.token_stats(batch.to(policy.device), temperature=1.0, chunk=64).logprobs
            for batch in (flatten(rows), unpack(rows, 0))
        )
    recorded = flat.new_tensor([p for g in groups for r in g.rollouts for p in r.logprobs])
    gap, noise = (float((flat - other).abs().mean()) for other in (recorded, plain))
    return gap, noise


def _prompt(ids: Sequence[int]) -> Prompt:
    record = Record(
        record_id="rehearsal", objective="fairness", subset="", task=Task.ANSWER, origin="synthetic"
    )
    return Prompt(record=record, messages=(), token_ids=tuple(ids), shortened=False)
