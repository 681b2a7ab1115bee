"""Does ``doctor.mode: act`` bring broken runs back? Their held-out score against a healthy run's.

    python scripts/doctor_acts.py --out runs/acts --jobs 2

Each fault of the catalogue that has an automatic remedy is trained with the doctor allowed to act,
and beside it a healthy run of as many steps. Prints a table; exit code 1 when a broken run ends
below 90 % of the healthy one's score (mean of the objectives' headline numbers).
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from faults.catalogue import CASES, Case  # noqa: E402
from faults.recording import settings  # noqa: E402
from grpo_dual.config.load import load_config  # noqa: E402
from grpo_dual.metrics.files import write_atomically  # noqa: E402
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations  # noqa: E402
from grpo_dual.train.acts import acts  # noqa: E402
from grpo_dual.train.run import train  # noqa: E402
from grpo_dual.train.saving import headline  # noqa: E402

FAULTS = (
    "forced-length",
    "repetition-penalty",
    "truncated-sampling",
    "prompts-cut",
    "completion-truncation",
    "noisy-general",
    "condition-imbalance",
    "pays-for-filler",
    "dead-rewards",
    "learning-rate",
    "starved-by-weight",
    "starved-by-sampling",
)
HEALTHY = "healthy-as-shipped"
ENOUGH = 0.9
"""Of the healthy run's score."""


def one(name: str, mode: str, steps: int, seed: int, out: Path) -> None:
    """Train a case and write its score."""
    folder = out / f"{name}-{mode}"
    folder.mkdir(parents=True)
    case = CASES[name]
    changes = {**case.changes, "train.steps": steps, "doctor.mode": mode}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(settings(Case(name, None, changes), seed, folder / "runs")))
    with case.patch(load_config(file)) as config:
        train(config, look=True, force=True)
    (run,) = (folder / "runs").iterdir()
    results = evaluations(run / EVALUATIONS)
    last: dict[str, Any] = results[max(results)]
    scores = {objective: headline(own) for objective, own in last.items()}
    known = [score for score in scores.values() if score is not None]
    document = {
        "case": name,
        "mode": mode,
        "scores": scores,
        "score": sum(known) / len(known),
        "acts": [{k: a[k] for k in ("code", "at", "back_to", "patch")} for a in acts(run)],
    }
    write_atomically(out / f"{name}-{mode}.json", (json.dumps(document) + "\n").encode())


def start(name: str, mode: str, arguments: argparse.Namespace) -> str:
    """One case in a process of its own; what went wrong, if anything did."""
    command = [
        sys.executable, __file__, "--one", name, "--mode", mode, "--out", str(arguments.out),
        "--steps", str(arguments.steps), "--seed", str(arguments.seed),
    ]  # fmt: skip
    log = arguments.out / f"{name}-{mode}.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    return "" if done.returncode == 0 else f"{name}: {log.read_text()[-600:]}"


def table(found: dict[str, dict[str, Any]], healthy: float) -> bool:
    """Print it; True when all are back."""
    print(
        f"healthy: {healthy:.3f}\n| fault | acts | score | of the healthy run |\n|---|---|---|---|"
    )
    for name, own in found.items():
        done = "; ".join(f"{a['code']} behind step {a['at']}" for a in own["acts"]) or "none"
        print(f"| {name} | {done} | {own['score']:.3f} | {own['score'] / healthy:.0%} |")
    return all(own["score"] >= ENOUGH * healthy for own in found.values())


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/acts"))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=FAULTS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--mode", default="act", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.one:
        one(arguments.one, arguments.mode, arguments.steps, arguments.seed, arguments.out)
        return 0
    names = arguments.only or FAULTS
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        runs = [(HEALTHY, "warn"), *((name, "act") for name in names)]
        failures = [f for f in pool.map(lambda r: start(*r, arguments), runs) if f]
    for failure in failures:
        print(failure, file=sys.stderr)
    read = {
        (name, mode): json.loads(path.read_text())
        for name, mode in runs
        if (path := arguments.out / f"{name}-{mode}.json").exists()
    }
    healthy = read[HEALTHY, "warn"]["score"]
    found = {name: read[name, "act"] for name in names if (name, "act") in read}
    back = table(found, healthy)
    print(f"{len(runs)} runs of {arguments.steps} steps in {time.monotonic() - began:.0f} s")
    if arguments.json is not None:
        result = {"healthy": read[HEALTHY, "warn"], "faults": found}
        write_atomically(arguments.json, (json.dumps(result, indent=1) + "\n").encode())
    return int(bool(failures) or not back)


if __name__ == "__main__":
    sys.exit(main())
