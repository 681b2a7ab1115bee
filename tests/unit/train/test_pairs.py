"""Pairwise warm-up: what it computes, against which reference, and that it learns."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, PairsConfig
from grpo_dual.errors import ConfigError, DataError, NumericsError
from grpo_dual.model.attention import use_runs
from grpo_dual.model.policy import REFERENCE, Policy
from grpo_dual.train import pairs as pairs_module
from grpo_dual.train.pairs import (
    PairReference,
    PairSample,
    PairStep,
    accumulate_pair_gradients,
    pair_batch,
    pair_logprobs,
    pair_sample,
    run_pairs,
)
from grpo_dual.types import Pair
from tiny_models import EOT, SEVEN


class WordEncoder:
    """``w5 w6`` -> its ids and the end of turn, as ChatEncoder does."""

    def __init__(self) -> None:
        self._tokenizer = tiny_models.tokenizer()

    def encode_completion(self, text: str) -> tuple[int, ...]:
        return (*self._tokenizer.encode(text, add_special_tokens=False), EOT)


def samples(count: int, *, seed: int) -> list[PairSample]:
    """Random prompts of 3 to 9 tokens and replies of 1 to 5 with the end of turn behind them."""
    rng = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, tiny_models.VOCABULARY) for _ in range(n))

    return [
        PairSample(
            ids(rng.randrange(3, 10)),
            (*ids(rng.randrange(1, 6)), EOT),
            (*ids(rng.randrange(1, 6)), EOT),
        )
        for _ in range(count)
    ]


Draw = Callable[[int], Sequence[PairSample | None]]


def cycle(items: Sequence[PairSample | None]) -> Draw:
    """Draws ``items`` over and over."""
    endless = itertools.cycle(items)
    return lambda n: list(itertools.islice(endless, n))


def settings(**changes: Any) -> PairsConfig:
    return PairsConfig.model_validate({"batch_size": 4, "microbatch_size": 2, **changes})


def warm_up(policy: Policy, draws: dict[str, Draw], **changes: Any) -> list[PairStep]:
    seen: list[PairStep] = []
    run_pairs(policy, draws, settings(**changes), head_chunk=16, on_step=seen.append)
    return seen


def adapter(policy: Policy, name: str = "default") -> Tensor:
    return torch.cat([t.flatten() for t in policy.adapter_state(adapter=name).values()])


def gradient(
    policy: Policy,
    drawn: dict[str, list[PairSample]],
    *,
    reference: PairReference | None = None,
    head_chunk: int = 64,
    **changes: Any,
) -> Tensor:
    """Flat adapter gradient of the step's loss."""
    parameters = [p for _, p in policy.trainable_parameters()]
    for parameter in parameters:
        parameter.grad = None
    accumulate_pair_gradients(
        policy,
        drawn,
        reference or PairReference(policy, head_chunk=head_chunk),
        settings(**changes),
        head_chunk=head_chunk,
    )
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert flat.numel() == sum(p.numel() for p in parameters)
    return flat


def moved_policy(**changes: Any) -> Policy:
    """A policy whose adapter has moved away from its frozen reference."""
    policy = tiny_models.policy(**changes)
    policy.freeze_reference()
    torch.manual_seed(5)
    tiny_models.randomise(policy)
    return policy


def dense_logprob(policy: Policy, prompt: Sequence[int], reply: Sequence[int]) -> Tensor:
    """log pi of a reply by Transformers' own forward pass over one row."""
    logits = policy.model(input_ids=torch.tensor([[*prompt, *reply]])).logits[0]
    own = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return own.gather(1, torch.tensor(reply)[:, None]).sum()


# --- the sample


def test_sample_is_ids_behind_ids_with_the_end_of_turn():
    sample = pair_sample(
        tiny_models.prompt([5, 6]), Pair("w1 w2", "w3"), WordEncoder(), max_new_tokens=3
    )
    # w1 is id 5: the vocabulary starts with four control tokens.
    assert sample == PairSample((5, 6), (5, 6, EOT), (7, EOT))


