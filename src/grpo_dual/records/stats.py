"""What is in the data: counts per source, subset, condition, polarity and label.

Counted are the records a run would read from the same path, so the numbers are those that train.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grpo_dual.errors import DataError
from grpo_dual.records import bbq, halueval
from grpo_dual.records.bad_rows import BadRows, OnBadRow
from grpo_dual.records.bbq_metadata import BbqMetadata
from grpo_dual.records.length import length_auroc
from grpo_dual.records.reader import first_row
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity

_DATA_SUFFIXES = frozenset({".jsonl", ".json", ".csv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BbqCount:
    """One category of one file."""

    file: str
    category: str
    rows: int
    upstream_rows: int
    """Rows of this category in upstream's release."""
    ambiguous: int
    disambiguated: int
    negative: int
    nonnegative: int
    labels: tuple[int, int, int]
    """Rows whose right option is the first, second, third."""
    unknown_positions: tuple[int, int, int]
    """Rows whose unknown option is the first, second, third."""
    resolved: int
    """Rows whose bias-consistent option is known."""
    unresolved: int
    names: int
    """Proper-name items."""
    templates: int
    """Distinct ``question_index``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBaseline:
    """What the length of a text, in characters, gives away about it."""

    shorter_wins: float | None
    """Pairs: how often the right side is the shorter one; None for one-sided rows."""
    ties: float | None
    """Pairs: how often both sides are equally long."""
    auroc: float | None
    """Of "longer means hallucinated" over single texts; None when only one verdict occurs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaluEvalCount:
    """One HaluEval file."""

    file: str
    kind: str
    """Upstream's name of the file, e.g. ``qa_data``."""
    subset: str
    rows: int
    upstream_rows: int | None
    """Rows of upstream's file; None for the one-sided samples."""
    hallucinated: int
    """Texts labelled as hallucinated, one per pair."""
    right: int
    kept: dict[str, int] | None
    """``general`` only: rows that each filter keeps."""
    kept_hallucinated: dict[str, int] | None
    """``general`` only: hallucinated rows that each filter keeps."""
    length: LengthBaseline


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStats:
    """Everything found under one path."""

    path: str
    bbq: tuple[BbqCount, ...]
    halueval: tuple[HaluEvalCount, ...]
    metadata: tuple[str, ...]
    """Files of upstream's metadata that were used."""
    not_read: tuple[str, ...]
    """Files of data formats under the path that are not read as rows."""
    bad_rows: BadRows = field(default_factory=BadRows)


