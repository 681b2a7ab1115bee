"""Anthropic's messages API through the official SDK; its retries are off, as in openai.py."""

import importlib
from collections.abc import Mapping
from typing import Any, cast

from grpo_dual.config.judging import AnthropicProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Chat, ProviderError, Reply, Usage
from grpo_dual.judges.http import raised, whole
from grpo_dual.judges.openai import INSTALL
from grpo_dual.judges.secrets import Secret


class AnthropicModel:
    """A ``ChatModel``; made and used on one event loop."""

    def __init__(self, config: AnthropicProviderConfig, key: Secret, *, timeout: float) -> None:
        """Make the client.

        Raises:
            JudgeError: The SDK is not installed.
        """
        try:
            self._sdk: Any = importlib.import_module("anthropic")
        except ImportError as error:
            raise JudgeError(f"an Anthropic judge needs its SDK: {INSTALL}") from error
        self._config = config
        self._key = key
        self._client = self._sdk.AsyncAnthropic(
            api_key=key.reveal() or "none",
            base_url=config.base_url,
            max_retries=0,
            timeout=timeout,
        )

    @property
    def identity(self) -> Mapping[str, object]:
        """See ChatModel."""
        c = self._config
        return {
            "kind": c.kind,
            "base_url": c.base_url,
            "model": c.model,
            "structured": c.structured,
            "max_output_tokens": c.max_output_tokens,
        }

    async def ask(self, chat: Chat) -> Reply:
        """See ChatModel."""
        arguments: dict[str, object] = {
            "model": self._config.model,
            "max_tokens": self._config.max_output_tokens,
            # The rubric is the same in every request: the provider's prompt cache may keep it.
            "system": [
                {"type": "text", "text": chat.system, "cache_control": {"type": "ephemeral"}}
            ],
            "messages": [{"role": turn.role, "content": turn.content} for turn in chat.turns],
        }
        if self._config.structured == "json_schema":
            form = {"type": "json_schema", "schema": dict(chat.schema)}
            arguments["output_config"] = {"format": form}
        try:
            found: object = await self._client.messages.create(**arguments)
        except self._sdk.AnthropicError as error:
            raise raised(self._sdk, error, self._key) from None
        return self._reply(found)

    def _reply(self, found: object) -> Reply:
        answer = whole(found, "content", self._key)
        usage = _usage(answer.usage)
        if answer.stop_reason == "refusal":
            raise ProviderError(Cause.REFUSAL, "the model declined to judge", usage=usage)
        if answer.stop_reason == "max_tokens":
            raise ProviderError(Cause.INVALID, "the reply was cut by its limit", usage=usage)
        blocks = cast("list[Any]", answer.content)
        text = "".join(str(block.text) for block in blocks if block.type == "text" and block.text)
        if not text.strip():
            raise ProviderError(Cause.INVALID, "the reply is empty", usage=usage)
        return Reply(text, usage, str(answer.model or self._config.model))

    async def close(self) -> None:
        """See ChatModel."""
        await self._client.close()


def _usage(found: Any) -> Usage:
    """Anthropic counts what it read from and wrote to its cache outside ``input_tokens``."""
    if found is None:
        return Usage()
    read = int(getattr(found, "cache_read_input_tokens", None) or 0)
    write = int(getattr(found, "cache_creation_input_tokens", None) or 0)
    return Usage(
        input=int(found.input_tokens or 0) + read + write,
        cached=read,
        cache_write=write,
        output=int(found.output_tokens or 0),
    )
