"""OpenAI's chat completions, and every server that speaks them, through the official SDK.

The SDK's own retries are off: one retry layer stands above (judges/asking.py). What arrives is
checked by type, since the SDK hands through HTML pages as text and error objects as completions.
"""

import importlib
from collections.abc import Mapping
from typing import Any, cast

from grpo_dual.config.judging import OpenAiProviderConfig
from grpo_dual.errors import JudgeError
from grpo_dual.judges.client import Cause, Chat, ProviderError, Reply, Usage
from grpo_dual.judges.http import raised, whole
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
        c = self._config
        return {
            "kind": c.kind,
            "base_url": c.base_url,
            "model": c.model,
            "temperature": c.temperature,
            "structured": c.structured,
            "max_output_tokens": c.max_output_tokens,
        }

    async def ask(self, chat: Chat) -> Reply:
        """See ChatModel."""
        turns = [{"role": turn.role, "content": turn.content} for turn in chat.turns]
        arguments: dict[str, object] = {
            "model": self._config.model,
            "messages": [{"role": "system", "content": chat.system}, *turns],
            # Local servers know the old name only, OpenAI's newer models the new one only.
            "max_completion_tokens" if self._config.base_url is None else "max_tokens": (
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
        except self._sdk.OpenAIError as error:
            raise raised(self._sdk, error, self._key) from None
        return self._reply(found)

    def _reply(self, found: object) -> Reply:
        answer = whole(found, "choices", self._key)
        usage = _usage(answer.usage)
        choices = cast("list[Any]", answer.choices)
        if not choices or choices[0].message is None:
            raise ProviderError(Cause.INVALID, "no choices in the reply", usage=usage)
        choice = choices[0]
        if getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter":
            raise ProviderError(Cause.REFUSAL, "the model declined to judge", usage=usage)
        if choice.finish_reason == "length":
            raise ProviderError(Cause.INVALID, "the reply was cut by its limit", usage=usage)
        text = choice.message.content
        if not isinstance(text, str) or not text.strip():
            raise ProviderError(Cause.INVALID, "the reply is empty", usage=usage)
        return Reply(text, usage, str(answer.model or self._config.model))

    async def close(self) -> None:
        """See ChatModel."""
        await self._client.close()


def _usage(found: Any) -> Usage:
    if found is None:
        return Usage()
    details = getattr(found, "prompt_tokens_details", None)
    cached = int(getattr(details, "cached_tokens", None) or 0)
    return Usage(
        input=int(found.prompt_tokens or 0), cached=cached, output=int(found.completion_tokens or 0)
    )
