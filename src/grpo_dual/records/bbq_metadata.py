"""Upstream's ``additional_metadata.csv``: the bias-consistent answer of each row.

Where a row cannot say which option is bias-consistent, the file does. Where both say something they
must agree: a row on which they do not stays without a target, is counted and logged, and a file
that contradicts more than one row in twenty does not belong to the data and is refused.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Self

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import Gate
from grpo_dual.records.fields import shorten
from grpo_dual.records.reader import Row, read_rows
from grpo_dual.types import BbqRecord

_PATTERN = "additional_metadata*.csv"
_UPSTREAM_FOLDERS = ("supplemental", "analysis_scripts")
"""Where the file lies in a clone of upstream, beside its ``data`` folder."""
_TOLERATED = 0.05
"""Share of contradicted rows above which the file is refused."""
_EARLY = 20
"""Contradictions from which that share is looked at before the last row."""

_log = logging.getLogger(__name__)


class MetadataError(DataError):
    """The metadata does not belong to the rows: a fault of a file, never of one row."""


class BbqMetadata:
    """``target_loc`` by category and ``example_id``; empty when there is no file."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.contradictions: list[str] = []
        """One sentence for each row that says otherwise than a file."""
        self._compared = 0
        self._targets: dict[tuple[str, int], int | None] = {}

    def __len__(self) -> int:
        return len(self._targets)

    @classmethod
    def beside(cls, path: Path) -> Self:
        """Read what lies beside the data.

        Args:
            path: A data file (its folder is searched) or a folder (with its subfolders); in both
                cases also the folders where a clone of upstream keeps the file.

        Raises:
            MetadataError: A file is malformed.
        """
        metadata = cls()
        folder = path if path.is_dir() else path.parent
        found = sorted(folder.rglob(_PATTERN) if path.is_dir() else folder.glob(_PATTERN))
        for name in _UPSTREAM_FOLDERS:
            found += sorted((folder.parent / name).glob(_PATTERN)) if folder.name == "data" else []
        for file in found:
            metadata.read(file)
        return metadata

    def read(self, file: Path) -> None:
        """Add one file.

        ``NA`` and empty targets are no statement. Rows that contradict each other cancel out, also
        those of two files: neither is used.

        Raises:
            MetadataError: A row is malformed.
        """
        try:
            for row in read_rows(file, Gate("error", None)):
                self._add(row)
        except MetadataError:
            raise
        except DataError as error:
            raise MetadataError(str(error)) from error
        self.files.append(file)

    def join(self, record: BbqRecord) -> BbqRecord:
        """Resolve a record, and hold what it says itself against the files.

        Args:
            record: As its row alone gives it.

        Returns:
            The record with ``target_loc`` where the row could not say; without a target where the
            two contradict each other or the target is the unknown option.

        Raises:
            MetadataError: The files contradict more than one row in twenty, see `check`.
        """
        target = self._targets.get((record.subset, record.example_id))
        if target is None:
            return record
        self._compared += 1
        if target != record.unknown and record.biased in (None, target):
            return replace(record, biased=target)
        said = "the unknown option"
        if target != record.unknown:
            said = f"but the row itself says {record.biased}"
        self.contradictions.append(
            f"{record.origin}: target_loc of the metadata is {target}, {said}"
        )
        if len(self.contradictions) >= _EARLY:
            self.check()
        return replace(record, biased=None)

    def check(self) -> None:
        """Refuse files that contradict more than one row in twenty of those compared so far.

        Raises:
            MetadataError: They do.
        """
        if len(self.contradictions) > _TOLERATED * self._compared:
            raise MetadataError(
                f"{self.contradictions[0]}; so it is in {len(self.contradictions)} of "
                f"{self._compared} rows compared. One of {', '.join(map(str, self.files))} does "
                "not belong to this data (upstream's file from before July 2022 has the targets of "
                "nonneg questions the wrong way round); replace or remove it"
            )

    def close(self) -> None:
        """After the last row: `check`, and log what was left without a target.

        Raises:
            MetadataError: As `check`.
        """
        self.check()
        if self.contradictions:
            _log.warning(
                "%d row(s) have no bias target because the metadata contradicts them, first: %s",
                len(self.contradictions),
                self.contradictions[0],
            )

    def _add(self, row: Row) -> None:
        cells: dict[str, str] = {}
        for column in ("category", "example_id", "target_loc"):
            cell = row.data.get(column)
            if not isinstance(cell, str):
                raise MetadataError(
                    f"{row.origin}: column '{column}' is missing; use upstream's file"
                )
            cells[column] = cell.strip().removesuffix(".0")  # what a data frame makes of numbers
        if cells["target_loc"] in ("NA", ""):
            return
        if not cells["example_id"].isdecimal() or cells["target_loc"] not in ("0", "1", "2"):
            wrong = "target_loc" if cells["example_id"].isdecimal() else "example_id"
            raise MetadataError(
                f"{row.origin}: column '{wrong}' is {shorten(cells[wrong])}; expected "
                f"{'0, 1, 2 or NA' if wrong == 'target_loc' else 'a whole number'}"
            )
        key = (cells["category"], int(cells["example_id"]))
        target = int(cells["target_loc"])
        if self._targets.setdefault(key, target) != target:
            self._targets[key] = None
