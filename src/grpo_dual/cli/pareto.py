"""``grpo-dual pareto``: the trade-off of both objectives over checkpoints, runs, seeds, weights."""

import argparse
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command


def parser() -> Parser:
    """The arguments of the command."""
    made = command("pareto", "The trade-off of both objectives over checkpoints and seeds.", run)
    made.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a run folder, a sweep's folder, or a result file of `eval --json`",
    )
    made.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    return made


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from grpo_dual.cli.fronts import pareto

    pareto(parsed.paths, json=parsed.json)
    return 0
