"""``grpo-dual eval`` on a short run of the embedded model, through the command itself."""

import hashlib
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pytest

from grpo_dual.cli.main import INTERRUPTED, MISTAKE, main
from grpo_dual.metrics.sinks import EVALUATIONS, evaluations
from grpo_dual.report.eval_file import MEASURES
from grpo_dual.report.evaluated import read_evaluation
from grpo_dual.train import evaluating
from short_runs import only_run

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
HELD_OUT = 24
OBJECTIVES = ("fairness", "hallucination")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the demo, large ones, evaluated greedily before and behind them."""
    out = tmp_path_factory.mktemp("runs")
    flags = {
        "train.steps": 2,
        "train.threads": 1,
        "train.optimizer.learning-rate": 0.01,
        "train.optimizer.warmup-steps": 0,
        "eval.decode": "greedy",
        "rollout.group-size": 4,
        "rollout.sampling.max-new-tokens": 12,
        "checkpoint.every": 1,
        **{f"objectives.{name}.prompts-per-step": 2 for name in OBJECTIVES},
        **{f"objectives.{name}.data.eval-samples": HELD_OUT for name in OBJECTIVES},
        **{f"objectives.{name}.data.train-samples": 64 for name in OBJECTIVES},
    }
    words = [w for key, value in flags.items() for w in (f"--{key}", str(value))]
    assert main(["train", str(DEMO), "--doctor", "off", "--out", str(out), *words]) == 0
    return only_run(out)


def evaluated(
    folder: Path, targets: Sequence[object], *flags: object
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result and the rows of the command."""
    out, rows = folder / "out.json", folder / "rows.jsonl"
    words = ["eval", *targets, "--json", out, "--rows", rows, "--draws", 50, *flags]
    words += [] if "--only" in flags else ["--only", "bbq", "--only", "open"]
    assert main([str(word) for word in words]) == 0
    return json.loads(out.read_text()), [json.loads(x) for x in rows.read_text().splitlines()]


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by name, with its checksum."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def without_time(target: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in target.items() if key != "seconds"}


