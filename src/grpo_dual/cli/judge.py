"""``grpo-dual judge``: the arguments of its commands. What they do is imported when one is run."""

import argparse
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command, count


def parsers() -> dict[str, Parser]:
    """The parsers by command."""
    return {
        "judge score": _score_parser(),
        "judge estimate": _estimate_parser(),
        "judge cache": _cache_parser(),
    }


def _score_parser() -> Parser:
    parser = command("judge score", "Judge completions, and compare with labels.", _score)
    parser.add_argument("path", type=Path, metavar="FILE", help="rows with a completion")
    parser.add_argument(
        "--config", type=Path, metavar="CONFIG", help="a run's file, for its judge section"
    )
    parser.add_argument(
        "--judge", metavar="NAME", help="one of its judges; without it the configured route"
    )
    parser.add_argument("--out", type=Path, metavar="OUT", help="write the verdicts there (JSONL)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    return parser


def _estimate_parser() -> Parser:
    parser = command(
        "judge estimate", "What the judges of a run will take, before it starts.", _estimate
    )
    parser.usage = (
        "grpo-dual judge estimate CONFIG [--KEY VALUE ...] [--probe N] [--ask K] [--json OUT]"
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="as for `grpo-dual train`")
    parser.add_argument(
        "--probe",
        type=count,
        metavar="N",
        help="steps to try with a judge that costs nothing (default: as many as five minutes "
        "allow, 8 at least; 0: no model is loaded, upper bounds only)",
    )
    parser.add_argument(
        "--ask",
        type=count,
        default=0,
        metavar="K",
        help="send K requests to each judge to measure its tokens (paid; default 0)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    parser.set_defaults(overrides=[])
    return parser


def _cache_parser() -> Parser:
    parser = command("judge cache", "Show or drop the verdicts that are kept on disk.", _cache)
    parser.add_argument("action", choices=("stats", "clear"), help="show what is kept, or drop it")
    parser.add_argument(
        "--path", type=Path, metavar="FILE", help="another file than the one `train` uses"
    )
    parser.add_argument("--judge", metavar="NAME", help="the verdicts of one judge only")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    return parser


def _score(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.judge_score import score

    score(parsed.path, config=parsed.config, judge=parsed.judge, out=parsed.out, json=parsed.json)
    return 0


def _estimate(parsed: argparse.Namespace) -> int:
    from grpo_dual.config.load import load_config

    config = load_config(parsed.config, parsed.overrides)
    from grpo_dual.cli.judge_estimate import estimate  # torch: only once the file is right

    estimate(config, probe=parsed.probe, ask=parsed.ask, json=parsed.json)
    return 0


def _cache(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.judge_cache import clear, stats

    act = clear if parsed.action == "clear" else stats
    act(parsed.path, judge=parsed.judge, json=parsed.json)
    return 0