@pytest.mark.parametrize(
    "pair",
    [
        None,
        Pair("w1 w2 w3", "w1"),  # 4 tokens with the end of turn, on either side
        Pair("w1", "w1 w2 w3"),
        Pair("w1 w2", "w1  w2"),  # other texts, the same ids
    ],
)
def test_what_is_no_pair_gives_no_sample(pair: Pair | None):
    prompt = tiny_models.prompt([5, 6])
    assert pair_sample(prompt, pair, WordEncoder(), max_new_tokens=3) is None


def test_one_row_holds_the_prompt_once_and_both_replies():
    # Row [p p p a E b c E], positions 0 1 2 | 3 4 | 3 4 5: 5 targets, the prompt is computed once.
    batch = pair_batch([PairSample((10, 11, 12), (20, EOT), (30, 31, EOT))])
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, EOT, 30, 31, EOT]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 4, 5]]
    assert batch.segment_ids.tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]
    assert batch.targets.tolist() == [20, EOT, 30, 31, EOT]
    assert batch.sequence_index.tolist() == [0, 0, 1, 1, 1]


# --- what is computed


def test_logprobs_are_those_of_separate_dense_rows():
    policy = moved_policy()
    drawn = samples(4, seed=1)
    with torch.no_grad():
        found = pair_logprobs(policy, drawn, head_chunk=5)
        expected = [
            [dense_logprob(policy, s.prompt_ids, s.accepted_ids).item(),
             dense_logprob(policy, s.prompt_ids, s.rejected_ids).item()]
            for s in drawn
        ]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_flat_rows_give_the_same_logprobs():
    # What a 16-bit policy on CUDA uses; the attention by runs has a CPU form.
    policy = moved_policy(dtype=torch.float64)
    drawn = samples(4, seed=1)
    with torch.no_grad():
        packed = pair_logprobs(policy, drawn, head_chunk=5)
        assert use_runs(policy.causal_lm)
        policy.flat = True
        flat = pair_logprobs(policy, drawn, head_chunk=5)
    torch.testing.assert_close(flat, packed, rtol=0, atol=1e-12)


@pytest.mark.parametrize("by_token", [False, True])
def test_gradient_is_that_of_the_dense_loss(by_token: bool):
    # -log sigmoid(beta (difference of log-ratios)) + nll x NLL, written out over dense rows.
    policy = moved_policy()
    drawn = samples(3, seed=2)
    with policy.reference():
        ref = [
            [dense_logprob(policy, s.prompt_ids, ids) for ids in (s.accepted_ids, s.rejected_ids)]
            for s in drawn
        ]
    total = torch.zeros(())
    for s, (ref_a, ref_r) in zip(drawn, ref, strict=True):
        own_a = dense_logprob(policy, s.prompt_ids, s.accepted_ids)
        own_r = dense_logprob(policy, s.prompt_ids, s.rejected_ids)
        n, m = (len(s.accepted_ids), len(s.rejected_ids)) if by_token else (1, 1)
        margin = 0.3 * ((own_a - ref_a) / n - (own_r - ref_r) / m)
        total = total + F.softplus(-margin) - 0.7 * own_a / len(s.accepted_ids)
    parameters = [p for _, p in policy.trainable_parameters()]
    dense = torch.autograd.grad(total / 3, parameters)
    expected = torch.cat([g.flatten() for g in dense])
    found = gradient(
        policy, {"f": drawn}, beta=0.3, nll=0.7, length_normalized=by_token, head_chunk=4
    )
    assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (2, 5), (3, 64)])
def test_accumulated_micro_batches_are_one_batch(size: int, chunk: int):
    policy = moved_policy(dtype=torch.float64)
    drawn = {"f": samples(5, seed=3), "h": samples(6, seed=4)}
    whole = gradient(policy, drawn, microbatch_size=64)
    split = gradient(policy, drawn, microbatch_size=size, head_chunk=chunk)
    # HF's RMSNorm computes in fp32 inside fp64 models: 1e-6 relative is its floor.
    assert (split - whole).norm() <= 1e-6 * whole.norm()


