"""A run, rehearsed: its first steps with judges that cost nothing, to see what they are asked.

The same data, seed, warm-up and loop as in the run, in a folder that is thrown away. Only the
verdicts are others: the offline judge's.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from grpo_dual.config.doctoring import DoctorConfig
from grpo_dual.config.objectives import HallucinationConfig, PluginConfig
from grpo_dual.config.schema import CheckpointConfig, EvalConfig, RunConfig
from grpo_dual.judges import heuristic
from grpo_dual.judges.client import Question
from grpo_dual.judges.counting import Ask, CountingService, bounds, distinct
from grpo_dual.judges.estimate import Bound
from grpo_dual.judges.local import offline
from grpo_dual.metrics.names import columns
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.train.doctoring import Doctor
from grpo_dual.train.loop import train_loop
from grpo_dual.train.objectives import Objective, build_objective
from grpo_dual.train.progress import Progress
from grpo_dual.train.saving import Saver
from grpo_dual.train.warmup import warm_up
from grpo_dual.train.wiring import build, gather
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record, Task

FEWEST = 8
"""Steps of a rehearsal that is not told how many, at least."""
_BETWEEN = 4
"""Steps between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What the judges of a run can be asked, and what they were asked in its first steps."""

    bounds: Mapping[str, tuple[Bound, ...]]
    """By judge, for every step of the run."""
    asks: Mapping[str, tuple[Ask, ...]]
    """By judge: the distinct asks of the steps that were tried; where none was, one for each group
    of the run, with the accepted text."""
    steps: int
    """Steps that were tried."""
    seconds: float
    """That they took, loading apart."""


def rehearse(
    config: RunConfig, steps: int | None, *, seconds: float, progress: Progress
) -> Rehearsal:
    """Train the first steps of a run with judges that cost nothing.

    Args:
        config: The run; it names at least one judge.
        steps: How many; None: all that ``seconds`` allow, 8 at least.
        seconds: See ``steps``.
        progress: Shows the steps.

    Raises:
        GrpoDualError: As for the run itself.
    """
    total = config.train.steps
    with TemporaryDirectory(prefix="grpo-dual-") as folder:
        plain = config.model_copy(
            update={
                "eval": EvalConfig(before_and_after=False, decode=config.eval.decode),
                "checkpoint": CheckpointConfig(every=0),
            }
        )
        with _counting(config) as judges:
            plain = plain.model_copy(update={"judge": judges.config})
            if config.train.threads is not None:
                torch.set_num_threads(config.train.threads)
            parts = build(plain, gather(plain, judges))
            warm_up(parts, progress)
            parts.policy.freeze_reference()
            possible = _bounds(config, _drawn(config, parts.objectives, judges))
            began = time.monotonic()
            done = 0
            with RunMetrics(Path(folder), _columns(plain)) as metrics, progress:
                saver = Saver(Path(folder), plain.checkpoint)
                nobody = Doctor(DoctorConfig(mode="off"), Path(folder), progress.note)
                while done < _wanted(steps, total, time.monotonic() - began < seconds, done):
                    last = min(total, steps or done + (_BETWEEN if done else FEWEST))
                    train_loop(
                        parts, metrics, saver, progress, nobody, first_step=done + 1, last_step=last
                    )
                    done = last
            asks = distinct(judges.take(), across_steps=config.judge.cache.enabled)
    return Rehearsal(
        bounds=possible,
        asks=_by_judge(config, asks),
        steps=done,
        seconds=time.monotonic() - began,
    )


def foresee(config: RunConfig, objectives: Mapping[str, Objective] | None = None) -> Rehearsal:
    """What the judges of a run can be asked at most; no model is loaded.

    The records are those that the run draws (behind a supervised warm-up: others of the same
    mixture), the accepted texts stand for the completions.

    Args:
        config: The run.
        objectives: Its objectives, where their data were read before; their samplers are left as
            they were.

    Raises:
        GrpoDualError: The data are wrong.
    """
    objectives = objectives or {
        name: build_objective(
            name,
            config.objectives[name],
            max_new_tokens=config.rollout.sampling.max_new_tokens,
            seed=config.train.seed,
        )
        for name in config.judge.objectives
        if not isinstance(config.objectives[name], PluginConfig)
    }
    with _counting(config) as judges:
        drawn = _drawn(config, objectives, judges)
    return Rehearsal(
        bounds=_bounds(config, drawn),
        asks=_by_judge(config, drawn),
        steps=0,
        seconds=0.0,
    )


def _wanted(steps: int | None, total: int, in_time: bool, done: int) -> int:
    """Steps to be tried, as far as is known by now."""
    if steps is not None:
        return min(steps, total)
    return total if in_time or done == 0 else done


@contextmanager
def _counting(config: RunConfig) -> Iterator[CountingService]:
    thresholds = [
        o.reward.threshold for o in config.objectives.values() if isinstance(o, HallucinationConfig)
    ]
    threshold = thresholds[0] if thresholds else heuristic.THRESHOLD
    with CountingService(config.judge, threshold).start() as judges:
        yield judges


def _columns(config: RunConfig) -> Sequence[str]:
    return columns(tuple(config.objectives), tuple(config.judge.providers))


def _drawn(
    config: RunConfig, objectives: Mapping[str, Objective], judges: CountingService
) -> list[Ask]:
    """One question on each record that the run draws and a judge may score, routed as in the run.

    The samplers are left as they were.
    """
    judged = [objectives[name] for name in config.judge.objectives if name in objectives]
    judged = [o for o in judged if not isinstance(o.config, PluginConfig)]
    before = [objective.state_dict() for objective in judged]
    answer = partial(offline, threshold=heuristic.THRESHOLD)
    for step in range(1, config.train.steps + 1):
        judges.begin_step(step)
        for objective in judged:
            for record in objective.draw(objective.config.prompts_per_step):
                if (text := _accepted(record)) is not None:
                    judges.submit([Question(record, text)], answer).result()
    judges.take_tally()
    for objective, state in zip(judged, before, strict=True):
        objective.load_state_dict(state)
    return judges.take()


def _bounds(config: RunConfig, drawn: Sequence[Ask]) -> dict[str, tuple[Bound, ...]]:
    size, steps = config.rollout.group_size, config.train.steps
    return {name: tuple(bounds(own, steps, size)) for name, own in _by_judge(config, drawn).items()}


def _by_judge(config: RunConfig, asks: Sequence[Ask]) -> dict[str, tuple[Ask, ...]]:
    return {
        name: tuple(ask for ask in asks if ask.judge == name) for name in config.judge.providers
    }


def _accepted(record: Record) -> str | None:
    """A text to stand for the completions of a record; None where no judge is ever asked."""
    if isinstance(record, HaluEvalRecord):
        return None if record.task is Task.DETECT else record.accepted or record.rejected or ""
    if isinstance(record, BbqRecord):
        return record.options[record.label]
    return None
