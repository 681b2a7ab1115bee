"""Training with loopback judges: kills in the middle of judging, and outages against a clean run.

    python scripts/judge_training.py --json benchmarks/results/judge_training.json

1. A run is killed (SIGKILL) while requests are in flight, and resumed. Its metrics must be those of
   the run that was never killed (columns of provider, cache and cost aside); no stored verdict may
   be asked for again; the ledger of the killed run must be the beginning of the resumed one's.
2. All judged groups of the clean run are scored again while 10, 30 and 100 % of the completions
   find no judge; beside it what failures counted as 0.0 would have done. The runs themselves are
   repeated under the same outages.

Exit code 1 when something that must be equal is not, or a ranking has changed.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
os.environ["NO_PROXY"] = "127.0.0.1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("GRPO_DUAL_STUB_KEY", "sk-stub-0123456789abcdefghij")

import yaml  # noqa: E402

import kill_resume  # noqa: E402
from grpo_dual.config.load import load_config  # noqa: E402
from grpo_dual.judges.ledger import LEDGER  # noqa: E402
from grpo_dual.judges.service import JudgeService  # noqa: E402
from grpo_dual.metrics.files import write_atomically  # noqa: E402
from grpo_dual.metrics.names import JUDGES  # noqa: E402
from grpo_dual.metrics.sinks import STEP_CSV, STEP_JSONL, SUMMARY  # noqa: E402
from grpo_dual.rewards.hallucination import HallucinationReward  # noqa: E402
from grpo_dual.train.run import train  # noqa: E402
from grpo_dual.types import RolloutGroup, Score  # noqa: E402
from judge_servers import Fault, FaultPlan, JudgeServer, Kind  # noqa: E402
from judge_servers.faults import Arrival, Decide  # noqa: E402
from judge_servers.reference import reference  # noqa: E402


def settings(server: JudgeServer, cache: Path, steps: int) -> dict[str, Any]:
    """The demo with a judge behind an API."""
    base = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    base["train"] |= {"steps": steps, "threads": 1}
    base["checkpoint"] = {"every": 2}
    for objective in base["objectives"].values():
        objective["data"]["eval_samples"] = 24
    base["judge"] = {
        "exact_match": False,  # so that the judge has more to do
        "providers": {
            "stub": {
                "kind": "openai",
                "model": "stub-2026-01-01",
                "base_url": server.base_url,
                "api_key": "env:GRPO_DUAL_STUB_KEY",
                "price": {"input": 0.15, "output": 0.6},
            }
        },
        "retry": {"attempts": 3, "base_seconds": 0.02, "cap_seconds": 0.1},
        "breaker": {"failures": 20, "cooldown_seconds": 0.5},
        "cache": {"path": str(cache)},
    }
    return base


def write_config(folder: Path, name: str, server: JudgeServer, steps: int) -> Path:
    """A configuration with a cache of its own."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(settings(server, folder / f"{name}.sqlite", steps)))
    return path


def comparable(folder: Path) -> dict[str, bytes]:
    """Bytes of a run without timings and without the columns of provider, cache and cost."""
    files = kill_resume.untimed(folder)
    rows = [line.split(",") for line in files[STEP_CSV].decode().split("\n")]
    kept = [i for i, key in enumerate(rows[0]) if not key.startswith(JUDGES)]
    files[STEP_CSV] = "\n".join(",".join(row[i] for i in kept) for row in rows).encode()
    lines = [json.loads(line) for line in files[STEP_JSONL].decode().split("\n")]
    plain = [{k: v for k, v in row.items() if not k.startswith(JUDGES)} for row in lines]
    files[STEP_JSONL] = json.dumps(plain).encode()
    return files


def ledger_entries(folder: Path) -> tuple[bytes, int, int]:
    """Whole lines of a ledger, requests in it, and those of unknown end."""
    content = (folder / LEDGER).read_bytes()
    content = content[: content.rfind(b"\n") + 1]
    events = [json.loads(line)["event"] for line in content.splitlines()]
    return content, events.count("sent"), events.count("sent") - events.count("done")


def questions(server: JudgeServer) -> int:
    """Requests that ask something: the pre-flight's list of models costs nothing, in no ledger."""
    return sum(not request.path.endswith("/models") for request in server.requests)


def in_flight(server: JudgeServer) -> int:
    """Requests that the server has and has not answered."""
    return sum(request.finished is None for request in server.requests)


