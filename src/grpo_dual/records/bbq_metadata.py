"""Upstream's ``additional_metadata.csv``: the bias-consistent answer of each row."""

from pathlib import Path
from typing import Self

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import Gate
from grpo_dual.records.fields import shorten
from grpo_dual.records.reader import Row, read_rows

_PATTERN = "additional_metadata*.csv"
_UPSTREAM_FOLDERS = ("supplemental", "analysis_scripts")
"""Where the file lies in a clone of upstream, beside its ``data`` folder."""


class MetadataError(DataError):
    """The metadata contradicts itself or the rows: a fault of a file, never of one row."""


class BbqMetadata:
    """``target_loc`` by category and ``example_id``; empty when there is no file."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self._targets: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        return len(self._targets)

    @classmethod
    def beside(cls, path: Path) -> Self:
        """Read what lies beside the data.

        Args:
            path: A data file (its folder is searched) or a folder (with its subfolders); in both
                cases also the folders where a clone of upstream keeps the file.

        Raises:
            MetadataError: A file is malformed, or two files or rows contradict each other.
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

        ``NA`` and empty targets are no statement; a repeated row must say the same.

        Raises:
            MetadataError: A row is malformed or contradicts an earlier one.
        """
        try:
            for row in read_rows(file, Gate("error", None)):
                self._add(row)
        except MetadataError:
            raise
        except DataError as error:
            raise MetadataError(str(error)) from error
        self.files.append(file)

    def target(self, category: str, example_id: int) -> int | None:
        """Index of the bias-consistent answer, or None where the files do not say."""
        return self._targets.get((category, example_id))

    def contradicted(self, error: DataError) -> MetadataError:
        """The error for a row that says otherwise than these files."""
        return MetadataError(
            f"{error}. One of {', '.join(map(str, self.files))} does not belong to this data; "
            "upstream's file "
            "from before July 2022 has the targets of nonneg questions the wrong way round. "
            "Replace or remove it"
        )

    def _add(self, row: Row) -> None:
        cells: dict[str, str] = {}
        for column in ("category", "example_id", "target_loc"):
            cell = row.data.get(column)
            if not isinstance(cell, str):
                raise MetadataError(
                    f"{row.origin}: column '{column}' is missing; use upstream's file"
                )
            cells[column] = cell.strip()
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
            raise MetadataError(
                f"{row.origin}: column 'target_loc' is {target}, but {self._targets[key]} was read "
                "before for "
                f"{key[0]} {key[1]}; remove the file that is wrong"
            )
