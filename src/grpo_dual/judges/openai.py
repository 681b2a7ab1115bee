"""OpenAI's chat completions, and every server that speaks them, through the official SDK.

The SDK's own retries are off: one retry layer stands above (judges/asking.py). What arrives is
checked by type, since the SDK hands through HTML pages as text and error objects as completions.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any, cast

from grpo_dual.config.judging import OpenAiProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Chat, ProviderError, Reply, Usage
from grpo_dual.judges.http import count, raised, whole
from grpo_dual.judges.secrets import Secret

INSTALL = 'pip install "grpo-dual[judges]"'


class OpenAiModel:
    """A ``ChatModel``; made and used on one event loop."""

    def __init__(self, config: OpenAiProviderConfig, key: Secret, *, timeout: float) -> None:
        """Make the client.

        Raises:
            JudgeError: The SDK is not installed.
        """
        try:
            self._sdk: Any = importlib.import_module("openai")
        except ImportError as error:
            raise JudgeError(f"an OpenAI judge needs its SDK: {INSTALL}") from error
        self._config = config
        self._key = key
        self._client = self._sdk.AsyncOpenAI(
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
        turns = [{"role": turn.role, "content": turn.content} for turn in chat.turns]
        arguments: dict[str, object] = {
            "model": self._config.model,
            "messages": [{"role": "system", "content": chat.system}, *turns],
            # Local servers know the old name only, OpenAI's newer models the new one only.
            "max_completion_tokens" if self.identity["base_url"] is None else "max_tokens": (
                self._config.max_output_tokens
            ),
        }
        if self._config.temperature is not None:
            arguments["temperature"] = self._config.temperature
        if self._config.structured == "json_schema":
            schema = {"name": "verdict", "strict": True, "schema": chat.schema}
            arguments["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self._config.structured == "json_object":
            arguments["response_format"] = {"type": "json_object"}
        try:
            found: object = await self._client.chat.completions.create(**arguments)
        except (self._sdk.OpenAIError, ValueError) as error:
            raise raised(self._sdk, error, self._key) from None
        return self._reply(found)

    def _reply(self, found: object) -> Reply:
        answer = whole(found, "choices", self._key)
        usage = _usage(getattr(answer, "usage", None))
        choices = cast("list[object]", answer.choices)
        choice = choices[0] if choices else None
        message = getattr(choice, "message", None)
        if message is None:
            raise ProviderError(Cause.INVALID, "no choices in the reply", usage=usage)
        ending = getattr(choice, "finish_reason", None)
        if getattr(message, "refusal", None) or ending == "content_filter":
            raise ProviderError(Cause.REFUSAL, "the model declined to judge", usage=usage)
        if ending == "length":
            raise ProviderError(Cause.INVALID, "the reply was cut by its limit", usage=usage)
        text = getattr(message, "content", None)
        if not isinstance(text, str) or not text.strip():
            raise ProviderError(Cause.INVALID, "the reply is empty", usage=usage)
        return Reply(text, usage, str(getattr(answer, "model", None) or self._config.model))

    async def close(self) -> None:
        """See ChatModel."""
        await self._client.close()


def identity(config: OpenAiProviderConfig) -> Mapping[str, object]:
    """See ChatModel; it is known without a client."""
    return {
        "kind": config.kind,
        # Where it is null, the SDK asks the environment.
        "base_url": config.base_url or os.environ.get("OPENAI_BASE_URL"),
        "model": config.model,
        "temperature": config.temperature,
        "structured": config.structured,
        "max_output_tokens": config.max_output_tokens,
    }


def _usage(found: object) -> Usage:
    """OpenAI counts what it read from its cache inside ``prompt_tokens``."""
    asked = count(found, "prompt_tokens")
    cached = count(getattr(found, "prompt_tokens_details", None), "cached_tokens")
    return Usage(input=asked, cached=min(cached, asked), output=count(found, "completion_tokens"))
