"""Before step 0: prompts over the limit, answers lost with them, replies over theirs."""

import math
from collections.abc import Sequence

from grpo_dual.diagnosis.grading import grade
from grpo_dual.prompts.truncation import Fate, Fit, Loss
from grpo_dual.types import BbqRecord, Condition, Finding, Severity

_ACT = 0.5
_SENTENCES_ACT = 0.25
"""Of the disambiguated items: what is left asks for the unknown option in 57 of 100."""
_WARN = 0.05
_STEP = 32
"""Limits are proposed in steps of so many tokens."""
_NAMED = 5
"""Records that are named."""
_LONG_QUANTILE = 0.95


def prompt_truncation(
    objective: str, fits: Sequence[Fit], *, limit: int, room: int | None
) -> tuple[Finding, ...]:
    """Does the prompt limit take answers, or a condition, out of the data?

    Args:
        objective: Its name.
        fits: Records as the run draws them.
        limit: ``rollout.max_prompt_tokens``.
        room: Tokens that the model's window leaves for a prompt; None: not known.
    """
    if not fits:
        return ()
    found = (
        _sentences_lost(objective, fits, limit, room),
        _left_out(objective, fits, limit, room),
        _support_lost(objective, fits, limit, room),
        _window(objective, fits, limit, room),
    )
    return tuple(finding for finding in found if finding is not None)


def _sentences_lost(
    objective: str, fits: Sequence[Fit], limit: int, room: int | None
) -> Finding | None:
    """Disambiguated BBQ items that have no room for what disambiguates them."""
    own = [f for f in fits if _condition(f) is Condition.DISAMBIGUATED]
    lost = [f for f in own if f.answer is not Loss.NONE]
    if not lost:
        return None
    share = len(lost) / len(own)
    remedy, patch = _longer(lost, limit, room)
    others = [f for f in fits if _condition(f) is Condition.AMBIGUOUS]
    others_lost = sum(f.fate is Fate.LEFT_OUT for f in others)
    rest = len(own) - len(lost) + len(others) - others_lost
    ambiguous = f"{(len(others) - others_lost) / rest:.0%}" if rest else "nothing"
    return Finding(
        code="prompt-truncation",
        objective=objective,
        severity=grade(share, act=_SENTENCES_ACT, warn=_WARN),
        says=(
            f"{share:.0%} of the disambiguated items have no room for the sentence that "
            "disambiguates them; they are left out, and the rest of the data asks for the unknown "
            "option more often."
        ),
        evidence=(
            f"{len(lost)} of {len(own)} drawn disambiguated items are over {limit} tokens, "
            f"{sum(f.answer is Loss.ALL for f in lost)} of them with no word of their answer "
            f"sentence within; ambiguous items over it: {others_lost} of {len(others)}",
            f"of what is left, {ambiguous} is ambiguous; before, {len(others) / len(fits):.0%}",
            _named(lost),
        ),
        confidence=0.95,
        remedy=remedy,
        patch=patch,
    )


def _left_out(objective: str, fits: Sequence[Fit], limit: int, room: int | None) -> Finding | None:
    """Other prompts over the limit that may not be shortened."""
    gone = [f for f in fits if f.fate is Fate.LEFT_OUT and f.answer is Loss.NONE]
    if not gone:
        return None
    share = len(gone) / len(fits)
    remedy, patch = _longer(gone, limit, room)
    return Finding(
        code="prompt-truncation",
        objective=objective,
        severity=grade(share, act=_ACT, warn=_WARN),
        says=f"{share:.1%} of the prompts drawn are over the limit and are left out.",
        evidence=(
            f"{len(gone)} of {len(fits)} drawn prompts have more than {limit} tokens and nothing "
            f"that may be shortened: {_by_kind(gone)}",
            _named(gone),
        ),
        confidence=0.95,
        remedy=remedy,
        patch=patch,
    )


def _support_lost(
    objective: str, fits: Sequence[Fit], limit: int, room: int | None
) -> Finding | None:
    """Documents that were shortened, and what the right text rests on with them."""
    cut = [f for f in fits if f.fate is Fate.SHORTENED]
    if not cut:
        return None
    gone = [f for f in cut if f.answer is Loss.ALL]
    share = len(gone) / len(fits)
    without = f", and {share:.1%} of the items have lost what their answer rests on" if gone else ""
    remedy, patch = _longer(cut, limit, room)
    return Finding(
        code="prompt-truncation",
        objective=objective,
        severity=grade(share, act=_ACT, warn=_WARN),
        says=f"{len(cut) / len(fits):.1%} of the documents are shortened{without}.",
        evidence=(
            f"{len(cut)} of {len(fits)} drawn documents shortened to {limit} tokens: "
            f"{_by_kind(cut)}",
            f"all words of the right text that the document held are gone in {len(gone)}, some in "
            f"{sum(f.answer is Loss.PART for f in cut)}",
            _named(gone or cut),
        ),
        confidence=0.8,
        remedy=remedy,
        patch=patch,
    )


