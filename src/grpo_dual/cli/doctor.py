"""``grpo-dual doctor``: what is wrong with a run, and what to change.

Exit codes: 0, nothing of severity ACT was found; 3, something was; 2, the command itself is wrong.
"""

import argparse
import json as json_library
import time
from collections.abc import Sequence
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command, split_flags

OK, ACT = 0, 3
"""Exit codes."""


def parser() -> Parser:
    """The arguments of the command."""
    made = command("doctor", "What is wrong with a run, and what to change.", run)
    made.usage = (
        "grpo-dual doctor RUN [--json]\n"
        "       grpo-dual doctor RUN --undo\n"
        "       grpo-dual doctor --preflight CONFIG [--KEY VALUE ...] [--offline] [--json]"
    )
    made.epilog = (
        "Exit code: 0, nothing of severity ACT; 3, something of severity ACT; for what the "
        "pre-flight finds of it `train` refuses to start."
    )
    made.add_argument(
        "run_folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="a run folder, live or finished, or a CSV file with columns of TRL, verl or ours",
    )
    made.add_argument(
        "--undo",
        action="store_true",
        help="take back the last remedy that the doctor applied to the run (doctor.mode: act)",
    )
    made.add_argument(
        "--preflight",
        type=Path,
        metavar="CONFIG",
        help="a run that has not started: its configuration, with flags as `train` takes them",
    )
    made.add_argument(
        "--offline", action="store_true", help="do not ask whether the judges can be reached"
    )
    made.add_argument("--json", action="store_true", help="print JSON instead of text")
    made.set_defaults(overrides=[])
    return made


def parse(parser: Parser, rest: Sequence[str]) -> argparse.Namespace:
    """Arguments -> namespace; behind ``--preflight`` flags of the configuration may stand."""
    if {"-h", "--help"} & set(rest):
        return parser.parse_args(["--help"])
    words = list(rest)
    named = [words.pop(0)] if words and not words[0].startswith("-") else []
    own, others = split_flags(parser, words)
    parsed = parser.parse_args([*named, *own])
    if parsed.preflight is None:
        parser.refuse_extras(others)
        if parsed.run_folder is None:
            parser.error(
                "doctor needs a run folder or a CSV file, or --preflight with a configuration file"
            )
        if parsed.undo and parsed.json:
            parser.error("--undo prints no JSON")
        return parsed
    if parsed.run_folder is not None or parsed.undo:
        parser.error("--preflight looks at a configuration, not at a run: leave RUN and --undo out")
    if others and not others[0].startswith("-"):
        parser.refuse_extras(others)
    parsed.overrides = others
    return parsed


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    if parsed.preflight is None:
        from grpo_dual.cli.diagnose import diagnose_run, undo_run

        if parsed.undo:
            return undo_run(parsed.run_folder)
        return diagnose_run(parsed.run_folder, json=parsed.json)
    from grpo_dual.config.load import load_config

    config = load_config(parsed.preflight, parsed.overrides)
    from grpo_dual.cli.output import console  # rich and torch: only once the file is right
    from grpo_dual.diagnosis.grading import counted, must_act
    from grpo_dual.diagnosis.journal import row
    from grpo_dual.diagnosis.page import paragraph
    from grpo_dual.train.preflight import look
    from grpo_dual.train.preflight_view import SAMPLE

    began = time.monotonic()
    findings = look(config, offline=parsed.offline)
    seconds = time.monotonic() - began
    if parsed.json:
        result = {
            "config": str(parsed.preflight),
            "sample": SAMPLE,
            "seconds": seconds,
            "findings": [row(finding, "preflight") for finding in findings],
        }
        print(json_library.dumps(result, indent=2, allow_nan=False))
        return ACT if must_act(findings) else OK
    out = console()
    for finding in findings:
        out.print(paragraph(finding), markup=False, highlight=False, soft_wrap=True)
    told = counted(findings) if findings else "nothing found"
    out.print(
        f"pre-flight: {told} ({SAMPLE} draws of each objective, {seconds:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )
    return ACT if must_act(findings) else OK
