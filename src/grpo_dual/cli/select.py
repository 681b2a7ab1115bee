"""``grpo-dual select``: best-of-N curves, and completions worth keeping for the next SFT round."""

import argparse
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command
from grpo_dual.errors import ConfigError
from grpo_dual.selection.rejection import Rule


def parser() -> Parser:
    """The arguments of the command."""
    made = command("select", "Best-of-N, and completions kept for the next SFT round.", run)
    made.usage = "grpo-dual select RUN|CONFIG --out FILE [...] [--KEY VALUE ...]"
    made.add_argument(
        "source",
        metavar="RUN|CONFIG",
        help="a run folder, RUN@STEP or RUN@best; or a configuration file: its model as it is",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSON lines that sft.data reads"
    )
    made.add_argument("--n", type=_positive, default=16, help="completions of a prompt")
    made.add_argument(
        "--prompts", type=_positive, default=200, metavar="N", help="of each objective"
    )
    made.add_argument(
        "--keep",
        choices=("best", "all"),
        default="all",
        help="the best completion of a prompt (RAFT), or all from the threshold on (RFT; default)",
    )
    made.add_argument(
        "--threshold", type=float, default=0.5, metavar="T", help="lowest score that is kept"
    )
    made.add_argument(
        "--proxy",
        choices=("reward", "judge"),
        default="reward",
        help="what completions are selected by: the whole reward, or its task part alone",
    )
    made.add_argument(
        "--per-prompt", type=_positive, default=4, metavar="M", help="most completions of a prompt"
    )
    made.add_argument(
        "--ratio",
        type=float,
        default=2.0,
        help="largest over smallest stratum of like kind (objectives, conditions, ...), at most",
    )
    made.add_argument("--json", type=Path, metavar="OUT", help="write curves and counts there too")
    made.set_defaults(overrides=[])
    return made


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    Raises:
        GrpoDualError: Source, data or flags are wrong.
        KeyboardInterrupt: With how to go on.
    """
    if not parsed.ratio >= 1:
        raise ConfigError(f"--ratio {parsed.ratio:g}: must be at least 1.")
    if parsed.threshold != parsed.threshold:
        raise ConfigError("--threshold nan: must be a number.")
    from grpo_dual.cli.selecting import select  # torch: only once the flags are right

    rule = Rule(parsed.keep, parsed.threshold, parsed.per_prompt, parsed.ratio)
    select(
        parsed.source,
        parsed.overrides,
        parsed.out,
        n=parsed.n,
        prompts=parsed.prompts,
        proxy=parsed.proxy,
        rule=rule,
        json=parsed.json,
    )
    return 0


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) <= 9 and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not `{text}`")
    return int(text)
