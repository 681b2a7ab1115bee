"""Records arranged in a tree of shares: what is drawn, and how much of it.

BBQ is a tree of condition, polarity and category; HaluEval one of subset, task form and label.
``take`` picks from a tree once, without repeating; ``Sampler`` (mixture.py) draws on and on.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from grpo_dual.config.objectives import HaluEvalData
from grpo_dual.errors import DataError
from grpo_dual.records.apportion import largest_remainder, own_rng, shares_of
from grpo_dual.records.halueval import as_answer, as_detection
from grpo_dual.records.length import length_matched
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Record, Task

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Leaf(Generic[R]):
    """Records that are interchangeable for the mixture, in the order of their ids."""

    records: tuple[R, ...]


@dataclass(frozen=True, slots=True)
class Branch(Generic[R]):
    """Kinds and the share of each; shares sum to 1, a child without records is not there."""

    shares: Mapping[str, Fraction]
    children: Mapping[str, "Branch[R] | Leaf[R]"]


Node = Branch[R] | Leaf[R]


@dataclass(frozen=True, slots=True)
class Taken(Generic[R]):
    """A selection and, in words, every way in which it is not what was asked."""

    records: list[R]
    notes: tuple[str, ...]


def leaf(records: Iterable[R]) -> Leaf[R]:
    """A leaf, independent of the order of its rows."""
    return Leaf(tuple(sorted(records, key=lambda record: record.record_id)))


def branch(weights: Mapping[str, float], children: Mapping[str, Node[R]]) -> Branch[R]:
    """A branch with the shares of those children that have a weight and records."""
    alive = {
        name: weight for name, weight in weights.items() if weight > 0 and size(children[name])
    }
    if not alive:
        return Branch({}, {})
    return Branch(shares_of(alive), {name: children[name] for name in alive})


def size(node: Node[R]) -> int:
    """Records in a tree."""
    if isinstance(node, Leaf):
        return len(node.records)
    return sum(size(child) for child in node.children.values())


def leaves(node: Node[R], path: str = "") -> Iterator[tuple[str, Leaf[R]]]:
    """Every leaf with its path, e.g. ``ambig/neg/Age``."""
    if isinstance(node, Leaf):
        yield path, node
        return
    for name, child in node.children.items():
        yield from leaves(child, f"{path}/{name}" if path else name)


def bbq_tree(records: Iterable[BbqRecord], *, ambiguous_fraction: float) -> Node[BbqRecord]:
    """BBQ by condition (the given share is ambiguous), then polarity, then category, both equal."""
    by_condition = _grouped(records, lambda row: row.condition.value)
    return branch(
        {
            Condition.AMBIGUOUS.value: ambiguous_fraction,
            Condition.DISAMBIGUATED.value: 1 - ambiguous_fraction,
        },
        {
            condition.value: _equal(
                by_condition.get(condition.value, []),
                lambda row: row.polarity.value,
                lambda rows: _equal(rows, lambda row: row.subset, leaf),
            )
            for condition in Condition
        },
    )


def bbq_gaps(tree: Node[BbqRecord], ambiguous_fraction: float) -> tuple[str, ...]:
    """What a BBQ tree should have and has not, in words: a condition, or a category's cell."""
    paths = {path for path, _ in leaves(tree)}
    categories = sorted({path.split("/")[-1] for path in paths})
    notes: list[str] = []
    for condition, share in (("ambig", ambiguous_fraction), ("disambig", 1 - ambiguous_fraction)):
        if share and not any(path.startswith(condition + "/") for path in paths):
            notes.append(f"BBQ: there are no {condition} rows; all are of the other condition.")
            continue
        for polarity in ("neg", "nonneg") if share else ():
            absent = [c for c in categories if f"{condition}/{polarity}/{c}" not in paths]
            if absent:
                notes.append(
                    f"BBQ: there are no {condition} {polarity} rows of {', '.join(absent)}; other "
                    "rows of that condition stand in for them."
                )
    return tuple(notes)


def halueval_rows_tree(
    records: Iterable[HaluEvalRecord], *, subsets: Mapping[str, float]
) -> Node[HaluEvalRecord]:
    """HaluEval by subset weight; detection rows of a subset half hallucinated, half not."""
    by_subset = _grouped(records, lambda row: row.subset)
    return branch(subsets, {name: label_balanced(by_subset.get(name, [])) for name in subsets})


def halueval_tree(
    records: Iterable[HaluEvalRecord], data: HaluEvalData, *, seed: int
) -> tuple[Node[HaluEvalRecord], tuple[str, ...]]:
    """HaluEval as it is drawn in training: subset weight, then task form, then label.

    A pair is asked as an answer, or with share ``detect_fraction`` as a detection of either side;
    ``general`` is asked as ``general_as`` says. Detection is half yes and half no, and with
    ``length_matched`` of the same lengths. A subset whose detection rows are all of one label is
    not asked as detection, since always saying yes (or no) would win.

    Returns:
        The tree, and in words what could not be given.
    """
    by_subset = _grouped(records, lambda row: row.subset)
    notes: list[str] = []
    children: dict[str, Node[HaluEvalRecord]] = {}
    for name, weight in data.subsets.items():
        rows = by_subset.get(name, [])
        share = data.detect_fraction
        if name == "general":
            share = float(data.general_as == "detect")
            if not share:
                rows = [as_answer(row) if row.task is Task.DETECT else row for row in rows]
        children[name] = _forms(rows, share, data.length_matched, seed, notes if weight else [])
        if weight and not size(children[name]):
            notes.append(
                f"HaluEval: there are no rows of {name} to draw; its weight goes to the other "
                "subsets."
            )
    return branch(data.subsets, children), tuple(notes)


