"""``doctor.mode: act``: a remedy is applied behind a checkpoint, kept, and can be undone."""

import json
from pathlib import Path
from typing import Any

import pytest

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.doctor import Diagnosis, Watch
from grpo_dual.diagnosis.remedies import AFRESH
from grpo_dual.errors import CheckpointError
from grpo_dual.train import run as run_module
from grpo_dual.train.acts import acts, tried, undo
from grpo_dual.train.run import train
from grpo_dual.types import Finding, Severity
from short_runs import only_run, reproducible, rows

STEPS = 4


def broken(model: Path, out: Path, mode: str, **changes: Any) -> RunConfig:
    """Eight forced tokens of at most ten: the doctor is certain after the first step."""
    return short_runs.config(
        model,
        out,
        rollout={"sampling": {"max_new_tokens": 10, "min_new_tokens": 8}},
        train={"steps": STEPS},
        doctor={"mode": mode, "allow": ["forced-length"], **changes},
    )


def loaded(folder: Path) -> RunConfig:
    return RunConfig.model_validate(json.loads((folder / "config.json").read_text()))


def test_a_remedy_is_applied_and_the_run_goes_on_from_the_start(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert train(broken(model, tmp_path, "act")) == 0
    folder = only_run(tmp_path)
    (act,) = acts(folder)
    assert (act["code"], act["at"], act["back_to"]) == ("forced-length", 1, 0)
    assert act["patch"] == {"rollout.sampling.min_new_tokens": 0}
    assert tried(folder) == ("forced-length",)
    assert loaded(folder).rollout.sampling.min_new_tokens == 0
    assert [row["step"] for row in rows(folder)] == [str(s) for s in range(1, STEPS + 1)]
    # What it replaced is kept: one step, its checkpoint, and the configuration.
    kept = folder / "acts" / "1"
    assert [row["step"] for row in rows(kept)] == ["1"]
    assert loaded(kept).rollout.sampling.min_new_tokens == 8
    assert (kept / "checkpoints" / "step-00000001").is_dir()
    out = capsys.readouterr().out
    assert "doctor: acts on forced-length" in out
    assert "min_new_tokens: 0" in out


def test_the_run_is_then_one_that_never_had_the_fault(model: Path, tmp_path: Path):
    train(broken(model, tmp_path / "act", "act"))
    healthy = broken(model, tmp_path / "healthy", "off")
    sampling = healthy.rollout.sampling.model_copy(update={"min_new_tokens": 0})
    rollout = healthy.rollout.model_copy(update={"sampling": sampling})
    train(healthy.model_copy(update={"rollout": rollout}))
    acted, never = (reproducible(only_run(tmp_path / name)) for name in ("act", "healthy"))
    # The yardstick of the broken start stays in its files, before the one measured anew.
    for file in ("evaluations", "replies"):
        assert acted.pop(file) != never.pop(file)
    assert acted == never


def test_undone_it_is_the_run_that_was_only_warned(model: Path, tmp_path: Path):
    train(broken(model, tmp_path / "act", "act"))
    folder = only_run(tmp_path / "act")
    act = undo(folder)
    assert act["code"] == "forced-length"
    assert tried(folder) == ()
    assert loaded(folder).doctor.mode == "warn"
    assert loaded(folder).rollout.sampling.min_new_tokens == 8
    # What the remedy led to is kept too.
    assert len(rows(folder / "acts" / "1" / "after")) == STEPS
    train(loaded(folder), folder)
    train(broken(model, tmp_path / "warn", "warn"))
    assert reproducible(folder) == reproducible(only_run(tmp_path / "warn"))
    with pytest.raises(CheckpointError, match="no remedy that could be undone"):
        undo(folder)


def test_a_run_killed_between_remedy_and_restart_goes_on_with_the_remedy(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = broken(model, tmp_path / "whole", "act")
    train(whole)
    real = run_module.apply

    def killed(*args: Any) -> RunConfig:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "apply", killed)
    with pytest.raises(KeyboardInterrupt):
        train(broken(model, tmp_path / "killed", "act"))
    monkeypatch.setattr(run_module, "apply", real)
    folder = only_run(tmp_path / "killed")
    train(loaded(folder), folder)
    assert reproducible(folder) == reproducible(only_run(tmp_path / "whole"))


def test_a_remedy_of_the_warm_up_begins_before_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The checkpoint of step 0 has the warm-up in it."""
    finding = Finding(
        code="template-collapse", objective=None, severity=Severity.ACT, says="", evidence=(),
        confidence=0.8, remedy="", patch={"sft.steps": 0}, step=1,
    )  # fmt: skip
    monkeypatch.setattr(Watch, "diagnosis", Diagnosis((finding,)))
    sections: dict[str, Any] = {"train": {"steps": 2}, "sft": {"steps": 2, "batch_size": 4}}
    acting = {"mode": "act", "allow": ["template-collapse"]}
    train(short_runs.config(model, tmp_path / "act", **sections, doctor=acting))
    folder = only_run(tmp_path / "act")
    (act,) = acts(folder)
    assert act["back_to"] == AFRESH
    assert (folder / "acts" / "1" / "checkpoints" / "step-00000000").is_dir()
    never = {**sections, "sft": {"steps": 0}, "doctor": {"mode": "off"}}
    train(short_runs.config(model, tmp_path / "never", **never))
    assert reproducible(folder)["csv"] == reproducible(only_run(tmp_path / "never"))["csv"]
    undo(folder)
    assert (folder / "checkpoints" / "step-00000000").is_dir()


def test_remedies_that_are_not_allowed_or_are_used_up_are_not_applied(model: Path, tmp_path: Path):
    for name, changes in (("other", {"allow": ["kl-frozen"]}), ("none", {"max_acts": 0})):
        train(broken(model, tmp_path / name, "act", **changes))
        folder = only_run(tmp_path / name)
        assert acts(folder) == []
        findings = [json.loads(x) for x in (folder / "doctor.jsonl").read_text().splitlines()]
        assert {f["code"] for f in findings} >= {"forced-length"}
