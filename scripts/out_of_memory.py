"""A pass that does not fit a CUDA card: is the step done again in halves, and is it the same step?

    python scripts/out_of_memory.py

Two steps of the demo's configuration in bf16, three times: in passes of eight prompts, of four, and
of eight again with the process's memory capped between the two peaks. The third must run out of
memory once, say so, and go on in halves: up to the step that ran out, and in it, the same
completions are drawn as without a cap, and what is learnt from them is the same within the rounding
of a backward pass whose sums have no fixed order.

Prints JSON; exit code 1 if it did not.
"""

import argparse
import contextlib
import csv
import io
import json
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


def run(prompts: int, device: str, cap: int = 0) -> dict[str, Any]:
    """A run in passes of so many prompts: its steps, where it ran out, its peak in bytes."""
    if cap:
        torch.cuda.set_per_process_memory_fraction(cap / torch.cuda.mem_get_info()[1])
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as out:
        own = (f"--out={out}", f"--model.device={device}", f"--train.microbatch_prompts={prompts}")
        with contextlib.redirect_stdout(said):
            train(load_config(ROOT / "configs" / "demo.yaml", [*SETTINGS, *own]))
        (table,) = Path(out).glob("*/train_step_metrics.csv")
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    lines = said.getvalue().splitlines()
    ends = [n for n, line in enumerate(lines) if line.lstrip().startswith("step ")]
    short = [n for n, line in enumerate(lines) if "out of memory" in line]
    return {
        "peak": torch.cuda.max_memory_reserved() if device == "cuda" else 0,
        "steps": [{name: float(row[name]) for name in (*SAME, *NEAR)} for row in rows],
        "out of memory": [lines[n].strip() for n in short],
        "in step": [1 + sum(end < n for end in ends) for n in short],
    }


def apart(*given: object) -> dict[str, Any]:
    """The same in a process of its own, which leaves nothing in memory."""
    command = [sys.executable, __file__, "--alone", *map(str, given)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def same(one: dict[str, float], two: dict[str, float]) -> bool:
    """The same step, learnt alike."""
    return all(one[name] == two[name] for name in SAME) and all(
        abs(one[name] - two[name]) <= TOLERANCE * abs(two[name]) for name in NEAR
    )


def main() -> int:
    """The three runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: no cap")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.alone:
        prompts, device, cap = args.alone
        print(json.dumps(run(int(prompts), device, int(cap))))
        return 0
    runs = {str(n): apart(n, args.device, 0) for n in (8, 4)}
    cap = (runs["8"]["peak"] + runs["4"]["peak"]) // 2
    runs["8, capped"] = short = apart(8, args.device, cap)
    result = measure.origin() | {"cap": cap, "runs": runs}
    print(json.dumps(result, indent=1))
    measure.write(args.json, result)
    if len(short["in step"]) != 1 or len(short["steps"]) != 2:
        return 1
    until = short["in step"][0]
    pairs = zip(short["steps"][:until], runs["8"]["steps"][:until], strict=True)
    return int(not all(same(one, two) for one, two in pairs))


if __name__ == "__main__":
    sys.exit(main())
