"""``grpo-dual select``: what it draws and keeps, and that SFT learns from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import short_runs
from grpo_dual.cli import selecting
from grpo_dual.cli.main import INTERRUPTED, MISTAKE, main
from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations
from grpo_dual.train.wiring import gather
from short_runs import only_run

PROMPTS, N = 40, 8
ANSWERS = {"qa": 1.5, "dialogue": 1.5, "summarization": 1.0}  # general is unknown to the model


def settings(out: Path) -> dict[str, Any]:
    """The embedded model, evaluated as it samples: greedy decoding would hide its habits."""
    data = short_runs.settings(Path("embedded"), out, train={"steps": 1})
    shared = {"path": "synthetic", "train_samples": 128, "eval_samples": 80}
    for kind, more in (("fairness", {}), ("hallucination", {"subsets": ANSWERS})):
        data["objectives"][kind] = {"prompts_per_step": 2, "data": {**shared, **more}}
    data["rollout"] |= {"max_prompt_tokens": 464, "sampling": {"max_new_tokens": 24}}
    data["rollout"]["max_sequences"] = 128
    data["train"]["optimizer"] = {"learning_rate": 1e-5}
    data["eval"] = {"decode": "train"}
    data["doctor"] = {"mode": "off"}
    return data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("config")
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings(folder / "runs")))
    return path


def select(source: object, out: Path, *flags: str) -> int:
    return main(
        ["select", str(source), "--out", str(out), "--n", str(N), "--prompts", str(PROMPTS), *flags]
    )


@pytest.fixture(scope="module")
def kept(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "kept.jsonl"
    assert select(config, out, "--json", str(out.with_suffix(".json"))) == 0
    return out


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_kept_is_right_once_and_accounted_for(kept: Path):
    found = rows(kept)
    assert {row["objective"] for row in found} == {"fairness", "hallucination"}
    said = set()
    for row in found:
        assert row["reward"] >= 0.5
        assert row["gold"] == 1.0  # reward and the world's gold agree on what is kept
        assert row["record_id"].startswith("synthetic-train/")
        assert row["messages"][-1]["role"] == "user"
        assert row["origin"]["source"] == "tiny.yaml"
        said.add((row["record_id"], row["completion"].casefold().rstrip(".")))
    assert len(said) == len(found)
    result = json.loads(kept.with_suffix(".json").read_text())
    assert result["kept"] == len(found)
    assert sum(s["drawn"] for s in result["strata"].values()) == 2 * PROMPTS * N
    for name in ("fairness", "hallucination"):
        points = result["best_of_n"][name]
        assert [p["n"] for p in points] == [1, 2, 4, 8]
        values = [p["proxy"]["value"] for p in points]
        assert values == sorted(values)
        assert values[-1] > values[0] + 0.3
        # The model's own score: the mean over all that was drawn.
        drawn = [
            s["total"]
            for line in rows(kept.with_name("kept.drawn.jsonl"))[1:-1]
            for one in line["asked"]
            if one["objective"] == name
            for s in one["samples"]
        ]
        assert values[0] == pytest.approx(sum(drawn) / len(drawn), abs=1e-9)


def headline(result: dict[str, Any]) -> tuple[float, float]:
    fair = result["fairness"]
    return (fair["accuracy_ambig"] + fair["accuracy_disambig"]) / 2, result["hallucination"][
        "grounded"
    ]


def test_sft_on_what_is_kept_raises_the_held_out_scores(
    config: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    learnt = ["--sft.data", str(kept), "--sft.steps", "25", "--sft.learning_rate", "2e-3"]
    assert main(["train", str(config), "--out", str(tmp_path / "start")]) == 0
    assert main(["train", str(config), "--out", str(tmp_path / "learnt"), *learnt]) == 0
    told = capsys.readouterr().out
    assert f"completions of {kept} (sha256 " in told
    # Behind the warm-up, before the first step of RL.
    start, after = (
        evaluations(only_run(tmp_path / name) / EVALUATIONS)[0] for name in ("start", "learnt")
    )
    for first, last in zip(headline(start), headline(after), strict=True):
        assert last > first + 0.05
    # The run holds what it learnt from, and its checkpoints may be drawn from again.
    run = only_run(tmp_path / "learnt")
    assert json.loads((run / "config.json").read_text())["sft"]["data"] == str(kept)
    again = tmp_path / "again.jsonl"
    assert select(run, again, "--keep", "best") == 0
    assert rows(again)[0]["origin"]["source"] == f"{run.name}@1"
    assert len({row["record_id"] for row in rows(again)}) == len(rows(again))
    first, second = (
        rows(path.with_name(f"{path.stem}.drawn.jsonl"))[0]["draw"] for path in (kept, again)
    )
    assert first["adapter"] is None
    assert second["adapter"] is not None


def test_an_interrupted_draw_goes_on_to_the_same_file(
    config: Path,
    kept: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "kept.jsonl"
    original = selecting.draw_scored

    def interrupted(*args: Any, chunk: int) -> Any:
        if chunk == 2:
            raise KeyboardInterrupt
        return original(*args, chunk=chunk)

    with monkeypatch.context() as patch:
        patch.setattr(selecting, "draw_scored", interrupted)
        assert select(config, out) == INTERRUPTED
    told = capsys.readouterr().err
    assert f"What was drawn is in {tmp_path / 'kept.drawn.jsonl'}" in told
    assert not out.exists()
    assert len(rows(tmp_path / "kept.drawn.jsonl")) == 3  # what it is of, and two chunks
    assert select(config, out) == 0
    assert "2 of 6 chunks are drawn already" in capsys.readouterr().out
    assert out.read_bytes() == kept.read_bytes()
    # Another rule does not draw again, another draw is refused.
    before = (tmp_path / "kept.drawn.jsonl").read_bytes()
    monkeypatch.setattr(selecting, "build", None)  # no model is loaded for it
    assert select(config, out, "--threshold", "2", "--proxy", "judge") == 0
    assert "nothing kept: fairness/ambig/Age (most of it: below)" in capsys.readouterr().out
    assert out.read_bytes() == b""
    assert (tmp_path / "kept.drawn.jsonl").read_bytes() == before
    assert select(config, out, "--train.seed", "5") == MISTAKE
    assert "holds another draw (seed is 0 there and 5 now)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--n", "0"), "must be a whole number from 1 on, not `0`"),
        (("--ratio", "0.5"), "--ratio 0.5: must be at least 1"),
        (("--threshold", "nan"), "--threshold nan"),
        (("--kep", "best"), "--kep"),
    ],
)
def test_flags_that_cannot_be_meant_are_refused(
    flags: tuple[str, ...],
    says: str,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    assert main(["select", str(config), "--out", str(tmp_path / "x.jsonl"), *flags]) == MISTAKE
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_source_or_target_that_is_not_right_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert select(tmp_path, tmp_path / "x.jsonl") == MISTAKE
    assert "is no run folder" in capsys.readouterr().err
    mine = tmp_path / "mine.jsonl"
    mine.write_text("mine")
    assert select(config, mine) == MISTAKE
    assert "is there already" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def held_out_row(config: RunConfig, name: str) -> dict[str, Any]:
    objective = gather(config).objectives[name]
    record = objective.eval_records[0]
    chat = [{"role": m.role, "content": m.content} for m in objective.messages(record)]
    return {"record_id": record.record_id, "messages": chat}


Change = Callable[[RunConfig], dict[str, Any]]
BAD: dict[str, tuple[Change, str]] = {
    "low": (lambda _: {"reward": 0.4}, "its reward 0.4 is below sft.min_reward (0.5)"),
    "unknown": (
        lambda _: {"objective": "kindness"},
        "field 'objective' is 'kindness', which is no objective of this run",
    ),
    "held out": (lambda c: held_out_row(c, "fairness"), "is held out for the yardstick"),
    "held out by another name": (
        lambda c: {**held_out_row(c, "fairness"), "record_id": "renamed"},
        "renamed is held out for the yardstick",
    ),
    "long": (
        lambda _: {"messages": [{"role": "user", "content": "word " * 600}]},
        "tokens, the limit is 464",
    ),
    "blank": (lambda _: {"completion": ""}, "field 'completion' is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_stops_the_run_before_it_begins(
    case: str, config: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    change, says = BAD[case]
    good = next(row for row in rows(kept) if row["objective"] == "fairness")
    path = tmp_path / "bad.jsonl"
    bad = {**good, **change(RunConfig.model_validate(settings(tmp_path)))}
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad)))
    out = tmp_path / "runs"
    code = main(
        ["train", str(config), "--out", str(out), "--sft.data", str(path), "--sft.steps", "1"]
    )
    assert code == MISTAKE
    told = " ".join(capsys.readouterr().err.split())
    assert f"{path}:2: " in told
    assert says in told
    assert not out.exists()


def test_data_without_steps_is_refused(
    config: Path, kept: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", str(config), "--sft.data", str(kept)]) == MISTAKE
    assert "data is set, but steps is 0" in capsys.readouterr().err


def test_an_objective_without_rows_is_left_out_and_said_so(
    config: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "fair.jsonl"
    own = [row for row in rows(kept) if row["objective"] == "fairness"]
    path.write_text("".join(json.dumps(row) + "\n" for row in own[:3]))
    flags = ["--sft.data", str(path), "--sft.steps", "2", "--sft.batch_size", "6"]
    quick = ["--eval.no-before_and_after"]
    assert main(["train", str(config), "--out", str(tmp_path / "runs"), *flags, *quick]) == 0
    told = capsys.readouterr().out
    assert "note: sft.data holds nothing of hallucination, which SFT leaves out" in told
    # 2 steps of 6 sequences over 3 completions.
    assert "note: fairness: SFT goes 4.0 times over its 3 completions" in told


def test_there_may_be_fewer_prompts_than_were_asked_for(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "few.jsonl"
    few = ["--objectives.fairness.data.train_samples", "8"]
    few += ["--objectives.hallucination.data.train_samples", "7"]
    assert main(["select", str(config), "--out", str(out), "--n", "1", *few]) == 0
    told = capsys.readouterr().out
    assert "note: fairness: there are 8 prompts, not 200" in told
    (line,) = (x for x in told.split("hallucination: best of n")[0].splitlines() if x[:2] == "1 ")
    assert line.split()[-3:] == ["0.000", "8", "8"]
    asked = [one for line in rows(tmp_path / "few.drawn.jsonl")[1:-1] for one in line["asked"]]
    assert len({one["record_id"] for one in asked}) == len(asked) == 15
