"""The command line: subcommands only. Nothing heavy is imported before it is needed.

A mistake of the user ends in one paragraph, ``grpo-dual: error: ...``, and exit code 2; a bug of
ours in a traceback.
"""

import argparse
import difflib
import importlib.metadata
import math
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from grpo_dual.cli import (
    data_audit,
    doctor,
    eval_models,
    export,
    judge,
    pareto,
    report,
    select,
    sweep,
)
from grpo_dual.cli.parsing import Parser, command, count, did_you_mean, split_flags
from grpo_dual.errors import CheckpointError, ConfigError, GrpoDualError, PreflightError

MISTAKE = 2
"""Exit code of an error that the user can mend."""
REFUSED = 3
"""Exit code where the pre-flight says act: of `doctor --preflight`, and of a refusing `train`."""
CLOSED = 141
"""Exit code when the output was closed by its reader: 128 + SIGPIPE, as shells have it."""
INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

_GROUPS = {
    "data": ("stats", "audit", "fetch"),
    "eval": ("predictions",),
    "judge": ("score", "estimate", "cache"),
}
"""Commands of two words: the first, and what may follow it; `eval` is also one of one word."""

_RESUMABLE = ("judge.outage.", "judge.budget.", "tracking.")
"""Keys that may be changed when a run is resumed: they touch no number of it but who judges."""

CONFIG = "config.json"
"""The resolved configuration in a run folder (config/snapshot.py writes it)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process when None.

    Returns:
        The exit code: 0, or 2 after a mistake of the user, 3 where the pre-flight says act, or 130
        after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parsed = argparse.Namespace()
    try:
        parsed = _parse(arguments)
        return parsed.run(parsed)
    except GrpoDualError as error:
        paragraph = " ".join(str(error).split())
        print(f"grpo-dual: error: {paragraph}", file=sys.stderr)
        return REFUSED if isinstance(error, PreflightError) else MISTAKE
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except KeyboardInterrupt as interrupt:
        print(f"grpo-dual: interrupted.{_go_on(parsed, interrupt)}", file=sys.stderr)
        return INTERRUPTED


def _go_on(parsed: argparse.Namespace, interrupt: KeyboardInterrupt) -> str:
    """How to continue: ``train`` raises the interrupt again with its folder, others with a text."""
    if getattr(parsed, "run", None) is not _train:
        return f" {interrupt.args[0]}" if interrupt.args else ""
    folder = interrupt.args[0] if interrupt.args else parsed.resume
    if folder is None:
        return " There is no run folder yet: start again with the same command."
    return f" Continue with: grpo-dual train --resume {shlex.quote(str(folder))}"


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Arguments -> namespace with ``run``, the function of the subcommand."""
    top = Parser(
        prog="grpo-dual",
        allow_abbrev=False,
        description="Train a language model to be fairer and more faithful at once (GRPO, LoRA).",
    )
    version = importlib.metadata.version("grpo-dual")
    top.add_argument("--version", action="version", version=f"grpo-dual {version}")
    commands = {
        "train": _train_parser(),
        "doctor": doctor.parser(),
        "data stats": _stats_parser(),
        "data audit": data_audit.parser(),
        "data fetch": _fetch_parser(),
        "eval": eval_models.parser(),
        "eval predictions": _predictions_parser(),
        "pareto": pareto.parser(),
        "sweep": sweep.parser(),
        "soup": _soup_parser(),
        "export": export.parser(),
        "select": select.parser(),
        **judge.parsers(),
        **report.parsers(),
    }
    lines = [f"  {name:<18}{parser.description}" for name, parser in commands.items()]
    top.formatter_class = argparse.RawDescriptionHelpFormatter
    top.epilog = "commands:\n" + "\n".join(lines) + "\n\n`grpo-dual COMMAND --help` tells more."
    top.usage = "grpo-dual [--version] [--help] COMMAND ..."
    words = _command_words(arguments)
    bare = len(words) == 1 and words[0] in _GROUPS.keys() - commands
    if not words or (bare and {"-h", "--help"} & set(arguments)):
        top.refuse_extras(top.parse_known_args(arguments)[1])
        top.print_help()
        return argparse.Namespace(run=lambda _: 0)
    name = " ".join(words)
    if name not in commands:
        _refuse_command(top, words, commands)
    return _parse_command(commands[name], name, arguments[len(words) :])


