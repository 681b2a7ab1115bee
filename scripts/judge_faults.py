"""Thousands of judgements through the real SDKs against loopback judges that misbehave.

    python scripts/judge_faults.py --judgements 5000 --json benchmarks/results/judge_faults.json

Every question is known to the loopback judges by its completion alone, so each verdict can be
checked: a verdict that no judge gave is an accident. Exit code 1 when one was lost, duplicated
(asked for again although a valid reply had arrived) or scored by accident.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
os.environ["NO_PROXY"] = "127.0.0.1"
os.environ.setdefault("GRPO_DUAL_STUB_KEY", "sk-stub-0123456789abcdefghij")

from grpo_dual.config.judging import JudgeConfig  # noqa: E402
from grpo_dual.judges.client import Failure, GroupVerdicts, Opinion, Question  # noqa: E402
from grpo_dual.judges.local import NAME, offline  # noqa: E402
from grpo_dual.judges.service import JudgeService  # noqa: E402
from grpo_dual.metrics.files import write_atomically  # noqa: E402
from grpo_dual.records import synthetic  # noqa: E402
from judge_servers import Fault, FaultPlan, JudgeServer, Kind, custom, fence  # noqa: E402
from judge_servers.faults import QUICK  # noqa: E402

GROUP = 8
MEMORY_WAVES = 8
MOST_GROWN = 10.0
"""MiB from the second wave to the last: a leaked verdict of a kilobyte would be 6."""
THRESHOLD = 0.7
FAULTS = (
    *(kind for kind in QUICK if kind is not Kind.RATE_LIMIT_AFTER),
    Fault(Kind.RATE_LIMIT_AFTER, retry_after=1),
    Fault(Kind.RATE_LIMIT_AFTER, retry_after=1, http_date=True),
    Kind.HANG,
    Kind.HANG_AFTER_HEADERS,
    Fault(Kind.DRIP, byte_delay=0.05),
)
PRICE = {"input": 0.15, "output": 0.6}


def truth(completion: str) -> str:
    """The verdict that the loopback judges give on a completion."""
    digest = hashlib.sha256(completion.strip().encode()).digest()
    return ("right", "abstains", "wrong")[digest[0] % 3]


def questions(count: int) -> list[list[Question]]:
    """Groups of different completions of synthetic questions."""
    records = synthetic.halueval_records("train", "qa", -(-count // GROUP), 0)
    return [
        [Question(record, f"{record.accepted} {i} {k}") for k in range(GROUP)]
        for i, record in enumerate(records)
    ]


class Stage:
    """Two loopback judges and the service that asks them."""

    def __init__(
        self, rate: float, folder: Path, *, concurrency: int = 32, **sections: object
    ) -> None:
        found = fence("completion")
        brain = custom(lambda prompt: truth(found(prompt)))
        plan = FaultPlan.random(rate, 7, FAULTS) if rate else None
        self.one = JudgeServer("openai", brain, plan, delay=0.02, keep_bodies=False)
        self.two = JudgeServer("anthropic", brain, plan, delay=0.02, keep_bodies=False)
        self.one.start()
        self.two.start()
        common = {"api_key": "env:GRPO_DUAL_STUB_KEY", "price": PRICE, "concurrency": concurrency}
        self.config = JudgeConfig.model_validate(
            {
                "providers": {
                    "one": {
                        "kind": "openai",
                        "model": "stub",
                        "base_url": self.one.base_url,
                        **common,
                    },
                    "two": {
                        "kind": "anthropic",
                        "model": "stub",
                        "base_url": self.two.base_url,
                        **common,
                    },
                },
                "retry": {
                    "attempt_seconds": 1.0,
                    "deadline_seconds": 15.0,
                    "base_seconds": 0.05,
                    "cap_seconds": 1.0,
                },
                "breaker": {"failures": 8, "cooldown_seconds": 2.0},
                "cache": {"path": folder / "verdicts.sqlite"},
                **sections,
            }
        )
        self.told: list[str] = []
        self.service = JudgeService(self.config, tell=self.told.append)
        self.service.start(folder / "ledger.jsonl")

    def close(self) -> None:
        """End all three."""
        self.service.close()
        self.one.stop()
        self.two.stop()

    def run(self, groups: Sequence[list[Question]]) -> list[GroupVerdicts]:
        """Judge all groups."""
        judge = partial(offline, threshold=THRESHOLD)
        pending = [self.service.submit(group, judge) for group in groups]
        return [one.result() for one in pending]


def check(
    groups: Sequence[list[Question]], found: Sequence[GroupVerdicts], stage: Stage
) -> dict[str, object]:
    """Counts of what must be 0, and of what happened."""
    accidents, scorers, failures = 0, Counter[str](), Counter[str]()
    lost = sum(len(g) for g in groups) - sum(len(f.answers) for f in found)
    for group, verdicts in zip(groups, found, strict=True):
        for question, answer in zip(group, verdicts.answers, strict=True):
            if isinstance(answer, Failure):
                failures[answer.cause.value] += 1
                continue
            expected = truth(question.completion)
            if verdicts.scorer == NAME:
                own = offline(question, THRESHOLD)
                expected = own.verdict.value if isinstance(own, Opinion) else "none"
            scorers[verdicts.scorer] += 1
            accidents += answer.verdict.value != expected
    duplicated = 0
    for server in (stage.one, stage.two):
        done: set[str] = set()
        for request in server.requests:
            duplicated += request.digest in done
            if request.outcome in ("ok", Kind.FENCED_JSON) and request.answered:
                done.add(request.digest)
    spent = stage.service.ledger.total
    return {
        "judgements": sum(len(g) for g in groups),
        "lost": lost,
        "duplicated": duplicated,
        "scored_by_accident": accidents,
        "scored_by": dict(scorers),
        "groups_by": dict(Counter(f.scorer for f in found)),
        "unscored": dict(failures),
        "calls_one": stage.one.calls,
        "calls_two": stage.two.calls,
        "calls_in_ledger": spent.calls,
        "tokens_in_ledger": spent.usage.tokens,
        "usd_in_ledger": spent.usd,
        "told": stage.told[:6],
    }


def scene(
    name: str,
    groups: Sequence[list[Question]],
    rate: float,
    meanwhile: Callable[[Stage], None] = lambda _: None,
    **sections: object,
) -> dict[str, object]:
    """One scene: judge all groups while something goes wrong."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(rate, Path(folder), **sections)
        try:
            side = threading.Thread(target=meanwhile, args=(stage,), daemon=True)
            began = time.monotonic()
            side.start()
            found = stage.run(groups)
            seconds = time.monotonic() - began
            result = {"scene": name, "fault_rate": rate, **check(groups, found, stage)}
        finally:
            stage.close()
    result["wall_seconds"] = round(seconds, 2)
    print(json.dumps(result), flush=True)
    return result


