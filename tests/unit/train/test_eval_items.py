"""What is asked: the splits of a configuration, draws by strata, and files by upstream's names."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.config.snapshot import snapshot
from grpo_dual.errors import DataError
from grpo_dual.records import synthetic
from grpo_dual.train.eval_items import Split, eval_items, objectives_of
from grpo_dual.train.evaluating import HANDOFF, Request, plan
from grpo_dual.train.objectives import build_objective
from grpo_dual.types import BbqRecord, HaluEvalRecord, Record

ROOT = Path(__file__).resolve().parents[3]
BOTH = ("fairness", "hallucination")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic world in upstream's files: BBQ's Age, and HaluEval's qa and general."""
    folder = tmp_path_factory.mktemp("data")
    rows = [row for row in synthetic.bbq_rows("test", 60, 0) if row["category"] == "Age"]
    _write(folder / "bbq" / "Age.jsonl", rows)
    for subset in ("qa", "general"):
        made = list(synthetic.halueval_rows("test", subset, 40, 0))
        _write(folder / "halueval" / f"{subset}_data.json", made)
    return folder


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def config(data: Path, **sections: Any) -> RunConfig:
    base = RunConfig(objectives=objectives_of(data))
    made = base.model_dump()
    for name in BOTH:
        made["objectives"][name]["data"]["eval_samples"] = 8
    return RunConfig.model_validate({**made, **sections})


def records(config: RunConfig, split: Split, limit: int | None = None) -> dict[str, list[Record]]:
    found = eval_items(config, split, BOTH, limit=limit, seed=0)
    return {own.questions.objective: [*own.questions.bbq, *own.questions.halueval] for own in found}


def test_the_yardstick_is_what_a_run_scores_itself_by(data: Path):
    made = config(data, train={"seed": 4})
    found = records(made, "yardstick")
    for name, objective in made.objectives.items():
        own = build_objective(name, objective, max_new_tokens=8, seed=4)
        assert found[name] == list(own.eval_records)
        assert found[name]


def test_splits_lie_inside_one_another(data: Path):
    made = config(data)
    ids = {
        split: {r.record_id for own in records(made, split).values() for r in own}
        for split in ("yardstick", "held-out", "all")
    }
    assert ids["yardstick"] < ids["held-out"] < ids["all"]
    bbq = [r for r in records(made, "all")["fairness"] if isinstance(r, BbqRecord)]
    held_out = [r for r in records(made, "held-out")["fairness"] if isinstance(r, BbqRecord)]
    templates = {r.question_index for r in held_out}
    # Whole templates: every row of a held-out template is held out.
    assert {r.record_id for r in bbq if r.question_index in templates} == {
        r.record_id for r in held_out
    }


def test_a_limit_is_by_category_and_subset_in_equal_parts(data: Path):
    found = records(config(data), "all", limit=8)
    kinds = Counter(
        (r.condition.value, r.polarity.value) for r in found["fairness"] if isinstance(r, BbqRecord)
    )
    assert set(kinds.values()) == {2}
    assert len(kinds) == 4
    halueval = [r for r in found["hallucination"] if isinstance(r, HaluEvalRecord)]
    assert Counter(r.subset for r in halueval) == {"qa": 8, "general": 8}
    assert Counter(r.hallucinated for r in halueval if r.subset == "general") == {True: 4, False: 4}
    (note,) = eval_items(config(data), "all", ("fairness",), limit=8, seed=0)[0].notes
    assert note.startswith("fairness: 8 of ")
    assert note.endswith("drawn by strata with seed 0")
    assert records(config(data), "all", limit=10**6) == records(config(data), "all")
    other = eval_items(config(data), "all", ("fairness",), limit=8, seed=1)[0].questions.bbq
    assert other != tuple(found["fairness"])


def test_files_are_named(data: Path):
    fair, halu = eval_items(config(data), "yardstick", BOTH, limit=None, seed=0)
    assert fair.files == (data / "bbq" / "Age.jsonl",)
    assert [path.name for path in halu.files] == ["general_data.json", "qa_data.json"]
    assert fair.source == halu.source == str(data)
    assert len(halu.questions.rows) == len(halu.questions.halueval)


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        ("bbq", ["fairness"]),
        ("bbq/Age.jsonl", ["fairness"]),
        ("halueval", ["hallucination"]),
        ("halueval/qa_data.json", ["hallucination"]),
        (".", ["fairness", "hallucination"]),
    ],
)
def test_objectives_are_those_that_have_files(data: Path, where: str, kinds: list[str]):
    assert list(objectives_of(data / where)) == kinds


def test_a_file_is_known_by_its_fields(data: Path, tmp_path: Path):
    for number, source in enumerate(("bbq/Age.jsonl", "halueval/qa_data.json")):
        copy = tmp_path / f"mine{number}.jsonl"
        copy.write_bytes((data / source).read_bytes())
        (kind,) = objectives_of(copy)
        assert kind == BOTH[number]


def test_a_run_that_may_have_been_trained_on_the_items_is_noted(data: Path, tmp_path: Path):
    snapshot(config(data), tmp_path / "run")
    other = config(data).model_dump(mode="json")
    other["objectives"]["fairness"]["data"]["split_seed"] = 1
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    run = f"{tmp_path / 'run'}@base"

    def notes(**changes: Any) -> list[str]:
        return [n for n in plan(Request((run,), **changes)).notes if n.startswith(run)]

    assert notes() == []
    (note,) = notes(config=tmp_path / "other.yaml")
    assert "its own held-out items are others" in note
    (note,) = notes(split="all")
    assert "was trained on some of these items" in note
    # What is drawn from the training rows does not move the line.
    other["objectives"]["fairness"]["data"] |= {"split_seed": 0, "train_samples": 5}
    (tmp_path / "other.yaml").write_text(json.dumps(other))
    assert notes(config=tmp_path / "other.yaml") == []


def test_what_cannot_be_drawn_is_noted(data: Path, tmp_path: Path):
    rows = [json.loads(line) for line in (data / "bbq" / "Age.jsonl").read_text().splitlines()]
    _write(tmp_path / "Age.jsonl", [row for row in rows if row["context_condition"] == "ambig"])
    only = RunConfig(objectives=objectives_of(tmp_path))
    (found,) = eval_items(only, "all", ("fairness",), limit=4, seed=0)
    assert any("no disambig rows" in note for note in found.notes)


def test_what_is_not_there_is_refused(data: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        objectives_of(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no file of BBQ or HaluEval"):
        objectives_of(tmp_path)
    none = config(data).model_dump()
    none["objectives"]["fairness"]["data"]["eval_samples"] = 0
    with pytest.raises(DataError, match=r"there are no yardstick items"):
        records(RunConfig.model_validate(none), "yardstick")
    only = RunConfig(objectives=objectives_of(data / "bbq"))
    with pytest.raises(DataError, match=r"nothing to ask"):
        eval_items(only, "all", ("hallucination",), limit=None, seed=0)


def test_the_hand_off_s_sampling_is_that_of_its_preset():
    assert load_config(ROOT / "configs" / "llama3-8b-handoff.yaml").rollout.sampling == HANDOFF
