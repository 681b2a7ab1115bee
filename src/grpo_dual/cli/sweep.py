"""``grpo-dual sweep``: a small grid of objective weights, seeds and keys, and one table."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_dual.cli.parsing import Parser, command, count, split_flags
from grpo_dual.errors import ConfigError

if TYPE_CHECKING:
    from grpo_dual.train.sweep import Sweep

OK, FAILED = 0, 1
"""Exit codes."""


def parser() -> Parser:
    """The arguments of the command."""
    made = command("sweep", "Train a grid of objective weights and seeds, resumable.", run)
    made.usage = (
        "grpo-dual sweep CONFIG [--weights W,W,...] [--seeds N,N,...] [--grid KEY=V,V,... ...]\n"
        "                       [--KEY VALUE ...] --out FOLDER [--jobs N] [--force]"
    )
    made.epilog = (
        "Started again with the same command a sweep skips what is done and goes on with the rest. "
        "Exit code 1: a cell failed; the others went on."
    )
    made.add_argument("config", type=Path, metavar="CONFIG", help="as for `grpo-dual train`")
    made.add_argument(
        "--weights",
        type=_weights,
        default=(),
        metavar="W,W,...",
        help="of fairness, hallucination gets 1 - W; or pairs F:H,F:H,...",
    )
    made.add_argument("--seeds", type=_seeds, default=(), metavar="N,N,...", help="values of seed")
    made.add_argument(
        "--grid",
        type=_axis,
        action="append",
        default=[],
        metavar="KEY=V,V,...",
        help="values of any other key; may be given several times",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="the sweep's own folder"
    )
    made.add_argument(
        "--jobs", type=count, default=1, metavar="N", help="runs at once; more than 1 for CPUs only"
    )
    made.add_argument(
        "--force", action="store_true", help="start runs though their pre-flight refuses them"
    )
    made.set_defaults(overrides=[])
    return made


def parse(parser: Parser, rest: Sequence[str]) -> argparse.Namespace:
    """Arguments -> namespace; behind CONFIG flags of the configuration may stand."""
    if not rest or rest[0].startswith("-"):
        return parser.parse_args(rest)
    own, others = split_flags(parser, rest[1:])
    parsed = parser.parse_args([rest[0], *own])
    parsed.overrides = others
    return parsed


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    Raises:
        GrpoDualError: Configuration, grid or folder is wrong.
        KeyboardInterrupt: With how to go on.
    """
    if parsed.jobs < 1:
        raise ConfigError("--jobs must be at least 1.")
    from grpo_dual.config.load import load_config

    config = load_config(parsed.config, parsed.overrides)
    if parsed.jobs > 1 and config.model.device.startswith("cuda"):
        raise ConfigError(
            f"--jobs {parsed.jobs}: runs would share {config.model.device} and its memory; leave "
            "--jobs out"
        )
    from grpo_dual.train.grid import Axes, cells
    from grpo_dual.train.sweep import Sweep

    axes = Axes(parsed.weights, parsed.seeds, tuple(parsed.grid))
    sweep = Sweep(parsed.out, cells(config, axes, parsed.out), lambda text: print(text, flush=True))
    try:
        sweep.run(jobs=parsed.jobs, force=parsed.force)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("Go on with the same command.") from stop
    _print(sweep)
    return FAILED if any(p.status == "failed" for p in sweep.cells) else OK


def _print(sweep: "Sweep") -> None:
    """The table of all cells, and the groups over seeds where there are several."""
    from grpo_dual.cli.fronts import print_groups, weights_text
    from grpo_dual.cli.output import console, table
    from grpo_dual.evaluation.evaluated import grouped, read_evaluated
    from grpo_dual.evaluation.pareto import front
    from grpo_dual.train.outcome import HEADLINES

    out = console()
    scores = [key for keys in HEADLINES.values() for key in keys]
    columns = ("cell", "weights", "fairness", "faithfulness", *scores)
    columns = (*columns, "hypervolume", "front", "seconds", "doctor")
    made = table(None, columns, ("cell", "weights", "front", "doctor"), out)
    points = sweep.points()
    best = {point.name for point in front([*points.values()])}
    evaluated = [
        read_evaluated(p.run) for p in sweep.cells if p.run is not None and p.cell.name in points
    ]
    shares = {e.folder: weights_text(e.weights) for e in evaluated}
    for p in sweep.cells:
        o = p.outcome
        if o is None or p.status == "failed":
            made.add_row(p.cell.name, *[""] * (len(columns) - 2), f"failed: {p.error}")
            continue
        numbers = (o.fairness, o.faithfulness, *(o.scores[key] for key in scores), o.hypervolume)
        made.add_row(
            p.cell.name,
            "-" if p.run is None else shares.get(p.run, "-"),
            *("-" if number is None else f"{number:.4f}" for number in numbers),
            "-" if p.cell.name not in points else "yes" if p.cell.name in best else "no",
            "-" if o.seconds is None else f"{o.seconds:.0f}",
            o.finding or "-",
        )
    out.print(made)
    if evaluated:
        print_groups(grouped(evaluated), grouped(evaluated, any_weights=True), out)
    out.print(f"grpo-dual pareto {sweep.folder}", markup=False, highlight=False, soft_wrap=True)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise argparse.ArgumentTypeError(f"weights are numbers from 0 on, not `{text}`")
    return number


def _weights(text: str) -> tuple[tuple[float, float], ...]:
    pairs: list[tuple[float, float]] = []
    for word in text.split(","):
        first, colon, second = word.partition(":")
        f = _number(first)
        if not colon and f > 1:
            raise argparse.ArgumentTypeError(f"a weight is at most 1, not `{word}`; or give F:H")
        h = _number(second) if colon else round(1 - f, 12)  # 1 - .9 is not .1 in binary
        if f == h == 0:
            raise argparse.ArgumentTypeError(f"`{word}`: both weights are 0")
        pairs.append((f, h))
    return tuple(pairs)


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(count(word) for word in text.split(","))


def _axis(text: str) -> tuple[str, tuple[str, ...]]:
    key, equals, values = text.removeprefix("--").partition("=")
    words = tuple(value.strip() for value in values.split(","))
    if not equals or not key or not all(words):
        raise argparse.ArgumentTypeError(f"must be KEY=V,V,..., not `{text}`")
    return key, words