def _forms(
    rows: Sequence[HaluEvalRecord], detect: float, matched: bool, seed: int, notes: list[str]
) -> Node[HaluEvalRecord]:
    """One subset: its answer form and, with share ``detect``, its detection form."""
    answers = [row for row in rows if row.task is Task.ANSWER]
    shown: list[HaluEvalRecord] = []
    if detect > 0:
        shown = [row for row in rows if row.task is Task.DETECT]
        shown += [as_detection(row, hallucinated=True) for row in answers if row.rejected]
        shown += [as_detection(row, hallucinated=False) for row in answers if row.accepted]
    yes = [row for row in shown if row.hallucinated]
    no = [row for row in shown if not row.hallucinated]
    if matched and shown:
        before = len(shown)
        yes, no = length_matched(shown, seed=seed)
        notes.append(
            f"HaluEval: {len(yes) + len(no)} of {before} detection items of {rows[0].subset} are "
            "left after matching lengths."
        )
    if shown and not (yes and no):
        notes.append(
            f"HaluEval: {rows[0].subset} has detection items of one label only, or none; it is not "
            "asked as detection."
        )
        yes = no = []
    return branch(
        {"answer": 1 - detect, "detect": detect},
        {
            "answer": leaf(answers),
            "detect": branch({"no": 1.0, "yes": 1.0}, {"no": leaf(no), "yes": leaf(yes)}),
        },
    )


def label_balanced(rows: Sequence[HaluEvalRecord]) -> Node[HaluEvalRecord]:
    """Detection rows as an equal branch of yes (hallucinated) and no; other rows as a leaf."""
    if not rows or any(row.task is not Task.DETECT for row in rows):
        return leaf(rows)
    return _equal(rows, lambda row: "yes" if row.hallucinated else "no", leaf)


def take_bbq(
    records: Iterable[BbqRecord], n: int, *, ambiguous_fraction: float, seed: int
) -> Taken[BbqRecord]:
    """Takes ``n`` records: exactly the ambiguous fraction, polarities and categories balanced.

    Counts follow the largest remainder at each level, so that no count is off by more than
    rounding needs. Where rows are too few, other rows of the nearest kind stand in for them (the
    condition is kept longest, then the polarity) and a note says so.

    Raises:
        DataError: there are no records, or ``n`` is below 1.
    """
    tree = bbq_tree(records, ambiguous_fraction=ambiguous_fraction)
    taken = take(tree, n, seed=seed, what="BBQ")
    return Taken(taken.records, (*bbq_gaps(tree, ambiguous_fraction), *taken.notes))


def take_halueval(
    records: Iterable[HaluEvalRecord], n: int, *, subsets: Mapping[str, float], seed: int
) -> Taken[HaluEvalRecord]:
    """Takes ``n`` records by subset weight, ``general`` half hallucinated and half not.

    Raises:
        DataError: there are no records of a subset with weight, or ``n`` is below 1.
    """
    return take(halueval_rows_tree(records, subsets=subsets), n, seed=seed, what="HaluEval")


def take(tree: Node[R], n: int, *, seed: int, what: str) -> Taken[R]:
    """Takes ``n`` different records from a tree, exact at every level.

    Args:
        tree: what to take from.
        n: how many.
        seed: which of the interchangeable records are taken.
        what: named in notes and errors.

    Raises:
        DataError: there are no records, or ``n`` is below 1.
    """
    if n < 1 or not size(tree):
        raise DataError(f"{what}: cannot take {n} of {size(tree)} records; check data.path.")
    notes: list[str] = []
    credits: dict[int, dict[str, Fraction]] = defaultdict(dict)
    picked = _take(tree, n, (), seed, credits, notes, what)
    if len(picked) < n:
        notes.insert(0, f"{what}: {n} records were asked for, but only {len(picked)} fit; all of")
        notes[0] += " those are taken. Lower data.train_samples or add rows."
    return Taken(picked, tuple(notes))


def _take(
    node: Node[R],
    n: int,
    path: tuple[str, ...],
    seed: int,
    credits: dict[int, dict[str, Fraction]],
    notes: list[str],
    what: str,
) -> list[R]:
    if isinstance(node, Leaf):
        rng = own_rng(seed, "take", *path)
        return rng.sample(node.records, min(n, len(node.records)))
    room = {name: size(child) for name, child in node.children.items()}
    ideal = largest_remainder(n, node.shares, credit=dict(credits[len(path)]))
    counts = largest_remainder(n, node.shares, room, credits[len(path)])
    short = [
        f"{name} has {room[name]} of the {ideal[name]} wanted"
        for name in counts
        if counts[name] == room[name] < ideal[name]
    ]
    if short and len(short) < len(counts):
        kind = "/".join((what, *path))
        notes.append(f"{kind}: {', '.join(short)}; the others give {_more(counts, ideal)} more.")
    return [
        record
        for name, child in node.children.items()
        for record in _take(child, counts[name], (*path, name), seed, credits, notes, what)
    ]


def _more(counts: Mapping[str, int], ideal: Mapping[str, int]) -> int:
    return sum(max(0, counts[name] - ideal[name]) for name in counts)


def _grouped(records: Iterable[R], key: Callable[[R], str]) -> dict[str, list[R]]:
    groups: dict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _equal(
    records: Iterable[R], key: Callable[[R], str], build: Callable[[list[R]], Node[R]]
) -> Branch[R]:
    """A branch with equal shares for every value of ``key``, in the order of the values."""
    groups = _grouped(records, key)
    names = sorted(groups)
    return branch(dict.fromkeys(names, 1.0), {name: build(groups[name]) for name in names})
