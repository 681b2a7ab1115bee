"""How much of a slow judge's time the demo hides behind computing.

    python benchmarks/judge_overlap.py --delay 0.3 --concurrency 16 --steps 20

The demo trains with a loopback judge that takes ``--delay`` seconds for a verdict. Printed as JSON:
time in which anything was being judged, time in which training stood still for it, and the hidden
share, 1 - wait / busy; per step and in all, with answers settled by rule where they are word for
word the accepted text (the default) and with the judge asked about these too.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from grpo_dual.metrics.names import JUDGES, TIMING  # noqa: E402
from judge_servers import JudgeServer  # noqa: E402
from judge_servers.reference import reference  # noqa: E402
from judge_training import settings, train_in_process  # noqa: E402


def measure(delay: float, concurrency: int, steps: int, *, exact_match: bool) -> dict[str, Any]:
    """One run."""
    with (
        tempfile.TemporaryDirectory() as name,
        JudgeServer("openai", reference(), delay=delay, keep_bodies=False) as server,
    ):
        folder = Path(name)
        config = settings(server, folder / "verdicts.sqlite", steps)
        config["judge"]["exact_match"] = exact_match
        config["judge"]["providers"]["stub"]["concurrency"] = concurrency
        config["eval"] = {"before_and_after": False}
        del config["train"]["threads"]
        path = folder / "overlap.yaml"
        path.write_text(json.dumps(config))
        _, _, rows = train_in_process(path, folder / "out")
        requests = server.calls
    busy = [row["judges_busy_seconds"] for row in rows]
    wait = [row["judges_wait_seconds"] for row in rows]
    timed = [key for key in rows[0] if key.endswith(TIMING) and not key.startswith(JUDGES)]
    whole = [sum(row[key] for key in timed) for row in rows]
    return {
        "exact_match": exact_match,
        "steps": steps,
        "requests": requests,
        "judged_completions": sum(row["judges_verdicts_stub"] for row in rows),
        "busy_seconds": round(sum(busy), 2),
        "wait_seconds": round(sum(wait), 2),
        "hidden_share": round(1 - sum(wait) / sum(busy), 3),
        "hidden_share_per_step": [row["judges_hidden_share"] for row in rows],
        "median_step_seconds": round(statistics.median(whole), 3),
        "judge_seconds_one_by_one": round(requests * delay, 1),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=0.3, help="seconds of a verdict")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parsed = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # the runs tell of their steps
        runs = [
            measure(parsed.delay, parsed.concurrency, parsed.steps, exact_match=exact)
            for exact in (True, False)
        ]
    result = {
        "command": f"python benchmarks/judge_overlap.py --delay {parsed.delay} "
        f"--concurrency {parsed.concurrency} --steps {parsed.steps}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "runs": runs,
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
