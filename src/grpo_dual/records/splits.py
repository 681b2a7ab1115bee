"""What is trained on and what is held out for the yardstick, never the same item in both."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from grpo_dual.errors import DataError
from grpo_dual.records.apportion import largest_remainder, own_rng, shares_of
from grpo_dual.types import BbqRecord, HaluEvalRecord


def split_bbq(
    records: Iterable[BbqRecord], *, eval_templates: float, seed: int
) -> tuple[list[BbqRecord], list[BbqRecord]]:
    """Holds out whole question templates, so that the yardstick asks what was never trained.

    A template is (category, question_index). In each category the share ``eval_templates`` of them
    is held out, rounded to whole templates, at least one, and never the last one left for training:
    a category with a single template is trained on and not held out. Which templates depends on
    category and seed only, not on the order of the rows or on the other categories. Proper-name
    templates (``names``) are divided apart from the others, as the paper reports them apart.

    Returns:
        (train, held out), each in the order of ``records``.

    Raises:
        DataError: ``eval_templates`` is not between 0 and 1.
    """
    if not 0 <= eval_templates < 1:
        raise DataError(f"eval_templates is {eval_templates}; it must be from 0 to below 1.")
    rows = list(records)
    with_names = {(row.subset, row.question_index) for row in rows if row.names}
    templates: dict[tuple[str, bool], set[str]] = defaultdict(set)
    for row in rows:
        key = (row.subset, row.question_index)
        templates[row.subset, key in with_names].add(row.question_index)
    held: set[tuple[str, str]] = set()
    for (subset, names), indices in sorted(templates.items()):
        ordered = sorted(indices, key=lambda index: (len(index), index))
        own_rng(seed, "split", subset, names).shuffle(ordered)
        wanted = max(1, round(len(ordered) * eval_templates)) if eval_templates else 0
        count = min(wanted, len(ordered) - 1)
        held.update((subset, index) for index in ordered[:count])
    train = [row for row in rows if (row.subset, row.question_index) not in held]
    return train, [row for row in rows if (row.subset, row.question_index) in held]


def split_halueval(
    records: Iterable[HaluEvalRecord], *, eval_samples: int, seed: int
) -> tuple[list[HaluEvalRecord], list[HaluEvalRecord]]:
    """Holds out ``eval_samples`` rows, each subset in proportion to its size.

    Rows with the same context and query stay together, whatever subset or task form they have: the
    two sides of a pair are never divided. When such a group does not fit into what a subset still
    may hold out, it is passed over, so that fewer rows than asked may be held out, never more.

    Returns:
        (train, held out), each in the order of ``records``.

    Raises:
        DataError: ``eval_samples`` is negative, or nothing would be left to train on.
    """
    rows = list(records)
    if eval_samples < 0 or (eval_samples >= len(rows) and eval_samples):
        raise DataError(
            f"eval_samples is {eval_samples}, but there are {len(rows)} HaluEval rows in all and "
            "some must be left for training; lower data.eval_samples or add rows."
        )
    groups: dict[tuple[str, str], list[HaluEvalRecord]] = defaultdict(list)
    for row in rows:
        groups[row.context, row.query].append(row)
    by_subset: dict[str, list[Sequence[HaluEvalRecord]]] = defaultdict(list)
    for group in groups.values():
        first = min(group, key=lambda row: row.record_id)
        by_subset[first.subset].append(group)
    sizes = {name: sum(map(len, by_subset[name])) for name in sorted(by_subset)}
    quota = largest_remainder(eval_samples, shares_of(sizes)) if eval_samples else {}
    held: set[str] = set()
    for subset, wanted in quota.items():
        ordered = sorted(by_subset[subset], key=lambda group: min(r.record_id for r in group))
        own_rng(seed, "split", subset).shuffle(ordered)
        for group in ordered:
            if len(group) <= wanted:
                held.update(row.record_id for row in group)
                wanted -= len(group)
    train = [row for row in rows if row.record_id not in held]
    return train, [row for row in rows if row.record_id in held]
