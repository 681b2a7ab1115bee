"""A checkpoint of a run by its name on the command line, and the policy that it holds.

``RUN`` is the newest checkpoint of a run folder, ``RUN@60`` the one behind step 60, ``RUN@best``
the one that the held-out yardstick liked most.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import CheckpointError
from grpo_dual.train.checkpoint import ADAPTER, Checkpoints, verify

CONFIG = "config.json"
"""The resolved configuration in a run folder (config/snapshot.py writes it)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One checkpoint of a run."""

    run: Path
    """The run's folder."""
    config: RunConfig
    """The run's, as it was at its end."""
    step: int
    path: Path
    """The checkpoint's folder, which was found whole."""

    @property
    def adapter(self) -> Path:
        """The folder that PEFT loads."""
        return self.path / ADAPTER

    @property
    def name(self) -> str:
        """``RUN@STEP``, without the folders above."""
        return f"{self.run.resolve().name}@{self.step}"

    def adapter_state(self) -> dict[str, Tensor]:
        """Weights for ``Policy.load_adapter_state``.

        Raises:
            CheckpointError: The checkpoint is damaged.
        """
        tensors, _ = Checkpoints(self.path.parent).load(self.path)
        prefix = f"{ADAPTER}/"
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def is_run(text: str) -> bool:
    """Does ``RUN`` or ``RUN@STEP`` name a run folder?"""
    return (_divide(text)[0] / CONFIG).is_file() and _divide(text)[0].is_dir()


def find(text: str) -> Stored:
    """The checkpoint that ``RUN``, ``RUN@STEP``, ``RUN@last`` or ``RUN@best`` names.

    Raises:
        CheckpointError: There is no such run or checkpoint, or it is damaged.
        ConfigError: The run's configuration cannot be read by this version.
    """
    run, which = _divide(text)
    if not (run / CONFIG).is_file():
        raise CheckpointError(
            f"{run}: is no run folder ({CONFIG} is not there). Give the folder that the run "
            "printed when it started, or RUN@STEP for one of its checkpoints."
        )
    checkpoints = Checkpoints(run / "checkpoints")
    steps = checkpoints.steps()
    if not steps:
        raise CheckpointError(f"{run}: has no checkpoint yet; let the run reach its first one.")
    step = _step(run, which, checkpoints, steps)
    path = checkpoints.path(step)
    verify(path)
    return Stored(run, load_config(run / CONFIG), step, path)


def _divide(text: str) -> tuple[Path, str]:
    if (Path(text) / CONFIG).is_file():  # a folder may have an @ in its name
        return Path(text), "last"
    folder, at, which = text.rpartition("@")
    return (Path(folder), which) if at else (Path(text), "last")


def _step(run: Path, which: str, checkpoints: Checkpoints, steps: list[int]) -> int:
    kept = ", ".join(map(str, steps))
    if which == "last":
        return steps[-1]
    if which == "best":
        best = checkpoints.best()
        if best is None:
            raise CheckpointError(
                f"{run}: no checkpoint is marked best, as the run has no evaluation; it keeps "
                f"those of the steps {kept}."
            )
        return best[0]
    if not which.isdecimal() or int(which) not in steps:
        raise CheckpointError(
            f"{run}: has no checkpoint of step `{which}`; it keeps those of the steps {kept} "
            "(checkpoint.keep_last says how many), also called `last` and `best`."
        )
    return int(which)
