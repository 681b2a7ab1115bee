"""Train the demo with several seeds and hold each before/after against the acceptance criteria.

    python scripts/seeds.py --out runs/seeds --seeds 0 1 2

Prints one JSON line a seed: wall seconds, peak memory, every criterion with its value and bound.
Exit code 1 when a criterion of any seed is not met.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from grpo_dual.evaluation.acceptance import criteria
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations

ROOT = Path(__file__).resolve().parent.parent


def run_seed(seed: int, out: Path, flags: list[str]) -> dict[str, object]:
    """One training run in a process of its own."""
    folder = out / f"seed-{seed}"
    command = [
        sys.executable, "-m", "grpo_dual", "train", str(ROOT / "configs" / "demo.yaml"),
        "--train.seed", str(seed), "--out", str(folder), *flags,
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    seconds = time.monotonic() - began
    newest = max(folder.iterdir(), key=lambda p: p.stat().st_mtime)
    results = evaluations(newest / EVALUATIONS)
    found = criteria(results[min(results)], results[max(results)])
    return {
        "seed": seed,
        "seconds": round(seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
        "run": str(newest),
        "criteria": [
            {
                "phase": c.phase,
                "name": c.name,
                "value": c.value,
                "bound": f"{c.sense} {c.bound}",
                "met": c.met,
            }
            for c in found
        ],
    }


def main() -> int:
    """Run the seeds one after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args, flags = parser.parse_known_args()
    met = True
    for seed in args.seeds:
        result = run_seed(seed, args.out, flags)
        print(json.dumps(result), flush=True)
        met &= all(c["met"] for c in result["criteria"])  # type: ignore[attr-defined]
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
