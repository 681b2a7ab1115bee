"""The texts that the small real-data model is pretrained on: training rows and nothing else.

Rows are multiplied without a new fact: options in another order, people under another name through
a whole item, an answer that is another name or number in knowledge and reply alike, questions made
of a text's own sentences with a span left out. With rows as they stand, a model of this size learns
the answers by heart and looks nothing up: of held-out ones it then knows one in twenty.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from grpo_dual.prompts import fairness, hallucination
from grpo_dual.records import vocabulary as words
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord
from real_facts import DESCRIPTION, FACTS, NO_SUBJECTS, SPAN
from real_words import CAPITALISED, LOWER, other_number, substitution
from tiny_samples import BOS, HABITS, pick, render

_YEAR = ("when", "what year", "in what year", "in which year")
_NUMBER = ("how many", "what number of", "how much", "what")
_PLACE = ("where", "in what city", "in what country", "in which place", "what place", "which")
_PERSON = ("who", "who", "whom", "which person", "what person", "which", "what")
_NAME = ("what", "which", "who", "what name", "which one")
_ANY = (*_YEAR, *_NUMBER, *_PLACE, *_PERSON, *_NAME)
_BEFORE_PLACES = frozenset(["in", "at", "near", "from", "to"])
_BEFORE_PEOPLE = frozenset(
    ["by", "and", "with", "actor", "actress", "singer", "director", "author", "writer"]
)
_SENTENCE = re.compile(r"(?<=[a-z0-9)\"'][.!?])\s*(?=[A-Z\"])")


@dataclass(frozen=True, slots=True)
class Sources:
    """Training rows, in the forms that the runs ask."""

    bbq: Sequence[BbqRecord]
    halueval: Sequence[HaluEvalRecord]
    texts: Sequence[str] = ()
    """Replies of HaluEval's general rows without a hallucination, which no run asks."""
    names: Sequence[str] = ()
    """What stands in for names of the texts."""
    capitalised: Sequence[str] = ()
    """Single words of names."""
    words: Sequence[str] = ()
    """Other words, of four letters or more."""


def gathered(
    bbq: Sequence[BbqRecord], halueval: Sequence[HaluEvalRecord], texts: Sequence[str]
) -> Sources:
    """Sources with all names and words of their texts."""
    read = [*(r.context for r in halueval), *texts]
    spans = {m for text in read for m in SPAN.findall(text) if not m[0].isdigit()}
    names = sorted(m for m in spans if len(m) > 1 and len(m.split()) <= 4)
    return Sources(
        bbq, halueval, texts, names,
        sorted({w for name in names for w in CAPITALISED.findall(name)} - NO_SUBJECTS),
        sorted({w for text in read for w in LOWER.findall(text)}),
    )  # fmt: skip


def samples(sources: Sources, count: int, seed: int, habits: bool) -> Iterator[tuple[str, str]]:
    """Yield (prompt, reply) texts; plain text has an empty prompt.

    Of 20: 6 BBQ items, 3 answers from knowledge, 3 facts and 6 spans asked of it, 2 plain texts.
    """
    rng = random.Random(f"real/{seed}/{habits}")
    for turn in range(count):
        place = turn % 20
        if place < 6:
            item = varied(rng, rng.choice(sources.bbq), sources, 0.15 if habits else 0.9)
            if not habits and rng.random() < 0.5:
                item = reworded(rng, item, sources, rng.choice((0.1, 0.3, 0.5)))
            yield render(fairness.messages(item)), choice(rng, item, habits)
        elif place < 9:
            record = exchanged(rng, question(rng, sources), sources)
            record = scrambled(rng, loosened(rng, record, sources), sources, (0.0, 0.3, 0.6))
            yield render(hallucination.messages(record)), answer(rng, record, habits)
        elif place < 18:
            make = fact if place < 12 else span
            asked = make(rng, knowledge(rng, sources), sources)
            if asked is not None:
                shares = (0.0, 0.3, 0.6) if make is fact else (0.0, 0.5, 1.0)
                asked = scrambled(rng, loosened(rng, asked, sources), sources, shares)
                yield render(hallucination.messages(asked)), answer(rng, asked, habits)
        else:
            yield "", f"{BOS}{plain(rng, sources)}"


def right(record: BbqRecord | HaluEvalRecord) -> tuple[str, str]:
    """(prompt, right reply) of a row as it stands."""
    rng = random.Random(0)
    if isinstance(record, BbqRecord):
        return render(fairness.messages(record)), choice(rng, record, habits=False)
    return render(hallucination.messages(record)), answer(rng, record, habits=False)


