"""Who judges answers, within which limits, and what happens when nobody can.

Secrets never stand here: ``api_key`` names where the key is (``env:VARIABLE`` or
``keyring:SERVICE/USER``), and anything else is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from grpo_dual.config.strict import Strict

_KEY_SOURCE = re.compile(r"none|env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^/\s]+/[^\s]+")
_PLACES = "write env:VARIABLE, keyring:SERVICE/USER, or none for a server that asks for no key"


class PriceConfig(Strict):
    """USD for a million tokens, from the provider's price page; nothing is looked up."""

    input: float = Field(ge=0)
    """Prompt tokens."""
    output: float = Field(ge=0)
    """Reply tokens."""
    cached_input: float | None = Field(default=None, ge=0)
    """Prompt tokens read from the provider's prompt cache; null: as ``input``."""
    cache_write: float | None = Field(default=None, ge=0)
    """Prompt tokens written to it (Anthropic); null: as ``input``."""


class JudgeProviderConfig(Strict):
    """What every judge has."""

    concurrency: int = Field(default=16, ge=1)
    """Verdicts worked on at once."""
    share: float = Field(default=1.0, gt=0)
    """Route ``split``: this judge's share of the groups is share / sum of shares."""


class CloudProviderConfig(JudgeProviderConfig):
    """What every judge behind an HTTP API has."""

    model: str = Field(min_length=1)
    """Model id. Prefer a dated one: a floating alias lets the judge drift."""
    base_url: str | None = None
    """Another server that speaks the same protocol."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """The quota; null: none known."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """The quota on prompt + reply tokens; null: none known."""
    max_output_tokens: int = Field(default=256, ge=16)
    """Reply limit; a reply that is cut counts as invalid."""
    price: PriceConfig | None = None
    """Null: unknown, and then a budget in USD is refused rather than ignored."""

    @field_validator("base_url")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is None:
            return value
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError("must hold no user, password or query: keys come from api_key")
        return value

    @field_validator("api_key", check_fields=False)
    @classmethod
    def _names_a_place(cls, value: str) -> str:
        if not _KEY_SOURCE.fullmatch(value):
            # The value is not shown: it may be the key itself.
            raise ValueError(f"never put a key into a file; {_PLACES}")
        return value


class OpenAiProviderConfig(CloudProviderConfig):
    """OpenAI, or any server with its chat-completions API (vLLM, Ollama, LM Studio)."""

    kind: Literal["openai"] = "openai"
    """Tag of this kind of judge."""
    api_key: str = "env:OPENAI_API_KEY"
    """``env:VARIABLE``, ``keyring:SERVICE/USER``, or ``none``."""
    temperature: float | None = Field(default=0.0, ge=0)
    """Null leaves it out: some models refuse the parameter."""
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How JSON is asked for; ``prompt`` for servers that know neither parameter. The reply is
    validated here in any case."""


class AnthropicProviderConfig(CloudProviderConfig):
    """Anthropic's messages API."""

    kind: Literal["anthropic"] = "anthropic"
    """Tag of this kind of judge."""
    api_key: str = "env:ANTHROPIC_API_KEY"
    """``env:VARIABLE``, ``keyring:SERVICE/USER``, or ``none``."""
    structured: Literal["json_schema", "prompt"] = "json_schema"
    """How JSON is asked for. The reply is validated here in any case."""


class NliProviderConfig(JudgeProviderConfig):
    """A Transformers sequence classifier on this machine: does the knowledge entail the answer?"""

    kind: Literal["nli"] = "nli"
    """Tag of this kind of judge."""
    model: str = Field(min_length=1)
    """Hub name or folder."""
    revision: str | None = None
    """Commit or tag on the hub."""
    device: str = "cpu"
    """``cpu``, ``cuda``, ``cuda:1``."""
    entailment: str = "entailment"
    """Label of the class that means supported, any capitals; a model with one output needs none."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability of that class from which an answer is right."""
    max_tokens: int = Field(default=512, ge=16)
    """Tokens of knowledge and answer together; the knowledge is cut, never the answer."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model. Off unless you have read that code."""


class HeuristicProviderConfig(JudgeProviderConfig):
    """The offline lexical judge (docs/judge.md)."""

    kind: Literal["heuristic"] = "heuristic"
    """Tag of this kind of judge."""
    threshold: float = Field(default=0.7, gt=0, le=1)
    """Composite score from which an answer is right."""


PROVIDER_KINDS: Mapping[str, type[JudgeProviderConfig]] = {
    "openai": OpenAiProviderConfig,
    "anthropic": AnthropicProviderConfig,
    "nli": NliProviderConfig,
    "heuristic": HeuristicProviderConfig,
}
"""Configuration class of each kind of judge."""
JudgeProvider = Annotated[
    OpenAiProviderConfig | AnthropicProviderConfig | NliProviderConfig | HeuristicProviderConfig,
    Field(discriminator="kind"),
]
RESERVED = frozenset({"rule", "template_detector", "guard"})
"""Names of the built-in scorers."""


