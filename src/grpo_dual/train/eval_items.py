"""What a policy is asked when it is evaluated: which split of which data, and how much of it."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from grpo_dual.config.objectives import (
    BbqData,
    FairnessConfig,
    HallucinationConfig,
    HaluEvalData,
    PluginConfig,
)
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import DataError
from grpo_dual.evaluation.run import Questions
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.bbq import CATEGORIES, category_files
from grpo_dual.records.halueval import SUBSETS, layout_files, layout_of
from grpo_dual.records.reader import first_row
from grpo_dual.records.strata import Taken, take_bbq, take_halueval
from grpo_dual.train.sources import asked_items, bbq_splits, bbq_yardstick, halueval_splits
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

Split = Literal["yardstick", "held-out", "all"]
"""``yardstick``: the held-out items that a run scores itself by; ``held-out``: all that it never
trained on; ``all``: the training items too."""

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Items:
    """What is asked for one objective."""

    questions: Questions
    source: str = "synthetic"
    """``data.path``."""
    files: tuple[Path, ...] = ()
    """All files that were read for it."""
    notes: tuple[str, ...] = ()
    """What differs from what was asked, in words."""


def eval_items(
    config: RunConfig, split: Split, only: Collection[str], *, limit: int | None, seed: int
) -> list[Items]:
    """The items of every objective of a configuration, in its order.

    Args:
        config: Its data, splits and ``train.seed`` say what is held out.
        split: Which part.
        only: The kinds of objectives that are asked: ``fairness``, ``hallucination``.
        limit: At most so many of each BBQ category (names apart) and HaluEval subset, drawn in
            equal parts of their kinds; None takes all.
        seed: Of that draw.

    Raises:
        DataError: Data are missing or wrong, or a split is empty.
    """
    found: list[Items] = []
    for name, objective in config.objectives.items():
        if isinstance(objective, PluginConfig):
            told = f"{name}: the data of a plug-in are its own; it is not evaluated here"
            found.append(Items(Questions(name), notes=(told,)))
        elif objective.kind not in only:
            continue
        elif isinstance(objective, FairnessConfig):
            found.append(_bbq(name, objective.data, split, config.train.seed, limit, seed))
        else:
            found.append(_halueval(name, objective.data, split, config.train.seed, limit, seed))
    if not any(own.questions.bbq or own.questions.halueval for own in found):
        raise DataError(
            f"there is nothing to ask: the configuration has no objective of kind "
            f"{' or '.join(sorted(only))} (its objectives: {', '.join(config.objectives)})"
        )
    return found


def objectives_of(
    data: Path,
) -> dict[str, FairnessConfig | HallucinationConfig | PluginConfig]:
    """Objectives that read the BBQ and HaluEval files below a path, otherwise by default.

    Args:
        data: A file, or a folder with files named as upstream names them, in it or below.

    Raises:
        DataError: Neither is there.
    """
    if not data.exists():
        raise DataError(f"{data}: no such file or folder; check --data")
    objectives: dict[str, FairnessConfig | HallucinationConfig | PluginConfig] = {}
    bbq, halueval = _held(data)
    if bbq:
        objectives["fairness"] = FairnessConfig(data=BbqData(path=str(data)))
    if halueval:
        weights = HaluEvalData().subsets
        subsets = {name: weights[name] for name in SUBSETS if name in halueval}
        made = HaluEvalData(path=str(data), subsets=subsets)
        objectives["hallucination"] = HallucinationConfig(data=made)
    if not objectives:
        raise DataError(
            f"{data}: holds no file of BBQ or HaluEval by upstream's names (Age.jsonl, "
            "qa_data.json and the like)"
        )
    return objectives


def _held(data: Path) -> tuple[bool, set[str]]:
    """Does a path hold BBQ, and which subsets of HaluEval?"""
    if not data.is_dir():
        if data.stem in CATEGORIES or "answer_info" in first_row(data).data:
            return True, set()
        return False, {layout_of(data).subset}
    names = layout_files(data)
    return bool(category_files(data)), {_HALUEVAL_FILES[n] for n in names if n in _HALUEVAL_FILES}


_HALUEVAL_FILES = {f"{name}_data": name for name in SUBSETS}


def _bbq(
    name: str, data: BbqData, split: Split, run_seed: int, limit: int | None, seed: int
) -> Items:
    bad = BadRows()
    train, held_out = bbq_splits(data, bad, run_seed)
    chosen: Sequence[BbqRecord] = held_out
    if split == "yardstick":
        chosen = bbq_yardstick(held_out, data, run_seed)
    elif split == "all":
        chosen = [*train, *held_out]
    _refuse_empty(name, chosen, split)
    notes = _notes(name, bad)
    if limit is not None:
        chosen, told = _some(
            chosen,
            lambda r: f"{r.subset} (names)" if r.names else r.subset,
            lambda rows, n: take_bbq(rows, n, ambiguous_fraction=0.5, seed=seed),
            f"{limit} of each category at most, drawn by strata with seed {seed}",
            limit,
        )
        notes += [f"{name}: {note}" for note in told]
    return Items(
        Questions(name, bbq=tuple(chosen)),
        source=data.path,
        files=_files(data.path, [*train, *held_out]),
        notes=tuple(notes),
    )


def _halueval(
    name: str, data: HaluEvalData, split: Split, run_seed: int, limit: int | None, seed: int
) -> Items:
    bad = BadRows()
    train, held_out = halueval_splits(data, bad, run_seed)
    chosen: Sequence[HaluEvalRecord] = [*train, *held_out] if split == "all" else held_out
    _refuse_empty(name, chosen, split)
    notes = _notes(name, bad)
    if limit is not None:
        chosen, told = _some(
            chosen,
            lambda r: r.subset,
            lambda rows, n: take_halueval(rows, n, subsets={rows[0].subset: 1.0}, seed=seed),
            f"{limit} of each subset at most, drawn by strata with seed {seed}",
            limit,
        )
        notes += [f"{name}: {note}" for note in told]
    return Items(
        Questions(name, halueval=tuple(asked_items(chosen, data)), rows=tuple(chosen)),
        source=data.path,
        files=_files(data.path, [*train, *held_out]),
        notes=tuple(notes),
    )


def _refuse_empty(name: str, chosen: Sequence[Record], split: Split) -> None:
    if not chosen:
        raise DataError(
            f"objectives.{name}: there are no {split} items (is "
            f"objectives.{name}.data.eval_samples 0?); choose another --split, or give items that "
            "it was not trained on with --data"
        )


def _notes(name: str, bad: BadRows) -> list[str]:
    return [f"{name}: {bad.summary()}"] if bad.count else []


def _some(
    records: Sequence[R],
    kind: Callable[[R], str],
    take: Callable[[Sequence[R], int], Taken[R]],
    words: str,
    limit: int,
) -> tuple[list[R], list[str]]:
    """At most ``limit`` records of each kind, in their order; and what there is to say of it."""
    groups: dict[str, list[R]] = defaultdict(list)
    for record in records:
        groups[kind(record)].append(record)
    drawn = {name: take(rows, min(limit, len(rows))) for name, rows in groups.items()}
    taken = {record.record_id for own in drawn.values() for record in own.records}
    kept = [record for record in records if record.record_id in taken]
    notes = [f"{name}: {note}" for name, own in drawn.items() for note in own.notes]
    return kept, [f"{len(kept)} of {len(records)} items, {words}", *notes]


def _files(source: str, records: Sequence[Record]) -> tuple[Path, ...]:
    """The files that records come from; the synthetic world has none."""
    if source == "synthetic":
        return ()
    named = {record.origin.rpartition(":")[0] for record in records}
    return tuple(Path(name) for name in sorted(named))