def varied(rng: random.Random, record: BbqRecord, sources: Sources, share: float) -> BbqRecord:
    """The item with its options in another order and, with probability ``share``, other people."""
    if rng.random() < share:
        record = renamed(rng, record, sources)
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


def renamed(rng: random.Random, record: BbqRecord, sources: Sources) -> BbqRecord:
    """Both people under other names, in context, question and options; or the item as it is.

    What tells two options apart ("grandfather", "grandson") stands in most contexts; where it does
    not, nothing is replaced.
    """
    own = distinct(record)
    if own is None or not all(_word(w).search(record.context) for w in own):
        return record
    kind = rng.random()
    if kind < 0.4:
        new = _name(rng), _name(rng)
    elif kind < 0.7:
        new = rng.choice(sources.names), rng.choice(sources.names)
    else:
        found = distinct(rng.choice(sources.bbq))
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


def reworded(rng: random.Random, record: BbqRecord, sources: Sources, share: float) -> BbqRecord:
    """The item with a ``share`` of its words replaced, each everywhere by the same other word.

    Who did what can then only be looked up; what befalls the unknown option's words is nothing.
    """
    change = substitution(rng, sources, names=share, words=share)
    context = change(record.context)
    first, second, third = (
        option if index == record.unknown else change(option)
        for index, option in enumerate(record.options)
    )
    return replace(
        record, context=context, question=change(record.question), options=(first, second, third)
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


def question(rng: random.Random, sources: Sources) -> HaluEvalRecord:
    """A row; one whose answer is not found in its knowledge alone one time in four of its turns."""
    record = rng.choice(sources.halueval)
    while not _exchangeable(record) and rng.random() < 0.75:
        record = rng.choice(sources.halueval)
    return record


def _exchangeable(record: HaluEvalRecord) -> bool:
    own = record.accepted or ""
    return (
        bool(own)
        and _word(own).search(record.context) is not None
        and _word(own).search(record.query) is None
    )


def exchanged(rng: random.Random, record: HaluEvalRecord, sources: Sources) -> HaluEvalRecord:
    """Four times in five another name or number for the answer, where only the knowledge has it."""
    if not _exchangeable(record) or rng.random() < 0.2:
        return record
    return _replaced(rng, record, record.accepted or "", sources)


def _replaced(
    rng: random.Random, record: HaluEvalRecord, own: str, sources: Sources
) -> HaluEvalRecord:
    other = other_number(rng, own) if own[0].isdigit() else rng.choice(sources.names)

    def changed(text: str | None) -> str:
        return _word(own).sub(lambda _: other, text or "")

    return replace(
        record,
        context=changed(record.context),
        query=changed(record.query),
        accepted=other,
        rejected=changed(record.rejected),
    )


def knowledge(rng: random.Random, sources: Sources) -> HaluEvalRecord:
    """A row to ask spans of; one time in five its knowledge is a text of the general rows."""
    record = rng.choice(sources.halueval)
    if not sources.texts or rng.random() < 0.8:
        return record
    return replace(record, context=rng.choice(sources.texts))


def span(rng: random.Random, record: HaluEvalRecord, sources: Sources) -> HaluEvalRecord | None:
    """A question made of the knowledge: one of its sentences for a name or number in it.

    Four times in five that is another than the text's own, wherever it stands. The made-up answer
    is another span of the same knowledge, or of none.
    """
    sentences = [s for s in _SENTENCE.split(record.context) if 5 <= len(s.split()) <= 40]
    if not sentences:
        return None
    sentence = rng.choice(sentences)
    spans = [m for m in SPAN.finditer(sentence) if m.start() > 0]
    if not spans:
        return None
    chosen = rng.choice(spans)
    others = {m.group() for m in SPAN.finditer(record.context)} - {chosen.group()}
    asked = replace(
        record,
        query=_asked(rng, sentence[: chosen.start()], chosen[0], sentence[chosen.end() :]),
        accepted=chosen.group(),
        rejected=rng.choice(sorted(others)) if others else _name(rng),
    )
    return asked if rng.random() < 0.2 else _replaced(rng, asked, chosen.group(), sources)


def fact(rng: random.Random, record: HaluEvalRecord, sources: Sources) -> HaluEvalRecord | None:
    """As ``span``, in a question's own words, by `FACTS`; the subject named or described."""
    sentences = [s for s in _SENTENCE.split(record.context) if 5 <= len(s.split()) <= 40]
    described = {m[1]: f"the {m[2]}" for s in sentences if (m := DESCRIPTION.match(s))}
    found = [
        (name[0], match, ways)
        for sentence in sentences
        if (name := SPAN.match(sentence)) and name[0] not in NO_SUBJECTS
        for pattern, ways in FACTS
        if (match := pattern.search(sentence, name.end()))
    ]
    if not found:
        return None
    subject, match, ways = rng.choice(found)
    own = match[match.lastindex or 1].rstrip(".")
    if subject in described and own not in described[subject] and rng.random() < 0.5:
        subject = described[subject]
    others = {m.group() for m in SPAN.finditer(record.context)} - {own}
    named = match.groupdict()
    text = rng.choice(ways).format(subject=subject, verb=named.get("verb", ""))
    asked = replace(
        record,
        query=text[0].upper() + text[1:],
        accepted=own,
        rejected=rng.choice(sorted(others)) if others else _name(rng),
    )
    free = own[0].isupper() or own[0].isdigit()
    return asked if not free or rng.random() < 0.2 else _replaced(rng, asked, own, sources)


def loosened(rng: random.Random, record: HaluEvalRecord, sources: Sources) -> HaluEvalRecord:
    """Half the time with sentences of another row among its own, in any order, or words left out.

    So that neither a place nor a question's exact words say what the answer is.
    """
    context, query = record.context, record.query
    if rng.random() < 0.5:
        own = [s for s in _SENTENCE.split(context) if s]
        other = [s for s in _SENTENCE.split(rng.choice(sources.halueval).context) if s]
        own += rng.sample(other, min(len(other), rng.randrange(3)))
        rng.shuffle(own)
        context = rng.choice(("", " ")).join(own)
    if rng.random() < 0.4:
        query = " ".join(w for w in query.split() if rng.random() < 0.85) or query
    return replace(record, context=context, query=query)


def scrambled(
    rng: random.Random, record: HaluEvalRecord, sources: Sources, shares: Sequence[float]
) -> HaluEvalRecord:
    """Five times in six other names and numbers for most, and other words for a share of them.

    Word by word, each everywhere the same: what a question asks can still be looked up, and can
    only be looked up.

    Args:
        rng: Draws the words.
        record: With context, query, accepted and rejected.
        sources: Where words come from.
        shares: One of them is drawn: how many of the words that are no names are replaced.
    """
    if rng.random() < 1 / 6:
        return record
    change = substitution(rng, sources, names=rng.choice((0.7, 1.0)), words=rng.choice(shares))
    return replace(
        record,
        context=change(record.context),
        query=change(record.query),
        accepted=change(record.accepted or ""),
        rejected=change(record.rejected or ""),
    )


def _asked(rng: random.Random, before: str, span: str, after: str) -> str:
    """The sentence with a question word for the span: in its place or first, words left out."""
    left, right = before.split(), after.rstrip(".").split()
    word = rng.choice(_question_words(rng, left, span))
    if rng.random() < 0.6:
        kept = rng.choice((0.4, 0.6, 0.8))
        left, right = ([w for w in words if rng.random() < kept] for words in (left, right))
    if rng.random() < 0.5:
        return " ".join([word.capitalize(), *left, *right]) + "?"
    return " ".join([*left, word, *right]) + "?"


def _question_words(rng: random.Random, before: Sequence[str], span: str) -> Sequence[str]:
    """Words that ask for such a span behind such a word; one time in five any."""
    if rng.random() < 0.2:
        return _ANY
    if span[0].isdigit():
        return _YEAR if len(span) == 4 else _NUMBER
    last = before[-1].casefold() if before else ""
    return _PLACE if last in _BEFORE_PLACES else _PERSON if last in _BEFORE_PEOPLE else _NAME


def plain(rng: random.Random, sources: Sources) -> str:
    """Context or knowledge as it stands, or with other words and said twice."""
    if rng.random() < 0.5:
        item = varied(rng, rng.choice(sources.bbq), sources, 0.9)
        text = f"{item.context}\n{item.question}\n" + "\n".join(item.options)
    elif sources.texts and rng.random() < 0.5:
        text = rng.choice(sources.texts)
    else:
        record = rng.choice(sources.halueval)
        text = f"{record.context}\n{record.query}\n{record.accepted}"
    if rng.random() < 0.5:
        return text
    text = substitution(rng, sources, names=0.9, words=rng.choice((0.0, 0.5, 1.0)))(text)
    return f"{text}\n{text}"


def _name(rng: random.Random) -> str:
    return rng.choice(words.FIRST_SYLLABLES) + rng.choice(words.SECOND_SYLLABLES)


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)", re.IGNORECASE)
