"""Run folders that were recorded once: the embedded demo, 60 steps, cells cut to four digits."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
EVALUATION = HERE / "eval.json"
"""What `grpo-dual eval DEMO@base DEMO --json` made of the demo, by generation over categories."""


def demo(to: Path) -> Path:
    """A copy of the demo's run folder, to be read or damaged."""
    return Path(shutil.copytree(HERE / "demo", to))


def change_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite a JSON file by ``change``, which works in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def add_line(path: Path, row: Mapping[str, object]) -> None:
    """Append a JSON line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def completion(step: int, prompt: str, text: str, objective: str = "fairness") -> dict[str, object]:
    """A line of completions.jsonl, as far as it is read."""
    return {
        "step": step,
        "objective": objective,
        "prompt": prompt,
        "completion": text,
        "verdict": "right",
        "total": 1.0,
    }


def loads(line: str) -> dict[str, Any]:
    """A JSON line."""
    return json.loads(line)