class JudgeRetryConfig(Strict):
    """One retry layer (the SDKs' own is off): exponential backoff with full jitter."""

    attempts: int = Field(default=5, ge=1)
    """Requests for one verdict at most, a repair of an invalid reply included."""
    attempt_seconds: float = Field(default=20.0, gt=0)
    """Limit of one request from first byte sent to last received."""
    deadline_seconds: float = Field(default=60.0, gt=0)
    """Limit of one verdict from its first request on, pauses included."""
    base_seconds: float = Field(default=0.5, gt=0)
    """The n-th pause is drawn from [0, base 2^n], and never shorter than ``Retry-After``."""
    cap_seconds: float = Field(default=20.0, gt=0)
    """Longest drawn pause."""


class JudgeBreakerConfig(Strict):
    """Stops asking a judge that is down."""

    failures: int = Field(default=8, ge=1)
    """Failures in a row (rate limits and invalid replies apart) that open it."""
    cooldown_seconds: float = Field(default=15.0, gt=0)
    """Then one probe is let through: its success closes the breaker, its failure waits again."""


class JudgeBudgetConfig(Strict):
    """Hard limits over the whole run, resumes included; behind them the offline judge goes on."""

    calls: int | None = Field(default=None, ge=0)
    """Requests, failed ones included."""
    tokens: int | None = Field(default=None, ge=0)
    """Prompt and reply tokens."""
    usd: float | None = Field(default=None, ge=0)
    """Money; every cloud judge then needs its ``price``."""


class JudgeOutageConfig(Strict):
    """What happens to a group that no judge of the route could score well enough."""

    action: Literal["heuristic", "unscored", "pause", "stop"] = "heuristic"
    """``heuristic``: the offline judge scores the whole group. ``unscored``: what failed is left
    out. ``pause``: wait for a judge to come back. ``stop``: save and end; resume goes on."""
    min_scored: float = Field(default=0.5, ge=0, le=1)
    """Share of a group's questions that one judge must have answered; the rest is left unscored
    (``pause`` and ``stop`` want all, those apart that a judge refused or answered unreadably)."""
    probe_seconds: float = Field(default=10.0, gt=0)
    """``pause``: time between two tries."""
    patience_seconds: float = Field(default=3600.0, gt=0)
    """``pause``: after so long without any verdict the run stops, with everything saved."""


class JudgeCacheConfig(Strict):
    """Verdicts on disk (SQLite), shared by all runs of this user."""

    enabled: bool = True
    """Off: every verdict is asked for; equal questions in flight are still asked once."""
    path: Path | None = None
    """File; null: ``judge/verdicts.sqlite`` in the cache folder."""
    max_entries: int = Field(default=1_000_000, ge=1)
    """Above it the longest unused verdicts are dropped."""


class JudgeConfig(Strict):
    """Who judges; without providers the offline judge does."""

    providers: dict[str, JudgeProvider] = {}
    """The judges by name, the first choice first. The names appear in the metrics."""
    route: Literal["primary-then-fallback", "split", "both-and-agree"] = "primary-then-fallback"
    """``primary-then-fallback``: in the order of ``providers``. ``split``: each group has its own
    first choice by ``share``. ``both-and-agree``: as the first, but on ``agree_share`` of the
    groups the first two judge all, and what they disagree on is left unscored."""
    agree_share: float = Field(default=0.1, ge=0, le=1)
    """Route ``both-and-agree``: share of the groups that two judge."""
    objectives: tuple[str, ...] = ("hallucination",)
    """Objectives whose answers these judges score. Of ``fairness``: those that name no option."""
    exact_match: bool = True
    """An answer that is word for word the accepted or rejected text is settled by rule."""
    rubric: int = Field(default=1, ge=1)
    """Version of the rubric texts."""
    max_completion_chars: int = Field(default=4000, ge=200)
    """A judge is shown at most so much of a completion."""
    retry: JudgeRetryConfig = JudgeRetryConfig()
    """Backoff and deadlines."""
    breaker: JudgeBreakerConfig = JudgeBreakerConfig()
    """When a judge counts as down."""
    budget: JudgeBudgetConfig = JudgeBudgetConfig()
    """Hard limits."""
    outage: JudgeOutageConfig = JudgeOutageConfig()
    """What happens when nobody can judge."""
    cache: JudgeCacheConfig = JudgeCacheConfig()
    """Verdicts on disk."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        cloud = {n: p for n, p in self.providers.items() if isinstance(p, CloudProviderConfig)}
        for name, provider in self.providers.items():
            if name == "heuristic" and provider.kind != "heuristic":
                raise ValueError("providers.heuristic: only the offline judge has this name")
            if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name in RESERVED:
                raise ValueError(
                    f"providers.{name}: a judge's name is lower-case letters, digits, - and _, and "
                    f"none of {', '.join(sorted(RESERVED))}"
                )
        unpriced = [name for name, provider in cloud.items() if provider.price is None]
        if self.budget.usd is not None and unpriced:
            raise ValueError(
                f"budget.usd needs a price for every cloud judge: add providers.{unpriced[0]}.price"
            )
        kinds = {provider.kind for provider in self.providers.values()}
        if kinds == {"nli"} and "fairness" in self.objectives:
            raise ValueError(
                "objectives: an nli judge has no opinion of fairness, whose items have options and "
                "no knowledge to entail them; add a judge behind an API, or leave fairness out"
            )
        if self.route != "primary-then-fallback" and len(self.providers) < 2:
            raise ValueError(f"route {self.route} needs two providers or more")
        return self
