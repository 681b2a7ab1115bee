"""Loopback judges: servers that speak the wire formats of OpenAI and Anthropic, faults included.

    with JudgeServer("openai", constant("right"), FaultPlan.script(["server_500"])) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="sk-test", max_retries=0)

Standard library only, one thread per server, 127.0.0.1 only. Where HTTP_PROXY may be set, the
client needs NO_PROXY=127.0.0.1. From a shell: ``PYTHONPATH=tests python -m judge_servers``.
"""

from judge_servers.brains import (
    SMELLS,
    VERDICTS,
    Brain,
    constant,
    custom,
    deterministic,
    fence,
    gullible,
    json_field,
)
from judge_servers.faults import Fault, FaultPlan, Kind
from judge_servers.log import Request, Usage
from judge_servers.reference import reference
from judge_servers.server import JudgeServer
from judge_servers.wires import CacheShares, Wire, count_tokens, prompt_texts

__all__ = [
    "SMELLS",
    "VERDICTS",
    "Brain",
    "CacheShares",
    "Fault",
    "FaultPlan",
    "JudgeServer",
    "Kind",
    "Request",
    "Usage",
    "Wire",
    "constant",
    "count_tokens",
    "custom",
    "deterministic",
    "fence",
    "gullible",
    "json_field",
    "prompt_texts",
    "reference",
]
