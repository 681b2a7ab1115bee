"""Which engine draws: the one asked for, or the one that can, with the reason told."""

from collections.abc import Callable

from grpo_dual.config.schema import RolloutConfig
from grpo_dual.errors import ConfigError
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.engine import Codec, Engine
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.rollouts.rehearsal import rehearse
from grpo_dual.rollouts.transformers import TransformersEngine


def choose_engine(
    policy: Policy, codec: Codec, config: RolloutConfig, tell: Callable[[str], None]
) -> Engine:
    """The engine of ``rollout.engine``.

    Args:
        policy: What is sampled from.
        codec: EOS ids, pad id and decoding.
        config: Engine, sampling and sequences at once.
        tell: Hears why the in-place engine is not used where it might have been, or not at its
            best.

    Raises:
        ConfigError: ``graph`` was asked for by name and cannot run.
    """
    if config.engine != "transformers":
        try:
            if policy.device.type != "cuda":
                raise UnsupportedError("CUDA graphs need a CUDA device")
            engine = GraphEngine(policy, codec, config.sampling, max_sequences=config.max_sequences)
            if engine.slower is not None:
                rehearse(policy)
                tell(
                    "rollouts in place, through the model's own modules, which takes longer than a "
                    f"step made for its family: {engine.slower}"
                )
            longest = config.max_prompt_tokens + config.sampling.max_new_tokens
            if policy.window is not None and longest > policy.window:
                tell(
                    f"sequences of more than {policy.window} tokens, the model's attention window, "
                    "are drawn by the transformers engine"
                )
            return engine
        except UnsupportedError as reason:
            if config.engine == "graph":
                raise ConfigError(
                    f"rollout.engine: graph cannot run here: {reason}. Let it be auto, which draws "
                    "by the transformers engine then."
                ) from reason
            tell(f"rollouts by the transformers engine, not in place: {reason}")
    return TransformersEngine(policy, codec, config.sampling, max_sequences=config.max_sequences)