def test_objectives_count_alike_however_many_pairs_they_have():
    policy = moved_policy(dtype=torch.float64)
    few, many = samples(2, seed=5), samples(6, seed=6)
    both = gradient(policy, {"f": few, "h": many})
    expected = gradient(policy, {"f": few}) / 2 + gradient(policy, {"h": many}) / 2
    assert (both - expected).norm() <= 1e-6 * expected.norm()


def test_plain_dpo_moves_the_likelihoods_apart_and_the_anchor_moves_the_accepted_one():
    policy = moved_policy(dtype=torch.float64)
    (sample,) = samples(1, seed=7)

    def slopes(**changes: Any) -> list[float]:
        """How both log-probs change along the step of descent."""
        step = -gradient(policy, {"f": [sample]}, **changes)
        logprobs = pair_logprobs(policy, [sample], head_chunk=8)[0]
        parameters = [p for _, p in policy.trainable_parameters()]
        found = []
        for logprob in logprobs:
            own = torch.autograd.grad(logprob, parameters, retain_graph=True)
            found.append(float(step @ torch.cat([g.flatten() for g in own])))
        return found

    apart = slopes(nll=0.0)
    assert apart[0] - apart[1] > 0
    anchored = slopes(nll=5.0)
    assert anchored[0] > apart[0]


# --- the reference


def test_the_first_step_stands_on_the_reference():
    (step,) = warm_up(tiny_models.policy(), {"f": cycle(samples(4, seed=8))}, steps=1)
    stats = step.stats["f"]
    assert stats.margin.value == 0.0
    assert stats.preferred.value == 0.0
    assert stats.dpo.value == pytest.approx(math.log(2), abs=1e-6)
    assert step.loss == pytest.approx(math.log(2) + (stats.nll.value or 0), abs=1e-5)


def test_the_adapter_before_the_warm_up_is_the_reference():
    policy = tiny_models.policy()
    before = adapter(policy)
    seen = warm_up(policy, {"f": cycle(samples(4, seed=9))}, steps=3, learning_rate=1e-2)
    assert torch.equal(adapter(policy, REFERENCE), before)
    assert not torch.equal(adapter(policy), before)
    assert seen[-1].stats["f"].margin.value != 0.0


def test_the_bare_model_is_the_reference_where_rl_s_is():
    lora = LoraConfig(rank=4, alpha=8, targets=SEVEN)
    config = ModelConfig(dtype="float32", lora=lora, device="cpu", reference="base")
    policy = tiny_models.policy(config=config)
    drawn = samples(2, seed=10)
    (step,) = warm_up(policy, {"f": cycle(drawn)}, steps=1, batch_size=2)
    assert REFERENCE not in policy.model.peft_config
    # A random adapter stands away from its base from the first step.
    live = tiny_models.policy(config=config)
    with torch.no_grad():
        own = pair_logprobs(live, drawn, head_chunk=8)
        with live.reference():
            base = pair_logprobs(live, drawn, head_chunk=8)
    margins = 0.1 * ((own - base)[:, 0] - (own - base)[:, 1])
    assert margins.abs().min() > 1e-3
    assert step.stats["f"].margin.value == pytest.approx(margins.mean().item(), abs=1e-5)


def test_each_pair_meets_the_reference_once(monkeypatch: pytest.MonkeyPatch):
    drawn = samples(3, seed=11)
    asked: list[PairSample] = []
    original = pairs_module.pair_logprobs

    def watched(policy: Policy, own: Sequence[PairSample], **rest: Any) -> Tensor:
        if not torch.is_grad_enabled():
            asked.extend(own)
        return original(policy, own, **rest)

    monkeypatch.setattr(pairs_module, "pair_logprobs", watched)
    policy = tiny_models.policy()
    warm_up(policy, {"f": cycle(drawn)}, steps=5, learning_rate=1e-2)
    assert sorted(asked, key=str) == sorted(drawn, key=str)
    # What was kept is what the reference says now, though the policy has moved on.
    reference = PairReference(policy, head_chunk=16)
    reference.add([drawn])
    kept = reference.of(drawn[::-1])
    with policy.reference():
        again = original(policy, drawn, head_chunk=16)
    torch.testing.assert_close(kept.flip(0), again, rtol=0, atol=1e-5)


# --- the run


