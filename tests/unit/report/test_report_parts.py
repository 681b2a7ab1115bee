"""Samples, settings, tables, trends and findings, of the recorded demo."""

import csv
from pathlib import Path

import pytest

import recorded_runs
from grpo_dual.errors import DataError
from grpo_dual.evaluation.evaluated import flat
from grpo_dual.metrics.sinks import EVAL_COMPLETIONS, STEP_CSV
from grpo_dual.report import pictures, tables, trends
from grpo_dual.report.marks import causes, counted, marks, timeline
from grpo_dual.report.panels import TimePanel
from grpo_dual.report.reading import read, read_runs
from grpo_dual.report.samples import DIFFERENT, HELD_OUT, REPEATED, both, side_by_side
from grpo_dual.report.settings import compared, differences


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return recorded_runs.demo(tmp_path / "demo")


def test_prompts_that_repeat_are_shown_early_beside_late(folder: Path) -> None:
    (folder / EVAL_COMPLETIONS).unlink()
    path = folder / "completions.jsonl"
    for step, text in ((3, "first"), (5, "middle"), (50, "last")):
        recorded_runs.add_line(path, recorded_runs.completion(step, "the prompt", text))
    fairness, hallucination = side_by_side(read(folder))
    assert fairness.note == REPEATED
    (asked,) = fairness.asked
    assert [(s.who, s.sample.completion) for s in asked.said] == [
        ("Early", "first"),
        ("Late", "last"),
    ]
    assert hallucination.note == DIFFERENT
    steps = [(a.said[0].who, a.said[0].sample.step) for a in hallucination.asked]
    assert steps == [("Early", 1), ("Late", 60)] * 2


def test_held_out_items_come_first_and_say_what_was_wanted(folder: Path) -> None:
    fairness, hallucination = side_by_side(read(folder))
    for own in (fairness, hallucination):
        assert own.note == HELD_OUT
        assert len(own.asked) == 4
        for asked in own.asked:
            assert [s.sample.step for s in asked.said] == [0, 60]
            assert asked.wanted


def test_two_runs_answer_the_same_prompts(tmp_path: Path, folder: Path) -> None:
    runs = read_runs([folder, recorded_runs.demo(tmp_path / "other")])
    fairness, _ = both(*runs)
    assert [s.who for s in fairness.asked[0].said] == ["A: demo", "B: other"]
    assert [s.sample.step for s in fairness.asked[0].said] == [60, 60]
    for run in runs:
        (run.folder / EVAL_COMPLETIONS).unlink()
    fairness, _ = both(*read_runs([r.folder for r in runs]))
    assert fairness.note == "Training prompts of both runs."


def test_a_damaged_line_is_named(folder: Path) -> None:
    recorded_runs.add_line(folder / EVAL_COMPLETIONS, {"step": 60, "objective": "fairness"})
    with pytest.raises(DataError, match=r"eval_completions.jsonl, line 33: not a completion"):
        read(folder)


def test_settings_are_dotted_and_names_do_not_differ(tmp_path: Path, folder: Path) -> None:
    nested = {"a": {"b": 1, "c": [], "e": {}}, "d": None}
    assert dict(flat(nested)) == {"a.b": 1, "a.c": [], "a.e": {}, "d": None}
    other = recorded_runs.demo(tmp_path / "other")

    def change(config: dict) -> None:
        config["name"] = "other"
        config["objectives"]["fairness"]["kl"]["target"] = 0.02
        del config["eval"]

    recorded_runs.change_json(other / "config.json", change)
    runs = read_runs([folder, other])
    found = {s.key: s.values for s in differences(runs)}
    assert found["objectives.fairness.kl.target"] == ("0.08", "0.02")
    assert found["eval.every"] == ("20", "(not set)")
    assert "name" not in found
    assert "name" in {s.key for s in compared(runs)}


def test_the_paired_table_sets_both_runs_beside_each_other(tmp_path: Path, folder: Path) -> None:
    runs = read_runs([folder, recorded_runs.demo(tmp_path / "other")])
    rows = {row[0]: row for row in tables.paired(*runs).rows}
    row = rows["Right when the context says"]
    assert row[1] == row[3] == "59.0 % [49.2, 68.1]"
    # equal shares of 99 of 100: 0 +- the distances to Wilson's ends, .9900 - .9455 and .9982 - .99
    assert row[5].startswith("+0.0 [-4.5, +4.5]")


def test_provenance_names_versions_and_how_to_repeat(folder: Path) -> None:
    lines = dict(tables.provenance(read(folder)))
    assert lines["repeat it"].endswith("demo/config.json")
    assert "torch" in lines["versions"]
    assert lines["state"] == "finished, 60 steps"


def test_trends_draw_what_moves_and_say_what_does_not(folder: Path) -> None:
    groups = {g.key: g for g in trends.trends(read_runs([folder]))}
    assert groups["rewards"].panels[0].title == "Reward"
    assert any("Cut completions: fairness 0.0 % throughout" in n for n in groups["lengths"].notes)
    entropy = groups["entropy"].panels[0]
    assert isinstance(entropy, TimePanel)
    assert [level.label for level in entropy.levels] == ["fairness H0", "hallucination H0"]
    kl = groups["kl"].panels[0]
    assert isinstance(kl, TimePanel)
    assert [(level.label, level.value) for level in kl.levels] == [("target", 0.08)]
    assert kl.marks == marks(read(folder), None)


def test_two_runs_get_a_panel_for_each_objective(tmp_path: Path, folder: Path) -> None:
    runs = read_runs([folder, recorded_runs.demo(tmp_path / "other")])
    rewards = trends.trends(runs)[0]
    assert [p.title for p in rewards.panels[:2]] == ["Reward: fairness", "Reward: hallucination"]
    first = rewards.panels[0]
    assert isinstance(first, TimePanel)
    assert [line.label for line in first.lines] == ["A: demo", "B: other"]


def test_shares_of_providers_add_up(folder: Path) -> None:
    group = trends.judging(read_runs([folder]))
    panel = group.panels[0]
    assert isinstance(panel, TimePanel)
    sums = [
        sum(v or 0.0 for v in row) for row in zip(*(x.values for x in panel.lines), strict=True)
    ]
    assert sums == pytest.approx([1.0] * 60)


def test_the_front_follows_the_checkpoints(folder: Path) -> None:
    panel = pictures.trade_off(read_runs([folder]))
    assert panel is not None
    assert [name for name, _, _ in panel.trails[0].points] == [
        "step 0", "step 20", "step 40", "step 60",
    ]  # fmt: skip
    assert panel.front[-1][0] == "step 60"


def test_findings_are_numbered_and_on_the_time_axis(folder: Path) -> None:
    run = read(folder)
    (found,) = causes(run)
    assert (found.code, found.step) == ("kl-runaway", 46)
    assert [(m.text, m.step) for m in marks(run, None)] == [("1", 46)]
    assert marks(run, "fairness") == ()
    line = timeline(run)
    assert line is not None
    assert (line.spans[0].first, line.spans[0].last, line.spans[0].over) == (46, 47, True)
    assert counted([found]) == "1 warning"


def test_cells_that_are_not_finite_are_left_out_and_told(folder: Path) -> None:
    path = folder / STEP_CSV
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[4]["kl_f"] = "inf"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    run = read(folder)
    assert run.history.columns["kl_f"][4] is None
    assert any(gap.startswith("kl_f: not finite in 1 of 60") for gap in run.gaps)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "nowhere")


def test_one_folder_given_twice_is_one_run(folder: Path) -> None:
    assert len(read_runs([folder, folder])) == 1
