"""``grpo-dual data audit``: what a prompt limit costs, over all rows, at several limits."""

import argparse
import json as json_library
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_dual.cli.parsing import Parser, command

if TYPE_CHECKING:
    from grpo_dual.train.audit import Audit, AuditRow


def parser() -> Parser:
    """The arguments of the command."""
    made = command("data audit", "Count what prompt limits cut off, over all rows.", run)
    made.usage = (
        "grpo-dual data audit CONFIG [--KEY VALUE ...] [--limits N,N,...] [--by-subset] [--json]"
    )
    made.add_argument("config", type=Path, metavar="CONFIG", help="as for `grpo-dual train`")
    made.add_argument(
        "--limits",
        type=_limits,
        metavar="N,N,...",
        help="prompt limits in tokens (default: the configuration's rollout.max_prompt_tokens)",
    )
    made.add_argument("--by-subset", action="store_true", help="one line for each BBQ category too")
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    made.set_defaults(overrides=[])
    return made


def _limits(text: str) -> tuple[int, ...]:
    numbers = text.split(",")
    if not all(n.isascii() and n.isdecimal() and 0 < int(n) < 10**7 for n in numbers):
        raise argparse.ArgumentTypeError(f"must be whole numbers with commas, not `{text}`")
    return tuple(sorted({int(n) for n in numbers}))


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from grpo_dual.config.load import load_config

    config = load_config(parsed.config, parsed.overrides)
    from grpo_dual.train.audit import audit  # transformers: only once the file is right

    limits = parsed.limits or (config.rollout.max_prompt_tokens,)
    found = audit(config, limits, by_subset=parsed.by_subset or parsed.json)
    if parsed.json:
        print(json_library.dumps(asdict(found), indent=2))
    else:
        _print(found)
    return 0


def _print(found: "Audit") -> None:
    from grpo_dual.cli.output import console, table

    out = console()
    columns = "limit,objective,items,rows,over,shortened,left out,answer cut,answer gone,longest"
    made = table("prompts", columns.split(","), ("objective", "items"), out)
    for row in found.prompts:
        made.add_row(str(row.limit), row.objective, row.items, *_cells(row))
    out.print(made)
    columns = f"objective,items,replies,median,95 %,longest,over {found.max_new_tokens}"
    made = table("right replies", columns.split(","), ("objective", "items"), out)
    for reply in found.replies:
        numbers = (reply.rows, reply.median, reply.p95, reply.longest, reply.over)
        made.add_row(reply.objective, reply.items, *map(str, numbers))
    out.print(made)
    for row in found.prompts:
        if row.example is not None:
            said = f"limit {row.limit}, {row.objective} {row.items}: {row.example}"
            out.print(said, markup=False, highlight=False, soft_wrap=True)
    for note in _notes(found):
        out.print(note, markup=False, highlight=False, soft_wrap=True)


def _cells(row: "AuditRow") -> Sequence[str]:
    t = row.tally
    numbers = (t.rows, t.over, t.shortened, t.left_out, t.answer_cut, t.answer_gone, t.longest)
    return [str(number) for number in numbers]


def _notes(found: "Audit") -> Sequence[str]:
    return (
        f"tokens of {found.model}'s tokenizer, template and generation prompt included; another "
        "tokenizer gives other counts",
        "left out: over the limit with nothing that may be shortened (a BBQ context never is)",
        "answer cut, disambig: the answer sentence, by which a disambiguated context is longer "
        "than its ambiguous twin, would be cut if the context were; gone: no word of it would be "
        "left",
        "answer cut, answer and detect: words of the right text that stood in the document are "
        "not in what is left of it; gone: none of them is",
    )
