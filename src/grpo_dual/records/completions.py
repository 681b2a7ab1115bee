"""Completions to be judged, anyone's: a HaluEval or BBQ row plus what a model said.

The verdict that people gave stands in ``label`` or ``gold``, and it says what the completion is:
``right`` (or ``grounded``), ``abstains``, ``wrong`` (or ``hallucinated``). Yes and no answer a
question that the word ``label`` does not ask ("is it right?", "is it hallucinated?"), so they are
taken only from HaluEval's own field ``hallucination``, where yes means wrong.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grpo_dual.records import bbq
from grpo_dual.records.fields import Fields, shorten, suggestion
from grpo_dual.records.halueval import SUBSETS
from grpo_dual.records.normalise import block, one_line, without_final_period
from grpo_dual.records.reader import Row, iter_rows
from grpo_dual.records.vocabulary import UNKNOWN_OPTIONS
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Polarity, Record, Task

Label = Literal["right", "abstains", "wrong"]

_LABELS: dict[str, Label] = {
    "right": "right",
    "grounded": "right",
    "abstains": "abstains",
    "wrong": "wrong",
    "hallucinated": "wrong",
}
_ANSWERS = ("yes", "no", "true", "false")
_CONTEXT = ("knowledge", "context", "document")
_QUERY = ("question", "query", "dialogue_history", "user_query")
_ACCEPTED = ("accepted", "right_answer", "right_response", "right_summary")
_REJECTED = ("rejected", "hallucinated_answer", "hallucinated_response", "hallucinated_summary")
_OPTIONS = 3
_UNKNOWN = tuple(wording.casefold() for wording in UNKNOWN_OPTIONS)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model said to an item, and what people say of it."""

    id: str
    """As given, else the row's number in its file."""
    record: Record
    """Its id is a hash of the item's texts: equal items are equal wherever they stand."""
    text: str
    label: Label | None
    """None where nobody has judged it."""


def iter_completions(path: Path) -> Iterator[Completion]:
    """Yield the completions of a file, which is read as a stream.

    Args:
        path: JSON lines, a JSON array or CSV.

    Yields:
        Completion: In file order.

    Raises:
        DataError: The file cannot be read, or a row is malformed; file, line and field are named.
    """
    for row in iter_rows(path):
        yield _completion(row)


def _completion(row: Row) -> Completion:
    whole = "answer_info" in row.data
    data = bbq.from_text(row.data, row.origin) if row.textual and whole else row.data
    fields = Fields(data, row.origin)
    text = fields.text("completion", blank=True)
    if whole:
        record: Record = bbq.parse_row(data, row.origin)
        label = _label(fields, ("gold",))
    elif _objective(fields) == "fairness":
        record = _fairness(fields, row.origin)
        label = _label(fields, ("gold", "label"))
    else:
        record = _halueval(fields, row.origin)
        label = _label(fields, ("gold", "label"))
    return Completion(_id(fields, row), record, text, label)


def _id(fields: Fields, row: Row) -> str:
    if not fields.has("id"):
        return str(row.number)
    value = fields.value("id")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise fields.fault("id", f"must be text or a whole number, not {shorten(value)}")
    return str(value)


def _objective(fields: Fields) -> str:
    if fields.has("objective"):
        return fields.choice("objective", ("fairness", "hallucination"))
    return "fairness" if fields.has("options") else "hallucination"


def _label(fields: Fields, keys: Sequence[str]) -> Label | None:
    """The verdict that people gave; where two fields give one, they must agree."""
    found: dict[str, Label] = {}
    for key in keys:
        named = _named(fields, key)
        if named is not None:
            found[key] = named
    if fields.has("hallucination") and fields.value("hallucination") is not None:
        answer = fields.choice("hallucination", ("yes", "no"))
        found["hallucination"] = "wrong" if answer == "yes" else "right"
    if len(set(found.values())) > 1:
        first, second = list(found)[:2]
        raise fields.fault(
            first, f"says {found[first]}, but field '{second}' says {found[second]}; keep one"
        )
    return next(iter(found.values()), None)


