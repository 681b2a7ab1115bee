"""Trackers get each number once, and a run outlives them."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from grpo_dual.errors import CheckpointError, ConfigError
from grpo_dual.metrics.names import columns, tags
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.metrics.trackers import STATE, Target, Trackers, check_installed

OBJECTIVES = ("fairness", "hallucination")
SAMPLE: Mapping[str, object] = {
    "objective": "fairness",
    "prompt": "Who?",
    "completion": "<script>the secret reply",
    "total": 1.0,
    "verdict": "right",
}


def target(folder: Path, *to: str, **changes: Any) -> Target:
    given: dict[str, Any] = {
        "to": to,
        "project": "p",
        "samples": False,
        "folder": folder,
        "generation": 0,
        "tags": tags(OBJECTIVES),
        "config": {"train": {"seed": 0}},
        **changes,
    }
    return Target(**given)


def steps_of(folder: Path, tag: str, place: str = "tensorboard") -> dict[int, float]:
    """What TensorBoard itself reads; a step that is there twice would be an error."""
    found = EventAccumulator(str(folder / place))
    found.Reload()
    events = found.Scalars(tag)
    assert len({event.step for event in events}) == len(events)
    return {event.step: event.value for event in events}


def go(folder: Path, steps: range, made: Trackers, done: int | None = None) -> None:
    """The loop's calls for some steps; ``done``: resumed behind that step."""
    with RunMetrics(folder, columns(OBJECTIVES), made) as metrics:
        if done is not None:
            metrics.resume(done)
        for step in steps:
            metrics.write_step({"step": step, "kl_f": step / 8, "loss": 2.0, "update_seconds": 0.5})
            metrics.write_completion(step, SAMPLE)
            metrics.write_evaluation(
                step, {"fairness": {"axis": step / 16, "judged_by": "gold", "s_dis": None}}
            )


def test_names_are_grouped_by_objective() -> None:
    found = tags(OBJECTIVES, ("gpt",))
    assert {key: found[key] for key in ("kl_f", "reward_h_mean", "loss", "update_seconds")} == {
        "kl_f": "fairness/kl",
        "reward_h_mean": "hallucination/reward_mean",
        "loss": "run/loss",
        "update_seconds": "seconds/update",
    }
    assert found["stereotyped_frac_f"] == "fairness/stereotyped_frac"
    assert found["general_frac_h"] == "hallucination/general_frac"
    assert found["judges_calls_gpt"] == "judges/calls_gpt"
    assert found["judges_busy_seconds"] == "judges/busy_seconds"
    every = set(columns(OBJECTIVES, ("gpt",)))
    assert set(found) == every - {"step"}
    assert len(set(found.values())) == len(found)
    assert tags(("hallucination", "fairness"))["stereotyped_frac_f"] == "fairness/stereotyped_frac"


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    said: list[str] = []
    go(tmp_path, range(1, 4), Trackers(target(tmp_path, "tensorboard"), said.append))
    assert steps_of(tmp_path, "fairness/kl") == {1: 0.125, 2: 0.25, 3: 0.375}
    assert steps_of(tmp_path, "fairness/eval/axis") == {1: 0.0625, 2: 0.125, 3: 0.1875}
    assert steps_of(tmp_path, "seconds/update") == {1: 0.5, 2: 0.5, 3: 0.5}
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert "hallucination/kl" not in found.Tags()["scalars"]  # missing is not 0
    assert "fairness/eval/judged_by" not in found.Tags()["scalars"]
    assert said == []


def test_a_resumed_run_sends_no_step_twice(tmp_path: Path) -> None:
    go(tmp_path, range(1, 6), Trackers(target(tmp_path, "tensorboard"), print))
    # The checkpoint is of step 3: steps 4 and 5 are computed again.
    go(tmp_path, range(4, 9), Trackers(target(tmp_path, "tensorboard"), print), done=3)
    assert steps_of(tmp_path, "fairness/kl") == {step: step / 8 for step in range(1, 9)}
    assert steps_of(tmp_path, "fairness/eval/axis") == {step: step / 16 for step in range(1, 9)}


def test_other_numbers_begin_another_run(tmp_path: Path) -> None:
    go(tmp_path, range(1, 6), Trackers(target(tmp_path, "tensorboard"), print))
    first = json.loads((tmp_path / STATE).read_text())["run"]
    changed = target(tmp_path, "tensorboard", generation=1)
    go(tmp_path, range(4, 7), Trackers(changed, print), done=3)
    assert json.loads((tmp_path / STATE).read_text())["run"] != first
    assert sorted(steps_of(tmp_path, "fairness/kl", "tensorboard/1")) == [4, 5, 6]


def contents(folder: Path) -> bytes:
    files = sorted(p for p in (folder / "tensorboard").rglob("*") if p.is_file())
    return b"".join(p.read_bytes() for p in files)


def test_completions_are_sent_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for name, samples in (("without", False), ("with", True)):
        folder = tmp_path / name
        folder.mkdir()
        made = Trackers(target(folder, "tensorboard", samples=samples), print)
        go(folder, range(1, 3), made)
        assert (b"the secret reply" in contents(folder)) is samples


