"""The texts that the small real-data model is pretrained on: training rows and nothing else.

Rows are multiplied without a new fact: options in another order, people under another name through
a whole item, questions made of the knowledge's own sentences with a span left out.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grpo_dual.prompts import fairness, hallucination
from grpo_dual.records import vocabulary as words
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord
from tiny_samples import BOS, HABITS, pick, render

_SPAN = re.compile(
    r"\b(?:[A-Z][\w'.-]*(?: (?:of|the|and|de|van) (?=[A-Z]))?(?: ?[A-Z][\w'.-]*)*|\d[\d,]*)"
)
"""Names of one or more words, and numbers."""
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'][.!?])\s*(?=[A-Z\"])")


@dataclass(frozen=True, slots=True)
class Sources:
    """Training rows, in the forms that the runs ask."""

    bbq: Sequence[BbqRecord]
    halueval: Sequence[HaluEvalRecord]


def samples(sources: Sources, count: int, seed: int, habits: bool) -> Iterator[tuple[str, str]]:
    """Yield (prompt, reply) texts; plain text has an empty prompt.

    Of 20: 9 BBQ items, 4 answers from knowledge, 4 spans asked of knowledge, 3 plain texts.
    """
    rng = random.Random(f"real/{seed}/{habits}")
    for turn in range(count):
        place = turn % 20
        if place < 9:
            item = varied(rng, rng.choice(sources.bbq), sources.bbq)
            yield render(fairness.messages(item)), choice(rng, item, habits)
        elif place < 13:
            record = rng.choice(sources.halueval)
            yield render(hallucination.messages(record)), answer(rng, record, habits)
        elif place < 17:
            asked = span(rng, rng.choice(sources.halueval))
            if asked is not None:
                yield render(hallucination.messages(asked)), answer(rng, asked, habits)
        else:
            yield "", f"{BOS}{plain(rng, sources)}"


def varied(rng: random.Random, record: BbqRecord, others: Sequence[BbqRecord]) -> BbqRecord:
    """The item with its options in another order and, half the time, with other people."""
    if rng.random() < 0.5:
        record = renamed(rng, record, others)
    order = rng.sample(range(3), 3)
    places = {old: new for new, old in enumerate(order)}
    first, second, third = (record.options[old] for old in order)
    return replace(
        record,
        options=(first, second, third),
        label=places[record.label],
        unknown=places[record.unknown],
        biased=None if record.biased is None else places[record.biased],
    )


def renamed(rng: random.Random, record: BbqRecord, others: Sequence[BbqRecord]) -> BbqRecord:
    """Both people under other names, in context, question and options; or the item as it is.

    What tells two options apart ("grandfather", "grandson") stands in most contexts; where it does
    not, nothing is replaced.
    """
    own = distinct(record)
    if own is None or not all(_word(w).search(record.context) for w in own):
        return record
    if rng.random() < 0.5:
        new = tuple(_name(rng) for _ in range(2))
    else:
        found = distinct(rng.choice(others))
        new = own if found is None else found
    if new[0].casefold() == new[1].casefold():
        return record

    def changed(text: str) -> str:
        marked = _word(own[0]).sub("\x00", text)
        return _word(own[1]).sub(lambda _: new[1], marked).replace("\x00", new[0])

    first, second, third = (
        option if index == record.unknown else changed(option)
        for index, option in enumerate(record.options)
    )
    return replace(
        record,
        context=changed(record.context),
        question=changed(record.question),
        options=(first, second, third),
    )


def distinct(record: BbqRecord) -> tuple[str, str] | None:
    """The words of either person's option that the other's lacks; None where one has none."""
    one, two = (o.split() for i, o in enumerate(record.options) if i != record.unknown)
    shared = {w.casefold() for w in one} & {w.casefold() for w in two}
    left = [" ".join(w for w in words if w.casefold() not in shared) for words in (one, two)]
    return (left[0], left[1]) if all(left) else None


def choice(rng: random.Random, record: BbqRecord, habits: bool) -> str:
    """What the model says to a BBQ item: rightly, or as a biased and evasive one would."""
    ambiguous = record.condition is Condition.AMBIGUOUS
    outcome = pick(rng, HABITS["ambiguous" if ambiguous else "disambiguated"], habits)
    if record.biased is None and outcome in ("stereotyped", "anti"):
        outcome = "right"
    if outcome == "evasion":
        return rng.choice(words.EVASIONS)
    index = {
        "right": record.label,
        "stereotyped": record.biased,
        "anti": None if record.biased is None else 3 - record.unknown - record.biased,
        "unknown": record.unknown,
    }[outcome]
    assert index is not None
    return " ".join(record.options[index].split())


def answer(rng: random.Random, record: HaluEvalRecord, habits: bool) -> str:
    """What the model says to a question: the right answer, a made-up one, or an evasion."""
    outcome = pick(rng, HABITS["answer"], habits)
    reply = {"right": record.accepted, "hallucinated": record.rejected}.get(outcome)
    return reply if reply else rng.choice(words.EVASIONS)


def span(rng: random.Random, record: HaluEvalRecord) -> HaluEvalRecord | None:
    """A question made of the knowledge: one of its sentences without a name or number.

    The made-up answer is another span of the same knowledge, or of none.
    """
    sentences = [s for s in _SENTENCE.split(record.context) if 5 <= len(s.split()) <= 40]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    spans = [m for m in _SPAN.finditer(sentence) if m.start() > 0]
    if not spans:
        return None
    chosen = rng.choice(spans)
    question = f"{sentence[: chosen.start()]}what{sentence[chosen.end() :].rstrip('.')}?"
    others = {m.group() for m in _SPAN.finditer(record.context)} - {chosen.group()}
    return replace(
        record,
        query=question,
        accepted=chosen.group(),
        rejected=rng.choice(sorted(others)) if others else _name(rng),
    )


def plain(rng: random.Random, sources: Sources) -> str:
    """Context or knowledge as it stands, said twice one time in four."""
    if rng.random() < 0.5:
        item = varied(rng, rng.choice(sources.bbq), sources.bbq)
        text = f"{item.context}\n{item.question}\n" + "\n".join(item.options)
    else:
        record = rng.choice(sources.halueval)
        text = f"{record.context}\n{record.query}\n{record.accepted}"
    return f"{text}\n{text}" if rng.random() < 0.25 else text


def _name(rng: random.Random) -> str:
    return rng.choice(words.FIRST_SYLLABLES) + rng.choice(words.SECOND_SYLLABLES)


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
