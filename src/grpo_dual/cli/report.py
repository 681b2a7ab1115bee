"""``grpo-dual report`` and ``plot``: runs as one page, and one run's trends as one figure."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command

_PAGE = "report.html"
_TRENDS = "trends.png"


def parsers() -> dict[str, Parser]:
    """The arguments of both commands."""
    return {"report": _report_parser(), "plot": _plot_parser()}


def _report_parser() -> Parser:
    made = command("report", "One page of a run, or of several beside each other.", _report)
    made.usage = (
        "grpo-dual report RUN... [--eval FILE] [--out FILE.html] [--png FOLDER]\n"
        "       grpo-dual report --compare A B [--eval FILE] [--out FILE.html] [--png FOLDER]"
    )
    made.epilog = (
        "The page is one file: it loads nothing from anywhere and runs no script. Needs the extra "
        "`figures` (matplotlib)."
    )
    made.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="run folders, live or finished"
    )
    made.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="two runs: what differs comes first, and a table pairs their measures",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the page (default: {_PAGE} in the run folder; here where there are several runs)",
    )
    made.add_argument(
        "--png", type=Path, metavar="FOLDER", help="write the figures there as PNG files too"
    )
    made.add_argument(
        "--eval",
        type=Path,
        metavar="FILE",
        dest="evaluation",
        help="a file that `grpo-dual eval --json FILE` wrote: its intervals on the page too",
    )
    return made


def _plot_parser() -> Parser:
    made = command("plot", "A run's trends: rewards, KL, lengths, entropy and clipping.", _plot)
    made.add_argument("run_folder", type=Path, metavar="RUN", help="a run folder")
    made.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=f"the figure, .png, .svg or .pdf (default: {_TRENDS} in the run folder)",
    )
    return made


def _report(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.output import check_writable
    from grpo_dual.errors import CheckpointError, ConfigError
    from grpo_dual.report.draw import need_matplotlib
    from grpo_dual.report.evaluated import read_evaluation
    from grpo_dual.report.page import write_report
    from grpo_dual.report.reading import read_runs

    if bool(parsed.runs) == (parsed.compare is not None):
        raise ConfigError(
            "report needs run folders, or --compare with two of them, not both: e.g. `grpo-dual "
            "report RUN` with the folder that the run printed. See `grpo-dual report --help`."
        )
    need_matplotlib()
    runs = read_runs(_different(parsed.compare) if parsed.compare else parsed.runs)
    evaluation = None if parsed.evaluation is None else read_evaluation(parsed.evaluation)
    out: Path = parsed.out or (runs[0].folder / _PAGE if len(runs) == 1 else Path(_PAGE))
    check_writable(out)
    if parsed.png is not None:
        try:
            parsed.png.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"{parsed.png}: the folder cannot be made ({error.strerror or error}); name "
                "another with --png."
            ) from error
    write_report(
        runs,
        out,
        compare=parsed.compare is not None,
        png=parsed.png,
        evaluation=evaluation,
    )
    print(out if parsed.png is None else f"{out}; figures: {parsed.png}")
    return 0


def _different(folders: Sequence[Path]) -> Sequence[Path]:
    from grpo_dual.errors import ConfigError

    if folders[0].resolve() == folders[1].resolve():
        raise ConfigError(f"--compare: {folders[0]} and {folders[1]} are the same folder.")
    return folders


def _plot(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.output import check_writable
    from grpo_dual.report.draw import need_matplotlib
    from grpo_dual.report.plot import plot
    from grpo_dual.report.reading import read

    need_matplotlib()
    run = read(parsed.run_folder)
    out: Path = parsed.out or parsed.run_folder / _TRENDS
    check_writable(out)
    plot(run, out)
    print(out)
    return 0
