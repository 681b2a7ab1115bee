"""Where the demo's steps spend their time on a CPU, by two ways that compute the same.

    python benchmarks/demo_profile.py [--steps 10] [--rounds 3] [--whole] [--cpu-time]

``flat``: flat rows, layers in joined products, prompts shared by their completions. ``masked``:
rows padded and masked, Transformers' layers with PEFT's adapters, the model's own cache repeated K
times; what models take that cannot have the first, and its oracle in the tests.

Parts of a step by the run's own clock (medians; the ways take turns, so that other work on the
machine falls on both), the operations that take most of the time by PyTorch's profiler, in another
run of the same steps, and with --whole the demo from its beginning to its end. --cpu-time counts
the process' seconds on the CPU instead, for a machine with other work on it: with one thread
(OMP_NUM_THREADS=1), since threads that wait for each other count too. Prints JSON.
"""

import argparse
import contextlib
import csv
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.names import TIMING
from grpo_dual.metrics.sinks import STEP_CSV
from grpo_dual.model import policy
from grpo_dual.train.run import train

DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
SHOWN = 12
WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "masked": lambda: mock.patch.object(policy, "use_runs", return_value=False),
    "flat": contextlib.nullcontext,
}


def clock(cpu_time: bool) -> contextlib.AbstractContextManager[Any]:
    """Inside, the run's clock is that of the CPU."""
    if not cpu_time:
        return contextlib.nullcontext()
    return mock.patch.object(time, "perf_counter", time.process_time)


def run(config: RunConfig, way: str) -> list[dict[str, str]]:
    """Train, quietly; the rows of the steps behind the first, which warms up."""
    with tempfile.TemporaryDirectory() as name, WAYS[way](), contextlib.redirect_stdout(sys.stderr):
        train(config.model_copy(update={"out": Path(name)}), None)
        (made,) = Path(name).iterdir()
        with (made / STEP_CSV).open(newline="") as file:
            return list(csv.DictReader(file))[1:]


def medians(rows: list[dict[str, str]]) -> dict[str, float]:
    """Of each part of a step and of their sum."""
    keys = [key for key in rows[0] if key.endswith(TIMING) and not key.startswith("judges")]
    found = {key: statistics.median(float(r[key]) for r in rows if r[key]) for key in keys}
    found["sum"] = statistics.median(sum(float(r[key] or 0) for key in keys) for r in rows)
    return {key: round(value, 4) for key, value in found.items()}


def operations(config: RunConfig, way: str) -> dict[str, dict[str, float]]:
    """The operations' own shares of the CPU's time."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run(config, way)
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    return {
        e.key: {"percent": round(100 * e.self_cpu_time_total / total, 1), "calls": e.count}
        for e in events[:SHOWN]
    }


def whole(way: str) -> dict[str, float]:
    """The demo with both evaluations; loading is included, starting Python is not."""
    wall, cpu = time.perf_counter(), time.process_time()
    run(load_config(DEMO, []), way)
    return {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main() -> None:
    """All runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="runs of so many steps, each way")
    parser.add_argument("--whole", action="store_true", help="time the whole demo, too")
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the CPU, not the wall")
    args = parser.parse_args()
    flags = ["--train.steps", str(args.steps), "--eval.before_and_after", "false"]
    config = load_config(DEMO, flags)
    rows: dict[str, list[dict[str, str]]] = {way: [] for way in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            with clock(args.cpu_time):
                rows[way] += run(config, way)
    result: dict[str, Any] = {
        "command": "python benchmarks/demo_profile.py " + " ".join(sys.argv[1:]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, Python {platform.python_version()}",
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "clock": "CPU" if args.cpu_time else "wall",
        "median_step_seconds": {way: medians(own) for way, own in rows.items()},
        "share_of_operations": {way: operations(config, way) for way in WAYS},
    }
    if args.whole:
        result["whole_demo"] = {way: whole(way) for way in WAYS}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