def both_down(stage: Stage) -> None:
    """Twenty seconds without any judge, from the second second on."""
    time.sleep(2)
    stage.one.down = stage.two.down = True
    time.sleep(20)
    stage.one.down = stage.two.down = False


def first_down(stage: Stage) -> None:
    """The first judge is away the whole time."""
    stage.one.down = True


def resident() -> float:
    """MiB that this process holds now (not the most that it ever held)."""
    (line,) = (
        row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def memory(waves: int) -> dict[str, object]:
    """Memory that this process holds after each wave of judgements at concurrency 100."""
    held: list[float] = []
    peak_concurrency = 0
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(0.0, Path(folder), concurrency=100)
        stage.one.delay = 0.3  # long enough for a hundred to be in flight
        try:
            for wave in range(waves):
                fresh = [
                    [Question(q.record, f"{q.completion} {wave}") for q in own]
                    for own in questions(1000)
                ]
                stage.run(fresh)
                peak_concurrency = max(peak_concurrency, stage.one.peak_concurrency)
                stage.one.reset()  # the log of requests is the test's memory
                held.append(resident())
        finally:
            stage.close()
    result = {
        "scene": "memory",
        "judgements_a_wave": 1000,
        "peak_concurrency": peak_concurrency,
        "mib_after_wave": [round(m, 1) for m in held],
        "mib_grown": round(held[-1] - held[1], 1),
    }
    print(json.dumps(result), flush=True)
    return result


def main() -> int:
    """0 when nothing was lost, duplicated or scored by accident, and memory has not grown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judgements", type=int, default=5000)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--memory", action="store_true", help="that scene only, in a fresh process")
    parsed = parser.parse_args()
    results = [memory(MEMORY_WAVES)] if parsed.memory else scenes(parsed.judgements)
    if parsed.json is not None:
        command = "--memory" if parsed.memory else f"--judgements {parsed.judgements}"
        whole = {
            "command": f"python scripts/judge_faults.py {command}",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}",
            "scenes": results,
        }
        parsed.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(parsed.json, (json.dumps(whole, indent=1) + "\n").encode())
    bad = ("lost", "duplicated", "scored_by_accident")
    wrong = any(result.get(key, 0) for result in results for key in bad)
    grown = any(result.get("mib_grown", 0) > MOST_GROWN for result in results)
    return int(wrong or grown)


def scenes(judgements: int) -> list[dict[str, Any]]:
    """All scenes, one behind the other."""
    groups = questions(judgements)
    pause = {"action": "pause", "probe_seconds": 1.0, "patience_seconds": 120.0}
    middle = {"calls": round(judgements * 0.6)}
    return [
        scene("no faults", groups, 0.0),
        scene("30 % faults", groups, 0.3),
        scene("30 % faults, first judge down all the time", groups, 0.3, first_down),
        scene("30 % faults, both down for 20 s, pause", groups, 0.3, both_down, outage=pause),
        scene("30 % faults, both down for 20 s, heuristic", groups, 0.3, both_down),
        scene("30 % faults, budget ends midway", groups, 0.3, budget=middle),
        memory(MEMORY_WAVES),
    ]


if __name__ == "__main__":
    sys.exit(main())
