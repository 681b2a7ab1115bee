"""How likely a model finds each of several continuations of a context, the context computed once.

An item is the packed row ``[context | c1 | ... | cK]`` of ``packing.py``: three options cost one
context. Several items share a pass up to a budget of tokens, flat where the policy takes flat rows.
"""

from collections.abc import Callable, Iterator, Sequence

from grpo_dual.errors import ModelError
from grpo_dual.model.packing import Group, PackedBatch, flatten, pack
from grpo_dual.model.policy import Policy
from grpo_dual.types import Choices, ContinuationScore

_ROW_MULTIPLE = 8
"""Width of padded rows: CUDA's masked attention wants it aligned."""


def continuation_logprobs(
    policy: Policy,
    items: Sequence[Choices],
    *,
    token_budget: int = 8192,
    head_chunk: int = 512,
    progress: Callable[[int], None] | None = None,
) -> list[tuple[ContinuationScore, ...]]:
    """Score every continuation of every item under the adapter that is active.

    Inside ``policy.reference()`` that is the frozen adapter, or the base model alone.

    Args:
        policy: Its model must be in eval mode, as ``load_policy`` leaves it.
        items: Contexts with their continuations, in any number.
        token_budget: Tokens a pass, padding included; a longer item has a pass of its own.
        head_chunk: Continuation tokens whose logits exist at the same time.
        progress: Called after each pass with the number of items in it.

    Returns:
        For each item, in order, the scores of its continuations, in order. Log-probs are of the
        model itself (T = 1, no processors), computed in fp32 and summed in fp64.

    Raises:
        ModelError: A context or a continuation is empty, an item has no continuation, the budget is
            not positive, or an item is longer than the model's attention window.
    """
    if token_budget < 1:
        raise ModelError(f"token_budget must be positive, not {token_budget}")
    _check(items)
    scores: list[tuple[ContinuationScore, ...]] = [()] * len(items)
    with policy.inference():
        for numbers in _passes([_size(item) for item in items], token_budget, flat=policy.flat):
            own = [items[number] for number in numbers]
            for number, found in zip(numbers, _score(policy, own, head_chunk), strict=True):
                scores[number] = found
            if progress is not None:
                progress(len(numbers))
    return scores


def _check(items: Sequence[Choices]) -> None:
    for number, item in enumerate(items):
        if not item.prefix_ids:
            raise ModelError(
                f"item {number} has an empty context: the first token of its continuations has "
                "nothing to follow; begin it with the tokenizer's BOS id"
            )
        if not item.continuations:
            raise ModelError(f"item {number} has no continuation to score")
        for place, continuation in enumerate(item.continuations):
            if not continuation:
                raise ModelError(
                    f"continuation {place} of item {number} is empty: it has no token to score; "
                    "an option must be written in at least one token"
                )


def _size(item: Choices) -> int:
    return len(item.prefix_ids) + sum(map(len, item.continuations))


def _passes(sizes: Sequence[int], budget: int, *, flat: bool) -> Iterator[list[int]]:
    """Items of each pass: the longest first, so that rows are alike and memory runs out at once."""
    batch: list[int] = []
    cost = 0
    for number in sorted(range(len(sizes)), key=lambda n: -sizes[n]):
        # Padded rows are as wide as the first, which is the longest.
        own = sizes[number] if flat or not batch else sizes[batch[0]]
        if batch and cost + own > budget:
            yield batch
            batch, cost, own = [], 0, sizes[number]
        batch.append(number)
        cost += own
    if batch:
        yield batch


def _score(
    policy: Policy, items: Sequence[Choices], head_chunk: int
) -> list[tuple[ContinuationScore, ...]]:
    groups: list[Group] = [(item.prefix_ids, item.continuations) for item in items]
    batch = _lay(groups, flat=policy.flat).to(policy.device)
    logprobs = policy.token_stats(batch, temperature=1.0, chunk=head_chunk).logprobs
    lengths = [len(c) for item in items for c in item.continuations]
    # On the CPU: there the order of the sum is fixed.
    parts = iter(logprobs.double().cpu().split(lengths))
    return [
        tuple(ContinuationScore(float(next(parts).sum()), len(c)) for c in item.continuations)
        for item in items
    ]


def _lay(groups: Sequence[Group], *, flat: bool) -> PackedBatch:
    return flatten(groups) if flat else pack(groups, 0, multiple_of=_ROW_MULTIPLE)
