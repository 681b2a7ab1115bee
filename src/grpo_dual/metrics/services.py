"""TensorBoard, Weights & Biases and Trackio behind one small interface.

Each module is imported only when a configuration names it, and none of them brings torch. They
raise what they raise; trackers.py guards every call.
"""

import importlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from grpo_dual.errors import ConfigError

SAMPLE_COLUMNS = ("objective", "prompt", "completion", "total", "verdict")
"""What is sent of a sample completion."""


class Service(Protocol):
    """One tracker of one run."""

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers of a step; a step may be named twice with other names."""
        ...

    def samples(self, step: int, rows: Sequence[Sequence[str]]) -> None:
        """Send the sample completions of a step, one row of `SAMPLE_COLUMNS` each."""
        ...

    def close(self) -> None:
        """Send what is left, and end."""
        ...


def load(name: str) -> Any:
    """The module of a tracker.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f'tracking.to: {name} is not installed: pip install "grpo-dual[{name}]", or leave it '
            "out of tracking.to"
        ) from error


class TensorBoard:
    """Event files, written by tensorboard itself."""

    def __init__(self, folder: Path) -> None:
        """Begin a new event file in ``folder``."""
        writer = importlib.import_module("tensorboard.summary.writer.event_file_writer")
        self._event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        self._proto = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._tensor = importlib.import_module("tensorboard.compat.proto.tensor_pb2").TensorProto
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = writer.EventFileWriter(str(folder))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """See Service."""
        made = [self._proto.Summary.Value(tag=t, simple_value=v) for t, v in values.items()]
        self._add(step, made)

    def samples(self, step: int, rows: Sequence[Sequence[str]]) -> None:
        """See Service; as a text, indented, so that nothing in it is taken for Markdown."""
        told = "\n\n".join(
            "\n".join(f"    {name}: {line}" for name, cell in zip(SAMPLE_COLUMNS, row, strict=True)
                      for line in cell.splitlines() or [""])
            for row in rows
        )  # fmt: skip
        plugin = self._proto.SummaryMetadata.PluginData(plugin_name="text", content=b"")
        value = self._proto.Summary.Value(
            tag="samples",
            metadata=self._proto.SummaryMetadata(plugin_data=plugin),
            tensor=self._tensor(dtype="DT_STRING", string_val=[told.encode()]),
        )
        self._add(step, [value])

    def _add(self, step: int, values: Sequence[object]) -> None:
        summary = self._proto.Summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()  # what was told to be there must survive a kill

    def close(self) -> None:
        """See Service."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases; where it goes is WANDB_MODE's to say."""

    def __init__(self, project: str, run: str, folder: Path, config: Mapping[str, object]) -> None:
        """Begin the run ``run`` of a project, or go on with it."""
        self._wandb = load("wandb")
        self._run = self._wandb.init(
            project=project,
            id=run,
            name=run,
            resume="allow",
            dir=None if "WANDB_DIR" in os.environ else str(folder),
            config=dict(config),
            # The console shows completions: it is not captured.
            settings=self._wandb.Settings(console="off"),
        )
        # Its own counter refuses a step that is named again, as behind a resume.
        self._run.define_metric("*", step_metric="step")

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """See Service."""
        self._run.log({**values, "step": step})

    def samples(self, step: int, rows: Sequence[Sequence[str]]) -> None:
        """See Service."""
        table = self._wandb.Table(columns=[*SAMPLE_COLUMNS], data=[[*row] for row in rows])
        self._run.log({"samples": table, "step": step})

    def close(self) -> None:
        """See Service."""
        self._run.finish()


class Trackio:
    """A run of Trackio, in its own local database unless the environment names a Space."""

    def __init__(self, project: str, run: str, config: Mapping[str, object]) -> None:
        """Begin the run ``run`` of a project, or go on with it."""
        self._trackio = load("trackio")
        self._run = self._trackio.init(
            project=project,
            name=run,
            resume="allow",
            config=dict(config),
            private=True,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """See Service."""
        self._run.log(dict(values), step=step)

    def samples(self, step: int, rows: Sequence[Sequence[str]]) -> None:
        """See Service."""
        table = self._trackio.Table(columns=[*SAMPLE_COLUMNS], data=[[*row] for row in rows])
        self._run.log({"samples": table}, step=step)

    def close(self) -> None:
        """See Service."""
        self._trackio.finish()  # not the run's own: that would be ended again at exit


def openers(
    project: str, run: str, folder: Path, place: str, config: Mapping[str, object]
) -> dict[str, Callable[[], Service]]:
    """How each tracker is opened, by its name in ``tracking.to``.

    Args:
        project: Of wandb and trackio.
        run: Name of the run there, the same one whenever it is opened.
        folder: The run folder.
        place: Folder of event files in it.
        config: What is told of the configuration.
    """
    return {
        "tensorboard": lambda: TensorBoard(folder / place),
        "wandb": lambda: Wandb(project, run, folder, config),
        "trackio": lambda: Trackio(project, run, config),
    }
