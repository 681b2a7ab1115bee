"""A pass that does not fit a CUDA card: is the step done again in halves, and is it the same step?

    python scripts/out_of_memory.py

Two steps of the demo's configuration in bf16: in passes of eight prompts, of four, and of eight
again with the process's memory capped between the two peaks, and lower where that was enough. The
last must run out of memory once, say so, and go on in halves: up to the step that ran out, and in
it, the same completions are drawn as without a cap, and what is learnt from them is the same within
the rounding of a backward pass whose sums have no fixed order.

Prints JSON; exit code 1 if it did not.
"""

import argparse
import contextlib
import csv
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "src")]

import measure  # noqa: E402
from grpo_dual.config.load import load_config  # noqa: E402
from grpo_dual.train.run import train  # noqa: E402

SETTINGS = (
    "--model.dtype=bfloat16",
    "--rollout.group_size=16",
    "--eval.before_and_after=false",
    "--train.steps=2",
)
SAME = ("reward_f_mean", "reward_h_mean", "gen_len_f_mean", "gen_len_h_mean")
"""Columns of what was drawn."""
NEAR = ("grad_norm_f", "grad_norm_h")
TOLERANCE = 0.02
SHORT = "out of memory"
STEP = re.compile(r"\s*step \d+/\d+ ")
"""The line of a step that is done; alarms begin with ``step 1:``."""


def run(prompts: int, cap: int = 0) -> dict[str, Any]:
    """A run in passes of so many prompts: its steps, where it ran out, its peak in bytes."""
    if cap:
        torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.mem_get_info()[1])
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as out:
        own = (f"--out={out}", "--model.device=cuda", f"--train.microbatch_prompts={prompts}")
        with contextlib.redirect_stdout(said):
            train(load_config(ROOT / "configs" / "demo.yaml", [*SETTINGS, *own]))
        (table,) = Path(out).glob("*/train_step_metrics.csv")
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    lines = said.getvalue().splitlines()
    return {
        "peak": torch.cuda.max_memory_reserved(),
        "steps": [{name: float(row[name]) for name in (*SAME, *NEAR)} for row in rows],
        "out of memory": [line.strip() for line in lines if SHORT in line],
        "in step": short_steps(lines),
    }


def short_steps(lines: list[str]) -> list[int]:
    """The steps, from 1, in which a run ran out of memory, by what it said."""
    found, done = [], 0
    for line in lines:
        done += STEP.match(line) is not None
        if SHORT in line:
            found.append(done + 1)
    return found


def apart(prompts: int, cap: int = 0) -> dict[str, Any]:
    """The same in a process of its own, which leaves nothing in memory."""
    command = [sys.executable, __file__, "--alone", str(prompts), str(cap)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout)


def same(one: dict[str, float], two: dict[str, float]) -> bool:
    """The same step, learnt alike."""
    return all(one[name] == two[name] for name in SAME) and all(
        abs(one[name] - two[name]) <= TOLERANCE * abs(two[name]) for name in NEAR
    )


def wrong(short: dict[str, Any], whole: dict[str, Any]) -> str | None:
    """What is wrong with a capped run beside the same without a cap; None if nothing is.

    Completions are compared exactly, behind an update as well: it has been the same to the bit.
    """
    if len(short["in step"]) != 1:
        return f"it ran out of memory {len(short['in step'])} times, not once"
    if len(short["steps"]) != len(whole["steps"]):
        return f"{len(short['steps'])} steps, not {len(whole['steps'])}"
    for step in range(short["in step"][0]):
        if not same(short["steps"][step], whole["steps"][step]):
            return f"step {step + 1} is another one: {short['steps'][step]}, {whole['steps'][step]}"
    return None


def caps(whole: int, halves: int) -> list[int]:
    """Caps to be tried, from between the peaks of whole passes and of halves down to the latter's.

    What a process reserves is more than it needs: under a cap the allocator gives back first.
    """
    return [halves + (whole - halves) * part // 8 for part in (4, 3, 2, 1, 0)]


def main() -> int:
    """The runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alone", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("needs a CUDA card; tests/ has the same on the CPU, with a refused allocation")
    if args.alone:
        print(json.dumps(run(*args.alone)))
        return 0
    runs = {str(prompts): apart(prompts) for prompts in (8, 4)}
    for cap in caps(runs["8"]["peak"], runs["4"]["peak"]):
        runs["8, capped"] = apart(8, cap)
        if runs["8, capped"]["in step"]:
            break
    found = wrong(runs["8, capped"], runs["8"])
    result = measure.origin() | {"cap": cap, "wrong": found, "runs": runs}
    print(json.dumps(result, indent=1))
    measure.write(args.json, result)
    return int(found is not None)


if __name__ == "__main__":
    sys.exit(main())
