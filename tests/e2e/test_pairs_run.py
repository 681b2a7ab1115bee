"""A run with a pairwise warm-up, of an objective of one's own: reference, resume, refusals."""

import re
from pathlib import Path
from typing import Any

import pytest
from test_resume import Killed, after
from test_third_objective import Brevity, third

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.sinks import RunMetrics
from grpo_dual.train import run as run_module
from grpo_dual.train.run import train
from grpo_dual.types import Pair, Record
from short_runs import only_run, reproducible, rows

STEPS = 3


class Preferring(Brevity):
    """Brevity whose records hold pairs; which words they are made of changes with the record."""

    def pair(self, record: Record) -> Pair | None:
        key = record.record_id.rpartition("/")[2]
        number = int(key) % 40 if key.isdecimal() else 0
        # One in four has no pair, and is replaced.
        return None if number % 4 == 3 else Pair(f"w{number}", f"w{number + 1} w{number + 2}")


def preferring(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "plugin",
        "factory": "test_pairs_run:Preferring",
        "settings": {"words": 3},
        "prompts_per_step": 2,
        **changes,
    }


SECTIONS: dict[str, dict[str, Any]] = {
    "objectives": {"fairness": short_runs.objective("fairness"), "preferring": preferring()},
    "sft": {
        "steps": 1,
        "batch_size": 4,
        "pairs": {"steps": 3, "batch_size": 4, "microbatch_size": 2, "learning_rate": 1e-2},
    },
    "train": {"steps": STEPS, "optimizer": {"learning_rate": 1e-2}},
    "checkpoint": {"every": 2},
}


def config(folder: Path, out: Path, **sections: Any) -> RunConfig:
    """``preferring`` and ``fairness``, whose options differ in length and hence in tokens here."""
    base = short_runs.settings(folder, out)
    del base["objectives"]["hallucination"]
    for section, changes in {**SECTIONS, **sections}.items():
        base.setdefault(section, {}).update(changes)
    return RunConfig.model_validate(base)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    assert train(config(model, out)) == 0
    return only_run(out)


def test_kl_starts_from_the_adapter_that_the_pairs_left(whole: Path):
    table = rows(whole)
    assert len(table) == STEPS
    assert float(table[0]["kl_preferring"]) == pytest.approx(0, abs=1e-6)
    assert float(table[-1]["kl_preferring"]) > 1e-6


def test_pairs_change_what_is_trained(whole: Path, model: Path, tmp_path: Path):
    without = {**SECTIONS["sft"], "pairs": {"steps": 0}}
    assert train(config(model, tmp_path, sft=without)) == 0
    assert reproducible(only_run(tmp_path))["csv"] != reproducible(whole)["csv"]


@pytest.mark.parametrize(
    ("owner", "name", "calls", "done"),
    [
        (run_module, "warm_up", 1, True),
        (RunMetrics, "write_step", 3, True),
    ],
    ids=["behind the warm-up", "behind a checkpoint"],
)
def test_a_killed_run_goes_on_with_the_same_numbers(
    owner: type, name: str, calls: int, done: bool, whole: Path, model: Path, tmp_path: Path
):
    changed = config(model, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        after(patch, owner, name, calls, done=done)
        with pytest.raises(Killed):
            train(changed)
    folder = only_run(tmp_path)
    assert train(changed, folder) == 0
    assert reproducible(folder) == reproducible(whole)


def test_the_reference_may_be_the_bare_model(model: Path, tmp_path: Path):
    changed = config(model, tmp_path, model={"reference": "base"})
    assert train(changed) == 0
    table = rows(only_run(tmp_path))
    # Both warm-ups have moved away from it before the first step.
    assert float(table[0]["kl_preferring"]) > 1e-6


def test_what_the_warm_up_did_is_shown(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    # Two of three objectives have pairs; a plugin need not know of them.
    changed = config(
        model,
        tmp_path,
        train={"steps": 1},
        objectives={"brevity": third(), **SECTIONS["objectives"]},
    )
    assert train(changed) == 0
    out = capsys.readouterr().out
    assert "sft 1/1  " in out
    assert "note: brevity has no pairs and is left out of the pairwise warm-up" in out
    shown = [line for line in out.splitlines() if line.startswith("pairs ")]
    assert [line.split()[1] for line in shown] == ["1/3", "2/3", "3/3"]
    assert all("fairness: loss" in x and "preferring: loss" in x for x in shown)
    # SFT drew records 0 to 1, so 6 pairs of the next ones meet 3 (and perhaps 7), which have none.
    assert re.search(r"note: preferring: [1-9] draws gave no pair and were replaced", out)
