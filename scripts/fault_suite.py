"""Inject every fault into a short run, and see what the doctor names first.

    python scripts/fault_suite.py --out runs/faults --jobs 2
    python scripts/fault_suite.py --out runs/faults --healthy-seeds 10 --keep histories.json.xz

Each case of tests/faults/catalogue.py is trained in a process of its own, 20 steps of the embedded
model; healthy ones over several seeds. Prints the confusion matrix; exit code 1 when the first
cause named is right in fewer than 90 % of the faults, one of the first two in fewer than 97 %, or
healthy runs got more than one finding of severity "act".
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from faults.catalogue import CASES, FAULTS, HEALTHY  # noqa: E402
from faults.recording import load, record, save  # noqa: E402
from faults.verdicts import judge_all  # noqa: E402


def run_case(name: str, seed: int, out: Path) -> str:
    """One case in a process of its own; its history lies in ``out``."""
    log = out / f"{name}-{seed}.log"
    command = [sys.executable, __file__, "--one", name, "--seed", str(seed), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    return "" if done.returncode == 0 else f"{name}-{seed} failed: {log.read_text()[-600:]}"


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of each fault")
    parser.add_argument("--healthy-seeds", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="names of cases")
    parser.add_argument("--keep", type=Path, help="write the histories into one file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        name = f"{arguments.one}-{arguments.seed}"
        history = record(CASES[arguments.one], arguments.seed, out / name)
        save({name: history}, out / f"{name}.json.xz")
        return 0
    runs = [(case.name, seed) for case in FAULTS for seed in arguments.seeds]
    runs += [(case.name, seed) for seed in range(arguments.healthy_seeds) for case in HEALTHY]
    if arguments.only:
        runs = [(name, seed) for name, seed in runs if name in arguments.only]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        failures = [f for f in pool.map(lambda r: run_case(*r, out), runs) if f]
    for failure in failures:
        print(failure, file=sys.stderr)
    histories = {
        key: history
        for name, seed in runs
        if (path := out / f"{name}-{seed}.json.xz").exists()
        for key, history in load(path).items()
    }
    print(f"{len(histories)} runs in {time.monotonic() - began:.0f} s")
    if arguments.keep:
        save(histories, arguments.keep)
    return max(judge_all(histories), bool(failures))


if __name__ == "__main__":
    sys.exit(main())
