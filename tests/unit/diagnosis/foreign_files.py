"""Logs as TRL and verl name their columns, written to files."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from grpo_dual.diagnosis.doctor import examine
from grpo_dual.diagnosis.foreign import read_csv
from grpo_dual.types import Finding

Row = Mapping[str, float | str | None]

# The log of huggingface/trl#3857: one reward differs between prompts, none within a prompt.
TRL_3857: Row = {
    "loss": 0.0, "grad_norm": 0.0, "learning_rate": 1.705e-6,
    "completions/mean_length": 701.8125, "completions/clipped_ratio": 0.0,
    "rewards/if_rewrite_reward/mean": -3.0, "rewards/if_rewrite_reward/std": 5.080004692077637,
    "rewards/json_format_reward/mean": 2.0, "rewards/json_format_reward/std": 0.0,
    "rewards/think_response_format_reward/mean": 2.0,
    "rewards/think_response_format_reward/std": 0.0,
    "rewards/language_ratio_reward/mean": 2.0, "rewards/language_ratio_reward/std": 0.0,
    "reward": 3.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0,
    "clip_ratio/region_mean": 0.0,
}  # fmt: skip

# verl 0.9.1, trainer/ppo/metric_utils.py and workers/utils/losses.py.
VERL: Row = {
    "training/global_step": 1, "training/epoch": 0, "actor/entropy": 0.8, "actor/kl_loss": 0.01,
    "actor/kl_coef": 0.001, "actor/pg_loss": 0.02, "actor/pg_clipfrac": 0.001,
    "actor/ppo_kl": 0.0002, "actor/grad_norm": 0.3, "actor/lr": 1e-6,
    "critic/score/mean": 0.4, "critic/score/max": 1.0, "critic/score/min": 0.0,
    "critic/rewards/mean": 0.39, "critic/rewards/max": 1.0, "critic/rewards/min": 0.0,
    "critic/advantages/mean": 0.0, "critic/advantages/max": 1.8, "critic/advantages/min": -1.8,
    "response_length/mean": 210.0, "response_length/max": 512.0, "response_length/min": 20.0,
    "response_length/clip_ratio": 0.02, "prompt_length/mean": 90.0, "prompt_length/max": 256.0,
    "prompt_length/min": 40.0, "prompt_length/clip_ratio": 0.01,
    "training/rollout_probs_diff_mean": 0.003, "perf/throughput": 900.0,
}  # fmt: skip

TRL: Row = {
    "loss": 0.1, "grad_norm": 0.2, "learning_rate": 1e-6, "reward": 0.5, "reward_std": 0.4,
    "frac_reward_zero_std": 0.25, "rewards/right/mean": 0.5, "rewards/right/std": 0.4,
    "kl": 0.01, "entropy": 1.0, "clip_ratio/region_mean": 0.0, "completions/mean_length": 50.0,
    "completions/clipped_ratio": 0.0,
}  # fmt: skip


def write(path: Path, rows: Iterable[Row]) -> Path:
    rows = list(rows)
    header = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


def trl(count: int, **series: Iterable[float | str | None]) -> list[Row]:
    """A healthy log with some columns replaced; ``__`` in a name stands for ``/``."""
    changed = {key.replace("__", "/"): list(values) for key, values in series.items()}
    return [
        {"step": i + 1, **TRL, **{key: values[i] for key, values in changed.items()}}
        for i in range(count)
    ]


def verl(count: int, **series: Iterable[float | str | None]) -> list[Row]:
    changed = {key.replace("__", "/"): list(values) for key, values in series.items()}
    return [
        {**VERL, "training/global_step": i + 1, **{k: v[i] for k, v in changed.items()}}
        for i in range(count)
    ]


def found(path: Path, rows: Iterable[Row]) -> dict[str, Finding]:
    """What the doctor finds at the end of a file, by code."""
    return {f.code: f for f in examine(read_csv(write(path, rows)))}