class Fake:
    """wandb and trackio as far as they are used; ``fails`` says which call raises."""

    def __init__(self, fails: Callable[[str, int], bool] = lambda *_: False) -> None:
        self.calls: list[tuple[str, Any]] = []
        self._fails = fails

    def module(self, name: str) -> ModuleType:
        made = ModuleType(name)

        def call(what: str) -> Callable[..., Any]:
            def run(*args: Any, **named: Any) -> Any:
                self.calls.append((what, (args, named)))
                if self._fails(what, sum(called == what for called, _ in self.calls)):
                    raise ConnectionError("the service is away")
                return self

            return run

        for what in ("init", "Settings", "Table", "finish"):
            setattr(made, what, call(what))
        for what in ("log", "finish", "define_metric"):
            setattr(self, what, call(what))
        return made

    def of(self, what: str) -> list[Any]:
        return [arguments for called, arguments in self.calls if called == what]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fake]:
    def put(name: str, **how: Any) -> Fake:
        made = Fake(**how)
        monkeypatch.setitem(sys.modules, name, made.module(name))
        return made

    return put


def test_wandb_gets_rows_with_their_step_and_resumes_its_run(
    fake: Callable[..., Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_DIR", raising=False)
    wandb = fake("wandb")
    go(tmp_path, range(1, 3), Trackers(target(tmp_path, "wandb"), print))
    go(tmp_path, range(2, 4), Trackers(target(tmp_path, "wandb"), print), done=1)
    first, second = (named for _, named in wandb.of("init"))
    assert first["id"] == second["id"]
    assert (first["resume"], first["project"], first["dir"]) == ("allow", "p", str(tmp_path))
    assert "mode" not in first  # WANDB_MODE=offline is respected
    assert wandb.of("Settings")[0][1] == {"console": "off"}  # the console shows completions
    assert wandb.of("define_metric")[0] == (("*",), {"step_metric": "step"})
    rows = [row for (row,), _ in wandb.of("log")]
    assert [row["step"] for row in rows if "fairness/kl" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "fairness/eval/axis" in row] == [1, 2, 3]
    assert len(wandb.of("finish")) == 2


def test_trackio_gets_steps_and_samples(fake: Callable[..., Fake], tmp_path: Path) -> None:
    trackio = fake("trackio")
    go(tmp_path, range(1, 3), Trackers(target(tmp_path, "trackio", samples=True), print))
    assert trackio.of("init")[0][1]["resume"] == "allow"
    kinds = [("fairness/kl" in row, named["step"]) for (row,), named in trackio.of("log")]
    assert [step for numbers, step in kinds if numbers] == [1, 2]
    tables = [named["data"] for _, named in trackio.of("Table")]
    assert len(trackio.of("finish")) == 1
    assert tables == [[["fairness", "Who?", SAMPLE["completion"], "1.0", "right"]]] * 2


def test_a_tracker_that_fails_is_told_once_and_at_the_end_and_the_run_goes_on(
    fake: Callable[..., Fake], tmp_path: Path
) -> None:
    # Each step is two calls, its row and its evaluation: the third is the row of step 2.
    wandb = fake("wandb", fails=lambda what, n: what == "log" and n == 3)
    said: list[str] = []
    made = Trackers(target(tmp_path, "wandb", "tensorboard"), said.append)
    go(tmp_path, range(1, 5), made)
    at, end = said
    assert "wandb failed at step 2 (ConnectionError: the service is away)" in at
    assert "nothing since" in end
    assert len(wandb.of("log")) == 3
    assert sorted(steps_of(tmp_path, "fairness/kl")) == [1, 2, 3, 4]
    assert len((tmp_path / "train_step_metrics.csv").read_text().splitlines()) == 5
    # Resumed behind step 2: it gets what it lacks and can still be had.
    again = fake("wandb")
    go(tmp_path, range(3, 5), Trackers(target(tmp_path, "wandb"), said.append), done=2)
    rows = [row for (row,), _ in again.of("log")]
    assert [row["step"] for row in rows if "fairness/kl" in row] == [3, 4]


def test_one_that_fails_to_end_is_told(fake: Callable[..., Fake], tmp_path: Path) -> None:
    fake("wandb", fails=lambda what, _: what == "finish")
    said: list[str] = []
    go(tmp_path, range(1, 2), Trackers(target(tmp_path, "wandb"), said.append))
    assert "wandb failed at step 1" in said[0]


def test_one_that_cannot_start_is_an_error(fake: Callable[..., Fake], tmp_path: Path) -> None:
    fake("wandb", fails=lambda what, _: what == "init")
    with pytest.raises(ConfigError, match=r"tracking\.to: wandb cannot be started .*is away"):
        Trackers(target(tmp_path, "tensorboard", "wandb"), print)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_extra_names_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf'pip install "grpo-dual\[{name}\]"'):
        check_installed((name,))


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("{")
    with pytest.raises(CheckpointError, match=STATE):
        Trackers(target(tmp_path, "tensorboard"), print)