def survey(path: Path, *, on_bad_row: OnBadRow = "error") -> DataStats:
    """Count all BBQ and HaluEval rows of a file, or of a folder and its subfolders.

    Args:
        path: A file of either kind, or a folder.
        on_bad_row: Stop at a malformed row, or list it in the result.

    Returns:
        The counts, files in the order in which a run reads them.

    Raises:
        DataError: There are no rows of either kind, or what reading them raises.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path, or fetch the data first")
    bbq_files, halueval_files = _found(path)
    if not bbq_files and not halueval_files:
        raise DataError(
            f"{path}: no BBQ file (named after a category, e.g. Age.jsonl) and no HaluEval file "
            f"({', '.join(layout.name for layout in halueval.LAYOUTS)}) in this folder"
        )
    bad = BadRows()
    counts: list[BbqCount] = []
    metadata: list[Path] = []
    if bbq_files:
        counts = count_bbq(bbq.iter_bbq(path, on_bad_row=on_bad_row, bad_rows=bad))
        metadata = BbqMetadata.beside(path).files
    halueval_counts = [_count_file(file, on_bad_row, bad) for file in halueval_files]
    read = {*bbq_files, *halueval_files, *metadata}
    return DataStats(
        path=str(path),
        bbq=tuple(counts),
        halueval=tuple(halueval_counts),
        metadata=tuple(map(str, metadata)),
        not_read=tuple(str(file) for file in _data_files(path) if file not in read),
        bad_rows=bad,
    )


def count_bbq(records: Iterable[BbqRecord]) -> list[BbqCount]:
    """Count BBQ records by file and category, in order of appearance.

    Args:
        records: Any; consumed as a stream.

    Returns:
        One count per file and category.
    """
    tallies: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    templates: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        key = (_file_of(record.origin), record.subset)
        templates[key].add(record.question_index)
        tallies[key].update(
            (
                "rows",
                f"condition {record.condition}",
                f"polarity {record.polarity}",
                f"label {record.label}",
                f"unknown {record.unknown}",
                "unresolved" if record.biased is None else "resolved",
                "name" if record.names else "no name",
            )
        )
    return [
        BbqCount(
            file=file,
            category=category,
            rows=tally["rows"],
            upstream_rows=bbq.UPSTREAM_ROWS[category],
            ambiguous=tally[f"condition {Condition.AMBIGUOUS}"],
            disambiguated=tally[f"condition {Condition.DISAMBIGUATED}"],
            negative=tally[f"polarity {Polarity.NEGATIVE}"],
            nonnegative=tally[f"polarity {Polarity.NON_NEGATIVE}"],
            labels=(tally["label 0"], tally["label 1"], tally["label 2"]),
            unknown_positions=(tally["unknown 0"], tally["unknown 1"], tally["unknown 2"]),
            resolved=tally["resolved"],
            unresolved=tally["unresolved"],
            names=tally["name"],
            templates=len(templates[file, category]),
        )
        for (file, category), tally in tallies.items()
    ]


def length_baseline(records: Iterable[HaluEvalRecord]) -> LengthBaseline:
    """How far one gets by looking at lengths only.

    Args:
        records: Pairs, detection records or both; consumed as a stream.

    Returns:
        Pairwise win rate and ties of "pick the shorter" over the pairs, and the AUROC of "longer
        means hallucinated" over all texts, ties counting half.
    """
    hallucinated: list[int] = []
    right: list[int] = []
    pairs = wins = ties = 0
    for record in records:
        if record.shown is not None:
            (hallucinated if record.hallucinated else right).append(len(record.shown))
        if record.accepted is not None:
            right.append(len(record.accepted))
        if record.rejected is not None:
            hallucinated.append(len(record.rejected))
        if record.accepted is not None and record.rejected is not None:
            pairs += 1
            wins += len(record.accepted) < len(record.rejected)
            ties += len(record.accepted) == len(record.rejected)
    return LengthBaseline(
        shorter_wins=wins / pairs if pairs else None,
        ties=ties / pairs if pairs else None,
        auroc=length_auroc(hallucinated, right) if hallucinated and right else None,
    )


def count_halueval(
    file: Path, kind: str, records: Sequence[HaluEvalRecord], kept: dict[str, tuple[int, int]]
) -> HaluEvalCount:
    """Count the records of one HaluEval file.

    Args:
        file: Where they come from.
        kind: Upstream's name of that file, e.g. ``qa_data``.
        records: All its records, unfiltered.
        kept: Rows and hallucinated rows that each filter keeps; empty unless it is ``general``.

    Returns:
        The count.
    """
    subset = next(layout.subset for layout in halueval.LAYOUTS if layout.name == kind)
    return HaluEvalCount(
        file=str(file),
        kind=kind,
        subset=subset,
        rows=len(records),
        upstream_rows=halueval.UPSTREAM_ROWS[subset] if kind == f"{subset}_data" else None,
        hallucinated=sum(r.hallucinated is True or r.rejected is not None for r in records),
        right=sum(r.hallucinated is False or r.accepted is not None for r in records),
        kept={name: rows for name, (rows, _) in kept.items()} or None,
        kept_hallucinated={name: yes for name, (_, yes) in kept.items()} or None,
        length=length_baseline(records),
    )


def _count_file(file: Path, on_bad_row: OnBadRow, bad: BadRows) -> HaluEvalCount:
    kind = halueval.layout_of(file).name
    records = list(
        halueval.iter_halueval(file, general_filter="off", on_bad_row=on_bad_row, bad_rows=bad)
    )
    kept: dict[str, tuple[int, int]] = {}
    if kind == "general_data":
        modes: tuple[halueval.GeneralFilter, ...] = ("handoff", "whole-words")
        for mode in modes:
            rows = list(
                halueval.iter_halueval(
                    file, general_filter=mode, on_bad_row="skip", bad_rows=BadRows()
                )
            )
            kept[mode] = (len(rows), sum(row.hallucinated is True for row in rows))
    return count_halueval(file, kind, records, kept)


def _found(path: Path) -> tuple[list[Path], list[Path]]:
    """The BBQ and the HaluEval files of a path."""
    if not path.is_dir():
        is_bbq = path.stem in bbq.CATEGORIES or "answer_info" in first_row(path).data
        return ([path], []) if is_bbq else ([], [path])
    categories = bbq.category_files(path).values()
    layouts = halueval.layout_files(path).values()
    return [file for files in categories for file in files], [
        file for files in layouts for file in files
    ]


def _data_files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in _DATA_SUFFIXES and file.is_file():
                yield file


def _file_of(origin: str) -> str:
    return origin.rpartition(":")[0] or origin