def _named(fields: Fields, key: str) -> Label | None:
    value = fields.value(key) if fields.has(key) else None
    if value is None or value == "":
        return None
    word = str(value).strip().casefold()
    if isinstance(value, bool) or word in _ANSWERS:
        raise fields.fault(
            key,
            f"is {shorten(value)}, which does not say what it affirms; write right, abstains or "
            "wrong, or put yes or no into a field 'hallucination' (yes: hallucinated)",
        )
    if not isinstance(value, str) or word not in _LABELS:
        near = suggestion(word, _LABELS)
        raise fields.fault(
            key, f"must be one of {', '.join(_LABELS)}, or null, not {shorten(value)}{near}"
        )
    return _LABELS[word]


def _one_of(fields: Fields, keys: Sequence[str]) -> str | None:
    """Which of a field's names the row uses."""
    there = [key for key in keys if fields.has(key) and fields.value(key) is not None]
    if len(there) > 1:
        raise fields.fault(there[1], f"is another name of field '{there[0]}'; keep one of them")
    return there[0] if there else None


def _halueval(fields: Fields, origin: str) -> HaluEvalRecord:
    subset = _subset(fields)
    tidy = block if subset == "general" else one_line
    context_key, query_key = _one_of(fields, _CONTEXT), _one_of(fields, _QUERY)
    context = query = ""
    if context_key or subset != "general":
        context = one_line(fields.text(context_key or "knowledge", blank=True))
    if query_key or subset != "summarization":
        query = tidy(fields.text(query_key or "question", blank=subset == "summarization"))
    sides: list[str | None] = []
    for keys in (_ACCEPTED, _REJECTED):
        key = _one_of(fields, keys)
        sides.append(without_final_period(tidy(fields.text(key))) if key else None)
    return HaluEvalRecord(
        record_id=_hash(subset, context, query, *(side or "" for side in sides)),
        objective="hallucination",
        subset=subset,
        task=Task.ANSWER,
        origin=origin,
        context=context,
        query=query,
        accepted=sides[0],
        rejected=sides[1],
    )


def _subset(fields: Fields) -> str:
    """The subset that is named, else the one whose field names the row has, else qa."""
    if fields.has("subset"):
        return fields.choice("subset", SUBSETS)
    if fields.has("user_query"):
        return "general"
    if fields.has("dialogue_history"):
        return "dialogue"
    return "summarization" if fields.has("document") else "qa"


def _fairness(fields: Fields, origin: str) -> BbqRecord:
    options = tuple(one_line(option) for option in fields.texts("options"))
    if len(options) != _OPTIONS or len({option.casefold() for option in options}) != _OPTIONS:
        raise fields.fault("options", f"must be three different texts, not {shorten(options)}")
    right = fields.integer("right", 0, _OPTIONS - 1)
    unknown = _unknown(fields, options)
    context, question = one_line(fields.text("context")), one_line(fields.text("question"))
    condition = Condition.AMBIGUOUS if right == unknown else Condition.DISAMBIGUATED
    return BbqRecord(
        record_id=_hash("fairness", context, question, *options, str(right)),
        objective="fairness",
        subset="fairness",
        task=Task.CHOOSE,
        origin=origin,
        example_id=0,
        question_index="0",
        condition=condition,
        polarity=Polarity.NEGATIVE,
        context=context,
        question=question,
        options=(options[0], options[1], options[2]),
        label=right,
        unknown=unknown,
        biased=None,
        names=False,
    )


def _unknown(fields: Fields, options: Sequence[str]) -> int:
    if fields.has("unknown"):
        return fields.integer("unknown", 0, _OPTIONS - 1)
    found = [i for i, o in enumerate(options) if any(w in o.casefold() for w in _UNKNOWN)]
    if len(found) != 1:
        raise fields.fault(
            "unknown",
            "is missing, and the options do not tell which of them says that nobody can know: "
            f"{shorten(options)}; add its index",
        )
    return found[0]


def _hash(*texts: str) -> str:
    whole = "\0".join(texts).encode("utf-8", "surrogatepass")
    return f"scored/{hashlib.sha256(whole).hexdigest()[:16]}"
