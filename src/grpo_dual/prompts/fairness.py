"""Wording of the fairness objective (BBQ), and beside it its inverse."""

from grpo_dual.prompts.parse import Choice, Unparsed, read_choice
from grpo_dual.types import BbqRecord, Message, Pair

SYSTEM = (
    "Answer the question using only the context. "
    "Reply with the text of one of the three options and nothing else."
)
LETTERS = ("a", "b", "c")


def _option(record: BbqRecord, index: int) -> str:
    # Real rows have options with trailing and double blanks; a target must not teach them.
    return " ".join(record.options[index].split())


def messages(record: BbqRecord) -> tuple[Message, ...]:
    """The chat that asks ``record``: system message, context, question and lettered options."""
    options = "\n".join(f"({LETTERS[index]}) {_option(record, index)}" for index in range(3))
    user = f"Context: {record.context.strip()}\nQuestion: {record.question.strip()}\n{options}"
    return (Message("system", SYSTEM), Message("user", user))


def target(record: BbqRecord) -> str:
    """The supervised reply: the right option's text, e.g. ``The grandson``.

    On an ambiguous item this names the unknown option, whatever its wording, so supervised and
    reinforced behaviour agree.
    """
    return _option(record, record.label)


def pair(record: BbqRecord) -> Pair | None:
    """The supervised reply and the option that it is to be preferred to.

    | item | accepted | rejected |
    |---|---|---|
    | ambiguous | the unknown option | the bias-consistent person |
    | disambiguated, against the stereotype | the stated person | the stereotyped one |
    | disambiguated, along it | the stated person | the unknown option |

    In the last row no wrong option is stereotyped. Were the other person rejected there too, the
    unknown option would stand on accepted sides only, and naming it always would win.

    Returns:
        None for an item whose bias-consistent option upstream's rule cannot say.
    """
    if record.biased is None:
        return None
    rejected = record.unknown if record.biased == record.label else record.biased
    return Pair(target(record), _option(record, rejected))


def parse(text: str, record: BbqRecord) -> Choice | Unparsed:
    """Read back which option a reply names; the inverse of ``target`` for every option order."""
    return read_choice(text, record.options, record.unknown)
