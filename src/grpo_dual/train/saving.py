"""All that a run must remember, to a checkpoint and back to the same bits."""

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from grpo_dual.config.schema import CheckpointConfig
from grpo_dual.errors import CheckpointError, JudgeOutageError
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.model.policy import REFERENCE
from grpo_dual.train.checkpoint import Checkpoints
from grpo_dual.train.state import load_optimizer, optimizer_tensors, restore_rng, rng_state
from grpo_dual.train.wiring import Parts

_ADAPTER = "adapter/"
_REFERENCE = "reference/"


@dataclass(frozen=True, slots=True)
class Found:
    """What a step finds when it begins and moves before it updates: generators and samplers."""

    step: int
    """The step before it."""
    random: dict[str, torch.Tensor]
    random_state: dict[str, Any]
    objectives: dict[str, dict[str, object]]

    @classmethod
    def at(cls, step: int, parts: Parts) -> "Found":
        """As they are now, behind ``step``."""
        random, state = rng_state()
        return cls(step, random, state, {n: o.state_dict() for n, o in parts.objectives.items()})


class Saver:
    """Decides when to save, and what the best step is."""

    def __init__(self, folder: Path, config: CheckpointConfig, *, keep_first: bool = False) -> None:
        """Checkpoints go to ``folder/checkpoints``; ``keep_first``: that of step 0 stays."""
        self.checkpoints = Checkpoints(
            folder / "checkpoints", config.keep_last, keep_first=keep_first
        )
        self._every = config.every
        self._rating: tuple[int, float] | None = None
        self._began = time.monotonic()
        self._before = 0.0

    @property
    def wall_seconds(self) -> float:
        """Seconds of the run, those before a resume included."""
        return self._before + time.monotonic() - self._began

    def due(self, step: int, *, last: bool) -> bool:
        """Every ``checkpoint.every`` steps, after the last, and when a step is the best yet."""
        return last or (self._every > 0 and step % self._every == 0) or self._is_best(step)

    def _is_best(self, step: int) -> bool:
        if self._rating is None or self._rating[0] != step:
            return False
        best = self.checkpoints.best()
        return best is None or self._rating[1] > best[1]

    def rate(self, step: int, result: Mapping[str, Mapping[str, object]]) -> None:
        """Remember the yardstick's verdict on a step, for the best checkpoint."""
        scores = [score for own in result.values() if (score := headline(own)) is not None]
        self._rating = (step, sum(scores) / len(scores)) if scores else None

    @contextlib.contextmanager
    def keeping(self, found: Found, parts: Parts, metrics: RunMetrics) -> Iterator[None]:
        """Inside, a step that cannot be scored leaves the checkpoint of the step before it.

        Raises:
            JudgeOutageError: What was raised inside.
        """
        try:
            yield
        except JudgeOutageError:
            if found.step not in self.checkpoints.steps():
                metrics.sync()
                self.save(found.step, parts, found)
            raise

    def save(self, step: int, parts: Parts, found: Found | None = None) -> None:
        """Write the checkpoint of a step, atomically.

        Args:
            step: The step.
            parts: What is saved.
            found: Generators and samplers, if they have moved on since.

        Raises:
            CheckpointError: The file system refuses.
        """
        found = found or Found.at(step, parts)
        names = dict(parts.policy.trainable_parameters())
        optimizer, optimizer_state = optimizer_tensors(parts.updater.optimizer, names)
        tensors = {
            **_prefixed(_ADAPTER, parts.policy.adapter_state()),
            **optimizer,
            **found.random,
        }
        if parts.config.model.reference == "adapter":
            reference = parts.policy.adapter_state(adapter=REFERENCE)
            tensors |= _prefixed(_REFERENCE, reference)
        state = {
            "step": step,
            "wall_seconds": self.wall_seconds,
            "optimizer": optimizer_state,
            "rng": found.random_state,
            "updater": parts.updater.state_dict(),
            "objectives": found.objectives,
        }
        self.checkpoints.save(step, tensors, state, adapter_writer=parts.policy.save_adapter)
        if self._rating is not None and self._rating[0] == step:
            self.checkpoints.mark_best(*self._rating)

    def restore(self, parts: Parts, changed: Collection[str] = ()) -> int | None:
        """Load the newest checkpoint into freshly built parts.

        Args:
            parts: Built from the run's configuration.
            changed: Keys that a remedy has changed since the checkpoint: an objective whose data or
                KL branch is another one begins these anew.

        Returns:
            Its step; None when the run was stopped before its first checkpoint.

        Raises:
            CheckpointError: It is damaged or belongs to another configuration.
        """
        latest = self.checkpoints.latest()
        if latest is None:
            return None
        tensors, state = self.checkpoints.load(latest)
        try:
            objectives, updater, optimizer, random = (
                cast("dict[str, Any]", state[key])
                for key in ("objectives", "updater", "optimizer", "rng")
            )
            step, self._before = int(str(state["step"])), float(str(state["wall_seconds"]))
            moving = {name: objectives[name] for name in parts.objectives}
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{latest}: its state is not that of this configuration and version (at {error}); "
                "resume with the version that wrote it"
            ) from error
        if parts.config.model.reference == "adapter":
            parts.policy.load_adapter_state(_own(_REFERENCE, tensors), adapter=REFERENCE)
        parts.policy.load_adapter_state(_own(_ADAPTER, tensors))
        names = dict(parts.policy.trainable_parameters())
        load_optimizer(parts.updater.optimizer, names, tensors, optimizer)
        kept = {n: c for n, c in updater["controllers"].items() if not _touched(changed, n, "kl")}
        parts.updater.load_state_dict({**updater, "controllers": kept})
        for name, objective in parts.objectives.items():
            if not _touched(changed, name, "data"):
                objective.load_state_dict(moving[name])
        restore_rng(tensors, random)
        return step


def headline(result: Mapping[str, object]) -> float | None:
    """One number in 0..1 that chooses the best checkpoint: what a user wants most of an objective.

    Mean of both accuracies (fairness), share of grounded answers or else detection accuracy
    (hallucination), or a plugin's own ``headline``.
    """
    for keys in (
        ("headline",),
        ("accuracy_ambig", "accuracy_disambig"),
        ("grounded",),
        ("detect_accuracy",),
    ):
        values = [result.get(key) for key in keys]
        numbers = [float(v) for v in values if isinstance(v, int | float)]
        if numbers and len(numbers) == len(values):
            return sum(numbers) / len(numbers)
    return None


def _touched(changed: Collection[str], objective: str, part: str) -> bool:
    return any(key.startswith(f"objectives.{objective}.{part}.") for key in changed)


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _own(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
