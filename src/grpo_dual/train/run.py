"""A run from its configuration to its files: fresh, or continued after a kill."""

import contextlib
import datetime
import json
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from transformers.utils.logging import disable_progress_bar

from grpo_dual.config.schema import RunConfig
from grpo_dual.config.snapshot import snapshot
from grpo_dual.diagnosis.doctor import examine
from grpo_dual.diagnosis.journal import append
from grpo_dual.diagnosis.page import paragraph, remedy_text
from grpo_dual.diagnosis.reading import STOPPED, read_run
from grpo_dual.diagnosis.remedies import Prescription
from grpo_dual.errors import CheckpointError, DataError, GrpoDualError, JudgeError
from grpo_dual.evaluation.table import show
from grpo_dual.judges.ledger import LEDGER
from grpo_dual.metrics.files import write_atomically
from grpo_dual.metrics.names import better, columns
from grpo_dual.metrics.sinks import EVALUATIONS, SUMMARY, RunMetrics, evaluations
from grpo_dual.metrics.trackers import check_installed
from grpo_dual.train.acts import apply, changed_since
from grpo_dual.train.chosen import chosen_rows
from grpo_dual.train.doctoring import Doctor
from grpo_dual.train.loop import measure, probe, train_loop
from grpo_dual.train.preflight import cleared, memory_findings, refuse
from grpo_dual.train.probe import probe_due
from grpo_dual.train.progress import Progress
from grpo_dual.train.saving import Saver
from grpo_dual.train.tracking import open_trackers
from grpo_dual.train.warmup import paired_objectives, warm_up
from grpo_dual.train.wiring import Parts, build, gather
from grpo_dual.types import Finding, Severity

MAX_NAMESAKES = 100
"""Runs of one name that may start in the same second."""


def train(
    config: RunConfig, resume: Path | None = None, *, look: bool = False, force: bool = False
) -> int:
    """Train as ``config`` says, in a new run folder, or continue the one of ``resume``.

    Args:
        config: The run.
        resume: Folder of a run to go on with; its pre-flight is long past.
        look: Do the pre-flight of a new run, unless doctor.mode is off; the command line does.
        force: Start though the pre-flight says that it will teach nothing, or the wrong thing.

    Returns:
        0, the exit code.

    Raises:
        PreflightError: The pre-flight refuses it; nothing is written.
        GrpoDualError: What the user can mend; see errors.py.
        KeyboardInterrupt: With the run folder, once there is one.
    """
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    console = Console()
    if not console.is_terminal:
        disable_progress_bar()
    columns(tuple(config.objectives), tuple(config.judge.providers))  # refuses names that collide
    check_installed(config.tracking.to)
    if resume is None:
        _check_writable(config.out)
    elif _finished(resume, config):
        console.print(f"{resume}: this run is finished, there is nothing to do", soft_wrap=True)
        return 0
    if resume is None:
        parts, findings = _prepare(config, console, look=look, force=force)
        folder = _new_folder(config)
        append(folder, findings, "preflight")
    else:
        parts, folder = build(config), resume
    (folder / STOPPED).unlink(missing_ok=True)
    resumed = resume is not None
    try:
        while (remedy := _carry_out(parts, folder, console, resumed=resumed)) is not None:
            config = apply(folder, config, remedy)
            resumed = True
            del parts  # its memory is needed for the next
            parts = build(config)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(folder) from stop
    except GrpoDualError as error:
        _write_why(folder, error)
        if config.doctor.mode != "off":
            _last_words(console, folder)
        raise
    return 0


