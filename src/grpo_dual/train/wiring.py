"""Config -> the objects of a run. The only place, beside cli/, that sees the whole RunConfig."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from grpo_dual.advantages.combine import objective_weights
from grpo_dual.config.schema import RunConfig
from grpo_dual.judges.service import JudgeService
from grpo_dual.loss.kl import KlController
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.prompts.audit import build_prompt
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.rollouts.choose import choose_engine
from grpo_dual.rollouts.engine import Engine
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.train.memory import Fit, fit_memory
from grpo_dual.train.objectives import Objective, build_objective
from grpo_dual.train.seed import seed_everything
from grpo_dual.train.step import Updater
from grpo_dual.types import Prompt, Record


@dataclass(frozen=True, slots=True)
class Parts:
    """All that a run is made of."""

    config: RunConfig
    policy: Policy
    encoder: ChatEncoder
    engine: Engine
    objectives: Mapping[str, Objective]
    weights: Mapping[str, float]
    updater: Updater
    judges: JudgeService | None = None
    """Judges that run beside the loop; None when the offline one is the only one."""
    memory: Fit | None = None
    """The plan of the device's memory; None on the CPU."""
    notes: tuple[str, ...] = ()
    """What differs from what was asked for, to be shown to the user."""

    @property
    def judged(self) -> frozenset[str]:
        """Objectives whose scores may have to be waited for."""
        return frozenset(self.config.judge.objectives if self.judges is not None else ())

    def prompt(self, objective: Objective, record: Record) -> Prompt:
        """Render a record within the run's prompt limit.

        Raises:
            PromptError: It does not fit and cannot be shortened.
        """
        return build_prompt(
            record,
            objective.messages,
            self.encoder,
            max_tokens=self.config.rollout.max_prompt_tokens,
            overlong=self.config.rollout.overlong_prompt,
        )


@dataclass(frozen=True, slots=True)
class Materials:
    """What is there before a model is: the data with their rewards, and who judges."""

    objectives: Mapping[str, Objective]
    judges: JudgeService | None


def gather(config: RunConfig, judges: JudgeService | None = None) -> Materials:
    """Read the data and build their rewards.

    Args:
        config: The run.
        judges: In place of those that the configuration names.

    Raises:
        GrpoDualError: Data, a judge's key or a user's function is wrong.
    """
    if judges is None and config.judge.providers:
        judges = JudgeService(config.judge)
    objectives = {
        name: build_objective(
            name,
            o,
            max_new_tokens=config.rollout.sampling.max_new_tokens,
            seed=config.train.seed,
            judges=config.judge,
            judging=judges if name in config.judge.objectives else None,
        )
        for name, o in config.objectives.items()
    }
    return Materials(objectives, judges)


def build(config: RunConfig, materials: Materials | None = None) -> Parts:
    """Read data, load the model, build everything; nothing is written.

    Args:
        config: The run.
        materials: Its data and judges, where they were gathered before.

    Raises:
        GrpoDualError: Data, model or a user's function is wrong.
    """
    materials = materials or gather(config)
    objectives, judges = materials.objectives, materials.judges
    sampling = config.rollout.sampling
    seed_everything(config.train.seed)
    policy = load_policy(config.model)
    # Transformers sets the special ids of a tokenizer at run time, where no checker sees them.
    tokenizer = cast("Tokenizer", policy.tokenizer)
    encoder = ChatEncoder(tokenizer, generation_eos_ids=policy.generation_eos_ids)
    notes = list(policy.notes)
    engine = choose_engine(policy, encoder, config.rollout, notes.append)
    evaluates = config.eval.before_and_after or config.eval.every > 0
    fit = fit_memory(
        policy,
        config,
        in_place=isinstance(engine, GraphEngine),
        evaluated=max(len(o.eval_records) for o in objectives.values()) if evaluates else 0,
    )
    if fit is not None:
        policy.use_checkpointing(fit.checkpointing)
        notes += fit.notes
    weights = objective_weights(
        {name: o.weight for name, o in config.objectives.items()},
        {name: o.reward_scale for name, o in config.objectives.items()},
    )
    updater = Updater(
        policy,
        {name: KlController(**o.kl.model_dump()) for name, o in config.objectives.items()},
        weights,
        loss=config.loss,
        optimizer=config.train.optimizer,
        sampling=sampling,
        total_updates=config.train.steps * config.train.num_iterations,
    )
    return Parts(
        config, policy, encoder, engine, objectives, weights, updater, judges, fit, tuple(notes)
    )
