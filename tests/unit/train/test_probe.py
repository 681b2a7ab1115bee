"""The frozen probe: the policy's own entropy, whatever the run's sampling does."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import short_runs
import tiny_models
from grpo_dual.rollouts.collect import Collection, collect
from grpo_dual.rollouts.engine import Engine
from grpo_dual.train import probe
from grpo_dual.train.probe import probe_due, run_probe
from grpo_dual.train.wiring import Parts, build
from grpo_dual.types import Prompt, RolloutGroup


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return short_runs.save_model(tmp_path_factory.mktemp("model"))


def refuse(reason: str) -> None:
    raise AssertionError(f"no record is over the limit here: {reason}")


def parts(model: Path, **sampling: Any) -> Parts:
    """A run whose adapter is not the reference's: its entropy is not the base model's."""
    made = build(
        short_runs.config(
            model,
            model,
            rollout={"sampling": {"max_new_tokens": 10, **sampling}},
            eval={"probe": {"every": 2, "prompts": 3}},
            train={"steps": 5, "microbatch_prompts": 2},
        )
    )
    torch.manual_seed(0)
    tiny_models.randomise(made.policy)
    return made


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[RolloutGroup]:
    """What the probe draws."""
    seen: list[RolloutGroup] = []

    def watched(engine: Engine, prompts: Sequence[Prompt], k: int) -> Collection:
        drawn = collect(engine, prompts, k)
        seen.extend(drawn.groups)
        return drawn

    monkeypatch.setattr(probe, "collect", watched)
    return seen


def test_entropy_is_the_exact_one_of_every_completion_token(
    model: Path, collected: list[RolloutGroup]
):
    made = parts(model)
    found = run_probe(made, refuse)
    assert len(collected) == 6
    for name, groups in (("fairness", collected[:3]), ("hallucination", collected[3:])):
        # The oracle: one plain forward pass a completion, -sum p log p over the vocabulary in fp64.
        entropies: list[float] = []
        for group in groups:
            (rollout,) = group.rollouts
            ids = [*group.prompt.token_ids, *rollout.token_ids]
            with torch.no_grad():
                logits = made.policy.causal_lm(input_ids=torch.tensor([ids])).logits[0].double()
            log_p = torch.log_softmax(logits[len(group.prompt.token_ids) - 1 : -1], -1)
            entropies += (-(log_p.exp() * log_p).sum(-1)).tolist()
        assert found[name]["entropy"] == pytest.approx(
            sum(entropies) / len(entropies), rel=1e-5, abs=1e-5
        )
        assert found[name]["n"] == 3
        assert found[name]["gen_len_mean"] == pytest.approx(len(entropies) / 3, rel=1e-12)


def test_a_head_that_knows_nothing_has_the_entropy_of_the_vocabulary(model: Path):
    made = parts(model)
    made.policy.causal_lm.get_output_embeddings().weight.data.zero_()
    # All 67 tokens alike: ln 67 = 4.2047 nats at each of them.
    for own in run_probe(made, refuse).values():
        assert own["entropy"] == pytest.approx(math.log(tiny_models.VOCABULARY), rel=1e-6)


def test_decoding_is_plain_whatever_the_run_samples_with(
    model: Path, collected: list[RolloutGroup]
):
    plain = run_probe(parts(model), refuse)
    odd = parts(model, min_new_tokens=9, temperature=0.5, top_k=3, repetition_penalty=1.5)
    assert run_probe(odd, refuse) == plain
    texts = [group.rollouts[0].text for group in collected]
    assert texts[:6] == texts[6:]
    # What the run itself would draw is something else.
    own = collect(odd.engine, [group.prompt for group in collected[:6]], 1).groups
    assert [group.rollouts[0].text for group in own] != texts[:6]


def test_the_same_policy_gives_the_same_numbers_and_another_one_others(model: Path):
    made = parts(model)
    first = run_probe(made, refuse)
    torch.rand(3)  # the state of the global generator does not matter
    assert run_probe(made, refuse) == first
    tiny_models.randomise(made.policy)
    assert run_probe(made, refuse)["fairness"]["entropy"] != first["fairness"]["entropy"]


def test_prompts_are_held_out_and_the_same_each_time(model: Path, collected: list[RolloutGroup]):
    made = parts(model)
    run_probe(made, refuse)
    run_probe(made, refuse)
    keys = [group.prompt.record.record_id for group in collected]
    assert keys[:6] == keys[6:]
    held_out = {r.record_id for o in made.objectives.values() for r in o.eval_records}
    assert set(keys) <= held_out
    assert len(set(keys)) == 6


def test_when_it_is_due(model: Path):
    made = parts(model)
    assert [step for step in range(6) if probe_due(made, step)] == [0, 2, 4, 5]
    off = build(short_runs.config(model, model, train={"steps": 2}))
    assert not any(probe_due(off, step) for step in range(3))
