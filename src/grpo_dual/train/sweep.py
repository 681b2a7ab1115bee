"""Runs of a grid, each in a process of its own; a sweep that was killed goes on where it was.

Folder of a sweep:

    sweep.json          cells with their status and scores, replaced after every change
    CELL/config.json    the cell's resolved configuration
    CELL/log.txt        what its processes printed
    CELL/CELL-<time>/   its run folder

A process outlives a sweep that is killed alone; it holds the lock of its cell as long as it lives,
and a sweep started anew waits for it.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from grpo_dual.config.load import load_config
from grpo_dual.errors import CheckpointError, ConfigError, DataError
from grpo_dual.evaluation.evaluated import CONFIG, SWEEP, flat
from grpo_dual.evaluation.pareto import Point, front
from grpo_dual.metrics.files import write_atomically
from grpo_dual.metrics.sinks import SUMMARY
from grpo_dual.train.grid import Cell
from grpo_dual.train.outcome import Outcome, outcome

LOG = "log.txt"
_LOCK = ".lock"
_POLL = 0.2
"""Seconds between looks at the running processes."""
_PATIENCE = 60.0
"""Seconds that an interrupted run has to end by itself."""
_DIFFERENCES = 5
"""Keys named where a configuration has changed."""

Status = Literal["waiting", "running", "done", "failed"]


@dataclass(slots=True)
class State:
    """How far a cell is."""

    cell: Cell
    status: Status = "waiting"
    run: Path | None = None
    """Its run folder."""
    error: str | None = None
    outcome: Outcome | None = None
    """What its last evaluation, its files and the doctor say."""


class Sweep:
    """A sweep in its folder."""

    def __init__(self, folder: Path, cells: Sequence[Cell], tell: Callable[[str], None]) -> None:
        """Nothing is read or written yet; ``tell`` hears of starts and ends."""
        self.folder = folder
        self.cells = [State(cell) for cell in cells]
        self._tell = tell

    def run(self, *, jobs: int = 1, force: bool = False) -> None:
        """Run all cells that are not done, ``jobs`` at once.

        Args:
            jobs: Processes at once.
            force: Start runs though their pre-flight refuses them.

        Raises:
            ConfigError: The folder's sweep is another one.
            CheckpointError: The folder cannot be used, or another process works in it.
            KeyboardInterrupt: Behind the end of the runs that were interrupted.
        """
        with self._locked(), _terminable():
            self._open()
            with contextlib.ExitStack() as stack:
                self._work(jobs, force, stack)

    def _work(self, jobs: int, force: bool, stack: contextlib.ExitStack) -> None:
        waiting = [p for p in self.cells if p.status != "done"]
        if len(waiting) < len(self.cells):
            self._tell(f"{len(self.cells) - len(waiting)} of {len(self.cells)} cells are done")
        running: dict[subprocess.Popen[bytes], State] = {}
        stack.callback(self._stop, running)
        environment = dict(os.environ)
        if jobs > 1:
            # Otherwise each of them would take every core.
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
        while waiting or running:
            while waiting and len(running) < jobs:
                state = waiting.pop(0)
                process = self._start(state, force, environment)
                if process is not None:
                    running[process] = state
            for process in [p for p in running if p.poll() is not None]:
                self._ended(running.pop(process), process.returncode)
            if running:
                time.sleep(_POLL)

    def _start(
        self, state: State, force: bool, environment: dict[str, str]
    ) -> subprocess.Popen[bytes] | None:
        """The process of a cell, fresh or resumed; None when it has ended after all."""
        cell = state.cell
        place = self.folder / cell.name
        with self._free(place, cell.name) as lock:
            state.run = _run_folder(place)
            if _finished(state.run):  # by a process that outlived the sweep before this one
                self._ended(state, 0)
                return None
            if state.run is None:
                arguments = [str(place / CONFIG), *(["--force"] if force else [])]
            else:
                arguments = ["--resume", str(state.run)]
            how = "starts" if state.run is None else "goes on"
            self._tell(f"{cell.name} {how}; {place / LOG}")
            state.status, state.error = "running", None
            self.write()
            with (place / LOG).open("ab") as log:
                return subprocess.Popen(
                    [sys.executable, "-m", "grpo_dual", "train", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    pass_fds=(lock.fileno(),),  # the lock lives as long as the process
                    start_new_session=True,  # Ctrl-C reaches the sweep, which hands it on once
                )

    def _ended(self, state: State, code: int) -> None:
        place = self.folder / state.cell.name
        state.run = _run_folder(place)
        if code == 0 and _finished(state.run):
            state.status, state.error = "done", None
        else:
            state.status, state.error = "failed", _why(place / LOG, code)
        self._look(state)
        self._tell(
            f"{state.cell.name} {state.status}" + (f": {state.error}" if state.error else "")
        )
        self.write()

    def _look(self, state: State) -> None:
        if state.run is None:
            return
        try:
            state.outcome = outcome(state.run)
        except (DataError, CheckpointError) as error:  # a damaged run is a failed one
            state.status, state.error = "failed", str(error)

    def _stop(self, running: dict[subprocess.Popen[bytes], State]) -> None:
        """Interrupt what still runs, and wait for its end; the files of a run bear any end."""
        for process in running:
            process.send_signal(signal.SIGINT)
        for process, state in running.items():
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            state.status = "waiting"
        if running:
            self.write()

    def _open(self) -> None:
        """Take up what the folder holds, or make it.

        Raises:
            ConfigError: It is of another sweep.
            CheckpointError: It holds other things, or cannot be written.
        """
        others = [p.name for p in self.folder.iterdir() if p.name != _LOCK]
        if others and SWEEP not in others:
            raise CheckpointError(
                f"{self.folder}: holds other files ({sorted(others)[0]}) and no {SWEEP}; choose an "
                "empty or a new folder with --out"
            )
        if others:
            self._refuse_other()
        for state in self.cells:
            place = self.folder / state.cell.name
            place.mkdir(exist_ok=True)
            resolved = json.dumps(state.cell.config.model_dump(mode="json"), indent=2) + "\n"
            write_atomically(place / CONFIG, resolved.encode())
            state.run = _run_folder(place)
            if _finished(state.run):
                state.status = "done"
                self._look(state)
        self.write()

    def _refuse_other(self) -> None:
        try:
            document = json.loads((self.folder / SWEEP).read_text(encoding="utf-8"))
            before = [str(cell["name"]) for cell in document["cells"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder / SWEEP}: cannot be read ({error}); it was damaged or edited. "
                "Restore it, or choose another folder with --out"
            ) from error
        lacking = [name for name in before if name not in {p.cell.name for p in self.cells}]
        if lacking:
            raise ConfigError(
                f"{self.folder}: its sweep has cells that this command has not: "
                f"{', '.join(lacking[:_DIFFERENCES])}. Cells may be added, never taken away; give "
                "the command that it was started with, or another folder with --out."
            )
        for state in self.cells:
            path = self.folder / state.cell.name / CONFIG
            if path.is_file():
                _refuse_changes(path, state.cell)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Inside, no other sweep works in the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / _LOCK).open("ab")
        except OSError as error:
            raise CheckpointError(
                f"{self.folder}: cannot be written ({error.strerror or error}); choose another "
                "folder with --out"
            ) from error
        with file:
            if not _lock(file):
                raise CheckpointError(f"{self.folder}: another sweep is at work there")
            yield

    @contextlib.contextmanager
    def _free(self, place: Path, name: str) -> Iterator[IO[bytes]]:
        """The lock of a cell, once no process of an earlier start holds it."""
        with (place / _LOCK).open("ab") as file:
            told = False
            while not _lock(file):
                if not told:
                    self._tell(f"{name} is still run by an earlier start; waiting for its end")
                    told = True
                time.sleep(_POLL)
            yield file

    def points(self) -> dict[str, Point]:
        """Last evaluations of the cells that are done, by name."""
        return {
            s.cell.name: Point(s.cell.name, o.fairness, o.faithfulness)
            for s in self.cells
            if s.status == "done"
            and (o := s.outcome) is not None
            and o.fairness is not None
            and o.faithfulness is not None
        }

    def write(self) -> None:
        """Replace sweep.json."""
        points = self.points()
        best = {point.name for point in front([*points.values()])}
        rows = [
            {
                "name": p.cell.name,
                "values": dict(p.cell.values),
                "seed": p.cell.config.train.seed,
                "status": p.status,
                "run": None if p.run is None else p.run.relative_to(self.folder).as_posix(),
                "error": p.error,
                "on_front": p.cell.name in best if p.cell.name in points else None,
                "outcome": None if p.outcome is None else asdict(p.outcome),
            }
            for p in self.cells
        ]
        content = json.dumps({"cells": rows}, indent=2, allow_nan=False) + "\n"
        write_atomically(self.folder / SWEEP, content.encode())


def _lock(file: IO[bytes]) -> bool:
    """Take the lock of a file; False when another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Inside, SIGTERM does what Ctrl-C does: the runs are ended too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run_folder(place: Path) -> Path | None:
    """The run folder of a cell, if it has one.

    Raises:
        CheckpointError: There are several.
    """
    found = sorted(p for p in place.glob("[!.]*/") if (p / CONFIG).is_file())
    if len(found) > 1:
        raise CheckpointError(
            f"{place}: holds several run folders ({', '.join(p.name for p in found)}); leave one"
        )
    return found[0] if found else None


def _finished(run: Path | None) -> bool:
    """The summary is the last thing that a run writes."""
    return run is not None and (run / SUMMARY).is_file()


def _why(log: Path, code: int) -> str:
    """What a process that failed said last."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line.strip() for line in lines if line.strip()]
    said = told[-1].removeprefix("grpo-dual: error: ") if told else "it said nothing"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}; last line: {said}"
    return said


def _refuse_changes(path: Path, cell: Cell) -> None:
    """Refuse a configuration that is not the one a cell was started with."""
    old, new = (
        dict(flat(config.model_dump(mode="json"))) for config in (load_config(path), cell.config)
    )
    told = [
        f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in [*old, *(k for k in new if k not in old)]
        if key != "out" and (key in old, old.get(key)) != (key in new, new.get(key))
    ]
    if told:
        raise ConfigError(
            f"{path}: the sweep was started with another configuration: "
            f"{'; '.join(told[:_DIFFERENCES])}. Put that back, or choose another folder with --out."
        )
