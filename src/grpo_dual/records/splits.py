"""What is trained on and what is held out for the yardstick, never the same item in both."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from grpo_dual.errors import DataError
from grpo_dual.records.apportion import largest_remainder, own_rng, shares_of
from grpo_dual.types import BbqRecord, HaluEvalRecord

Units = Literal["templates", "people"]
"""What is held out whole: question templates, or pairs of people within each template."""


def split_bbq(
    records: Iterable[BbqRecord], *, eval_templates: float, seed: int, by: Units = "templates"
) -> tuple[list[BbqRecord], list[BbqRecord]]:
    """Holds out whole units, so that the yardstick asks what was never trained.

    By ``templates``, (category, question_index): in each category the share ``eval_templates`` of
    them is held out, rounded to whole templates, at least one, and never the last one left for
    training: a category with a single template is trained on and not held out. Proper-name
    templates (``names``) are divided apart from the others, as the paper reports them apart.

    By ``people``: in each template the same share of the pairs of people that its rows ask about,
    by their option texts. Templates are all trained on, an easier question.

    Which units depends on category (and template) and seed only, not on the order of the rows or on
    the other categories.

    Returns:
        (train, held out), each in the order of ``records``.

    Raises:
        DataError: ``eval_templates`` is not between 0 and 1.
    """
    if not 0 <= eval_templates < 1:
        raise DataError(f"eval_templates is {eval_templates}; it must be from 0 to below 1.")
    rows = list(records)
    units: dict[tuple[str, ...], set[str]] = defaultdict(set)
    places = _by_template(rows) if by == "templates" else _by_people(rows)
    for stratum, unit in places:
        units[stratum].add(unit)
    held: set[tuple[tuple[str, ...], str]] = set()
    for stratum, own in sorted(units.items()):
        ordered = sorted(own, key=lambda unit: (len(unit), unit))
        own_rng(seed, "split", *stratum).shuffle(ordered)
        wanted = max(1, round(len(ordered) * eval_templates)) if eval_templates else 0
        count = min(wanted, len(ordered) - 1)
        held.update((stratum, unit) for unit in ordered[:count])
    out = [place in held for place in places]
    return (
        [row for row, is_held in zip(rows, out, strict=True) if not is_held],
        [row for row, is_held in zip(rows, out, strict=True) if is_held],
    )


def _by_template(rows: Sequence[BbqRecord]) -> list[tuple[tuple[str, ...], str]]:
    """Of each row its stratum, whose units are divided together, and its unit."""
    with_names = {(row.subset, row.question_index) for row in rows if row.names}
    return [
        (
            (row.subset, str((row.subset, row.question_index) in with_names)),
            row.question_index,
        )
        for row in rows
    ]


def _by_people(rows: Sequence[BbqRecord]) -> list[tuple[tuple[str, ...], str]]:
    """As ``_by_template``; a pair is the same whoever is named first."""
    return [
        (
            (row.subset, row.question_index),
            " / ".join(
                sorted(
                    " ".join(option.casefold().split())
                    for index, option in enumerate(row.options)
                    if index != row.unknown
                )
            ),
        )
        for row in rows
    ]


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
