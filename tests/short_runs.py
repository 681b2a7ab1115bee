"""Runs of a few steps with a random model of a few thousand parameters, on the synthetic world."""

import copy
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny_models
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.names import TIMING

TEMPLATE = (
    "<bos>{% for m in messages %} {{ m.role }} {{ m.content }} <eot>{% endfor %}"
    "{% if add_generation_prompt %} assistant {% endif %}"
)
HERE = Path(__file__).resolve().parent


def save_model(folder: Path) -> Path:
    """The model with a tokenizer that can chat; most words of the world are unknown to it."""
    tiny_models.llama(max_position_embeddings=512).save_pretrained(str(folder))
    tokenizer = tiny_models.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(str(folder))
    return folder


def even_words(completions: Sequence[str], **_: object) -> list[float | None]:
    """A reward that a random model can earn: the share of its words with an even number."""
    words = [text.split() for text in completions]
    return [
        sum(int(word[1:]) % 2 == 0 for word in own if word[1:].isdecimal()) / max(1, len(own))
        for own in words
    ]


def objective(kind: str, **changes: Any) -> dict[str, Any]:
    """An objective of two prompts a step whose groups are seldom alike."""
    return {
        "kind": kind,
        "prompts_per_step": 2,
        "data": {"path": "synthetic", "train_samples": 32, "eval_samples": 4},
        "custom_rewards": [{"function": "short_runs:even_words"}],
        **changes,
    }


def settings(model: Path, out: Path, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration; ``train={"steps": 2}`` changes keys of a section."""
    base: dict[str, Any] = {
        "name": "short",
        "out": str(out),
        "model": {
            "name": str(model),
            "dtype": "float32",
            "device": "cpu",
            "lora": {"rank": 4, "alpha": 8},
        },
        "objectives": {
            "fairness": objective("fairness"),
            "hallucination": objective("hallucination"),
        },
        "rollout": {
            "group_size": 4,
            "max_prompt_tokens": 400,
            "sampling": {"max_new_tokens": 10},
        },
        "train": {"steps": 8, "threads": 1, "optimizer": {"learning_rate": 1e-2}},
        "checkpoint": {"every": 2},
    }
    changed = copy.deepcopy(base)
    for section, changes in sections.items():
        changed.setdefault(section, {}).update(changes)
    return changed


def config(model: Path, out: Path, **sections: Mapping[str, Any]) -> RunConfig:
    """``settings``, read."""
    return RunConfig.model_validate(settings(model, out, **sections))


def rows(folder: Path) -> list[dict[str, str]]:
    """Rows of the metric CSV."""
    with (folder / "train_step_metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(row: Mapping[str, str]) -> dict[str, float]:
    """The cells that are not missing, timings left out."""
    return {k: float(v) for k, v in row.items() if v and not k.endswith(TIMING)}


def reproducible(folder: Path) -> dict[str, object]:
    """What two runs of one seed must have in common to the byte, timings left out."""
    untimed = [{k: v for k, v in row.items() if not k.endswith(TIMING)} for row in rows(folder)]
    lines = (folder / "train_step_metrics.jsonl").read_text().splitlines()
    jsonl = [{k: v for k, v in json.loads(x).items() if not k.endswith(TIMING)} for x in lines]
    return {
        "csv": untimed,
        "jsonl": jsonl,
        "completions": (folder / "completions.jsonl").read_bytes(),
        "evaluations": (folder / "eval_metrics.jsonl").read_bytes(),
        "replies": (folder / "eval_completions.jsonl").read_bytes(),
        "probes": probes.read_bytes()
        if (probes := folder / "probe_metrics.jsonl").exists()
        else b"",
    }


def only_run(out: Path) -> Path:
    """The one run folder below ``out``."""
    (folder,) = out.iterdir()
    return folder
