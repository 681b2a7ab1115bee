"""Configuration -> records: those to train on, those held out, and all that there are."""

from collections.abc import Sequence
from pathlib import Path

from grpo_dual.config.objectives import (
    BbqData,
    FairnessConfig,
    HallucinationConfig,
    HaluEvalData,
    ObjectiveConfig,
)
from grpo_dual.errors import DataError
from grpo_dual.records import synthetic
from grpo_dual.records.bad_rows import BadRows
from grpo_dual.records.bbq import iter_bbq
from grpo_dual.records.download import cached
from grpo_dual.records.halueval import (
    SUBSETS,
    GeneralFilter,
    as_answer,
    as_detection,
    iter_halueval,
)
from grpo_dual.records.splits import split_bbq, split_halueval
from grpo_dual.records.strata import take_bbq
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record, Task

SYNTHETIC_TRAIN = 2048
"""Records of each objective that the embedded world makes for training unless told otherwise."""


def bbq_splits(data: BbqData, bad: BadRows, seed: int) -> tuple[list[BbqRecord], list[BbqRecord]]:
    """BBQ rows to train on, and those that are held out.

    Args:
        data: Where they are, and what is held out.
        bad: Takes malformed rows.
        seed: The run's; it makes the embedded world's rows and divides no file.

    Raises:
        DataError: A data file is wrong, or nothing is left to train on.
    """
    if data.path == "synthetic":
        blocks = -(-(data.train_samples or SYNTHETIC_TRAIN) // 4)
        train = list(synthetic.bbq_records("train", blocks, seed))
        return train, list(synthetic.bbq_records("test", -(-data.eval_samples // 4), seed))
    path = cached("bbq") if data.path == "cache" else Path(data.path)
    records = list(
        iter_bbq(path, categories=data.categories, on_bad_row=data.on_bad_row, bad_rows=bad)
    )
    train, held_out = split_bbq(
        records, eval_templates=data.eval_templates, seed=data.split_seed, by=data.split_by
    )
    if not train:
        raise DataError(f"{path}: no BBQ records are left to train on")
    return train, held_out


def halueval_splits(
    data: HaluEvalData, bad: BadRows, seed: int
) -> tuple[list[HaluEvalRecord], list[HaluEvalRecord]]:
    """HaluEval rows to train on, and those held out.

    Args:
        data: Where they are, and what is held out.
        bad: Takes malformed rows.
        seed: The run's; it makes the embedded world's rows and divides no file.

    Raises:
        DataError: A data file is wrong.
    """
    wanted = [s for s in SUBSETS if data.subsets.get(s, 0.0) > 0]
    if data.path == "synthetic":
        total = sum(data.subsets[s] for s in wanted)

        def world(split: synthetic.Split, count: int) -> list[HaluEvalRecord]:
            return [
                record
                for s in wanted
                for record in synthetic.halueval_records(
                    split, s, round(count * data.subsets[s] / total), seed
                )
            ]

        return world("train", data.train_samples or SYNTHETIC_TRAIN), world(
            "test", data.eval_samples
        )
    path = cached("halueval") if data.path == "cache" else Path(data.path)
    records = list(
        iter_halueval(
            path,
            subsets=wanted,
            general_filter=data.general_filter,
            on_bad_row=data.on_bad_row,
            bad_rows=bad,
        )
    )
    if data.general_as == "answer":
        records = [as_answer(r) if r.subset == "general" else r for r in records]
    return split_halueval(records, eval_samples=data.eval_samples, seed=data.split_seed)


def bbq_yardstick(held_out: Sequence[BbqRecord], data: BbqData, seed: int) -> tuple[BbqRecord, ...]:
    """The held-out BBQ rows that a run scores itself by: ``eval_samples``, half of them ambiguous.

    Args:
        held_out: From `bbq_splits`.
        data: How many, and which of them (``split_seed``).
        seed: The run's; it draws from the embedded world's rows only.

    Raises:
        DataError: As `take_bbq`.
    """
    if not (data.eval_samples and held_out):
        return ()
    count = min(data.eval_samples, len(held_out))
    own = seed if data.path == "synthetic" else data.split_seed
    return tuple(take_bbq(held_out, count, ambiguous_fraction=0.5, seed=own).records)


def all_records(config: ObjectiveConfig, *, seed: int) -> list[Record]:
    """Every row of an objective's data, held-out ones too, in the forms that training asks for.

    Args:
        config: Of one of the two objectives that are shipped; a plug-in's data are its own.
        seed: The run's.

    Raises:
        DataError: A data file is wrong.
    """
    if isinstance(config, FairnessConfig):
        train, held_out = bbq_splits(config.data, BadRows(), seed)
        return [*train, *held_out]
    if isinstance(config, HallucinationConfig):
        rows, others = halueval_splits(config.data, BadRows(), seed)
        return [*asked_items([*rows, *others], config.data)]
    return []


def general_noise(data: HaluEvalData) -> tuple[int, int]:
    """Hallucinated rows of ``general``, and how many of them ``whole-words`` would drop.

    Raises:
        DataError: A data file is wrong.
    """
    if data.path == "synthetic":
        return 0, 0
    path = cached("halueval") if data.path == "cache" else Path(data.path)

    def hallucinated(mode: GeneralFilter) -> int:
        rows = iter_halueval(
            path,
            subsets=("general",),
            general_filter=mode,
            on_bad_row=data.on_bad_row,
            bad_rows=BadRows(),
        )
        return sum(row.hallucinated is True for row in rows)

    total = hallucinated("off")
    return total, total - hallucinated("whole-words")


def asked_items(rows: Sequence[HaluEvalRecord], data: HaluEvalData) -> list[HaluEvalRecord]:
    """Rows in the forms that training asks for; of detection, both sides of every pair."""
    items: list[HaluEvalRecord] = []
    for record in rows:
        if record.task is Task.DETECT or data.detect_fraction < 1:
            items.append(record)
        if record.task is Task.ANSWER and data.detect_fraction > 0 and record.context:
            items += [as_detection(record, hallucinated=h) for h in (False, True)]
    return items
