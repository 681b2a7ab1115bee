"""Messages -> token ids through the model's own chat template, by id, never re-tokenised text.

Nothing here imports transformers: any object with the few members of ``Tokenizer`` will do, which
the fast tokenizers of transformers 5 have.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

from jinja2.exceptions import TemplateError

from grpo_dual.errors import ModelError
from grpo_dual.types import Message

_SYSTEM_PROBE = "systemprobe"
_USER_PROBE = "userprobe"
_REPLY_PROBE = "replyprobe"


class AddedToken(Protocol):
    """An entry of the tokenizer's added vocabulary."""

    @property
    def special(self) -> bool:
        """True for control tokens, which decoding leaves out."""
        ...


class Tokenizer(Protocol):
    """What is asked of a tokenizer; ``PreTrainedTokenizerFast`` satisfies it."""

    @property
    def chat_template(self) -> object:
        """The Jinja source, or None."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """Beginning of sequence."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """End of sequence."""
        ...

    @property
    def pad_token_id(self) -> int | None:
        """Padding."""
        ...

    @property
    def all_special_ids(self) -> Sequence[int]:
        """Ids of the named special tokens."""
        ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Added vocabulary by id."""
        ...

    def apply_chat_template(
        self,
        conversation: list[dict[str, str]],
        *,
        add_generation_prompt: bool = ...,
        tokenize: bool = ...,
        return_dict: bool = ...,
    ) -> object:
        """Render a chat to text or ids."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]:
        """Text to ids."""
        ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool = ...) -> object:
        """Ids to text."""
        ...


class ChatEncoder:
    """A tokenizer's chat format, probed once.

    Example (Llama-3): ``encode`` gives ``<|begin_of_text|><|start_header_id|>system...`` up to and
    with the assistant header; ``encode_completion("yes")`` gives the ids of ``yes<|eot_id|>``;
    ``eos_ids`` holds ``<|eot_id|>`` and ``<|end_of_text|>``.

    Raises:
        ModelError: the tokenizer has no chat template, or neither the template nor the tokenizer
            says how a turn ends.
    """

    eos_ids: tuple[int, ...]
    """Ids that end a completion: the template's end of turn, the tokenizer's EOS, the ones handed
    in."""
    pad_id: int
    """Filler for batches; always masked, so EOS serves where a tokenizer has none (Llama-3)."""
    merges_system: bool
    """True when the template has no system role: its text goes in front of the first user turn."""
    ends_turns: bool
    """False when the template ends a reply by no control token, so that EOS has to stand in."""

    def __init__(self, tokenizer: Tokenizer, *, generation_eos_ids: Iterable[int] = ()) -> None:
        """Probe the template.

        Args:
            tokenizer: The policy's tokenizer.
            generation_eos_ids: EOS ids of the model's generation config (Llama-3 lists several).
        """
        if not tokenizer.chat_template:
            raise ModelError(
                "the tokenizer has no chat template, so it is unknown how the model is spoken to; "
                "use an instruct model, or put a chat_template.jinja beside tokenizer_config.json"
            )
        self._tokenizer = tokenizer
        self.merges_system = not self._has_system_role()
        self._special = {int(i) for i in tokenizer.all_special_ids} | {
            int(i) for i, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        # The tokenizer's own habit decides where the template is silent about BOS.
        with_special = tokenizer.encode(_USER_PROBE, add_special_tokens=True)
        bos = tokenizer.bos_token_id
        self._bos = bos if bos is not None and with_special[:1] == [bos] else None
        found_end = self._find_end_of_turn()
        self.ends_turns = found_end is not None
        eos = tokenizer.eos_token_id
        self._end_of_turn = self._or_eos(found_end)
        found = [self._end_of_turn, *([eos] if eos is not None else []), *generation_eos_ids]
        self.eos_ids = tuple(dict.fromkeys(int(i) for i in found))
        pad = tokenizer.pad_token_id
        self.pad_id = (
            self.eos_ids[-1 if eos is None else self.eos_ids.index(eos)] if pad is None else pad
        )

    def _render(self, chat: list[dict[str, str]], *, generate: bool) -> str:
        text = self._tokenizer.apply_chat_template(
            chat, add_generation_prompt=generate, tokenize=False, return_dict=False
        )
        if not isinstance(text, str):
            raise ModelError(f"the chat template rendered {type(text).__name__}, not text")
        return text

    def _has_system_role(self) -> bool:
        """False when the template raises on a system turn (Gemma) or leaves it out."""
        user = {"role": "user", "content": _USER_PROBE}
        try:
            text = self._render([{"role": "system", "content": _SYSTEM_PROBE}, user], generate=True)
        except TemplateError:
            return False
        return _SYSTEM_PROBE in text

    def _find_end_of_turn(self) -> int | None:
        """The first control token behind an assistant turn."""
        chat = [
            {"role": "user", "content": _USER_PROBE},
            {"role": "assistant", "content": _REPLY_PROBE},
        ]
        try:
            text = self._render(chat, generate=False)
        except TemplateError as error:
            raise ModelError(
                f"the chat template cannot render a user turn and a reply: {error}"
            ) from error
        _, found, tail = text.rpartition(_REPLY_PROBE)
        if found:
            for token in self._tokenizer.encode(tail, add_special_tokens=False):
                if token in self._special:
                    return token
        return None

    def _or_eos(self, end_of_turn: int | None) -> int:
        """The end of a turn, for which the tokenizer's EOS stands where the template has none."""
        if end_of_turn is not None:
            return end_of_turn
        if self._tokenizer.eos_token_id is None:
            raise ModelError(
                "neither the chat template nor the tokenizer names a token that ends a reply; set "
                "eos_token in tokenizer_config.json"
            )
        return self._tokenizer.eos_token_id

    def _chat(self, messages: Sequence[Message]) -> list[dict[str, str]]:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        if not self.merges_system or not turns or turns[0]["role"] != "system":
            return turns
        if len(turns) == 1:
            return [{"role": "user", "content": turns[0]["content"]}]
        merged = f"{turns[0]['content']}\n\n{turns[1]['content']}"
        return [{"role": turns[1]["role"], "content": merged}, *turns[2:]]

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Ids of a chat with the generation prompt behind it.

        Starts with exactly one BOS where the model uses one (the template's, or the tokenizer's
        where the template is silent), never with two.

        Raises:
            ModelError: the template refuses these roles.
        """
        try:
            ids = self._tokenizer.apply_chat_template(
                self._chat(messages), add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except TemplateError as error:
            roles = ", ".join(m.role for m in messages)
            raise ModelError(f"the chat template refuses the turns ({roles}): {error}") from error
        if not isinstance(ids, list):
            raise ModelError(
                f"the tokenizer's apply_chat_template gave {type(ids).__name__}, not a list of ids"
            )
        tokens = cast("list[int]", ids)
        bos = self._tokenizer.bos_token_id
        while len(tokens) > 1 and bos is not None and tokens[0] == tokens[1] == bos:
            tokens = tokens[1:]
        if self._bos is not None and tokens[:1] != [self._bos]:
            tokens = [self._bos, *tokens]
        return tuple(tokens)

    def encode_completion(self, text: str) -> tuple[int, ...]:
        """Ids of a reply and the end-of-turn id, to be appended to ``encode``'s ids as they are."""
        return (*self._tokenizer.encode(text, add_special_tokens=False), self._end_of_turn)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a completion, without control tokens and outer blanks."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        if not isinstance(text, str):
            raise ModelError(f"the tokenizer's decode gave {type(text).__name__}, not text")
        return text.strip()