def _window(objective: str, fits: Sequence[Fit], limit: int, room: int | None) -> Finding | None:
    """Prompts within the limit that the model has no room for."""
    if room is None or room >= limit:
        return None
    over = [f for f in fits if room < f.tokens and f.fate is not Fate.LEFT_OUT]
    if not over:
        return None
    return Finding(
        code="prompt-truncation",
        objective=objective,
        severity=Severity.ACT,
        says="Prompts within the limit leave no room for their completion in the model's window.",
        evidence=(
            f"{len(over)} of {len(fits)} drawn prompts are longer than the {max(room, 0)} tokens "
            f"that the window leaves beside rollout.sampling.max_new_tokens; the limit is {limit}",
        ),
        confidence=1.0,
        remedy="Lower the prompt limit to what the window leaves, or the completion limit.",
        patch={"rollout.max_prompt_tokens": room} if room >= _STEP else {},
    )


def completion_truncation(
    objective: str, fits: Sequence[Fit], *, max_new_tokens: int, room: int | None
) -> tuple[Finding, ...]:
    """Are the right replies longer than a completion may be?

    Args:
        objective: Its name.
        fits: Records as the run draws them, with ``reply_tokens``.
        max_new_tokens: The completion limit.
        room: Tokens that the model's window leaves for a completion; None: not known.
    """
    lengths = sorted(f.reply_tokens for f in fits if f.reply_tokens is not None)
    over = sum(length > max_new_tokens for length in lengths)
    if not over:
        return ()
    share = over / len(lengths)
    long = lengths[math.ceil(_LONG_QUANTILE * len(lengths)) - 1]
    # All of them, unless few are much longer than the others.
    far = max_new_tokens < 2 * long < lengths[-1]
    wanted = _up(long if far and long > max_new_tokens else lengths[-1], 8)
    fits_in = room is None or wanted <= room
    return (
        Finding(
            code="completion-truncation",
            objective=objective,
            severity=grade(share, act=_ACT, warn=_WARN),
            says=(
                f"{share:.1%} of the right replies are longer than a completion may be: sampled, "
                "they are cut, and SFT leaves them out."
            ),
            evidence=(
                f"{over} of {len(lengths)} right replies have more than {max_new_tokens} tokens, "
                f"end of turn included; 95th percentile {long}, longest {lengths[-1]}",
            ),
            confidence=0.9,
            remedy="Raise the completion limit, or leave out the subset with the long replies.",
            patch={"rollout.sampling.max_new_tokens": wanted} if fits_in else {},
        ),
    )


def _condition(fit: Fit) -> Condition | None:
    return fit.record.condition if isinstance(fit.record, BbqRecord) else None


def _named(fits: Sequence[Fit]) -> str:
    """The first records by name, those of several draws once."""
    ids = list(dict.fromkeys(f.record.record_id for f in fits))
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"records: {', '.join(ids[:_NAMED])}{more}"


def _by_kind(fits: Sequence[Fit]) -> str:
    kinds = sorted({(f.record.subset, f.kind) for f in fits})
    counts = ((s, k, sum((f.record.subset, f.kind) == (s, k) for f in fits)) for s, k in kinds)
    return ", ".join(f"{k if k.startswith(s) else f'{s} {k}'} {n}" for s, k, n in counts)


def _up(tokens: int, step: int) -> int:
    return math.ceil(tokens / step) * step


def _longer(fits: Sequence[Fit], limit: int, room: int | None) -> tuple[str, dict[str, object]]:
    """Remedy and patch: raise the limit to what these prompts need, as far as the window allows."""
    needed = _up(max(f.tokens for f in fits), _STEP)
    wanted = needed if room is None else min(needed, room)
    if wanted > limit:
        text = "Raise the prompt limit to what the data needs"
        text += "." if wanted == needed else f" ({needed}), as far as the model's window allows."
        return text, {"rollout.max_prompt_tokens": wanted}
    return (
        f"These prompts need {needed} tokens, and the model's window has no room for them: leave "
        "out the subset with the long records, or take a model with a longer window.",
        {},
    )