def one_kill(
    folder: Path, name: str, server: JudgeServer, steps: int, at: int, whole: dict[str, bytes]
) -> dict[str, Any]:
    """Kill a run when ``at`` requests have come and some are in flight; resume it; compare."""
    server.reset()
    process, run = kill_resume.start(
        [str(write_config(folder, name, server, steps))], folder / name
    )
    while questions(server) < at or not in_flight(server):
        if process.poll() is not None:
            sys.exit(f"the run ended with exit code {process.returncode} before the kill")
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = kill_resume.rows_in(run)
    before, sent, unsettled = ledger_entries(run)
    subprocess.run(kill_resume.command("--resume", str(run)), stdout=subprocess.DEVNULL, check=True)
    found = comparable(run)
    after, calls, _ = ledger_entries(run)
    repeats = sum(n - 1 for n in Counter(r.digest for r in server.requests).values())
    result = {
        "killed_at_request": sent,
        "rows_before": rows,
        "in_flight_at_kill": unsettled,
        "asked_twice": repeats,
        "requests_served": questions(server),
        "requests_in_ledger": calls,
        "ledger_kept": after.startswith(before),
        "different_files": [key for key in whole if found[key] != whole[key]],
    }
    print(json.dumps(result), flush=True)
    return result


def good(kill: dict[str, Any]) -> bool:
    """Is it what was promised?"""
    return (
        not kill["different_files"]
        and kill["ledger_kept"]
        and kill["asked_twice"] <= kill["in_flight_at_kill"]
        and kill["requests_in_ledger"] >= kill["requests_served"]
    )


def away(share: float) -> FaultPlan:
    """For so large a share of the questions no answer can be had, however often one asks."""

    def start() -> Decide:
        def decide(arrival: Arrival) -> Fault | None:
            draw = hashlib.sha256(f"away:{arrival.digest}".encode()).digest()
            return Fault(Kind.UNAVAILABLE_503) if draw[0] / 256 < share else None

        return decide

    return FaultPlan(start)


Scored = list[tuple[RolloutGroup, tuple[Score, ...]]]


def train_in_process(
    config: Path, out: Path
) -> tuple[Scored, dict[str, Any], list[dict[str, Any]]]:
    """Train here; return the hallucination groups with their scores, summary and metric rows."""
    scored: Scored = []
    original = HallucinationReward.begin

    def watch(self: HallucinationReward, group: RolloutGroup) -> Any:
        finish = original(self, group)

        def finished() -> tuple[Score, ...]:
            scores = finish()
            scored.append((group, scores))
            return scores

        return finished

    with mock.patch.object(HallucinationReward, "begin", watch):
        train(load_config(config, ["--out", str(out)]))
    (run,) = out.iterdir()
    rows = [json.loads(line) for line in (run / STEP_JSONL).read_text().splitlines()]
    return scored, json.loads((run / SUMMARY).read_text()), rows


def rescored(groups: Sequence[RolloutGroup], config: Path) -> list[tuple[Score, ...]]:
    """The same groups scored again by the judges of a configuration."""
    run = load_config(config)
    with JudgeService(run.judge).start() as judges:
        reward = HallucinationReward(
            run.objectives["hallucination"],  # type: ignore[arg-type]
            max_new_tokens=run.rollout.sampling.max_new_tokens,
            judges=run.judge,
            judging=judges,
        )
        finishing = [reward.begin(group) for group in groups]
        return [finish() for finish in finishing]


def ranking_changes(one: Sequence[float | None], two: Sequence[float | None]) -> tuple[int, int]:
    """Pairs of completions ordered otherwise, and pairs that both have scored."""
    changes = pairs = 0
    for i in range(len(one)):
        for j in range(i):
            a, b, c, d = one[i], one[j], two[i], two[j]
            if a is None or b is None or c is None or d is None:
                continue
            pairs += 1
            changes += ((a > b) - (a < b)) != ((c > d) - (c < d))
    return changes, pairs


SCORERS = frozenset({"stub", "heuristic"})


def scorer(scores: Sequence[Score]) -> str:
    """Who scored a group beside the rules; more than one must not be."""
    found = {s.provider for s in scores} & SCORERS
    return "+".join(sorted(found)) or "rules alone"


