"""The loop: prompts, rollouts, rewards, advantages, update, metrics, yardstick, checkpoint."""

from collections.abc import Mapping, Sequence
from functools import cache, partial

import torch

from grpo_dual.diagnosis.remedies import Prescription
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.rewards.compose import Scoring
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.batch import ObjectiveBatch
from grpo_dual.train.clock import Clock
from grpo_dual.train.doctoring import Doctor
from grpo_dual.train.drawing import draw_prompts
from grpo_dual.train.learning import Learner
from grpo_dual.train.objectives import begin_scoring
from grpo_dual.train.probe import probe_due, run_probe
from grpo_dual.train.progress import Progress
from grpo_dual.train.row import judge_cells, step_row
from grpo_dual.train.saving import Found, Saver
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts
from grpo_dual.train.yardstick import evaluate
from grpo_dual.types import Prompt, RolloutGroup


def train_loop(
    parts: Parts,
    metrics: RunMetrics,
    saver: Saver,
    progress: Progress,
    doctor: Doctor,
    *,
    first_step: int,
    last_step: int | None = None,
) -> Prescription | None:
    """Run the steps from ``first_step`` (1 for a fresh run) to ``last_step`` (None: the run's).

    Everything of step s is written before the checkpoint of step s, so that a resumed run continues
    the files without a duplicate or missing line.

    Returns:
        What the doctor wants to change before the run goes on, behind a checkpoint; None at the
        end.

    Raises:
        NumericsError: Sampler and trainer disagree, or three updates in a row were not finite; in
            the second case that step is written and saved first.
        OutOfMemoryError: A pass does not fit the device, though it was halved once.
        JudgeOutageError: No judge can be had and the run is to stop; the step before is saved.
    """
    config = parts.config.train
    learner = Learner(parts, progress.note)
    for step in range(first_step, (last_step or config.steps) + 1):
        clock = Clock()
        found = Found.at(step - 1, parts)
        prompts = {
            name: draw_prompts(
                parts, objective, objective.config.prompts_per_step, progress.left_out
            )
            for name, objective in parts.objectives.items()
        }
        with clock("rollout"):
            torch.manual_seed(step_seed(config.seed, step, "rollout"))
            groups, scorings = roll_out(parts, prompts, step)
        with saver.keeping(found, parts, metrics):
            scored, updates = learner.learn(groups, scorings, clock, first=step == first_step)
        alarms = parts.updater.adapt_kl(updates[0])
        row = step_row(
            step, scored.batches, updates, parts.objectives, parts.weights, clock.seconds
        )
        row |= judge_cells(parts.judges, scored.batches)
        numbers = metrics.write_step(row)
        write_completions(metrics, doctor, step, scored.batches, config.completions_per_step)
        progress.step(step, row, alarms)
        if evaluation_due(parts, step):
            measure(parts, metrics, saver, progress, doctor, step)
        if probe_due(parts, step):
            probe(parts, metrics, progress, doctor, step)
        doctor.look(numbers)
        remedy = doctor.prescribe(step, saver.checkpoints.steps())
        last = step == config.steps or parts.updater.diverged
        if remedy is not None or saver.due(step, last=last):
            metrics.sync()
            saver.save(step, parts)
        if remedy is not None:
            return remedy
        parts.updater.refuse_divergence(updates[-1])
    return None


def roll_out(
    parts: Parts, prompts: Mapping[str, Sequence[Prompt]], step: int
) -> tuple[dict[str, tuple[RolloutGroup, ...]], dict[str, list[Scoring]]]:
    """K completions of every prompt, and the beginning of their scoring.

    All objectives are drawn in one go; but judged ones are drawn first, and their judges work while
    the others are drawn.
    """
    if parts.judges is not None:
        parts.judges.begin_step(step)
    judged = [name for name in prompts if name in parts.judged]
    others = [name for name in prompts if name not in parts.judged]
    drawn: dict[str, tuple[RolloutGroup, ...]] = {}
    scorings: dict[str, list[Scoring]] = {}
    for names in filter(None, (judged, others)):
        flat = [prompt for name in names for prompt in prompts[name]]
        groups = iter(collect(parts.engine, flat, parts.config.rollout.group_size).groups)
        for name in names:
            drawn[name] = tuple(next(groups) for _ in prompts[name])
            objective = parts.objectives[name]
            scorings[name] = [cache(begin_scoring(objective, g)) for g in drawn[name]]
    return {name: drawn[name] for name in prompts}, scorings


def write_completions(
    metrics: RunMetrics,
    doctor: Doctor,
    step: int,
    batches: Sequence[ObjectiveBatch],
    count: int,
) -> None:
    """Sample completions, the first of each of the step's first groups, with what they earned."""
    for batch in batches:
        pairs = zip(
            batch.groups[:count], batch.scores, batch.advantages.advantages_PK, strict=False
        )
        for group, scores, advantages_K in pairs:
            sample = {
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
                "note": scores[0].note,
                "flags": list(scores[0].flags),
                "advantage": float(advantages_K[0]),
            }
            metrics.write_completion(step, sample)
            doctor.note_sample(step, sample)


def evaluation_due(parts: Parts, step: int) -> bool:
    """Every ``eval.every`` steps, and after the last one."""
    config = parts.config.eval
    last = step == parts.config.train.steps
    return (config.every > 0 and step % config.every == 0) or (last and config.before_and_after)


def measure(
    parts: Parts,
    metrics: RunMetrics,
    saver: Saver,
    progress: Progress,
    doctor: Doctor,
    step: int,
) -> None:
    """Evaluate the held-out items behind a step (0: before training) and write the result."""
    result = evaluate(parts, progress.left_out, partial(metrics.write_reply, step))
    metrics.write_evaluation(step, result)
    doctor.note_evaluation(step, result)
    saver.rate(step, result)


def probe(parts: Parts, metrics: RunMetrics, progress: Progress, doctor: Doctor, step: int) -> None:
    """Ask the frozen probe behind a step (0: before training) and write what it says."""
    result = run_probe(parts, progress.left_out)
    metrics.write_probe(step, result)
    doctor.note_probe(step, result)