def _prepare(
    config: RunConfig, console: Console, *, look: bool, force: bool
) -> tuple[Parts, tuple[Finding, ...]]:
    """The parts of a new run, and what the pre-flight found; nothing is written.

    Raises:
        PreflightError: The pre-flight refuses it.
        GrpoDualError: Data, model or configuration is wrong.
    """
    materials = gather(config)
    if not look or config.doctor.mode == "off":
        parts, findings = build(config, materials), ()
    else:
        say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        findings = cleared(config, materials, say, force=force)
        parts = build(config, materials)
        findings += refuse(memory_findings(parts), say, force=force)
    paired_objectives(parts)  # before a folder is made, if there are none
    chosen_rows(parts)  # or a row of sft.data is wrong
    return parts, findings


def _carry_out(
    parts: Parts, folder: Path, console: Console, *, resumed: bool
) -> Prescription | None:
    """Bring a run to its end, or to a remedy.

    Args:
        parts: As the configuration in ``folder`` says.
        folder: The run's.
        console: Where it is told.
        resumed: The run has begun already.
    """
    config = parts.config
    names, judges = tuple(config.objectives), tuple(config.judge.providers)
    progress = Progress(console, names, config.train.steps)
    for note in (*parts.notes, *(n for o in parts.objectives.values() for n in o.notes)):
        progress.note(f"note: {note}")
    progress.note(f"run folder: {folder}")
    saver = Saver(folder, config.checkpoint, keep_first=config.doctor.mode == "act")
    begun = resumed and bool(saver.checkpoints.steps())
    with (
        RunMetrics(
            folder, columns(names, judges), open_trackers(config, folder, progress.note)
        ) as metrics,
        judging(parts, folder, progress, begun=begun),
    ):
        done = _resume(parts, metrics, saver, progress) if resumed else None
        doctor = Doctor(config.doctor, folder, progress.note)
        if done is None:
            done = _begin(parts, metrics, saver, progress, doctor)
        elif done == 0 and changed_since(folder, 0) and config.eval.before_and_after:
            measure(parts, metrics, saver, progress, doctor, 0)  # by the changed configuration
        with progress:
            remedy = train_loop(parts, metrics, saver, progress, doctor, first_step=done + 1)
        if remedy is not None:
            progress.note(remedy_text(remedy))
            return remedy
        results = evaluations(folder / EVALUATIONS)
        metrics.write_summary(
            wall_seconds=saver.wall_seconds,
            better=better(names, judges),
            evaluation=_before_and_after(results),
            judges=None if parts.judges is None else parts.judges.ledger.report(),
        )
    if progress.records_left_out:
        progress.note(f"records over the prompt limit, left out: {progress.records_left_out}")
    _report(console, results, folder, saver.wall_seconds)
    return None


def _write_why(folder: Path, error: GrpoDualError) -> None:
    """What stopped the run, for the doctor; a resumed run takes it away."""
    why = {"error": " ".join(str(error).split()), "kind": type(error).__name__}
    write_atomically(folder / STOPPED, (json.dumps(why) + "\n").encode())