def _command_words(arguments: Sequence[str]) -> list[str]:
    """The leading words: one, or two for the commands of a group."""
    words: list[str] = []
    for argument in arguments[:2]:
        if argument.startswith("-") or (words and words[0] not in _GROUPS):
            break
        if words == ["eval"] and argument not in _GROUPS["eval"]:
            break  # a target
        words.append(argument)
    return words


def _refuse_command(top: Parser, words: list[str], commands: Iterable[str]) -> NoReturn:
    known = list(commands)
    if words[0] in _GROUPS:
        own = _GROUPS[words[0]]
        if len(words) == 1:
            top.error(f"`{words[0]}` needs one of its commands: {' or '.join(own)}")
        near = did_you_mean(words[1], own)
        top.error(f"there is no command `{words[0]} {words[1]}`{near}")
    whole = {name.split()[-1]: name for name in known}
    whole |= {group: f"{group} {own[0]}" for group, own in _GROUPS.items() if group not in known}
    near = difflib.get_close_matches(words[0], list(whole), n=1, cutoff=0.5)
    guess = f", did you mean `{whole[near[0]]}`?" if near else ""
    top.error(f"there is no command `{words[0]}`{guess}")


def _parse_command(parser: Parser, name: str, rest: list[str]) -> argparse.Namespace:
    if name == "doctor":
        return doctor.parse(parser, rest)
    if name == "sweep":
        return sweep.parse(parser, rest)
    if name in ("train", "data audit", "select") and rest and not rest[0].startswith("-"):
        # All others behind the file are flags of the configuration, config/flags.py reads them.
        own, overrides = split_flags(parser, rest[1:], less=("--resume",))
        parsed = parser.parse_args([rest[0], *own])
        parsed.overrides = [*overrides, *_doctor(parsed)]
        return parsed
    if name == "train" and rest and rest[0].partition("=")[0] == "--resume":
        first = rest[: 1 if "=" in rest[0] else 2]
        own, flags = split_flags(parser, rest[len(first) :])
        flags += _doctor(parser.parse_args([*first, *own]))
        if flags and flags[0].startswith("--") and "." in flags[0]:
            _only_what_may_change(parser, flags)
            parsed = parser.parse_args([*first, *own])
            parsed.overrides = flags
            return parsed
    parsed, extras = parser.parse_known_args(rest)
    if name == "judge estimate" and not rest[0].startswith("-"):
        parsed.overrides = extras
        return parsed
    if name in ("train", "data audit", "judge estimate", "select") and any(
        "." in extra for extra in extras
    ):
        # A key, or the file behind one.
        parser.error(f"the configuration file comes first, before `{extras[0]}`")
    parser.refuse_extras(extras)
    return parsed


def _doctor(parsed: argparse.Namespace) -> list[str]:
    """``--doctor off`` as the flag of the configuration that it is short for."""
    mode = getattr(parsed, "doctor", None)
    return [] if mode is None else ["--doctor.mode", mode]


def _only_what_may_change(parser: Parser, flags: list[str]) -> None:
    """Refuse flags behind ``--resume`` that would make it another run."""
    for flag in flags:
        key = flag.removeprefix("--").removeprefix("no-")
        if flag.startswith("--") and "." in flag and not key.startswith(_RESUMABLE):
            parser.error(
                f"`{flag}`: --resume goes on with that run's own configuration; only "
                f"{' and '.join(f'--{group}*' for group in _RESUMABLE)} may be changed"
            )


def _train_parser() -> Parser:
    parser = command("train", "Train as a configuration file says, or continue a run.", _train)
    parser.usage = (
        "grpo-dual train CONFIG [--KEY VALUE ...] [--doctor off] [--force]\n"
        "       grpo-dual train --resume RUN_FOLDER "
        "[--judge.outage.KEY VALUE] [--judge.budget.KEY VALUE] "
        "[--tracking.KEY VALUE]"
    )
    parser.epilog = (
        "Any number in the file can be set behind it, e.g. --objectives.fairness.kl.target 0.02; "
        "`grpo-dual train CONFIG --help` lists them all."
    )
    parser.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help="a YAML file")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN_FOLDER", help="continue an interrupted run"
    )
    parser.add_argument(
        "--doctor",
        choices=("warn", "act", "off"),
        help="doctor.mode for short; off looks at nothing, before the run or in it",
    )
    parser.add_argument(
        "--force", action="store_true", help="start though the pre-flight refuses the run"
    )
    parser.set_defaults(overrides=[])
    return parser


