"""A result file of an evaluation outside the run, as tables of a model card."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import cast

from grpo_dual.errors import DataError
from grpo_dual.report.eval_file import MEASURES, Tree, at
from grpo_dual.report.held_out import Estimate

_PART = {"bbq": "BBQ: ", "halueval": "HaluEval: ", "retention": "Retention: "}
MAX_NUMBERS = 60
"""Numbers of a file of another form that are shown; the rest stays in the file."""


@dataclass(frozen=True, slots=True)
class Results:
    """A result file."""

    name: str
    """Of the file."""
    content: Tree
    adapter: str
    """SHA-256 of the exported adapter: tells which result is its own."""
    checkpoint: str
    """RUN@STEP."""


@dataclass(frozen=True, slots=True)
class Section:
    """What is said of a result file, and its table."""

    words: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    more: str = ""


def section(found: Results) -> Section:
    """The part of a card that a file becomes.

    Raises:
        DataError: It is of `eval`, but of other policies than the exported one.
    """
    targets = found.content.get("targets")
    if isinstance(targets, list) and targets:
        return _of_eval(found, [_tree(t) for t in cast("list[object]", targets)])
    leaves = list(_leaves(found.content))
    rows = [(".".join(path), text) for path, text in leaves[:MAX_NUMBERS]]
    over = len(leaves) - MAX_NUMBERS
    more = f"{over} more numbers are in that file." if over > 0 else ""
    return Section("By an evaluation outside the run", ("what", "value"), rows, more)


def _of_eval(found: Results, targets: Sequence[Tree]) -> Section:
    own = [_tree(target.get("adapter")).get("sha256") == found.adapter for target in targets]
    names = [PurePath(str(target.get("name"))).name for target in targets]  # folders are private
    if not any(own):
        raise DataError(
            f"{found.name}: holds no result of {found.checkpoint} (it is of {', '.join(names)}); "
            f"evaluate it: grpo-dual eval RUN@STEP --json {found.name}"
        )
    header = [f"{name} (this one)" if mine else name for name, mine in zip(names, own, strict=True)]
    judges = (
        "HaluEval: answers judged by",
        [at(t, ("halueval", "open", "judged_by")) for t in targets],
    )
    rows = [
        (_PART.get(m.path[0], "") + m.words, *(_cell(m.score(t)) for t in targets))
        for m in MEASURES
    ]
    rows.append((judges[0], *("-" if j is None else str(j) for j in judges[1])))
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    counts = {
        what: at(targets[own.index(True)], path)
        for what, path in (
            ("BBQ items", ("bbq", "n")),
            ("answers", ("halueval", "open", "n", "grounded")),
        )
    }
    told = ", ".join(f"{n} {what}" for what, n in counts.items() if isinstance(n, int) and n)
    how = _tree(found.content.get("provenance"))
    decode, bootstrap = _tree(how.get("decode")), _tree(how.get("bootstrap"))
    words = (
        f"By `grpo-dual eval` ({told or 'see the file'}; split {how.get('split')}, decode "
        f"{decode.get('mode')}, seed {how.get('seed')}, {str(how.get('date'))[:10]}). Brackets are "
        f"95 % intervals by {bootstrap.get('draws')} bootstrap draws of templates and passages. "
        "BBQ is the mean over categories, an unparsed reply counts as wrong"
    )
    return Section(words, ("", *header), rows)


def _cell(found: Estimate) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:z.4f}"
    return f"{found.value:z.4f} [{found.low:z.2f}, {found.high:z.2f}]"


def _tree(value: object) -> Tree:
    return cast("Tree", value) if isinstance(value, Mapping) else {}


def _leaves(content: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The numbers and words of a file in its order; intervals as pairs."""
    for key, value in content.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(cast("Tree", value), here)
        elif isinstance(value, bool | int | str) or value is None:
            yield here, "-" if value is None else str(value)
        elif isinstance(value, float):
            yield here, f"{value:.4f}"
        elif isinstance(value, list):
            numbers = cast("list[object]", value)
            if len(numbers) == 2 and all(isinstance(n, int | float) for n in numbers):
                yield here, "[" + ", ".join(f"{float(str(n)):.4f}" for n in numbers) + "]"
