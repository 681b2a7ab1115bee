"""The pre-flight of whole configurations: healthy presets are let through, planted faults found."""

import copy
import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import short_runs
from grpo_dual.config.load import load_config
from grpo_dual.config.schema import RunConfig
from grpo_dual.diagnosis.grading import must_act
from grpo_dual.diagnosis.remedies import patched
from grpo_dual.prompts import fairness
from grpo_dual.records import synthetic
from grpo_dual.train import preflight as preflights
from grpo_dual.train.memory import GIB, Fit, MemoryPlan, Room
from grpo_dual.train.preflight import look, memory_findings, preflight
from grpo_dual.train.wiring import gather
from grpo_dual.types import Finding, Severity

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DEMO = load_config(CONFIGS / "demo.yaml")


def mended(config: RunConfig, patch: Mapping[str, object]) -> RunConfig:
    """The configuration with a patch, which must be valid."""
    return RunConfig.model_validate(patched(config.model_dump(mode="json"), patch))


def preset(name: str, shared: Path) -> RunConfig:
    """A preset with the rows and the tokenizer that are at hand."""
    return load_config(
        CONFIGS / f"{name}.yaml",
        [
            *("--model.name", "embedded"),
            *("--objectives.fairness.data.path", str(shared / "bbq")),
            *("--objectives.hallucination.data.path", str(shared / "halueval")),
        ],
    )


def changed(config: RunConfig, **keys: object) -> RunConfig:
    """Dotted keys with ``__`` for dots."""
    return mended(config, {key.replace("__", "."): value for key, value in keys.items()})


def by_code(findings: tuple[Finding, ...]) -> dict[str, Severity]:
    found: dict[str, Severity] = {}
    for finding in findings:
        found.setdefault(finding.code, finding.severity)
    return found


def test_the_demo_is_healthy_and_looked_at_quickly() -> None:
    materials = gather(DEMO)
    states = [objective.state_dict() for objective in materials.objectives.values()]
    preflight(DEMO, materials)  # what is imported or compiled at first use is not the demo's
    began = time.process_time()
    assert preflight(DEMO, materials) == ()
    assert time.process_time() - began < 2.0
    after = [objective.state_dict() for objective in materials.objectives.values()]
    assert after == states, "the run draws what it would have drawn"


@pytest.mark.parametrize("name", ["real-tiny", "llama3-8b", "llama3-8b-handoff"])
def test_presets_on_real_rows(name: str, shared_data: Path) -> None:
    config = preset(name, shared_data)
    findings = look(config, offline=True)
    assert not must_act(findings)
    for finding in findings:
        mended(config, finding.patch)
    warned = {f.code for f in findings if f.severity is Severity.WARN}
    if name == "llama3-8b-handoff":
        assert warned == {"sampling-mismatch", "forced-length", "starved-objective"}
    else:
        assert warned == set()


