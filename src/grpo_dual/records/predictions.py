"""Predictions for BBQ rows, anyone's: a BBQ row, or its key, plus what a model answered."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from grpo_dual.errors import DataError
from grpo_dual.records import bbq
from grpo_dual.records.fields import Fields, shorten, suggestion
from grpo_dual.records.normalise import one_line, without_final_period
from grpo_dual.records.reader import Row, iter_rows
from grpo_dual.types import BbqRecord


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered to one item."""

    record: BbqRecord
    index: int | None
    """The option it names; None when its answer names none."""


Items: TypeAlias = dict[tuple[str, int], BbqRecord]
"""BBQ rows by category and ``example_id``."""


def read_items(data: Path) -> Items:
    """The BBQ rows of a file or folder.

    Raises:
        DataError: As `bbq.iter_bbq`.
    """
    return {(record.subset, record.example_id): record for record in bbq.iter_bbq(data)}


def read_predictions(path: Path, field: str, items: Items | None = None) -> list[Prediction]:
    """Read predictions and find the option that each names.

    An answer is an option's index (0 to 2, as a number or its digits) or an option's text, in any
    case and with or without a final period. Anything else is unparsed, nothing is guessed.

    Args:
        path: JSON lines, a JSON array or CSV: BBQ rows with one more field. Beside ``items`` a row
            needs only ``category``, ``example_id`` and the answer.
        field: Name of the answer's field.
        items: The rows that were predicted. Options and groups are then read from there, as
            published predictions may carry old ones.

    Returns:
        One prediction a row, in file order.

    Raises:
        DataError: A row is malformed, lacks the field, belongs to none of ``items``, or stands
            twice.
    """
    found: list[Prediction] = []
    first: dict[tuple[str, int], str] = {}
    for row in iter_rows(path):
        if field not in row.data:
            near = suggestion(field, row.data)
            raise DataError(
                f"{row.origin}: field '{field}' is missing{near}; the row has "
                f"{', '.join(row.data)}. Name the field of the prediction with --field"
            )
        record = _own(row) if items is None else _joined(row, items)
        key = (record.subset, record.example_id)
        if key in first:
            raise DataError(
                f"{row.origin}: category {key[0]}, example_id {key[1]} was predicted at "
                f"{first[key]} already; keep one of the two"
            )
        first[key] = row.origin
        found.append(Prediction(record, chosen(row.data[field], record)))
    return found


_INDICES = {text: n for n in range(3) for text in (str(n), f"{n}.0")}
"""As written; a table with gaps turns whole numbers into 1.0."""


def not_predicted(items: Items, predictions: Sequence[Prediction]) -> dict[str, int]:
    """How many rows of each category of ``items`` have no prediction, where it is any."""
    predicted = {(p.record.subset, p.record.example_id) for p in predictions}
    return dict(Counter(category for category, _ in items.keys() - predicted))


def by_name(predictions: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Predictions by category, items with proper names apart as the paper has them."""
    grouped: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        record = prediction.record
        grouped[f"{record.subset} (names)" if record.names else record.subset].append(prediction)
    return dict(sorted(grouped.items()))


def chosen(answer: object, record: BbqRecord) -> int | None:
    """The option that an answer names by index or text, None when it names none."""
    if isinstance(answer, bool):
        return None
    if isinstance(answer, int | float):
        return int(answer) if answer in _INDICES.values() else None
    if not isinstance(answer, str):
        return None
    plain = _plain(answer)
    texts = [_plain(option) for option in record.options]
    return texts.index(plain) if plain in texts else _INDICES.get(plain)


def _plain(text: str) -> str:
    return without_final_period(one_line(text)).casefold()


def _typed(row: Row) -> dict[str, object]:
    return bbq.from_text(row.data, row.origin) if row.textual else row.data


def _own(row: Row) -> BbqRecord:
    try:
        return bbq.parse_row(_typed(row), row.origin)
    except DataError as error:
        raise DataError(
            f"{error}. If the predictions hold no whole BBQ rows, give the BBQ files with --data"
        ) from error


def _joined(row: Row, items: Items) -> BbqRecord:
    fields = Fields(_typed(row), row.origin)
    category = fields.choice("category", bbq.CATEGORIES)
    key = (category, fields.integer("example_id", 0, 2**53))
    if key not in items:
        held = sum(name == category for name, _ in items)
        raise DataError(
            f"{row.origin}: there is no row with category {category} and example_id "
            f"{shorten(key[1])} in the BBQ files of --data, which hold {held} rows of it"
        )
    return items[key]
