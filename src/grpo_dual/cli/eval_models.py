"""``grpo-dual eval``: runs, checkpoints, adapters and models through BBQ and HaluEval."""

import argparse
import json as json_library
from pathlib import Path

from grpo_dual.cli.parsing import Parser, command, count, did_you_mean


def parser() -> Parser:
    """The arguments of the command."""
    made = command("eval", "Evaluate runs, checkpoints, adapters or models.", run)
    made.usage = (
        "grpo-dual eval TARGET [TARGET ...] [--data PATH] [--config FILE] [--json OUT] ...\n"
        "       grpo-dual eval predictions FILE --field KEY ..."
    )
    made.epilog = (
        "TARGET: a run folder (its last checkpoint), RUN@STEP, RUN@best, RUN@base (the model "
        "without adapter); an adapter folder; a model's folder or hub name, or `embedded`. "
        "Several targets: each is compared with the first."
    )
    made.add_argument("targets", nargs="+", metavar="TARGET")
    made.add_argument(
        "--data", type=Path, metavar="PATH", help="BBQ and HaluEval files, for a model without run"
    )
    made.add_argument(
        "--config", type=Path, metavar="FILE", help="objectives, data, prompts and sampling"
    )
    made.add_argument(
        "--decode",
        choices=("greedy", "train", "handoff"),
        default="greedy",
        help="plain decoding (default), the run's own sampling, or the hand-off's",
    )
    made.add_argument(
        "--split",
        choices=("yardstick", "held-out", "all"),
        help="held-out items that a run scores itself by (default), all held out, or all there are",
    )
    made.add_argument(
        "--only",
        action="append",
        default=[],
        choices=("bbq", "halueval", "open", "detection", "pairs", "retention"),
        help="BBQ, HaluEval or one of its protocols, or retention; may be given several times",
    )
    made.add_argument(
        "--limit", type=_some, metavar="N", help="at most N items of each category and subset"
    )
    made.add_argument(
        "--seed", type=count, metavar="N", help="of sampling, --limit and bootstrap (the run's)"
    )
    made.add_argument("--max-new-tokens", type=_some, metavar="N", help="in place of the run's")
    made.add_argument("--json", type=Path, metavar="OUT", help="write the result there")
    made.add_argument("--rows", type=Path, metavar="FILE", help="write a line per item there")
    made.add_argument(
        "--draws", type=count, default=1000, metavar="N", help="bootstrap draws (0: no intervals)"
    )
    made.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the base weights")
    return made


def _some(text: str) -> int:
    number = count(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    _refuse_typo(parsed.targets[0])
    from grpo_dual.cli.output import check_writable, console, write_json, writing

    for path in (parsed.json, parsed.rows):
        if path is not None:
            check_writable(path)
    from transformers.utils.logging import disable_progress_bar

    from grpo_dual.cli.eval_tables import show
    from grpo_dual.train.evaluating import Outcome, Request, carry_out, plan

    out = console()
    if not out.is_terminal:
        disable_progress_bar()
    made = plan(
        Request(
            targets=tuple(parsed.targets),
            config=parsed.config,
            data=parsed.data,
            decode=parsed.decode,
            split=parsed.split,
            only=tuple(parsed.only),
            limit=parsed.limit,
            seed=parsed.seed,
            max_new_tokens=parsed.max_new_tokens,
            draws=parsed.draws,
            device=parsed.device,
            dtype=parsed.dtype,
        )
    )

    def tell(text: str) -> None:
        out.print(text, markup=False, highlight=False, soft_wrap=True)

    if parsed.rows is None:
        result = carry_out(made, tell)
    else:
        with writing(parsed.rows) as file:

            def write(outcome: Outcome) -> None:
                for row in outcome.rows():
                    file.write((json_library.dumps(row, allow_nan=False) + "\n").encode())

            result = carry_out(made, tell, write)
    if parsed.json is not None:
        write_json(parsed.json, result)
    show(result, out)
    return 0


def _refuse_typo(first: str) -> None:
    """``eval predictons FILE`` is not a model by that name."""
    near = did_you_mean(first, ("predictions",))
    if near and not Path(first).exists():
        from grpo_dual.errors import ConfigError

        raise ConfigError(f"there is no command `eval {first}`{near}")
