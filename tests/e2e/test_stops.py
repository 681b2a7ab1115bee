"""What is left out, what stops a run, and what is left behind then."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import short_runs
from grpo_dual.cli.main import INTERRUPTED, MISTAKE, main
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import NumericsError
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.train.batch import ObjectiveBatch
from grpo_dual.train.run import train
from grpo_dual.train.step import Updater
from grpo_dual.train.wiring import build
from short_runs import only_run, rows


class Poison:
    """Makes chosen updates' gradients infinite."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, updates: set[int]) -> None:
        self.weights: list[torch.Tensor] = []
        self._updates = updates
        self._seen = 0
        self._original = Updater._backward
        monkeypatch.setattr(Updater, "_backward", lambda own, batch: self._backward(own, batch))

    def _backward(self, updater: Updater, batch: ObjectiveBatch) -> Any:
        result = self._original(updater, batch)
        if batch.name == "fairness":
            self._seen += 1
            parameters = updater.policy.trainable_parameters()
            self.weights.append(torch.cat([p.detach().flatten() for _, p in parameters]))
            if self._seen in self._updates:
                result.gradient_D[0] = math.inf
        return result


def test_an_update_that_is_not_finite_is_left_out(
    run: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    poison = Poison(monkeypatch, {2})
    folder = run(train={"steps": 4})
    table = rows(folder)
    assert [row["skipped_update"] for row in table] == ["0", "1", "0", "0"]
    assert table[1]["grad_norm"] in ("inf", "nan")
    assert json.loads((folder / "train_step_metrics.jsonl").read_text().splitlines()[1])[
        "grad_norm"
    ] in ("inf", "nan")
    before, poisoned, behind, last = poison.weights
    assert not torch.equal(before, poisoned)
    assert torch.equal(poisoned, behind)
    assert not torch.equal(behind, last)
    assert torch.isfinite(last).all()
    assert "step 2: loss or gradient was not finite" in capsys.readouterr().out


def test_three_in_a_row_stop_the_run_with_everything_saved(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        Poison(patch, {2, 3, 4})
        with pytest.raises(NumericsError, match="3 updates in a row"):
            run(train={"steps": 6}, checkpoint={"every": 0})
    folder = only_run(tmp_path / "runs")
    assert [row["skipped_update"] for row in rows(folder)] == ["0", "1", "1", "1"]
    assert (folder / "checkpoints" / "step-00000004").is_dir()
    # Healthy again (the injection is gone), the run can go on from where it stopped.
    config = RunConfig.model_validate_json((folder / "config.json").read_text())
    assert train(config, folder) == 0
    assert [row["skipped_update"] for row in rows(folder)] == ["0", "1", "1", "1", "0", "0"]


def test_records_over_the_prompt_limit_are_left_out_and_told(
    run: Callable[..., Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    parts = build(short_runs.config(model, tmp_path))
    fair = parts.objectives["fairness"]
    lengths = sorted(len(parts.prompt(fair, record).token_ids) for record in fair.draw(32))
    limit = lengths[len(lengths) // 2]
    assert lengths[0] <= limit < lengths[-1]
    table = rows(run(rollout={"max_prompt_tokens": limit, "overlong_prompt": "refuse"}))
    assert len(table) == 2
    assert all(row["trunc_frac_f"] == "0.0" for row in table)
    assert "left out: synthetic-train/" in capsys.readouterr().out


def test_a_limit_that_nothing_meets_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    settings = short_runs.settings(model, tmp_path / "runs", rollout={"max_prompt_tokens": 16})
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    assert main(["train", str(tmp_path / "run.yaml"), "--doctor", "off"]) == MISTAKE
    assert "rollout.max_prompt_tokens" in capsys.readouterr().err


def test_ctrl_c_names_the_folder_to_go_on_from(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "run.yaml").write_text(json.dumps(short_runs.settings(model, tmp_path / "runs")))
    write = RunMetrics.write_step

    def interrupted(self: RunMetrics, row: Mapping[str, Any]) -> None:
        write(self, row)
        if row["step"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunMetrics, "write_step", interrupted)
    assert main(["train", str(tmp_path / "run.yaml"), "--doctor", "off"]) == INTERRUPTED
    folder = only_run(tmp_path / "runs")
    assert f"grpo-dual train --resume {folder}" in capsys.readouterr().err