def _stats_parser() -> Parser:
    parser = command("data stats", "Count the records of BBQ and HaluEval files.", _stats)
    parser.add_argument("path", type=Path, metavar="PATH", help="a file, or a folder of files")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--on-bad-row",
        choices=("error", "skip"),
        default="error",
        help="stop at a malformed row (default), or count it, list it and go on",
    )
    return parser


def _fetch_parser() -> Parser:
    parser = command("data fetch", "Download BBQ and HaluEval, checked, into the cache.", _fetch)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="another folder than the cache `train` reads"
    )
    parser.add_argument("--only", choices=("all", "bbq", "halueval"), default="all")
    parser.add_argument("--base-url", metavar="URL", help="another host of the raw files")
    return parser


def _predictions_parser() -> Parser:
    parser = command(
        "eval predictions", "Score anyone's BBQ predictions: accuracy and bias.", _predictions
    )
    parser.add_argument("path", type=Path, metavar="FILE", help="rows with a predicted option")
    parser.add_argument("--field", required=True, metavar="KEY", help="field of the prediction")
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="BBQ files: options and groups are read there"
    )
    parser.add_argument(
        "--policy",
        choices=("exclude", "wrong"),
        default="wrong",
        help="unparsed predictions are wrong answers (default), or left out as in the paper",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result there too")
    parser.add_argument(
        "--draws", type=count, default=1000, metavar="N", help="bootstrap draws (0: no intervals)"
    )
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of the bootstrap")
    return parser


def _soup_parser() -> Parser:
    parser = command("soup", "Add LoRA adapters up, exactly, into one that PEFT loads.", _soup)
    parser.add_argument(
        "parts",
        type=_weighted,
        nargs="+",
        metavar="FOLDER=WEIGHT",
        help="adapters of one base model, e.g. RUN/checkpoints/step-00000060/adapter=0.5",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="where the sum is written"
    )
    return parser


def _weighted(text: str) -> tuple[Path, float]:
    folder, _, weight = text.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not folder or not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be FOLDER=WEIGHT, not `{text}`")
    return Path(folder), number


def _predictions(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.evaluate import predictions

    predictions(
        parsed.path,
        field=parsed.field,
        data=parsed.data,
        policy=parsed.policy,
        json=parsed.json,
        draws=parsed.draws,
        seed=parsed.seed,
    )
    return 0


def _soup(parsed: argparse.Namespace) -> int:
    from grpo_dual.model.soups import write_soup

    rank = write_soup(parsed.parts, parsed.out)
    print(f"{parsed.out}: {len(parsed.parts)} adapters added up, rank {rank}")
    return 0


def _train(parsed: argparse.Namespace) -> int:
    file = _config_file(parsed)
    from grpo_dual.config.load import load_config  # pydantic: not for --help

    config = load_config(file, parsed.overrides)
    if parsed.resume is not None and parsed.overrides:
        from grpo_dual.config.snapshot import amend

        amend(config, parsed.resume)
    from grpo_dual.train.run import train  # torch: only once the configuration is right

    return train(config, parsed.resume, look=True, force=parsed.force)


def _config_file(parsed: argparse.Namespace) -> Path:
    """The file of a new run, or the resolved configuration of the run to resume."""
    resume: Path | None = parsed.resume
    file: Path | None = parsed.config
    twice = any(flag.partition("=")[0] == "--resume" for flag in parsed.overrides)
    if file is not None and (resume is not None or twice):
        raise ConfigError("--resume goes on with that run's own configuration: name no other file.")
    if file is not None:
        return file
    if resume is None:
        raise ConfigError(
            "train needs a configuration file, e.g. `grpo-dual train configs/demo.yaml`, or "
            "--resume with the folder of a run."
        )
    if not (resume / CONFIG).is_file():
        raise CheckpointError(
            f"{resume}: is no run folder ({CONFIG} is not there). Give the folder that the run "
            "printed when it started."
        )
    return resume / CONFIG


def _stats(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.data import stats

    stats(parsed.path, json=parsed.json, on_bad_row=parsed.on_bad_row)
    return 0


def _fetch(parsed: argparse.Namespace) -> int:
    from grpo_dual.cli.fetch import fetch

    fetch(out=parsed.out, base_url=parsed.base_url, only=parsed.only)
    return 0
