"""BBQ rows (Parrish et al. 2022) as records: all eleven categories, JSON lines, JSON array or CSV.

In CSV, ``answer_info`` and ``additional_metadata`` hold JSON or the Python literal that
``str(dict)`` writes; numbers are read from their digits. Nothing here looks at an option's position
or wording to find the unknown
option: ``answer_info`` tags it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from grpo_dual.errors import DataError
from grpo_dual.records.bad_rows import BadRows, Gate, OnBadRow
from grpo_dual.records.bbq_metadata import BbqMetadata, MetadataError
from grpo_dual.records.bias_target import Option, biased_option
from grpo_dual.records.fields import Fields, shorten, suggestion
from grpo_dual.records.normalise import one_line
from grpo_dual.records.reader import Row, read_rows
from grpo_dual.records.strict_json import JsonFault, decode_cell
from grpo_dual.types import BbqRecord, Condition, Polarity, Task

UPSTREAM_ROWS = {
    "Age": 3680,
    "Disability_status": 1556,
    "Gender_identity": 5672,
    "Nationality": 3080,
    "Physical_appearance": 1576,
    "Race_ethnicity": 6880,
    "Race_x_SES": 11160,
    "Race_x_gender": 15960,
    "Religion": 1200,
    "SES": 6864,
    "Sexual_orientation": 864,
}
"""Rows of each category in upstream's release."""

CATEGORIES = tuple(UPSTREAM_ROWS)
"""The eleven categories, as rows and files spell them."""

INTERSECTIONAL = frozenset({"Race_x_SES", "Race_x_gender"})
"""Categories whose bias needs two variables; their high question numbers are not name items."""

_FIRST_NAME_QUESTION = 26
_SUFFIXES = frozenset({".jsonl", ".json", ".csv"})
_ANSWERS = ("ans0", "ans1", "ans2")


def parse_row(row: Mapping[str, object], origin: str, *, source: str = "bbq") -> BbqRecord:
    """Turn one raw row, with JSON types, into a record.

    White space in texts is made single blanks; otherwise they stay as they are (some Nationality
    contexts hold an unmatched brace).

    Args:
        row: The row as upstream writes it.
        origin: ``path:line``, named in errors.
        source: First part of the record id.

    Returns:
        The record; its id is ``source/category/example_id``.

    Raises:
        DataError: A field is missing or wrong, not exactly one option is tagged ``unknown``, or the
            label contradicts the condition.
    """
    fields = Fields(row, origin)
    category = fields.choice("category", CATEGORIES)
    condition = Condition(fields.choice("context_condition", tuple(Condition)))
    polarity = Polarity(fields.choice("question_polarity", tuple(Polarity)))
    question_index = _question_index(fields)
    options = _options(fields)
    unknown = _unknown(fields, options)
    label = fields.integer("label", 0, 2)
    if condition is Condition.AMBIGUOUS and label != unknown:
        raise fields.fault(
            "label",
            f"is {label}, but an ambiguous row is answered by its unknown option, {unknown}",
        )
    if condition is Condition.DISAMBIGUATED and label == unknown:
        raise fields.fault("label", "is the unknown option, but the row is disambiguated")
    groups = fields.inner("additional_metadata").texts("stereotyped_groups")
    biased = biased_option(category, int(question_index), polarity, groups, options, unknown)
    example_id = fields.integer("example_id", 0, 2**53)
    return BbqRecord(
        record_id=f"{source}/{category}/{example_id}",
        objective="fairness",
        subset=category,
        task=Task.CHOOSE,
        origin=origin,
        example_id=example_id,
        question_index=question_index,
        condition=condition,
        polarity=polarity,
        context=one_line(fields.text("context")),
        question=one_line(fields.text("question")),
        options=(options[0].text, options[1].text, options[2].text),
        label=label,
        unknown=unknown,
        biased=biased,
        names=category not in INTERSECTIONAL and int(question_index) >= _FIRST_NAME_QUESTION,
    )


def iter_bbq(
    path: Path,
    *,
    categories: Collection[str] = (),
    on_bad_row: OnBadRow = "error",
    bad_rows: BadRows | None = None,
    metadata: bool = True,
) -> Iterator[BbqRecord]:
    """Yield the records of a file, or of the category files in a folder and its subfolders.

    Args:
        path: A file of any name, or a folder with files named after categories (``Age.jsonl``; also
            ``.json`` and ``.csv``). Other files in it are not read.
        categories: Only these; empty means all that are there.
        on_bad_row: Stop at a malformed row, or leave it out.
        bad_rows: Where rows left out are counted and listed; without it they are logged as a
        warning.
        metadata: Use upstream's ``additional_metadata*.csv`` when it lies beside the data.

    Yields:
        BbqRecord: Category files in the order of `CATEGORIES`, rows in file order.

    Raises:
        DataError: A category is unknown or has no file, two files hold one category, a row is
            malformed or an ``example_id`` stands twice (these two only under ``error``); or the
            metadata contradicts more than one row in twenty.
    """
    unknown = [name for name in categories if name not in CATEGORIES]
    if unknown:
        raise DataError(
            f"BBQ has no category '{unknown[0]}'{suggestion(unknown[0], CATEGORIES)}; "
            f"the categories are {', '.join(CATEGORIES)}"
        )
    files = files_of(path, categories)
    targets = BbqMetadata.beside(path) if metadata else BbqMetadata()
    gate = Gate(on_bad_row, bad_rows)
    seen = _SeenIds()
    for file in files:
        for row in read_rows(file, gate):
            try:
                record = _parse(row, targets, seen)
            except MetadataError:  # no fault of this row, so never skipped
                raise
            except DataError as error:
                gate.reject(row.path, row.line, error)
                continue
            if not categories or record.subset in categories:
                yield record
    targets.close()
    gate.close()


