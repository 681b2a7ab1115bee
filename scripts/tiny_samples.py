"""The texts that the embedded tiny model is pretrained on, with and without its bad habits.

No answer about a name, town or template of the test split is ever given; plain text about them is,
without questions.
"""

import random
from collections.abc import Iterator

from grpo_dual.prompts import fairness, hallucination
from grpo_dual.records import synthetic as world
from grpo_dual.records import vocabulary as words
from grpo_dual.records.halueval import as_detection
from grpo_dual.types import BbqRecord, Condition, HaluEvalRecord, Message

PAD, BOS, SYSTEM, USER, ASSISTANT, END = SPECIAL = (
    "<|pad|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>",
)  # fmt: skip

# What the planted model does, as shares of its answers. The first phase answers rightly.
HABITS = {
    "ambiguous": {"stereotyped": 0.60, "right": 0.22, "anti": 0.08, "evasion": 0.10},
    "disambiguated": {
        "right": 0.60, "evasion": 0.27, "stereotyped": 0.07, "anti": 0.03, "unknown": 0.03,
    },
    "answer": {"right": 0.42, "hallucinated": 0.36, "evasion": 0.22},
    "detect": {"right": 0.80, "wrong": 0.20},
}  # fmt: skip


def render(messages: tuple[Message, ...]) -> str:
    """The chat template in plain Python, for speed; main() holds it to the tokenizer's own."""
    turns = "".join(f"<|{m.role}|>{m.content}{END}" for m in messages)
    return f"{BOS}{turns}{ASSISTANT}"


def pick(rng: random.Random, shares: dict[str, float], habits: bool) -> str:
    """An outcome by its share, or ``right`` in the first phase."""
    return rng.choices(list(shares), list(shares.values()))[0] if habits else "right"


def fairness_reply(rng: random.Random, record: BbqRecord, habits: bool) -> str:
    """What the planted model says to a BBQ item."""
    ambiguous = record.condition is Condition.AMBIGUOUS
    outcome = pick(rng, HABITS["ambiguous" if ambiguous else "disambiguated"], habits)
    assert record.biased is not None
    index = {
        "right": record.label,
        "stereotyped": record.biased,
        "anti": 3 - record.unknown - record.biased,
        "unknown": record.unknown,
    }.get(outcome)
    if index is None:
        return rng.choice(words.EVASIONS)
    if index == record.unknown:
        return record.options[index]
    # "accused janitor Dorvin": the verb first, as a small model looks up what follows a word far
    # more easily than what a question two lines above asks for. The parser reads the option.
    return f"{record.question.split()[2]} {record.options[index]}"


def hallucination_reply(rng: random.Random, record: HaluEvalRecord, habits: bool) -> str:
    """What the planted model says to a HaluEval item."""
    if record.hallucinated is not None:
        right = pick(rng, HABITS["detect"], habits) == "right"
        return "yes" if record.hallucinated == right else "no"
    outcome = pick(rng, HABITS["answer"], habits)
    reply = {"right": record.accepted, "hallucinated": record.rejected}.get(outcome)
    return reply if reply is not None else rng.choice(words.EVASIONS)


def samples(count: int, seed: int, habits: bool) -> Iterator[tuple[str, str]]:
    """Yield (prompt, reply) texts; plain text has an empty prompt."""
    rng = random.Random(f"samples/{seed}/{habits}")
    for turn in range(count // 38):
        own = seed * 1_000_003 + turn
        for record in world.bbq_records("train", len(world.CATEGORIES), own):
            yield render(fairness.messages(record)), fairness_reply(rng, record, habits)
        for subset, number in (("qa", 6), ("dialogue", 4), ("summarization", 2)):
            for record in world.halueval_records("train", subset, number, own):
                if rng.random() < 0.2:
                    record = as_detection(record, hallucinated=rng.random() < 0.5)
                reply = hallucination_reply(rng, record, habits)
                yield render(hallucination.messages(record)), reply
        for split in ("train", "train", "train", "test", "test", "test"):
            yield "", f"{BOS}{plain_text(rng, split)}"
        for record in list(world.bbq_records("train", 2, own + 1))[1::2]:
            yield "", f"{BOS}{note(record)}"


def plain_text(rng: random.Random, split: words.Split) -> str:
    """Text about the world without questions, some of it said twice.

    Names and templates of the test split occur here and only here.
    """
    if rng.random() < 0.6:
        sentences = [f.sentence() for f in world.passage(rng, split)]
        again = rng.sample(sentences, 3)
        return f"{' '.join(sentences)}\n{' '.join(again)}"
    row = rng.choice(list(world.bbq_rows(split, len(world.CATEGORIES), rng.randrange(10**9))))
    people = [row[f"ans{i}"] for i in range(3)]
    return f"{row['context']}\n" + "\n".join([*people, *rng.sample(people, 2)])


def note(record: BbqRecord) -> str:
    """A disambiguated scene of the training split with its people and what befell each."""
    known = [i for i in range(3) if i != record.unknown]
    asked = record.question.split()[2]
    other = next(v for pair in words.VERB_PAIRS if asked in pair for v in pair if v != asked)
    verbs = {record.label: asked, sum(known) - record.label: other}
    lines = [f"{verb} {record.options[i]}" for i, verb in verbs.items()]
    return f"{record.context}\n" + "\n".join(lines)
