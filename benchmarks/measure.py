"""Clocks, memory, floors and provenance: what the benchmarks of speed report alike."""

import argparse
import datetime
import gc
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

import shapes
from grpo_dual.errors import NumericsError

P = ParamSpec("P")
R = TypeVar("R")
Contestant = Callable[[argparse.Namespace, torch.device], dict[str, Any]]
BYTES = 2
"""Of a weight, in bf16."""
ENVIRONMENT = ("CUDA_", "PYTORCH_", "TORCH", "TRITON_", "VLLM_")
"""What the names of variables begin with that change a measurement."""


@dataclass(frozen=True, slots=True)
class Card:
    """What one CUDA card was measured to do."""

    bandwidth: float
    """Bytes a second that a large copy moved."""
    operations: float
    """bf16 operations a second that a large product did."""


CARDS = {"H200": Card(4.25e12, 770e12), "H100": Card(3.0e12, 770e12)}


def card(name: str) -> Card | None:
    """The card whose name holds one of ``CARDS``; None for those that were not measured."""
    return next((found for key, found in CARDS.items() if key in name), None)


def this_card() -> Card | None:
    """The card of this process."""
    return card(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def rollout_floor(weights: int, new_tokens: int, on: Card) -> float:
    """Seconds in which no rollout can be drawn: the weights are read once a token.

    Args:
        weights: Weights that a token passes.
        new_tokens: Drawn of each sequence, all sequences at once.
        on: The card.
    """
    return new_tokens * BYTES * weights / on.bandwidth


def pass_floor(weights: int, tokens: int, on: Card) -> float:
    """Seconds of a forward and backward pass at full speed.

    A token takes 2 operations a weight forward and 2 backward, since frozen weights get no
    gradient.
    """
    return 4 * weights * tokens / on.operations


def step_floor(weights: int, packed_tokens: int, new_tokens: int, on: Card) -> float:
    """Seconds that no step can beat: rollouts, a reference pass, and forward and backward.

    The output head is counted for every packed token; it is needed where a completion is predicted,
    which is 1 % less for an 8B shape.

    Args:
        weights: Weights that a token passes.
        packed_tokens: Of all prompts once and all completions.
        new_tokens: Drawn of each sequence.
        on: The card.
    """
    reference = 2 * weights * packed_tokens / on.operations
    return (
        rollout_floor(weights, new_tokens, on) + reference + pass_floor(weights, packed_tokens, on)
    )


class Parts:
    """Seconds and peak memory of named parts, step by step."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.peak: dict[str, float] = defaultdict(float)
        """GiB allocated at most; empty without CUDA."""

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is inside, the device awaited on both sides."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._wait()
        began = time.perf_counter()
        yield
        self._wait()
        self.seconds[name].append(time.perf_counter() - began)
        if self._cuda:
            self.peak[name] = max(self.peak[name], torch.cuda.max_memory_allocated() / 2**30)

    def timed(self, name: str, call: Callable[P, R]) -> Callable[P, R]:
        """The same call, timed."""

        def instead(*given: P.args, **named: P.kwargs) -> R:
            with self(name):
                return call(*given, **named)

        return instead

    def result(self, skip: int = 0) -> dict[str, Any]:
        """All samples behind the first ``skip``, and peaks."""
        return {
            "seconds": {name: values[skip:] for name, values in self.seconds.items()},
            "peak_gib": {name: round(value, 2) for name, value in self.peak.items()},
        }


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of each part."""
    return {part: round(statistics.median(values), 4) for part, values in seconds.items()}


def comparison(
    *,
    shape: str,
    sequences: int,
    step_s: float,
    floor_s: float | None,
    peak_gib: float | None,
    rivals: Mapping[str, tuple[float | None, float | None]] | None = None,
) -> dict[str, Any]:
    """The fields that every result has: of ours and of the first rival; ``others`` has the rest.

    Args:
        shape: Of the model.
        sequences: Prompts times K.
        step_s: Seconds of ours.
        floor_s: Seconds that cannot be beaten; None on a card that was not measured.
        peak_gib: Memory of ours; None without CUDA.
        rivals: Those that were asked for: their seconds, None where they failed, and memory.
    """

    def beside(rival: str | None, seconds: float | None, peak: float | None) -> dict[str, Any]:
        return {
            "rival": rival,
            "rival_step_s": seconds,
            "speedup": None if seconds is None else round(seconds / step_s, 2),
            "rival_peak_gib": peak,
        }

    first, *others = [beside(who, *of) for who, of in (rivals or {}).items()] or [
        beside(None, None, None)
    ]
    return {
        "shape": shape,
        "sequences": sequences,
        "step_s": step_s,
        **first,
        "roofline_ratio": None if floor_s is None else round(step_s / floor_s, 2),
        "peak_gib": peak_gib,
        "others": others,
    }


def origin() -> dict[str, Any]:
    """Command, environment, date, machine and versions."""
    import peft
    import transformers

    cuda = torch.cuda.is_available()
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(shapes.ROOT) if script.is_relative_to(shapes.ROOT) else script.name
    return {
        "command": shlex.join(["python", str(name), *sys.argv[1:]]),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(ENVIRONMENT)},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "device": torch.cuda.get_device_name() if cuda else platform.machine(),
            "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
            if cuda
            else None,
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def alone(script: str, who: str) -> dict[str, Any]:
    """One contestant in a process of its own, so that none sees another's memory.

    Args:
        script: Called again with its own arguments, ``--alone`` and ``--json``.
        who: The contestant.

    Returns:
        What it wrote; ``failed`` with the reason where it could not.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        command = [sys.executable, script, *sys.argv[1:], "--alone", who, "--json", str(path)]
        done = subprocess.run(command, stdout=sys.stderr, check=False)
        if done.returncode:
            return {"failed": f"exit code {done.returncode}"}
        return json.loads(path.read_text())


def compete(
    script: str,
    args: argparse.Namespace,
    contestants: Mapping[str, Contestant],
    summary: Callable[[argparse.Namespace, dict[str, dict[str, Any]]], dict[str, Any]],
) -> None:
    """Run ours, then each rival, print and write; or, called by itself, the one of ``--alone``.

    A rival may fail, ours may not.

    Args:
        script: The caller's file.
        args: ``rival``, ``alone`` and ``json`` among them.
        contestants: By name; ``ours`` and the rivals.
        summary: From their results to the fields that are compared.
    """
    if args.alone:
        write(args.json, attempt(lambda: contestants[args.alone](args, shapes.device())))
        return
    results = {who: alone(script, who) for who in ("ours", *args.rival)}
    if "failed" in results["ours"]:
        sys.exit(f"ours failed: {results['ours']['failed']}")
    whole = summary(args, results) | origin() | {"results": results}
    print(json.dumps(whole))
    write(args.json, whole)


def attempt(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A result; or ``failed``: the device's memory did not hold it, or its numbers are refused."""
    try:
        return call()
    except NumericsError as error:
        return {"failed": f"refused: {error}"}
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return {"failed": f"out of memory ({str(error).split('. ')[0]})"}


def write(path: Path | None, result: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all; nothing without a path."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def out_of_memory(error: BaseException | None) -> bool:
    """Is it, or was it raised while handling, an allocation that the device refused?

    Leaving a graph capture that ran out of memory raises an error of its own over the first.
    """
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def forget() -> None:
    """Give back what nothing holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
