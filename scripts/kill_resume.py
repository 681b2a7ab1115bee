"""Kill a run with SIGKILL at random moments, resume it, compare it with the uninterrupted run.

    python scripts/kill_resume.py --steps 6 --moments 5

Every run is a process of its own with the same configuration and seed. Metric files must be equal
to the byte once the columns of timings are taken out, sample completions and evaluations as they
are. Exit code 1 when one differs.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grpo_dual.metrics.names import TIMING
from grpo_dual.metrics.sinks import COMPLETIONS, EVALUATIONS, STEP_CSV, STEP_JSONL

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "import sys; from grpo_dual.cli.main import main; sys.exit(main())"


def command(*arguments: str) -> list[str]:
    """``grpo-dual train`` with this interpreter."""
    return [sys.executable, "-c", PROGRAM, "train", *arguments]


def start(arguments: list[str], out: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run; returns once its folder is there."""
    out.mkdir()
    process = subprocess.Popen(
        command(*arguments, "--out", str(out)),
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not (found := [p for p in out.iterdir() if not p.name.startswith(".")]):
        if process.poll() is not None:
            sys.exit(f"the run ended with exit code {process.returncode} before it had a folder")
        time.sleep(0.002)
    return process, found[0]


def untimed(folder: Path) -> dict[str, bytes]:
    """The reproducible bytes of a run by file."""
    files = {name: (folder / name).read_bytes() for name in (COMPLETIONS, EVALUATIONS)}
    with (folder / STEP_CSV).open(newline="") as file:
        table = [list(row) for row in csv.reader(file)]
    kept = [i for i, key in enumerate(table[0]) if not key.endswith(TIMING)]
    files[STEP_CSV] = "\n".join(",".join(row[i] for i in kept) for row in table).encode()
    lines = [json.loads(line) for line in (folder / STEP_JSONL).read_text().splitlines()]
    plain = [{k: v for k, v in row.items() if not k.endswith(TIMING)} for row in lines]
    files[STEP_JSONL] = "\n".join(json.dumps(row) for row in plain).encode()
    return files


def rows_in(folder: Path) -> int:
    """Whole metric rows that the killed run had written."""
    path = folder / STEP_CSV
    return max(0, path.read_text().count("\n") - 1) if path.exists() else 0


def checkpoints_in(folder: Path) -> str:
    """Steps of its checkpoints."""
    names = sorted(p.name for p in (folder / "checkpoints").glob("step-*"))
    return ", ".join(str(int(name.removeprefix("step-"))) for name in names) or "none"


def one_kill(
    arguments: list[str], out: Path, row: int, delay: float, whole: dict[str, bytes]
) -> bool:
    """Kill a run ``delay`` seconds behind a metric row (0: its start), resume it, compare.

    Prints a line; True when the resumed run is the uninterrupted one.
    """
    process, folder = start(arguments, out)
    while rows_in(folder) < row and process.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    state = f"{rows_in(folder)} rows, checkpoints {checkpoints_in(folder)}"
    subprocess.run(
        command("--resume", str(folder)),
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    found = untimed(folder)
    different = [name for name in whole if found[name] != whole[name]]
    verdict = f"DIFFERENT: {', '.join(different)}" if different else "identical"
    how = "killed" if killed else "finished before the kill"
    print(
        f"{delay:6.3f} s behind row {row}: {how} with {state:<28} -> resumed: {verdict}", flush=True
    )
    return not different


def main() -> int:
    """Run it all; 0 when every resumed run is the uninterrupted one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(ROOT / "configs" / "demo.yaml"))
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--moments", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; default: none")
    parser.add_argument("overrides", nargs="*", help="further flags of `grpo-dual train`, after --")
    parsed = parser.parse_args()
    arguments = [
        parsed.config,
        *("--train.steps", str(parsed.steps), "--train.threads", "1"),
        *("--checkpoint.every", "2", "--eval.every", "3"),
        *("--objectives.fairness.data.eval_samples", "24"),
        *("--objectives.hallucination.data.eval_samples", "24"),
        *parsed.overrides,
    ]
    rng = random.Random(parsed.seed)
    with tempfile.TemporaryDirectory() as name:
        process, folder = start(arguments, Path(name) / "whole")
        began = time.monotonic()
        if process.wait() != 0:
            return 1
        seconds = time.monotonic() - began
        whole = untimed(folder)
        sizes = ", ".join(f"{name} {len(content)} bytes" for name, content in whole.items())
        print(f"uninterrupted: {parsed.steps} steps in {seconds:.1f} s; {sizes}", flush=True)
        moments = sorted(rng.uniform(0, parsed.steps) for _ in range(parsed.moments))
        good = [
            one_kill(
                arguments,
                Path(name) / f"kill-{i}",
                int(moment),
                (moment % 1) * seconds / parsed.steps,
                whole,
            )
            for i, moment in enumerate(moments)
        ]
    print(f"{sum(good)} of {len(good)} resumed runs are identical to the uninterrupted one")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
