"""A judge server as a process: prints its base_url, serves until SIGTERM or SIGINT."""

import argparse
import json
import signal
from pathlib import Path

from judge_servers.brains import VERDICTS, Brain, constant, deterministic, gullible
from judge_servers.faults import QUICK, FaultPlan, Kind
from judge_servers.reference import reference
from judge_servers.server import JudgeServer


def _brain(name: str, seed: int) -> Brain:
    if name in VERDICTS:
        return constant(name)
    others = {"gullible": gullible, "reference": reference}
    return others[name]() if name in others else deterministic(seed)


def _plan(options: argparse.Namespace) -> FaultPlan:
    plan = FaultPlan.random(options.fault_rate, options.seed, options.kinds)
    if options.per_minute:
        plan = FaultPlan.per_minute(options.per_minute) | plan
    if options.burst:
        plan = FaultPlan.burst_limit(options.burst) | plan
    return plan


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="judge_servers", description=__doc__)
    parser.add_argument("--wire", choices=("openai", "anthropic"), required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds per answer")
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--kinds", type=Kind, nargs="+", default=QUICK, metavar="KIND")
    parser.add_argument("--burst", type=int, default=0, help="429 above so many in flight")
    parser.add_argument("--per-minute", type=int, default=0, help="429 above so many a minute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--brain",
        choices=(*VERDICTS, "deterministic", "gullible", "reference"),
        default="deterministic",
    )
    parser.add_argument("--report", type=Path, help="counters as JSON, written at the end")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Runs one server."""
    options = _options(arguments)
    # Blocked before the server's thread starts, which inherits it: only sigwait sees the signals.
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    brain = _brain(options.brain, options.seed)
    server = JudgeServer(
        options.wire,
        brain,
        _plan(options),
        options.delay,
        keep_bodies=False,
        port=options.port,
    )
    try:
        with server:
            print(server.base_url, flush=True)
            signal.sigwait(signals)
    finally:
        if options.report is not None:
            options.report.write_text(json.dumps(server.report(), indent=2) + "\n")


if __name__ == "__main__":
    main()
