"""Before step 0: is the model spoken to in its own format, and are right replies paid as such?"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2.exceptions import TemplateError

from grpo_dual.diagnosis.grading import grade
from grpo_dual.prompts.chat import ChatEncoder, Tokenizer
from grpo_dual.types import Finding, Message, Severity

_ACT, _WARN = 0.2, 0.02
_SHOWN = 3
_USER, _REPLY, _SECOND = "userprobe", "replyprobe", "secondprobe"
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>|<\uff5c[^<>]{1,40}\uff5c>|</?(?:start|end)_of_turn>")
"""What is meant as a control token, whatever the tokenizer makes of it."""
_SHOWN_CHARS = 120


def chat_format(
    encoder: ChatEncoder, tokenizer: Tokenizer, generation_eos_ids: Sequence[int]
) -> tuple[Finding, ...]:
    """Is the chat template one that this tokenizer, and this model, can have been trained with?

    Args:
        encoder: The chat format as the run uses it.
        tokenizer: The model's.
        generation_eos_ids: Where the model's own generation configuration stops.
    """
    fatal = _fatal(_Rendered(tokenizer))
    doubts = _doubts(encoder, tokenizer, generation_eos_ids)
    found: list[Finding] = []
    for faults, severity, confidence in ((fatal, Severity.ACT, 0.95), (doubts, Severity.WARN, 0.6)):
        if faults:
            found.append(
                Finding(
                    code="wrong-chat-template",
                    objective=None,
                    severity=severity,
                    says=(
                        "The chat template is not this model's: its prompts are not what the model "
                        "was trained on."
                        if severity is Severity.ACT
                        else "The chat template may not be this model's."
                    ),
                    evidence=tuple(faults),
                    confidence=confidence,
                    remedy=(
                        "Use the instruct model's own tokenizer files (tokenizer_config.json, "
                        "chat_template.jinja), unchanged."
                    ),
                )
            )
    return tuple(found)


class _Rendered:
    """What a template makes of a few turns."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def text(self, *turns: str, generate: bool = False) -> str:
        """User and assistant in turn."""
        roles = ("user", "assistant")
        chat = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
        rendered = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=generate, tokenize=False, return_dict=False
        )
        return str(rendered)

    def ids(self, text: str) -> list[int]:
        """Ids of a piece of the rendering."""
        return self._tokenizer.encode(text, add_special_tokens=False)


def _fatal(rendered: _Rendered) -> list[str]:
    """Reasons for which the prompts are wrong for certain."""
    try:
        asked = rendered.text(_USER, generate=True)
        silent = rendered.text(_USER)
        whole = rendered.text(_USER, _REPLY, _SECOND)
    except TemplateError as error:
        return [f"it cannot render a user turn, a reply and a user turn: {error}"]
    faults: list[str] = []
    if not all(part in whole for part in (_USER, _REPLY, _SECOND)) or _USER not in asked:
        return [f"it leaves out what is said: {_short(whole)}"]
    to_reply = whole.partition(_USER)[2].partition(_REPLY)[0]
    to_user = whole.partition(_REPLY)[2].partition(_SECOND)[0]
    if rendered.ids(to_reply) == rendered.ids(to_user):
        faults.append(
            f"its roles look alike: {_short(to_reply)} before a reply, {_short(to_user)} before a "
            "user's turn, and both are the same tokens"
        )
    header = whole.removeprefix(asked).partition(_REPLY)[0] if whole.startswith(asked) else ""
    if asked == silent and header.strip():
        faults.append(
            f"it has no generation prompt: {_short(header)} stands before a reply and is not in "
            "the prompt, so the model has to write it first"
        )
    for tag in dict.fromkeys(_CONTROL.findall(whole + asked)):
        if len(pieces := rendered.ids(tag)) != 1:
            faults.append(
                f"it writes {tag}, which is no token of this tokenizer but {len(pieces)} pieces"
            )
    return faults


def _doubts(
    encoder: ChatEncoder, tokenizer: Tokenizer, generation_eos_ids: Sequence[int]
) -> list[str]:
    """Reasons to look again."""
    doubts: list[str] = []
    prompt = encoder.encode([Message("system", "S"), Message("user", "U")])
    bos = tokenizer.bos_token_id
    if bos is not None and (count := prompt.count(bos)) > 1:
        doubts.append(
            f"a prompt holds its beginning-of-sequence token {count} times, once is right"
        )
    (*_, end) = encoder.encode_completion("yes")
    if not encoder.ends_turns:
        doubts.append(
            "it ends a reply by no control token; completions are taught and taken to end with "
            f"{_token(tokenizer, end)} instead"
        )
    elif generation_eos_ids and end not in generation_eos_ids:
        stops = ", ".join(_token(tokenizer, i) for i in generation_eos_ids)
        doubts.append(
            f"it ends a reply with {_token(tokenizer, end)}, the model's generation_config.json "
            f"stops at {stops}"
        )
    return doubts


def _token(tokenizer: Tokenizer, token: int) -> str:
    return f"{tokenizer.decode([token], skip_special_tokens=False)} ({token})"


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The right reply to a record, written by this tokenizer and read by this reward."""

    record_id: str
    kind: str
    target: str
    decoded: str
    """What is left of it behind the tokenizer."""
    same: bool
    """The reader finds the same answer in both."""
    earned: float | None
    """Task part that the decoded text earns; None: the offline judge has no opinion."""
    best: float
    """What the right answer earns; infinite where the reward table pays no more for it than for a
    wrong one."""


def parser_mismatch(objective: str, replies: Sequence[Reply]) -> tuple[Finding, ...]:
    """Do right replies survive the tokenizer, and earn the full reward?

    Args:
        objective: Its name.
        replies: Of records as the run draws them.
    """

    def found(
        wrong: Callable[[Reply], bool], says: str, show: Callable[[Reply], str], remedy: str
    ) -> Finding | None:
        bad = [reply for reply in replies if wrong(reply)]
        if not bad:
            return None
        share = len(bad) / len(replies)
        return Finding(
            code="parser-mismatch",
            objective=objective,
            severity=grade(share, act=_ACT, warn=_WARN),
            says=says,
            evidence=(
                f"{len(bad)} of {len(replies)} right replies ({share:.1%})",
                *(f"{r.record_id} ({r.kind}): {show(r)}" for r in bad[:_SHOWN]),
            ),
            confidence=0.95,
            remedy=remedy,
        )

    lost = found(
        lambda r: not r.same,
        "The tokenizer cannot write right replies so that they are read as what they are.",
        lambda r: f"{_short(r.target)} comes back as {_short(r.decoded)}",
        "Use a tokenizer that can write these texts; one of another language or world cannot.",
    )
    unpaid = found(
        lambda r: r.same and r.earned is not None and r.earned < r.best < math.inf,
        "Right replies do not earn the full reward: wording, reader or reward table disagree.",
        lambda r: f"{_short(r.target)} earns {r.earned:g} of {r.best:g}",
        "Look at these records: their right text is read as another answer, or judged as none.",
    )
    return tuple(finding for finding in (lost, unpaid) if finding is not None)
