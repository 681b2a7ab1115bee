"""Is a judge behind an API there, and does it take the key? Asked without a paid request."""

import importlib
from typing import Any

from grpo_dual.config.judging import (
    AnthropicProviderConfig,
    CloudProviderConfig,
    OpenAiProviderConfig,
)
from grpo_dual.errors import JudgeError
from grpo_dual.judges.http import detail
from grpo_dual.judges.openai import INSTALL
from grpo_dual.judges.secrets import Secret, find

SECONDS = 3.0
"""Waited for an answer."""
_DENIED = frozenset({401, 402, 403})
_DOWN = 500


def why_not(name: str, provider: CloudProviderConfig, *, seconds: float = SECONDS) -> str | None:
    """Ask a judge for its list of models, which costs nothing.

    Any answer counts as being there but one that refuses the key or says that the server is down:
    not every server has such a list.

    Args:
        name: The judge's.
        provider: Its settings.
        seconds: How long to wait.

    Returns:
        Why it cannot be had, without secrets; None: it can.

    Raises:
        JudgeError: Its key is not there, or its SDK is not installed: no run can start so.
    """
    assert isinstance(provider, OpenAiProviderConfig | AnthropicProviderConfig)
    key = find(provider.api_key, name)
    sdk, client_class = _sdk(provider)
    try:
        with client_class(
            api_key=key.reveal() or "none",
            base_url=provider.base_url,
            max_retries=0,
            timeout=seconds,
        ) as client:
            # Raw: what the list holds is of no interest, and an odd body no reason to fail.
            client.models.with_raw_response.list()
    except sdk.APIStatusError as error:
        return _of_status(int(error.status_code), error, key)
    except sdk.APIConnectionError as error:
        why = error.__cause__
        told = f"{error} {type(why).__name__}: {why}" if why is not None else str(error)
        return detail(told, key)
    return None


def _sdk(provider: OpenAiProviderConfig | AnthropicProviderConfig) -> tuple[Any, Any]:
    """The module, and the class of its client."""
    try:
        if isinstance(provider, OpenAiProviderConfig):
            openai: Any = importlib.import_module("openai")
            return openai, openai.OpenAI
        anthropic: Any = importlib.import_module("anthropic")
        return anthropic, anthropic.Anthropic
    except ImportError as error:
        raise JudgeError(f"a judge behind an API needs its SDK: {INSTALL}") from error


def _of_status(status: int, error: Exception, key: Secret) -> str | None:
    if status in _DENIED:
        return f"the key is refused: {detail(error, key)}"
    return f"the server is down: {detail(error, key)}" if status >= _DOWN else None
