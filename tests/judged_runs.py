"""Configurations whose judges are loopback servers."""

import json
from pathlib import Path
from typing import Any

from judge_servers import JudgeServer

KEY = "sk-test-0123456789abcdef"


def judge_section(server: JudgeServer, **changes: Any) -> dict[str, Any]:
    """The ``judge`` section of a run whose one judge, ``one``, is the server."""
    one = {
        "kind": server.wire,
        "model": "stub",
        "base_url": server.base_url,
        "api_key": "env:JUDGE_KEY",
        "price": {"input": 1.0, "output": 4.0},
    }
    retry = {"attempts": 2, "base_seconds": 0.01, "cap_seconds": 0.02}
    return {"providers": {"one": one}, "retry": retry, **changes}


def run_file(folder: Path, settings: dict[str, Any]) -> Path:
    """A configuration file; JSON is YAML."""
    path = folder / "run.yaml"
    path.write_text(json.dumps(settings))
    return path
