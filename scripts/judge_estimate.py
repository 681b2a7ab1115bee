"""What ``judge estimate`` foresees, against what the run then takes.

    python scripts/judge_estimate.py --steps 30 --probes 30 20 16 12 8 --seeds 0 1

The demo with a loopback judge that reads. Calls, tokens and money of the estimate after each length
of rehearsal, with 20 requests paid to measure tokens, and those of the run. Prints JSON; exit code
1 when the rehearsal of all steps misses by more than a tenth.
"""

import argparse
import contextlib
import datetime
import io
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from grpo_dual.cli.main import main as grpo_dual  # noqa: E402
from grpo_dual.metrics.files import write_atomically  # noqa: E402
from grpo_dual.metrics.sinks import SUMMARY  # noqa: E402
from judge_servers import JudgeServer  # noqa: E402
from judge_servers.reference import reference  # noqa: E402
from judge_training import settings  # noqa: E402

MISS = 0.1


def command(*words: str) -> None:
    """Run the command line; what it prints is not wanted."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = grpo_dual(list(words))
    if code:
        raise SystemExit(f"grpo-dual {' '.join(words)}: exit code {code}")


def measure(steps: int, probes: list[int], seed: int, *, exact_match: bool) -> dict[str, Any]:
    """Estimates, then the run."""
    foreseen: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, JudgeServer("openai", reference()) as server:
        folder = Path(name)
        for probe in probes:
            config = settings(server, folder / f"{probe}.sqlite", steps)
            config["judge"]["exact_match"] = exact_match
            config["train"]["seed"] = seed
            path = folder / "run.yaml"
            path.write_text(json.dumps(config))
            result = folder / "estimate.json"
            words = ["--probe", str(probe), "--ask", "20", "--json", str(result)]
            command("judge", "estimate", str(path), *words)
            foreseen[probe] = json.loads(result.read_text())["judges"]["stub"]["expected"]
        # The run finds the last estimate's 20 verdicts in its cache, as it would for a user.
        # Without the pre-flight, which would ask the server whether it is there.
        command("train", str(path), "--out", str(folder / "out"), "--doctor", "off")
        (run,) = (folder / "out").iterdir()
        total = json.loads((run / SUMMARY).read_text())["judges"]["total"]
    took = {
        "calls": total["calls"],
        "tokens": total["input_tokens"] + total["output_tokens"],
        "usd": total["usd"],
    }
    misses: dict[str, dict[str, float]] = {}
    for probe, amount in foreseen.items():
        expected = {
            "calls": amount["calls"],
            "tokens": amount["input_tokens"] + amount["output_tokens"],
            "usd": amount["usd"],
        }
        misses[str(probe)] = {key: round(expected[key] / took[key] - 1, 4) for key in took}
    return {"seed": seed, "exact_match": exact_match, "run": took, "misses": misses}


def main() -> int:
    """All seeds; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--probes", type=int, nargs="+", default=[30, 20, 16, 12, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [
        measure(args.steps, args.probes, seed, exact_match=exact)
        for exact in (True, False)
        for seed in args.seeds
    ]
    result = {
        "command": " ".join(["python", "scripts/judge_estimate.py", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "steps": args.steps,
        "rows": rows,
    }
    print(json.dumps(result))
    if args.json is not None:
        write_atomically(args.json, (json.dumps(result, indent=1) + "\n").encode())
    whole = str(args.steps)
    bad = [r for r in rows if whole in r["misses"]]
    return int(any(abs(v) > MISS for r in bad for v in r["misses"][whole].values()))


if __name__ == "__main__":
    sys.exit(main())
