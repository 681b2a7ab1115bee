"""Building prompts within their token limit: a prompt is shortened openly or refused, never cut.

What may be shortened is a HaluEval document or knowledge: a summary or answer of its first part is
still a task. A BBQ context may not, since the sentence that says who it was stands last: without it
a disambiguated item would turn into an ambiguous one whose label is wrong. Question, dialogue,
options and the text under judgement are never touched.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, Protocol, TypeVar

from grpo_dual.errors import PromptError
from grpo_dual.types import HaluEvalRecord, Message, Prompt, Record

R = TypeVar("R", bound=Record)
SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s)")
"""Where a sentence ends inside a text; not its last one."""
_MIN_KEPT = 0.5
"""A cut goes back to a sentence's end only if that keeps at least this share of what fits."""


class Encoder(Protocol):
    """What is asked of ``ChatEncoder`` here."""

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Chat to ids, generation prompt included."""
        ...


def _at_sentence(text: str) -> str:
    """``text`` back to its last full sentence, unless that would lose more than half of it."""
    ends = [match.end() for match in SENTENCE_END.finditer(text + " ")]
    if ends and ends[-1] >= _MIN_KEPT * len(text):
        return text[: ends[-1]]
    return text


def fitting_context(
    record: HaluEvalRecord, ids_of: Callable[[str], tuple[int, ...]], max_tokens: int
) -> str | None:
    """The longest head of the document in whole words whose prompt fits; None if no word does.

    Args:
        record: One whose prompt does not fit.
        ids_of: Prompt ids with another context.
        max_tokens: Limit for the whole prompt.
    """
    ends = [match.end() for match in re.finditer(r"\S+", record.context)]
    low, high = 0, len(ends) - 1  # ends[:low] fits, ends[:high + 1] (all of it) does not
    while low < high:
        middle = (low + high + 1) // 2
        if len(ids_of(record.context[: ends[middle - 1]])) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    # A longer head may tokenise to fewer ids at the seam, so the search's answer is checked again.
    while low > 0:
        head = record.context[: ends[low - 1]]
        for text in (_at_sentence(head), head):
            if len(ids_of(text)) <= max_tokens:
                return text
        low -= 1
    return None


def build_prompt(
    record: R,
    messages_fn: Callable[[R], tuple[Message, ...]],
    encoder: Encoder,
    *,
    max_tokens: int,
    overlong: Literal["shorten", "refuse"],
) -> Prompt:
    """Render ``record`` for a tokenizer, within ``max_tokens``.

    Args:
        record: What to ask.
        messages_fn: The objective's wording.
        encoder: The chat format.
        max_tokens: Limit for the whole prompt, template and generation prompt included.
        overlong: ``shorten`` the document by whole words from its end (to a sentence's end where
            one is near), or ``refuse``.

    Returns:
        The prompt; ``shortened`` is True when a part of the document is missing.

    Raises:
        PromptError: too long and not to be shortened, or too long with one word of the document.
    """
    messages = messages_fn(record)
    ids = encoder.encode(messages)
    if len(ids) <= max_tokens:
        return Prompt(record=record, messages=messages, token_ids=ids, shortened=False)
    where = f"{record.record_id} ({record.origin}): its prompt has {len(ids)} tokens, the limit is"
    if overlong == "refuse":
        raise PromptError(
            f"{where} {max_tokens}; raise rollout.max_prompt_tokens, or set "
            "rollout.overlong_prompt: shorten"
        )
    if not isinstance(record, HaluEvalRecord) or not record.context.strip():
        raise PromptError(
            f"{where} {max_tokens}, and it has no document that could be shortened (a question, a "
            "dialogue, options or a BBQ context never are); raise rollout.max_prompt_tokens"
        )

    def messages_of(context: str) -> tuple[Message, ...]:
        return messages_fn(replace(record, context=context))

    context = fitting_context(record, lambda text: encoder.encode(messages_of(text)), max_tokens)
    if context is None:
        bare = len(encoder.encode(messages_of("")))
        raise PromptError(
            f"{where} {max_tokens}, and {bare} remain without its document; raise "
            "rollout.max_prompt_tokens"
        )
    shorter = messages_of(context)
    return Prompt(
        record=record, messages=shorter, token_ids=encoder.encode(shorter), shortened=True
    )
