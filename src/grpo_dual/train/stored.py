"""A checkpoint of a run by its name on the command line: RUN, RUN@STEP or RUN@best."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import CheckpointError
from grpo_dual.train.targets import adapter_state, find_target, is_run_folder


@dataclass(frozen=True, slots=True)
class Stored:
    """One checkpoint, found whole."""

    run: Path
    """The run's folder."""
    config: RunConfig
    """The run's, as it was at its end."""
    step: int
    adapter: Path
    """The folder in it that PEFT loads."""
    sha256: str
    """Of the adapter's weights."""

    @property
    def name(self) -> str:
        """``RUN@STEP``, without the folders above."""
        return f"{self.run.resolve().name}@{self.step}"

    def adapter_state(self) -> dict[str, Tensor]:
        """Weights for ``Policy.load_adapter_state``.

        Raises:
            CheckpointError: They cannot be read.
        """
        return adapter_state(self.adapter.parent)


def names_run(text: str) -> bool:
    """Does ``RUN`` or ``RUN@STEP`` begin with a run folder?"""
    return is_run_folder(Path(text)) or is_run_folder(Path(text.rpartition("@")[0]))


def find(text: str) -> Stored:
    """The checkpoint that ``RUN``, ``RUN@STEP``, ``RUN@last`` or ``RUN@best`` names.

    Raises:
        CheckpointError: There is no such run or checkpoint, or it is damaged.
        ConfigError: The run's configuration cannot be read by this version.
    """
    if not names_run(text):
        raise CheckpointError(
            f"{text}: is no run folder. Give the folder that the run printed when it started, or "
            "RUN@STEP for one of its checkpoints"
        )
    found = find_target(text)
    if found.step is None:
        raise CheckpointError(f"{text}: is the model without an adapter; give RUN or RUN@STEP")
    assert found.folder is not None
    assert found.config is not None
    assert found.adapter is not None
    assert found.sha256 is not None
    return Stored(found.folder, found.config, found.step, found.adapter, found.sha256)
