"""The warm-ups on an objective's records: what becomes a target, what a pair, and who has none."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import short_runs
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import ConfigError
from grpo_dual.model.policy import REFERENCE
from grpo_dual.prompts import fairness, hallucination
from grpo_dual.train import warmup
from grpo_dual.train.pairs import PairSample
from grpo_dual.train.progress import Progress
from grpo_dual.train.sft import SftSample
from grpo_dual.train.warmup import LOOKED_AT, paired_objectives, warm_up
from grpo_dual.train.wiring import Parts, build
from grpo_dual.types import Record

EMBEDDED = {
    "model": {"name": "embedded", "lora": {"rank": 2, "alpha": 4, "targets": ["q_proj"]}},
    "rollout": {"max_prompt_tokens": 464, "sampling": {"max_new_tokens": 24}},
    "train": {"steps": 1, "threads": 1},
}


def config(**sections: Mapping[str, Any]) -> RunConfig:
    """A run of the embedded model, whose tokenizer tells the world's words apart."""
    base = short_runs.settings(Path(), Path("never-written"))
    base["objectives"] = {}
    for section, changes in {**EMBEDDED, **sections}.items():
        base[section] = {**base.get(section, {}), **changes}
    return RunConfig.model_validate(base)


def only(kind: str, **data: Any) -> dict[str, Any]:
    return {kind: {"kind": kind, "data": {"path": "synthetic", "train_samples": 64, **data}}}


def warmed(run: RunConfig) -> tuple[Parts, str]:
    """The parts behind their warm-up, and what was said."""
    parts = build(run)
    said = io.StringIO()
    console = Console(file=said, width=200)
    warm_up(parts, Progress(console, tuple(parts.objectives), 1))
    return parts, said.getvalue()


class Watched:
    """What the warm-ups drew, text by text, with its record."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sft: list[tuple[Record, SftSample]] = []
        self.pairs: list[tuple[Record, PairSample]] = []
        self._watch(monkeypatch, "sft_sample", self.sft)
        self._watch(monkeypatch, "pair_sample", self.pairs)

    def _watch(
        self, monkeypatch: pytest.MonkeyPatch, name: str, seen: list[tuple[Record, Any]]
    ) -> None:
        original: Callable[..., Any] = getattr(warmup, name)

        def watching(prompt: Any, *args: Any, **kwargs: Any) -> Any:
            sample = original(prompt, *args, **kwargs)
            if sample is not None:
                seen.append((prompt.record, sample))
            return sample

        monkeypatch.setattr(warmup, name, watching)


def test_no_rejected_side_is_ever_a_supervised_target(monkeypatch: pytest.MonkeyPatch):
    # Detection items are in the mixture: there the rejected side is shown, and still not learnt.
    watched = Watched(monkeypatch)
    objectives = {
        **only("fairness"),
        **only("hallucination", detect_fraction=0.3, subsets={"qa": 1, "summarization": 1}),
    }
    run = config(
        objectives=objectives,
        sft={"steps": 4, "batch_size": 16, "pairs": {"steps": 4, "batch_size": 16}},
    )
    parts, _ = warmed(run)
    encode = parts.encoder.encode_completion
    assert len(watched.sft) == len(watched.pairs) == 64

    def sides(record: Record) -> tuple[Sequence[int], Sequence[int]] | None:
        own = fairness if record.objective == "fairness" else hallucination
        pair = own.pair(record)  # type: ignore[arg-type]
        return None if pair is None else (encode(pair.accepted), encode(pair.rejected))

    detections = 0
    for record, supervised in watched.sft:
        both = sides(record)
        if both is None:
            detections += 1
            assert supervised.completion_ids in (encode("yes"), encode("no"))
        else:
            assert supervised.completion_ids == both[0] != both[1]
    assert detections > 0
    for record, sample in watched.pairs:
        assert (sample.accepted_ids, sample.rejected_ids) == sides(record)


def test_pairs_come_behind_sft_and_stand_on_what_it_left():
    run = config(
        objectives=only("fairness"),
        sft={"steps": 2, "batch_size": 4, "learning_rate": 1e-2},
    )
    supervised, _ = warmed(run)
    pairs = {"steps": 2, "batch_size": 4, "microbatch_size": 4, "learning_rate": 1e-2}
    both, said = warmed(run.model_copy(update={"sft": run.sft.model_validate(
        {**run.sft.model_dump(), "pairs": pairs})}))  # fmt: skip
    after_sft = supervised.policy.adapter_state()
    reference = both.policy.adapter_state(adapter=REFERENCE)
    assert all(torch.equal(after_sft[name], reference[name]) for name in after_sft)
    assert any(
        not torch.equal(reference[name], own) for name, own in both.policy.adapter_state().items()
    )
    lines = [line.split()[:2] for line in said.splitlines()]
    assert lines == [["sft", "1/2"], ["sft", "2/2"], ["pairs", "1/2"], ["pairs", "2/2"]]
    assert "preferred 0%" in said.splitlines()[2]


def test_an_objective_without_pairs_is_left_out_and_the_run_says_so():
    objectives = {**only("fairness"), **only("hallucination", subsets={"general": 1})}
    run = config(
        objectives=objectives, sft={"pairs": {"steps": 1, "batch_size": 2, "microbatch_size": 2}}
    )
    parts, said = warmed(run)
    assert paired_objectives(parts) == ["fairness"]
    assert "note: hallucination has no pairs and is left out of the pairwise warm-up" in said
    assert "hallucination:" not in said.splitlines()[-1]


@pytest.mark.parametrize("data", [{"subsets": {"general": 1}}, {"detect_fraction": 1.0}])
def test_no_pairs_at_all_are_refused(data: dict[str, Any]):
    parts = build(config(objectives=only("hallucination", **data), sft={"pairs": {"steps": 3}}))
    with pytest.raises(ConfigError, match=r"sft\.pairs\.steps is 3, but no objective has pairs"):
        paired_objectives(parts)


def test_the_look_at_the_records_leaves_the_sampler_as_it_was():
    parts = build(config(objectives=only("hallucination"), sft={"pairs": {"steps": 1}}))
    other = build(config(objectives=only("hallucination")))
    assert paired_objectives(parts) == ["hallucination"]
    assert paired_objectives(other) == []
    drawn = [p.objectives["hallucination"].draw(LOOKED_AT) for p in (parts, other)]
    assert [r.record_id for r in drawn[0]] == [r.record_id for r in drawn[1]]
