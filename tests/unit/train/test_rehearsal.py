"""The rehearsal of a run: its own records and steps, and nothing left behind."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.judges.counting import Ask, asked
from grpo_dual.train import rehearsal
from grpo_dual.train.objectives import build_objective
from grpo_dual.train.progress import Progress
from grpo_dual.train.rehearsal import foresee, rehearse

JUDGE = {"providers": {"one": {"kind": "openai", "model": "m", "api_key": "env:NOT_THERE"}}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_runs.save_model(tmp_path_factory.mktemp("model"))


def config(model: Path, out: Path, **sections: Any) -> RunConfig:
    data = {"path": "synthetic", "train_samples": 32, "eval_samples": 4, "subsets": {"qa": 1.0}}
    objectives = {
        "fairness": short_runs.objective("fairness"),
        "hallucination": short_runs.objective("hallucination", data=data),
    }
    sections = {
        "judge": JUDGE,
        "objectives": objectives,
        **sections,
        "train": {"steps": 5, **sections.get("train", {})},
    }
    return short_runs.config(model, out, **sections)


def quiet(run: RunConfig) -> Progress:
    return Progress(Console(quiet=True), tuple(run.objectives), run.train.steps)


def records(asks: tuple[Ask, ...], step: int) -> set[str]:
    return {ask.question.record.record_id for ask in asks if ask.step == step}


def test_the_bound_is_every_completion_of_the_run_s_own_records(model: Path, tmp_path: Path):
    run = config(model, tmp_path)
    found = foresee(run)
    own = build_objective(
        "hallucination", run.objectives["hallucination"], max_new_tokens=10, seed=run.train.seed
    )
    expected = [{record.record_id for record in own.draw(2)} for _ in range(5)]
    assert [records(found.asks["one"], step) for step in range(1, 6)] == expected
    # 2 prompts a step, 4 completions of each.
    assert [(b.groups, b.questions) for b in found.bounds["one"]] == [(2, 8)] * 5
    assert found.steps == 0


def test_detection_never_asks(model: Path, tmp_path: Path):
    data = {"path": "synthetic", "train_samples": 32, "eval_samples": 4, "detect_fraction": 1.0}
    detecting = short_runs.objective("hallucination", data=data)
    objectives = {"fairness": short_runs.objective("fairness"), "hallucination": detecting}
    found = foresee(config(model, tmp_path, objectives=objectives))
    assert {b.questions for b in found.bounds["one"]} == {0}


def test_a_rehearsal_tries_the_records_of_the_run_and_leaves_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    run = config(model, tmp_path / "runs")
    found = rehearse(run, 3, seconds=0, progress=quiet(run))
    assert found.steps == 3
    assert found.bounds == foresee(run).bounds
    drawn = foresee(run).asks["one"]
    for step in (1, 2, 3):
        assert records(found.asks["one"], step) <= records(drawn, step)
    counts = asked(found.asks["one"], 5)
    assert all(0 < a.questions <= 8 for a in counts[:3])
    assert counts[3:] == asked((), 5)[3:]
    assert list(temporary.iterdir()) == []
    assert not (tmp_path / "runs").exists()


def test_more_steps_than_the_run_has_are_the_run(model: Path, tmp_path: Path):
    run = config(model, tmp_path, train={"steps": 2})
    assert rehearse(run, 99, seconds=0, progress=quiet(run)).steps == 2


def test_without_a_number_time_decides(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rehearsal, "FEWEST", 2)
    monkeypatch.setattr(rehearsal, "_BETWEEN", 1)
    run = config(model, tmp_path)
    assert rehearse(run, None, seconds=0, progress=quiet(run)).steps == 2
    assert rehearse(run, None, seconds=600, progress=quiet(run)).steps == 5


def test_the_supervised_warm_up_draws_first(model: Path, tmp_path: Path):
    # 3 steps of 2 samples, one of each objective: the run's records begin behind these.
    run = config(model, tmp_path, sft={"steps": 3, "batch_size": 2}, train={"steps": 2})
    found = rehearse(run, 1, seconds=0, progress=quiet(run))
    own = build_objective(
        "hallucination", run.objectives["hallucination"], max_new_tokens=10, seed=run.train.seed
    )
    own.draw(3)
    assert records(found.asks["one"], 1) <= {record.record_id for record in own.draw(2)}


def test_whether_equal_questions_of_two_steps_are_paid_twice_is_the_cache_s(
    model: Path, tmp_path: Path
):
    # Two records and greedy-like sampling: every step asks the same again.
    data = {"path": "synthetic", "train_samples": 2, "eval_samples": 4}
    objectives = {"hallucination": short_runs.objective("hallucination", data=data)}
    sections = {
        "objectives": objectives,
        "rollout": {"sampling": {"max_new_tokens": 4, "temperature": 0.01}},
        "train": {"steps": 3, "optimizer": {"learning_rate": 1e-9}},
    }
    base = short_runs.settings(model, tmp_path, judge=JUDGE, train=sections["train"])
    base |= {"objectives": objectives}
    base["rollout"]["sampling"] = sections["rollout"]["sampling"]
    cached = RunConfig.model_validate(base)
    base["judge"] = {**JUDGE, "cache": {"enabled": False}}
    uncached = RunConfig.model_validate(base)
    with_cache = rehearse(cached, 3, seconds=0, progress=quiet(cached)).asks["one"]
    without = rehearse(uncached, 3, seconds=0, progress=quiet(uncached)).asks["one"]
    assert {ask.step for ask in with_cache} == {1}
    assert {ask.step for ask in without} == {1, 2, 3}
    assert len(without) == 3 * len(with_cache)
