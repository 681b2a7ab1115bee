"""Where the demo's steps spend their time on a CPU.

    python benchmarks/demo_profile.py [--steps 10]

Parts of a step by the run's own clock (medians), and the operations that take most of the time by
PyTorch's profiler, in a second run of the same steps. Prints JSON.
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
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.names import TIMING
from grpo_dual.metrics.sinks import STEP_CSV
from grpo_dual.train.run import train

DEMO = Path(__file__).resolve().parent.parent / "configs" / "demo.yaml"
SHOWN = 12


def run(config: RunConfig, folder: Path) -> Path:
    """Train, quietly; the run's folder."""
    with contextlib.redirect_stdout(sys.stderr):
        train(config.model_copy(update={"out": folder}), None)
    (made,) = folder.iterdir()
    return made


def main() -> None:
    """Both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    flags = ["--train.steps", str(args.steps), "--eval.before_and_after", "false"]
    config = load_config(DEMO, flags)
    with tempfile.TemporaryDirectory() as name:
        made = run(config, Path(name) / "timed")
        with (made / STEP_CSV).open(newline="") as file:
            rows = list(csv.DictReader(file))[1:]  # the first step warms up
        keys = [key for key in rows[0] if key.endswith(TIMING) and not key.startswith("judges")]
        parts = {k: round(statistics.median(float(r[k]) for r in rows if r[k]), 4) for k in keys}
        with profile(activities=[ProfilerActivity.CPU]) as found:
            run(config, Path(name) / "profiled")
    events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    result = {
        "command": f"python benchmarks/demo_profile.py --steps {args.steps}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
        "median_step_seconds": parts,
        "share_of_operations": {
            e.key: {"percent": round(100 * e.self_cpu_time_total / total, 1), "calls": e.count}
            for e in events[:SHOWN]
        },
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
