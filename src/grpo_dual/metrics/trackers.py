"""A run's numbers to trackers, each once, and never at the cost of the run.

``trackers.json`` in the run folder says what each tracker has got. A resumed run computes the steps
behind its checkpoint again, to the same bits; those that a tracker has are not sent twice. Where
the numbers become others, as the doctor has changed the configuration, another run begins there.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from grpo_dual.errors import CheckpointError, ConfigError
from grpo_dual.metrics.services import SAMPLE_COLUMNS, Service, load, openers

STATE = "trackers.json"
SAMPLES = "samples"


@dataclass(slots=True)
class _Open:
    """A tracker at work, or one that has failed."""

    name: str
    service: Service
    last: dict[str, int]
    """Kind of row -> the last step it has got."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is tracked, and where."""

    to: tuple[str, ...]
    """Names of trackers."""
    project: str
    samples: bool
    """Send completions too."""
    folder: Path
    """The run's."""
    generation: int
    """How often the doctor changed the run or took a change back."""
    tags: Mapping[str, str]
    """Column -> name in the trackers."""
    config: Mapping[str, object] = field(default_factory=dict[str, object])
    """What is told of the configuration."""


def check_installed(names: tuple[str, ...]) -> None:
    """Fail before a model is loaded rather than after.

    Raises:
        ConfigError: A tracker is not installed.
    """
    for name in names:
        load(name)


class Trackers:
    """The trackers of one run; a listener of `RunMetrics`."""

    def __init__(self, target: Target, tell: Callable[[str], None]) -> None:
        """Open them.

        Args:
            target: What is tracked, and where.
            tell: Hears of a tracker that fails.

        Raises:
            ConfigError: A tracker is not installed, or cannot be started.
            CheckpointError: ``trackers.json`` is damaged.
        """
        self._target = target
        self._tell = tell
        self._open: list[_Open] = []
        self._texts: tuple[int, list[list[str]]] = (0, [])
        if not target.to:
            return
        state = self._read()
        self._run = str(state["run"])
        place = "tensorboard" + (f"/{target.generation}" if target.generation else "")
        made = openers(target.project, self._run, target.folder, place, target.config)
        for name in dict.fromkeys(target.to):
            try:
                service = made[name]()
            except ConfigError:
                self.close()
                raise
            except Exception as error:  # what a tracker raises is its own
                self.close()
                raise ConfigError(
                    f"tracking.to: {name} cannot be started ({_line(error)}). Mend that, or leave "
                    "it out of tracking.to"
                ) from error
            self._open.append(_Open(name, service, dict(state["last"].get(name, {}))))
        self._write()

    def step(self, step: int, numbers: Mapping[str, float | int | None]) -> None:
        """Send the row of a step; what was not measured is left out."""
        self._send_samples()
        tags = self._target.tags
        named = {tags[key]: value for key, value in numbers.items() if key in tags}
        self._numbers("step", step, named)

    def evaluation(self, step: int, result: Mapping[str, object]) -> None:
        """Send the held-out yardstick's numbers as ``OBJECTIVE/eval/SCORE``."""
        self._results("eval", step, result)

    def probe(self, step: int, result: Mapping[str, object]) -> None:
        """Send the frozen probe's numbers as ``OBJECTIVE/probe/SCORE``."""
        self._results("probe", step, result)

    def sample(self, step: int, sample: Mapping[str, object]) -> None:
        """Take a sample completion; those of a step are sent together, if at all."""
        if not (self._target.samples and self._open):
            return
        if self._texts[0] != step:
            self._send_samples()
            self._texts = (step, [])
        cells = (sample.get(column) for column in SAMPLE_COLUMNS)
        self._texts[1].append(["" if cell is None else str(cell) for cell in cells])

    def close(self) -> None:
        """Send what is left and end; say which trackers lack something."""
        self._send_samples()
        for one in self._open:
            if one.error is None:
                self._guarded(one, one.last.get("step", 0), one.service.close)
        for one in self._open:
            if one.error is not None:
                self._tell(
                    f"tracking: {one.name} failed behind step {one.last.get('step', 0)} and has "
                    f"nothing since ({one.error}); the files of the run folder are whole"
                )
        self._open = []

    def _results(self, kind: str, step: int, result: Mapping[str, object]) -> None:
        named: dict[str, object] = {}
        for objective, scores in result.items():
            if isinstance(scores, Mapping):
                own = cast("Mapping[str, object]", scores)
                named |= {f"{objective}/{kind}/{key}": value for key, value in own.items()}
        self._numbers(kind, step, named)

    def _numbers(self, kind: str, step: int, named: Mapping[str, object]) -> None:
        values = {
            key: float(value)
            for key, value in named.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._each(kind, step, lambda service: service.numbers(step, values))

    def _send_samples(self) -> None:
        step, rows = self._texts
        if rows:
            self._texts = (step, [])
            self._each(SAMPLES, step, lambda service: service.samples(step, rows))

    def _each(self, kind: str, step: int, send: Callable[[Service], None]) -> None:
        """Send to every tracker that works and has not got it."""
        sent = False
        for one in self._open:
            if one.error is None and step > one.last.get(kind, -1):
                self._guarded(one, step, lambda one=one: send(one.service))
                if one.error is None:
                    one.last[kind] = step
                    sent = True
        if sent:
            self._write()

    def _guarded(self, one: _Open, step: int, call: Callable[[], None]) -> None:
        """Run a call of a tracker; one that fails is told once, and left alone from then on."""
        try:
            call()
        except Exception as error:  # noqa: BLE001  a run outlives what a tracker raises
            one.error = _line(error)
            self._tell(
                f"tracking: {one.name} failed at step {step} ({one.error}); the run goes on "
                "without it"
            )

    def _read(self) -> dict[str, Any]:
        """The run's name in the trackers and what they have got; new ones for other numbers."""
        path = self._target.folder / STATE
        fresh: dict[str, Any] = {
            "run": f"{self._target.folder.name}-{uuid.uuid4().hex[:6]}",
            "generation": self._target.generation,
            "last": {},
        }
        if not path.exists():
            return fresh
        try:
            state = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
            last = {
                str(name): {str(kind): int(step) for kind, step in own.items()}
                for name, own in state["last"].items()
            }
            if int(state["generation"]) != self._target.generation:
                return fresh
            return {"run": str(state["run"]), "last": last}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: cannot be read ({error}); remove it, and the trackers begin a new run"
            ) from error

    def _write(self) -> None:
        """Replace the state, without waiting for the disk: a line sent twice is no harm."""
        path = self._target.folder / STATE
        state = {
            "run": self._run,
            "generation": self._target.generation,
            "last": {one.name: one.last for one in self._open},
        }
        part = path.with_name(f".{STATE}.part")
        try:
            part.write_text(json.dumps(state) + "\n", encoding="utf-8")
            part.replace(path)
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot be written ({error.strerror or error})"
            ) from error


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