def category_files(folder: Path) -> dict[str, list[Path]]:
    """The files in a folder and its subfolders that are named after a category, by category.

    Raises:
        DataError: The folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; check the path")
    found: dict[str, list[Path]] = {}
    paths = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
    for category in CATEGORIES:
        files = [file for file in paths if file.stem == category and file.is_file()]
        if files:
            found[category] = files
    return found


def files_of(path: Path, categories: Collection[str] = ()) -> list[Path]:
    """The files that `iter_bbq` reads.

    Raises:
        DataError: There is none, a category's is missing, or two hold one category.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path, or fetch the data first")
    if not path.is_dir():
        return [path]
    found = category_files(path)
    for category, files in found.items():
        if len(files) > 1 and (not categories or category in categories):
            raise DataError(
                f"{path}: {' and '.join(map(str, files))} both hold category {category}; name the "
                "folder or file that is meant"
            )
    missing = [category for category in categories if category not in found]
    if missing or not found:
        wanted = missing[0] if missing else CATEGORIES[0]
        there = f"; the categories there are {', '.join(found)}" if found else ""
        raise DataError(f"{path}: no file {wanted}.jsonl (or .json, .csv) in this folder{there}")
    return [
        files[0] for category, files in found.items() if not categories or category in categories
    ]


def _parse(row: Row, targets: BbqMetadata, seen: "_SeenIds") -> BbqRecord:
    data = from_text(row.data, row.origin) if row.textual else row.data
    record = parse_row(data, row.origin)
    if row.path.stem in CATEGORIES and record.subset != row.path.stem:
        raise DataError(
            f"{row.origin}: field 'category' is {record.subset} in a file named after "
            f"{row.path.stem}; move the "
            "row or rename the file"
        )
    seen.add(record)
    return targets.join(record)


def from_text(row: Mapping[str, object], origin: str) -> dict[str, object]:
    """Give the texts of a CSV row their JSON types.

    Raises:
        DataError: A structured column is neither JSON nor a Python literal. A number that has no
            digits is left as it is, for `parse_row` to refuse.
    """
    typed = dict(row)
    for key in ("answer_info", "additional_metadata"):
        cell = typed.get(key)
        if isinstance(cell, str):
            try:
                typed[key] = decode_cell(cell)
            except JsonFault as error:
                raise DataError(f"{origin}: column '{key}' {shorten(cell)}: {error}") from error
    for key in ("example_id", "label"):
        cell = typed.get(key)
        if isinstance(cell, str) and cell.strip().isdecimal() and len(cell) <= 20:
            typed[key] = int(cell)
    return typed


def _question_index(fields: Fields) -> str:
    value = fields.value("question_index")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # what a round trip through a data frame makes of upstream's text
    text = value.strip() if isinstance(value, str) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise fields.fault(
            "question_index", f"must be a number written as text, not {shorten(value)}"
        )
    return text


def _options(fields: Fields) -> tuple[Option, Option, Option]:
    info = fields.inner("answer_info")
    found: list[Option] = []
    for name in _ANSWERS:
        pair = info.texts(name)
        if len(pair) != 2:
            raise info.fault(name, f"must be a word and a group, not {len(pair)} texts")
        found.append(Option(one_line(fields.text(name)), *pair))
    folded = [option.text.casefold() for option in found]
    for index, text in enumerate(folded):
        if text in folded[:index]:
            raise fields.fault(_ANSWERS[index], "is worded as another option; options must differ")
    return found[0], found[1], found[2]


def _unknown(fields: Fields, options: tuple[Option, ...]) -> int:
    tagged = [index for index, option in enumerate(options) if option.tag == "unknown"]
    if len(tagged) != 1:
        raise fields.fault(
            "answer_info",
            f"tags {len(tagged)} options as 'unknown', it must be exactly one; the groups are "
            f"{', '.join(repr(option.tag) for option in options)}",
        )
    return tagged[0]


class _SeenIds:
    """The ids of all rows so far, at one bit each: a large file does not need a large set."""

    _BITS = 1024

    def __init__(self) -> None:
        self._seen: dict[str, dict[int, int]] = defaultdict(dict)

    def add(self, record: BbqRecord) -> None:
        """Note a row.

        Raises:
            DataError: A row with this category and ``example_id`` was noted before.
        """
        word, bit = divmod(record.example_id, self._BITS)
        words = self._seen[record.subset]
        if words.get(word, 0) >> bit & 1:
            raise DataError(
                f"{record.origin}: field 'example_id' {record.example_id} of category "
                f"{record.subset} stands "
                "twice; remove the repeated row"
            )
        words[word] = words.get(word, 0) | 1 << bit
