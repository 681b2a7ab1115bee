"""What the configuration of the judges refuses, and in what words."""

from typing import Any

import pytest
from pydantic import ValidationError

from grpo_dual.config.judging import JudgeConfig

CLOUD = {"kind": "openai", "model": "m", "api_key": "none"}
NLI = {"kind": "nli", "model": "m"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"providers": {"one": CLOUD}, "budget": {"usd": 1}},
            "budget.usd needs a price for every cloud judge: add providers.one.price",
        ),
        ({"providers": {"one": CLOUD}, "route": "split"}, "route split needs two providers"),
        ({"providers": {"heuristic": CLOUD}}, "only the offline judge has this name"),
        ({"providers": {"guard": CLOUD}}, "none of guard, rule, template_detector"),
        ({"providers": {"One": CLOUD}}, "lower-case letters"),
        ({"providers": {"one": {**CLOUD, "api_key": "sk-1234"}}}, "never put a key into a file"),
        (
            {"providers": {"one": {**CLOUD, "base_url": "http://me:secret@host/v1"}}},
            "keys come from api_key",
        ),
        (
            {"providers": {"one": NLI}, "objectives": ["fairness"]},
            "an nli judge has no opinion of fairness",
        ),
    ],
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JudgeConfig.model_validate(settings)
    assert words in str(caught.value)
    assert "sk-1234" not in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"providers": {"one": NLI}},
        {"providers": {"one": NLI, "two": CLOUD}, "objectives": ["fairness", "hallucination"]},
        {"providers": {"one": {**CLOUD, "price": {"input": 1, "output": 2}}}, "budget": {"usd": 1}},
    ],
)
def test_what_can_work_is_taken(settings: dict[str, Any]) -> None:
    assert JudgeConfig.model_validate(settings).providers