FAULTS: Mapping[str, tuple[str, Severity, Mapping[str, object]]] = {
    "thirty forced tokens": (
        "forced-length",
        Severity.ACT,
        {
            "rollout.sampling.max_new_tokens": 40,
            "rollout.sampling.min_new_tokens": 30,
        },
    ),
    "a frozen temperature": (
        "sampling-mismatch",
        Severity.ACT,
        {"rollout.sampling.temperature": 0.05},
    ),
    "no room for BBQ's contexts": (
        "prompt-truncation",
        Severity.ACT,
        {"rollout.max_prompt_tokens": 96},
    ),
    "a window too small": (
        "prompt-truncation",
        Severity.ACT,
        {"rollout.max_prompt_tokens": 4000, "rollout.sampling.max_new_tokens": 904},
    ),
    "no room for right replies": (
        "completion-truncation",
        Severity.ACT,
        {"rollout.sampling.max_new_tokens": 5},
    ),
    "ambiguous items alone": (
        "condition-imbalance",
        Severity.ACT,
        {"objectives.fairness.data.ambiguous_fraction": 1.0},
    ),
    "declining pays": (
        "pays-for-filler",
        Severity.ACT,
        {"objectives.fairness.reward.disambiguated_unknown": 0.9},
    ),
    "abstaining pays": (
        "pays-for-filler",
        Severity.ACT,
        {"objectives.hallucination.reward.abstains": 0.9},
    ),
    "right is not paid": (
        "pays-for-filler",
        Severity.ACT,
        {"objectives.hallucination.reward.grounded": -1.0},
    ),
    "an objective with hardly any weight": (
        "starved-objective",
        Severity.WARN,
        {"objectives.hallucination.weight": 0.01},
    ),
    "pairs of completions": (
        "starved-objective",
        Severity.WARN,
        {"rollout.group_size": 2, "objectives.fairness.prompts_per_step": 4},
    ),
    "a rate for another optimiser": (
        "learning-rate",
        Severity.WARN,
        {"train.optimizer.learning_rate": 0.1},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_its_patch_mends_it(fault: str) -> None:
    code, severity, change = FAULTS[fault]
    config = mended(DEMO, change)
    findings = preflight(config, gather(config))
    assert by_code(findings)[code] is severity, findings
    assert set(by_code(findings)) <= {code, "completion-truncation", "forced-length"}
    own = [f for f in findings if f.code == code]
    for finding in own:
        config = mended(config, finding.patch)
    if fault != "right is not paid":  # what it should be paid, no rule can know
        assert by_code(preflight(config, gather(config))).get(code) in (None, Severity.NOTE)


def rows_file(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """BBQ rows of the embedded world, changed, in a file of their own."""
    path = folder / "bbq" / "rows.jsonl"
    path.parent.mkdir()
    with path.open("w") as file:
        for row in synthetic.bbq_rows("train", 240, 0):
            own = copy.deepcopy(row)
            change(own)
            file.write(json.dumps(own) + "\n")
    return path


def unknown_last(row: dict[str, Any]) -> None:
    info = row["answer_info"]
    place = next(i for i in range(3) if info[f"ans{i}"][1] == "unknown")
    for names in (info, row):
        names[f"ans{place}"], names["ans2"] = names["ans2"], names[f"ans{place}"]
    row["label"] = {place: 2, 2: place}.get(row["label"], row["label"])


def test_rows_whose_unknown_option_is_always_last(tmp_path: Path) -> None:
    healthy = rows_file(tmp_path, lambda _: None)
    config = changed(DEMO, objectives__fairness__data__path=str(healthy))
    assert preflight(config, gather(config)) == ()
    (tmp_path / "b").mkdir()
    config = changed(
        DEMO, objectives__fairness__data__path=str(rows_file(tmp_path / "b", unknown_last))
    )
    (found,) = preflight(config, gather(config))
    assert (found.code, found.severity) == ("unknown-position", Severity.ACT)
    assert "(c) in 400 of 400" in found.evidence[0]


def test_an_item_without_room_for_its_answer_is_named(tmp_path: Path) -> None:
    def long_story(row: dict[str, Any]) -> None:
        if row["context_condition"] == "disambig" and row["example_id"] % 20 == 1:
            row["context"] += " It rained." * 150

    config = changed(DEMO, objectives__fairness__data__path=str(rows_file(tmp_path, long_story)))
    (found,) = preflight(config, gather(config))
    assert (found.code, found.severity) == ("prompt-truncation", Severity.WARN)
    named = found.evidence[-1].removeprefix("records: ").split(" and ")[0].split(", ")
    assert named
    assert all(int(record.split("/")[-1]) % 20 == 1 for record in named)


def test_detection_of_texts_that_length_tells(shared_data: Path) -> None:
    config = changed(
        DEMO,
        objectives__hallucination__data__path=str(shared_data / "halueval"),
        objectives__hallucination__data__subsets={"qa": 1.0},
        objectives__hallucination__data__detect_fraction=0.5,
    )
    (leak,) = [f for f in preflight(config, gather(config)) if f.code == "data-leak"]
    assert leak.severity is Severity.ACT
    assert leak.patch == {"objectives.hallucination.data.length_matched": True}
    config = mended(config, leak.patch)
    assert "data-leak" not in by_code(preflight(config, gather(config)))


def test_general_rows_that_are_not_filtered(shared_data: Path) -> None:
    config = changed(
        DEMO,
        rollout__max_prompt_tokens=960,
        objectives__hallucination__data__path=str(shared_data / "halueval"),
        objectives__hallucination__data__subsets={"general": 1.0},
        objectives__hallucination__data__general_filter="off",
    )
    (noise,) = [f for f in preflight(config, gather(config)) if f.code == "noisy-general"]
    # docs/decisions/0001: whole-words keeps 596 of 815.
    assert noise.evidence[0].startswith("219 of 815 hallucinated rows")
    config = mended(config, noise.patch)
    assert "noisy-general" not in by_code(preflight(config, gather(config)))


def test_a_tokenizer_that_cannot_write_the_world(tmp_path: Path) -> None:
    config = changed(DEMO, model__name=str(short_runs.save_model(tmp_path)))
    found = by_code(preflight(config, gather(config)))
    assert found["wrong-chat-template"] is Severity.ACT
    assert found["parser-mismatch"] is Severity.ACT


def test_replies_that_the_reward_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wording of the target drifts from what the reader reads."""
    monkeypatch.setattr(fairness, "target", lambda record: f"Not {record.options[record.label]}")
    found = {f.code: f for f in preflight(DEMO, gather(DEMO))}["parser-mismatch"]
    assert (found.objective, found.severity) == ("fairness", Severity.ACT)


def test_memory_of_a_loaded_model() -> None:
    plan = MemoryPlan(
        weights=15.0 * GIB,
        adapter=1.0 * GIB,
        keys=1.0 * GIB,
        activations=20.0 * GIB,
        head=1.0 * GIB,
        tokens=9,
    )
    # 38 GiB in all, 28 with passes of half the size.
    for free, severity in ((40, None), (30, Severity.WARN), (20, Severity.ACT)):
        room = Room("card", 80 * GIB, free * GIB)
        parts = SimpleNamespace(config=DEMO, memory=Fit(plan, False, "", room))
        findings = memory_findings(parts)  # type: ignore[arg-type]
        assert [f.severity for f in findings] == ([] if severity is None else [severity])
        for finding in findings:
            mended(DEMO, finding.patch)
            assert f"38.0 GiB of {free}.0 on card" in finding.evidence[0]
            assert "28.0 with passes of half the size" in finding.evidence[0]
    # The other engine's keys are gone when a pass begins, so halving passes would change nothing.
    waves = dataclasses.replace(plan, keys=60.0 * GIB, in_place=False)
    parts = SimpleNamespace(
        config=DEMO, memory=Fit(waves, False, "", Room("card", 80 * GIB, 70 * GIB))
    )
    (finding,) = memory_findings(parts)  # type: ignore[arg-type]
    assert finding.severity is Severity.ACT
    assert finding.patch == {"rollout.max_sequences": 128}
    assert memory_findings(SimpleNamespace(config=DEMO, memory=None)) == ()  # type: ignore[arg-type]


def test_on_a_cuda_device_the_model_is_loaded_for_its_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = MemoryPlan(weights=9e10, adapter=0, keys=0, activations=0, head=0, tokens=9)
    built: list[RunConfig] = []

    def build(config: RunConfig, materials: object) -> object:
        del materials
        built.append(config)
        return SimpleNamespace(config=DEMO, memory=Fit(plan, True, "", Room("card", 1, 1)))

    monkeypatch.setattr(preflights, "resolve_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(preflights, "build", build)
    (finding,) = look(DEMO)
    assert (finding.code, finding.severity) == ("memory", Severity.ACT)
    assert built == [DEMO]
    monkeypatch.setattr(preflights, "resolve_device", lambda _: torch.device("cpu"))
    assert look(DEMO) == ()
    assert len(built) == 1