def test_it_learns_to_prefer_and_the_anchor_keeps_the_accepted_side_likely():
    drawn = samples(6, seed=12)

    def learnt(nll: float) -> tuple[Tensor, list[PairStep]]:
        policy = tiny_models.policy(live_adapter=False)
        with torch.no_grad():
            before = pair_logprobs(policy, drawn, head_chunk=16)
        seen = warm_up(
            policy, {"f": cycle(drawn)}, steps=40, batch_size=6, learning_rate=1e-2, nll=nll
        )
        with torch.no_grad():
            return pair_logprobs(policy, drawn, head_chunk=16) - before, seen

    moved, seen = learnt(1.0)
    assert (moved[:, 0] - moved[:, 1]).min() > 0
    assert seen[0].stats["f"].preferred.value == 0
    assert seen[-1].stats["f"].preferred.value == 1
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert moved[:, 0].min() > 0
    plain, _ = learnt(0.0)
    assert (plain[:, 0] - plain[:, 1]).min() > 0
    assert moved[:, 0].mean() > plain[:, 0].mean()


def test_no_steps_draw_and_touch_nothing():
    policy = tiny_models.policy()
    before, rng = adapter(policy), torch.random.get_rng_state()

    def never(_: int) -> list[PairSample | None]:
        raise AssertionError("nothing may be drawn")

    assert warm_up(policy, {"f": never}, steps=0) == []
    assert torch.equal(adapter(policy), before)
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert REFERENCE not in policy.model.peft_config


def test_same_samples_give_the_same_adapter_whatever_the_generators_say():
    def run(noise: int) -> Tensor:
        # Adapter dropout, which SFT uses, must not make a margin.
        lora = LoraConfig(rank=4, alpha=8, targets=SEVEN, dropout=0.3)
        config = ModelConfig(dtype="float32", lora=lora, device="cpu")
        policy = tiny_models.policy(config=config)
        torch.manual_seed(noise)
        rng = torch.random.get_rng_state()
        seen = warm_up(policy, {"f": cycle(samples(4, seed=13))}, steps=3, learning_rate=1e-2)
        assert torch.equal(torch.random.get_rng_state(), rng)
        assert seen[0].stats["f"].margin.value == 0.0
        return adapter(policy)

    assert torch.equal(run(1), run(2))


def test_dropped_draws_are_replaced_and_counted():
    kept = samples(3, seed=14)
    draws = {"f": cycle(kept), "h": cycle([kept[0], None, None, kept[1]])}
    seen = warm_up(tiny_models.policy(), draws, steps=2)
    # Two places of each step are h's. Step 1 draws [0, -], then [-], then [1]; step 2 the same.
    assert [dict(s.dropped) for s in seen] == [{"f": 0, "h": 2}, {"f": 0, "h": 2}]
    assert seen[0].stats["h"].preferred.count == 2


def test_an_objective_without_pairs_is_named():
    with pytest.raises(DataError, match=r"objectives\.h: .*gave no pair.*sft\.pairs\.steps: 0"):
        warm_up(tiny_models.policy(), {"h": cycle([None])}, steps=1)


def test_a_batch_smaller_than_the_objectives_is_refused():
    draw = cycle(samples(1, seed=15))
    with pytest.raises(ConfigError, match=r"sft\.pairs\.batch_size is 1 for 2 objectives"):
        warm_up(tiny_models.policy(), {"f": draw, "h": draw}, steps=1, batch_size=1)


def test_three_broken_steps_in_a_row_stop_the_run_and_leave_the_adapter_alone():
    policy = tiny_models.policy()
    with torch.no_grad():
        policy.causal_lm.get_output_embeddings().weight[5, 0] = float("nan")
    before = adapter(policy)
    seen: list[PairStep] = []
    with pytest.raises(NumericsError, match=r"3 steps in a row.*sft\.pairs\.learning_rate"):
        run_pairs(
            policy,
            {"f": cycle(samples(2, seed=16))},
            settings(steps=9),
            head_chunk=16,
            on_step=seen.append,
        )
    assert [s.skipped for s in seen] == [True, True, True]
    assert torch.equal(adapter(policy), before)