def outage(
    share: float,
    clean: Scored,
    routed: Sequence[tuple[Score, ...]],
    bare: Sequence[tuple[Score, ...]],
) -> dict[str, Any]:
    """Two replays against the clean run: with the offline judge behind the judge, and without."""
    counts: Counter[str] = Counter()
    by: Counter[str] = Counter()
    for (_, before), after, alone in zip(clean, routed, bare, strict=True):
        by[scorer(after)] += 1
        asked = [i for i, s in enumerate(before) if s.provider == "stub"]
        failed = [i for i in asked if alone[i].total is None]
        counts["asked"] += len(asked)
        counts["failed"] += len(failed)
        counts["left"] += sum(after[i].total is None for i in asked)
        counts["unscored"] += bool(asked) and all(after[i].total is None for i in asked)
        counts["bare_unscored"] += bool(asked) and len(failed) == len(asked)
        totals = [s.total for s in before]
        for name, other in (("routed", after), ("bare", alone)):
            if scorer(other) == scorer(before) == "stub":
                changes, pairs = ranking_changes(totals, [s.total for s in other])
                counts[f"{name}_changes"] += changes
                counts[f"{name}_pairs"] += pairs
        as_zero = [0.0 if i in failed else total for i, total in enumerate(totals)]
        changes, _ = ranking_changes(totals, as_zero)
        counts["zero_changes"] += changes
        counts["zero_groups"] += changes > 0
    return {
        "outage": share,
        "groups": len(clean),
        "completions_asked_about": counts["asked"],
        "verdicts_not_to_be_had": counts["failed"],
        "groups_by": dict(by),
        "mixed_scorers": sum("+" in name for name in by),
        "groups_left_unscored": counts["unscored"],
        "completions_left_unscored": counts["left"],
        "judged_pairs_compared": counts["routed_pairs"],
        "ranking_changes": counts["routed_changes"],
        "without_the_offline_judge": {
            "groups_left_unscored": counts["bare_unscored"],
            "judged_pairs_compared": counts["bare_pairs"],
            "ranking_changes": counts["bare_changes"],
        },
        "had_failures_been_0": {
            "ranking_changes": counts["zero_changes"],
            "groups_changed": counts["zero_groups"],
        },
    }


def outages(folder: Path, steps: int, clean: Scored) -> list[dict[str, Any]]:
    """Replays and repeated runs at three outages."""
    results = []
    for share in (0.1, 0.3, 1.0):
        with JudgeServer("openai", reference(), away(share), keep_bodies=False) as server:
            name = f"outage-{share}"
            config = write_config(folder, name, server, steps)
            groups = [group for group, _ in clean]
            routed = rescored(groups, config)
            alone = json.loads(config.read_text())
            alone["judge"]["outage"] = {"action": "unscored", "min_scored": 0.0}
            config.write_text(json.dumps(alone))
            result = outage(share, clean, routed, rescored(groups, config))
            again = write_config(folder, f"{name}-run", server, steps)
            _, summary, rows = train_in_process(again, folder / f"{name}-run")
            result["run"] = {
                "steps": summary["steps"],
                "groups_by_the_offline_judge": sum(r["judges_offline_groups"] for r in rows),
                "groups_unscored": sum(r["judges_unscored_groups"] for r in rows),
                "completions_unscored": sum(r["unscored_count_h"] for r in rows),
                "grounded_after": summary["evaluation"]["after"]["hallucination"]["grounded"],
            }
        print(json.dumps(result), flush=True)
        results.append(result)
    return results


def main() -> int:
    """Run it all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--json", type=Path, default=None)
    parsed = parser.parse_args()
    rng = random.Random(parsed.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with JudgeServer("openai", reference(), delay=0.05, keep_bodies=False) as server:
            config = write_config(folder, "whole", server, parsed.steps)
            process, run = kill_resume.start([str(config)], folder / "whole")
            if process.wait() != 0:
                return 1
            whole, calls = comparable(run), questions(server)
            print(f"never killed: {parsed.steps} steps, {calls} requests", flush=True)
            moments = sorted(rng.randrange(1, calls) for _ in range(parsed.kills))
            kills = [
                one_kill(folder, f"kill-{i}", server, parsed.steps, at, whole)
                for i, at in enumerate(moments)
            ]
        with JudgeServer("openai", reference(), keep_bodies=False) as server:
            config = write_config(folder, "clean", server, parsed.steps)
            clean, summary, _ = train_in_process(config, folder / "clean")
        cut = outages(folder, parsed.steps, clean)
    result = {
        "command": f"python scripts/judge_training.py --steps {parsed.steps}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
        "requests_of_the_whole_run": calls,
        "kills": kills,
        "clean_grounded_after": summary["evaluation"]["after"]["hallucination"]["grounded"],
        "outages": cut,
    }
    if parsed.json is not None:
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(parsed.json, (json.dumps(result, indent=1) + "\n").encode())
    bad = [
        o
        for o in cut
        if o["ranking_changes"]
        or o["without_the_offline_judge"]["ranking_changes"]
        or o["mixed_scorers"]
    ]
    return int(not all(map(good, kills)) or bool(bad))


if __name__ == "__main__":
    sys.exit(main())
