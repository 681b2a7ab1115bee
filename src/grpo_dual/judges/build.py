"""Configuration -> judges. The SDKs, and torch for a local model, are imported here at last."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from grpo_dual.config.judging import (
    AnthropicProviderConfig,
    CloudProviderConfig,
    HeuristicProviderConfig,
    JudgeCacheConfig,
    JudgeConfig,
    OpenAiProviderConfig,
)
from grpo_dual.config.places import cache_dir
from grpo_dual.judges import anthropic, openai
from grpo_dual.judges.anthropic import AnthropicModel
from grpo_dual.judges.asking import ChatJudge, Settings
from grpo_dual.judges.breaker import Breaker
from grpo_dual.judges.cache import VerdictCache
from grpo_dual.judges.client import ChatModel, Judge
from grpo_dual.judges.ledger import Ledger
from grpo_dual.judges.limits import Limits
from grpo_dual.judges.local import HeuristicJudge
from grpo_dual.judges.openai import OpenAiModel
from grpo_dual.judges.secrets import Secret


def cache_path(config: JudgeCacheConfig) -> Path:
    """The file of the verdicts."""
    return config.path or cache_dir() / "judge" / "verdicts.sqlite"


def identity(provider: CloudProviderConfig) -> Mapping[str, object]:
    """What a judge's replies depend on beside the chat, see ChatModel; no client is made."""
    if isinstance(provider, OpenAiProviderConfig):
        return openai.identity(provider)
    assert isinstance(provider, AnthropicProviderConfig)
    return anthropic.identity(provider)


def build_judges(
    config: JudgeConfig,
    secrets: Mapping[str, Secret],
    ledger: Ledger,
    cache: VerdictCache | None,
) -> dict[str, Judge]:
    """The judges by name; call it on the event loop that will use them.

    Raises:
        JudgeError: An SDK or a local model is not there.
    """
    judges: dict[str, Judge] = {}
    for name, provider in config.providers.items():
        if isinstance(provider, HeuristicProviderConfig):
            judges[name] = HeuristicJudge(name, provider.threshold)
        elif isinstance(provider, CloudProviderConfig):
            judges[name] = _chat_judge(name, provider, config, secrets[name], ledger, cache)
        else:
            from grpo_dual.judges.nli import NliJudge  # torch: only for a local model

            judges[name] = NliJudge(name, provider)
    return judges


def _chat_judge(
    name: str,
    provider: CloudProviderConfig,
    config: JudgeConfig,
    key: Secret,
    ledger: Ledger,
    cache: VerdictCache | None,
) -> ChatJudge:
    seconds = config.retry.attempt_seconds
    model: ChatModel
    if isinstance(provider, OpenAiProviderConfig):
        model = OpenAiModel(provider, key, timeout=seconds)
    else:
        assert isinstance(provider, AnthropicProviderConfig)
        model = AnthropicModel(provider, key, timeout=seconds)
    settings = Settings(
        name=name,
        rubric=config.rubric,
        price=provider.price,
        max_output_tokens=provider.max_output_tokens,
        retry=config.retry,
    )
    limits = Limits(
        concurrency=provider.concurrency,
        requests_per_minute=provider.requests_per_minute,
        tokens_per_minute=provider.tokens_per_minute,
    )
    breaker = Breaker(
        failures=config.breaker.failures,
        cooldown=config.breaker.cooldown_seconds,
        clock=asyncio.get_running_loop().time,
    )
    return ChatJudge(settings, model, limits=limits, breaker=breaker, ledger=ledger, cache=cache)
