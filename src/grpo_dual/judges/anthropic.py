"""Anthropic's messages API through the official SDK; its retries are off, as in openai.py."""

import importlib
import os
from collections.abc import Mapping
from typing import Any, cast

from grpo_dual.config.judging import AnthropicProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Chat, ProviderError, Reply, Usage
from grpo_dual.judges.http import count, raised, whole
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
        return identity(self._config)

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
        except (self._sdk.AnthropicError, ValueError) as error:
            raise raised(self._sdk, error, self._key) from None
        return self._reply(found)

    def _reply(self, found: object) -> Reply:
        answer = whole(found, "content", self._key)
        usage = _usage(getattr(answer, "usage", None))
        ending = getattr(answer, "stop_reason", None)
        if ending == "refusal":
            raise ProviderError(Cause.REFUSAL, "the model declined to judge", usage=usage)
        if ending == "max_tokens":
            raise ProviderError(Cause.INVALID, "the reply was cut by its limit", usage=usage)
        blocks = cast("list[object]", answer.content)
        texts = [getattr(b, "text", None) for b in blocks if getattr(b, "type", None) == "text"]
        text = "".join(t for t in texts if isinstance(t, str))
        if not text.strip():
            raise ProviderError(Cause.INVALID, "the reply is empty", usage=usage)
        return Reply(text, usage, str(getattr(answer, "model", None) or self._config.model))

    async def close(self) -> None:
        """See ChatModel."""
        await self._client.close()


def identity(config: AnthropicProviderConfig) -> Mapping[str, object]:
    """See ChatModel; it is known without a client."""
    return {
        "kind": config.kind,
        # Where it is null, the SDK asks the environment.
        "base_url": config.base_url or os.environ.get("ANTHROPIC_BASE_URL"),
        "model": config.model,
        "structured": config.structured,
        "max_output_tokens": config.max_output_tokens,
    }


def _usage(found: object) -> Usage:
    """Anthropic counts what it read from and wrote to its cache outside ``input_tokens``."""
    read = count(found, "cache_read_input_tokens")
    write = count(found, "cache_creation_input_tokens")
    return Usage(
        input=count(found, "input_tokens") + read + write,
        cached=read,
        cache_write=write,
        output=count(found, "output_tokens"),
    )