def _last_words(console: Console, folder: Path) -> None:
    """What the doctor makes of the error that stopped the run."""
    try:
        history = read_run(folder)
    except DataError as error:  # damaged, which may well be what stopped it: that is told anyway
        console.print(f"doctor: {error}", markup=False, highlight=False, soft_wrap=True)
        return
    for found in examine(history):
        if found.severity is Severity.ACT:
            console.print(paragraph(found), markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def judging(
    parts: Parts, folder: Path, progress: Progress, *, begun: bool = False
) -> Iterator[None]:
    """Inside, the judges work, and spend into the ledger of the run folder.

    Args:
        parts: With the judges, if there are any.
        folder: The run's.
        progress: Hears of the judges.
        begun: The run has a checkpoint already, so the ledger must be there.

    Raises:
        JudgeError: An SDK is missing, cache or ledger cannot be used, or the ledger is gone.
    """
    if parts.judges is None:
        yield
        return
    if begun and not (folder / LEDGER).exists():
        raise JudgeError(
            f"{folder / LEDGER} is missing, so nobody knows what this run has spent. Put it back, "
            "or make it an empty file: then the budget begins at 0 again."
        )
    parts.judges.tell = progress.note
    with parts.judges.start(folder / LEDGER):
        yield


def _finished(folder: Path, config: RunConfig) -> bool:
    """The last step is saved, and the summary, which is written behind it."""
    steps = Saver(folder, config.checkpoint).checkpoints.steps()
    return bool(steps) and steps[-1] >= config.train.steps and (folder / SUMMARY).is_file()


def _resume(parts: Parts, metrics: RunMetrics, saver: Saver, progress: Progress) -> int | None:
    """Bring a run that has begun to where its loop goes on.

    Returns:
        The steps done; None when it was stopped before its first checkpoint.
    """
    latest = max(saver.checkpoints.steps(), default=None)
    step = saver.restore(parts, changed_since(metrics.folder, latest))
    metrics.resume(step)
    progress.note("resumed " + ("from the start" if step is None else f"behind step {step}"))
    return step


def _begin(
    parts: Parts, metrics: RunMetrics, saver: Saver, progress: Progress, doctor: Doctor
) -> int:
    """Warm up, freeze the reference, measure yardstick and probe, save step 0; return 0."""
    if parts.config.train.num_iterations == 1:
        progress.note("clip_frac stays 0: with num_iterations 1 the ratio is 1 by construction")
    warm_up(parts, progress)
    parts.policy.freeze_reference()
    if parts.config.eval.before_and_after:
        measure(parts, metrics, saver, progress, doctor, 0)
    if probe_due(parts, 0):
        probe(parts, metrics, progress, doctor, 0)
    metrics.sync()
    saver.save(0, parts)
    return 0


def _check_writable(out: Path) -> None:
    """Fail before the model is loaded rather than after."""
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise CheckpointError(
            f"out: {existing} is a file, so no run folder can be made in {out}; choose another "
            "folder with --out"
        )


def _new_folder(config: RunConfig) -> Path:
    """``<out>/<name>-<UTC time>``, with the resolved configuration and versions inside.

    It is filled as a hidden sibling and renamed, so that it is whole or absent, and so that of two
    runs started in the same second each gets its own: a folder with files is never overwritten.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    part = config.out / f".{config.name}-{uuid.uuid4().hex}.part"
    try:
        part.mkdir(parents=True)
        snapshot(config, part)
        for attempt in range(MAX_NAMESAKES):
            folder = config.out / f"{config.name}-{stamp}{f'-{attempt}' if attempt else ''}"
            if not folder.exists():
                with contextlib.suppress(OSError):
                    return part.rename(folder)
    except OSError as error:
        raise CheckpointError(
            f"out: no run folder can be made in {config.out} ({error.strerror or error}); choose "
            "another folder with --out"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    raise CheckpointError(
        f"out: no folder {config.name}-{stamp} can be made in {config.out}; choose another folder "
        "with --out, or another name"
    )


def _before_and_after(results: Mapping[int, Mapping[str, object]]) -> dict[str, object]:
    if not results:
        return {}
    first, last = min(results), max(results)
    return {
        "before": results[first],
        "after": results[last],
        "before_step": first,
        "after_step": last,
    }


def _report(
    console: Console, results: Mapping[int, Mapping[str, object]], folder: Path, seconds: float
) -> None:
    if len(results) > 1:
        show(console, results[min(results)], results[max(results)])
    console.print(
        f"{seconds:.0f} s; metrics, completions and checkpoints: {folder}", soft_wrap=True
    )
    console.print(
        f"one page of it, with figures: {_program()} report {shlex.quote(str(folder))}",
        soft_wrap=True,
        highlight=False,
    )


def _program() -> str:
    """The command as it can be typed here: by its path where no environment is activated."""
    typed = Path(sys.argv[0])
    if typed.name != "grpo-dual" or shutil.which("grpo-dual"):
        return "grpo-dual"
    return shlex.quote(str(typed))