@pytest.fixture(scope="module")
def both(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last checkpoint, the first one, the model without adapter, by the defaults."""
    before = contents(trained)
    targets = [trained, f"{trained}@0", f"{trained}@base"]
    result = evaluated(tmp_path_factory.mktemp("both"), targets)
    assert contents(trained) == before  # nothing is written into a run
    return result


def test_the_numbers_are_the_run_s_own(trained: Path, both: tuple[dict[str, Any], Any]):
    last, first, base = both[0]["targets"]
    own = evaluations(trained / EVALUATIONS)
    assert [last["step"], first["step"], base["step"]] == [2, 0, None]
    for name in OBJECTIVES:
        assert last["yardstick"][name] == own[2][name]
        # B of a fresh adapter is 0: before the first step the model is its base.
        assert first["yardstick"][name] == base["yardstick"][name] == own[0][name]
    assert own[2] != own[0]
    assert both[0]["provenance"]["split"] == "yardstick"
    assert last["axes"]["fairness"] == own[2]["fairness"]["axis"]
    assert last["axes"]["faithfulness"] == own[2]["hallucination"]["grounded"]


def test_what_it_writes_is_read_by_report_and_export(trained: Path, tmp_path: Path):
    """All parts, a few items each: every measure is a line of the page and of the card."""
    pytest.importorskip("matplotlib", reason="report needs the extra figures")
    out, page = tmp_path / "eval.json", tmp_path / "page.html"
    words = ["eval", f"{trained}@base", trained, "--json", out, "--draws", 20, "--limit", 4]
    assert main([str(word) for word in words]) == 0
    assert main(["report", str(trained), "--eval", str(out), "--out", str(page)]) == 0
    card = tmp_path / "export"
    assert main(["export", str(trained), "--out", str(card), "--results", str(out)]) == 0
    shown = page.read_text(), (card / "README.md").read_text()
    read = read_evaluation(out)
    measured = [m for m in MEASURES if any(m.score(t).known for t in _targets(out))]
    assert {"open", "detection", "pairs"} <= {m.path[1] for m in measured if len(m.path) > 1}
    for measure in measured:
        assert all(escape(measure.words) in text for text in shown)
    assert any(gap.value is not None for gap in read.targets[1].gaps.values())
    for part in ("bbq", "open", "detection", "pairs", "retention"):
        words = ["eval", trained, "--json", out, "--draws", 5, "--limit", 2, "--only", part]
        assert main([str(word) for word in words]) == 0
        assert main(["report", str(trained), "--eval", str(out), "--out", str(page)]) == 0


def _targets(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["targets"]


def test_an_adapter_folder_is_its_checkpoint(
    trained: Path, both: tuple[dict[str, Any], list[dict[str, Any]]], tmp_path: Path
):
    folder = trained / "checkpoints" / "step-00000002" / "adapter"
    config = trained / "config.json"
    result, rows = evaluated(tmp_path, [folder, "embedded"], "--config", config, "--dtype=float32")
    adapter, embedded = result["targets"]
    last, _, base = both[0]["targets"]
    assert adapter["adapter"]["sha256"] == last["adapter"]["sha256"]
    for mine, theirs in ((adapter, last), (embedded, base)):
        for key in ("yardstick", "axes", "bbq", "halueval"):
            assert mine[key] == theirs[key]
    completions = [row["completion"] for row in rows if row["target"] == str(folder)]
    assert completions == [r["completion"] for r in both[1] if r["target"] == str(trained)]


def test_the_same_command_gives_the_same_result(
    trained: Path, both: tuple[dict[str, Any], list[dict[str, Any]]], tmp_path: Path
):
    result, rows = evaluated(tmp_path, [trained])
    assert without_time(result["targets"][0]) == without_time(both[0]["targets"][0])
    assert rows == [row for row in both[1] if row["target"] == str(trained)]
    # Sampling: the seed decides.
    flags = ("--decode", "handoff", "--max-new-tokens", 6, "--limit", 2)
    sampled = [evaluated(tmp_path, [trained], *flags, "--seed", seed)[1] for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_differences_are_those_of_the_numbers(both: tuple[dict[str, Any], Any]):
    last, first, _ = both[0]["targets"]
    assert "minus_first" not in last
    for reading, gap in first["minus_first"]["bbq"].items():
        assert gap["n"] == HELD_OUT
        before = last["bbq"]["readings"][reading]["wrong"]
        after = first["bbq"]["readings"][reading]["wrong"]
        for key, found in gap["macro"].items():
            if None in (before["macro"][key], after["macro"][key]):
                assert found["value"] is None
            else:
                assert found["value"] == after["macro"][key] - before["macro"][key]
                assert found["interval_95"] is not None
    gap = first["minus_first"]["halueval"]["open"]["grounded"]
    assert gap["value"] == pytest.approx(
        first["axes"]["faithfulness"] - last["axes"]["faithfulness"], abs=1e-12
    )


def test_every_item_has_a_row(both: tuple[dict[str, Any], list[dict[str, Any]]]):
    result, rows = both
    for target in result["targets"]:
        mine = [row for row in rows if row["target"] == target["name"]]
        bbq = [row for row in mine if row["task"] == "bbq"]
        assert len(bbq) == target["bbq"]["n"] == HELD_OUT
        assert len(mine) == 2 * HELD_OUT
        right = [row["right"] for row in bbq if row["context_condition"] == "ambig"]
        own = target["yardstick"]["fairness"]
        assert sum(right) == round(own["accuracy_ambig"] * own["n_ambig"])
        for row in bbq:
            sums = row["text_logprobs"]
            assert row["choice_text_sum"] == sums.index(max(sums))
            means = [x / n for x, n in zip(sums, row["text_tokens"], strict=True)]
            assert row["choice_text_mean"] == means.index(max(means))


def test_a_limit_draws_by_strata_and_says_so(trained: Path, tmp_path: Path):
    result, rows = evaluated(tmp_path, [trained], "--only", "bbq", "--limit", 4)
    assert {row["task"] for row in rows} == {"bbq"}
    per_category: dict[str, list[str]] = {}
    for row in rows:
        per_category.setdefault(row["category"], []).append(row["context_condition"])
    assert len(per_category) == 4
    assert all(sorted(c) == ["ambig"] * 2 + ["disambig"] * 2 for c in per_category.values())
    (note,) = [n for n in result["provenance"]["notes"] if "drawn" in n]
    assert "16 of 24 items, 4 of each category at most" in note
    assert result["targets"][0]["axes"]["faithfulness"] is None
    assert "halueval" not in result["targets"][0]


def test_all_parts_are_asked_by_default(trained: Path, tmp_path: Path):
    out, rows = tmp_path / "out.json", tmp_path / "rows.jsonl"
    words = ["eval", trained, f"{trained}@0", "--limit", 2, "--draws", 20]
    assert main([str(word) for word in [*words, "--json", out, "--rows", rows]]) == 0
    result = json.loads(out.read_text())
    last, first = result["targets"]
    assert result["provenance"]["parts"] == ["bbq", "open", "detection", "pairs", "retention"]
    assert last["left_out"] == {"bbq": 0, "open": 0, "detection": 0, "pairs": 0}
    # qa, dialogue and summarization have two pairs each, and each pair two sides.
    assert last["halueval"]["pairs"]["n"]["sum"] == 6
    assert last["halueval"]["detection"]["likelihood"]["n"]["accuracy"] == 12
    assert last["halueval"]["detection"]["likelihood"]["null_majority"] == 0.5
    assert last["retention"]["texts"]["perplexity"] > 1
    gap = first["minus_first"]["retention"]["texts"]["nats_per_byte"]["value"]
    nats = [t["retention"]["texts"]["nats_per_byte"] for t in (last, first)]
    assert gap == pytest.approx(nats[1] - nats[0], abs=1e-12)
    tasks = {json.loads(line)["task"] for line in rows.read_text().splitlines()}
    assert tasks == {"bbq", "open", "detection", "pairs", "retention"}


def test_retention_needs_no_data(tmp_path: Path):
    result, rows = evaluated(tmp_path, ["embedded"], "--only", "retention", "--max-new-tokens", 4)
    assert result["provenance"]["data"] == []
    assert result["targets"][0]["retention"]["questions"]["empty"] is not None
    assert {row["task"] for row in rows} == {"retention"}


def test_rows_are_predictions_that_anyone_can_score(shared_data: Path, tmp_path: Path):
    data = shared_data / "bbq" / "Religion.jsonl"
    result, rows = evaluated(
        tmp_path, ["embedded"], "--data", data, "--limit", 12, "--max-new-tokens", 8
    )
    told = result["provenance"]
    assert told["split"] == "all"
    checksum = hashlib.sha256(data.read_bytes()).hexdigest()
    assert told["data"][0]["files"] == [{"path": str(data), "sha256": checksum}]
    assert len(rows) == 12
    predictions, out = tmp_path / "rows.jsonl", tmp_path / "predictions.json"
    for reading, found in result["targets"][0]["bbq"]["readings"].items():
        words = ["eval", "predictions", predictions, "--field", f"choice_{reading}"]
        words += ["--data", data, "--json", out, "--draws", 50]
        assert main([str(word) for word in words]) == 0
        assert json.loads(out.read_text())["categories"] == found["wrong"]["categories"]


def test_provenance(trained: Path, both: tuple[dict[str, Any], Any]):
    result = both[0]
    told = result["provenance"]
    assert told["seed"] == 0
    assert told["decode"]["mode"] == "greedy"
    assert told["decode"]["max_new_tokens"] == 12
    assert told["config"]["source"] == str(trained)
    assert len(told["config"]["sha256"]) == 64
    assert {"torch", "transformers", "grpo-dual"} <= told["packages"].keys()
    assert [own["source"] for own in told["data"]] == ["synthetic", "synthetic"]
    last = result["targets"][0]
    weights = trained / "checkpoints/step-00000002/adapter/adapter_model.safetensors"
    assert last["adapter"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert last["device"]["type"] == "cpu"
    assert last["seconds"] > 0


def test_an_interrupt_leaves_no_file(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    whole, calls = evaluating.evaluate, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(evaluating, "evaluate", interrupted)
    words = ["eval", trained, f"{trained}@0", "--only", "bbq", "--limit", 1]
    words += ["--json", tmp_path / "out.json", "--rows", tmp_path / "rows.jsonl"]
    assert main([str(word) for word in words]) == INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["{run}@7"], "no checkpoint of step 7; there are 0, 1, 2"),
        (["{run}@frist"], "behind the @ stands a step"),
        (["{run}@best", "--limit", "0"], "at least 1"),
        (["{run}", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["embedded"], "nothing says what to ask"),
        (["nowhere/at/all", "--config", str(DEMO)], "there is no model folder at nowhere/at/all"),
        (["{empty}"], "has no config.json"),
        (["{empty}@3"], "is no run folder"),
        (["{bare}"], "holds no checkpoint"),
        (["{homeless}"], "names no base model"),
        (["{pickled}"], "has no adapter_model.safetensors"),
        (["{run}", "--json", "nowhere/out.json"], "no such folder"),
        (["predicions", "x"], "did you mean `predictions`?"),
    ],
)
def test_mistakes(
    words: list[str],
    named: str,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    places = {name: tmp_path / name for name in ("empty", "bare", "homeless", "pickled")}
    for folder in places.values():
        folder.mkdir()
    (places["bare"] / "config.json").write_text((trained / "config.json").read_text())
    (places["homeless"] / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (places["pickled"] / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "embedded"}'
    )
    assert main(["eval", *(word.format(run=trained, **places) for word in words)]) == MISTAKE
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("grpo-dual: error: ")
    assert named in error
