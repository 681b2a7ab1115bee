"""The loop: prompts, rollouts, rewards, advantages, update, metrics, yardstick, checkpoint."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.batch import ObjectiveBatch, objective_batch
from grpo_dual.train.drawing import draw_prompts
from grpo_dual.train.progress import Progress
from grpo_dual.train.row import step_row
from grpo_dual.train.saving import Saver
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts
from grpo_dual.train.yardstick import evaluate
from grpo_dual.types import Prompt, RolloutGroup


def train_loop(
    parts: Parts, metrics: RunMetrics, saver: Saver, progress: Progress, *, first_step: int
) -> None:
    """Run the steps from ``first_step`` (1 for a fresh run) to the last one.

    Everything of step s is written before the checkpoint of step s, so that a resumed run continues
    the files without a duplicate or missing line.

    Raises:
        NumericsError: Sampler and trainer disagree, or three updates in a row were not finite; in
            the second case that step is written and saved first.
    """
    config = parts.config.train
    for step in range(first_step, config.steps + 1):
        clock = Clock()
        prompts = {
            name: draw_prompts(
                parts, objective, objective.config.prompts_per_step, progress.left_out
            )
            for name, objective in parts.objectives.items()
        }
        with clock("rollout"):
            torch.manual_seed(step_seed(config.seed, step, "rollout"))
            groups = roll_out(parts, prompts)
        with clock("reward"):
            batches = [make_batch(parts, name, own) for name, own in groups.items()]
        with clock("reference"):
            parts.updater.add_reference(batches)
        if step == first_step:
            parts.updater.check_sampler(batches)
        if config.num_iterations > 1:
            parts.updater.add_old(batches)
        updates = [parts.updater.update(batches) for _ in range(config.num_iterations)]
        alarms = parts.updater.adapt_kl(updates[0])
        row = step_row(step, batches, updates, parts.objectives, parts.weights, clock.seconds)
        metrics.write_step(row)
        write_completions(metrics, step, batches, config.completions_per_step)
        progress.step(step, row, alarms)
        if evaluation_due(parts, step):
            measure(parts, metrics, saver, progress, step)
        if saver.due(step, last=step == config.steps or parts.updater.diverged):
            metrics.sync()
            saver.save(step, parts)
        parts.updater.refuse_divergence(updates[-1])


class Clock:
    """Seconds by name; time is kept when the block raises."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began


def roll_out(
    parts: Parts, prompts: Mapping[str, Sequence[Prompt]]
) -> dict[str, tuple[RolloutGroup, ...]]:
    """K completions of every prompt, all objectives in one go."""
    flat = [prompt for own in prompts.values() for prompt in own]
    groups = iter(collect(parts.engine, flat, parts.config.rollout.group_size).groups)
    return {name: tuple(next(groups) for _ in own) for name, own in prompts.items()}


def make_batch(parts: Parts, name: str, groups: Sequence[RolloutGroup]) -> ObjectiveBatch:
    """Score one objective's groups and turn them into micro-batches."""
    config, objective = parts.config, parts.objectives[name]
    return objective_batch(
        name,
        groups,
        [objective.score(group) for group in groups],
        [objective.best(group.prompt.record) for group in groups],
        normalization=config.advantage.normalization,
        eps=config.advantage.eps,
        sampling=config.rollout.sampling,
        eos_ids=parts.encoder.eos_ids,
        pad_id=parts.encoder.pad_id,
        microbatch_prompts=config.train.microbatch_prompts,
        packed=config.train.packed,
        device=parts.policy.device,
    )


def write_completions(
    metrics: RunMetrics, step: int, batches: Sequence[ObjectiveBatch], count: int
) -> None:
    """Sample completions, the first of each of the step's first groups, with what they earned."""
    for batch in batches:
        pairs = zip(
            batch.groups[:count], batch.scores, batch.advantages.advantages_PK, strict=False
        )
        for group, scores, advantages_K in pairs:
            metrics.write_completion(
                step,
                {
                    "objective": batch.name,
                    "record": group.prompt.record.record_id,
                    "prompt": group.prompt.messages[-1].content,
                    "completion": group.rollouts[0].text,
                    "finished": group.rollouts[0].finished,
                    "parts": dict(scores[0].parts),
                    "total": scores[0].total,
                    "verdict": scores[0].verdict,
                    "provider": scores[0].provider,
                    "failure": scores[0].failure,
                    "advantage": float(advantages_K[0]),
                },
            )


def evaluation_due(parts: Parts, step: int) -> bool:
    """Every ``eval.every`` steps, and after the last one."""
    config = parts.config.eval
    last = step == parts.config.train.steps
    return (config.every > 0 and step % config.every == 0) or (last and config.before_and_after)


def measure(parts: Parts, metrics: RunMetrics, saver: Saver, progress: Progress, step: int) -> None:
    """Evaluate the held-out items behind a step (0: before training) and write the result."""
    result = evaluate(parts, progress.left_out)
    metrics.write_evaluation(step, result)
    saver.rate(step, result)
