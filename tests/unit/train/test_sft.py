"""Supervised warm-up: what is supervised, how it is averaged, and that it learns."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, SftConfig
from grpo_dual.errors import ConfigError, DataError, NumericsError, PromptError
from grpo_dual.model.policy import Policy
from grpo_dual.train.sft import (
    Draw,
    SftResult,
    SftSample,
    SftStep,
    accumulate_gradients,
    run_sft,
    sft_batch,
    sft_sample,
)
from tiny_models import EOT, PAD, SEVEN


class WordEncoder:
    """``w5 w6`` -> its ids and the end of turn, as ChatEncoder does."""

    def __init__(self) -> None:
        self._tokenizer = tiny_models.tokenizer()

    def encode_completion(self, text: str) -> tuple[int, ...]:
        return (*self._tokenizer.encode(text, add_special_tokens=False), EOT)


def samples(count: int, *, tokens: range, seed: int) -> list[SftSample]:
    """Random prompts of 3 to 9 tokens and completions with the end of turn behind them."""
    rng = random.Random(seed)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, tiny_models.VOCABULARY) for _ in range(n))

    return [
        SftSample(ids(rng.randrange(3, 10)), (*ids(rng.choice(tokens)), EOT)) for _ in range(count)
    ]


def cycle(items: Sequence[SftSample | None]) -> Draw:
    """Draws ``items`` over and over."""
    position = 0

    def draw(n: int) -> list[SftSample | None]:
        nonlocal position
        drawn = [items[(position + i) % len(items)] for i in range(n)]
        position += n
        return drawn

    return draw


def labels(batch_samples: Sequence[SftSample]) -> Tensor:
    """[R, S] HF labels that the batch's targets amount to.

    Target n is predicted by state hidden_index[n], so (one completion per row) it stands one column
    to the right of it; whatever is no target stays -100.
    """
    batch = sft_batch(batch_samples)
    flat = torch.full((batch.input_ids.numel(),), -100)
    flat[batch.hidden_index + 1] = batch.targets
    return flat.view_as(batch.input_ids)


def gradient(
    policy: Policy, drawn: dict[str, list[SftSample]], *, microbatch_size: int = 64, chunk: int = 64
) -> Tensor:
    """Flat adapter gradient of the step's loss."""
    parameters = [p for _, p in policy.trainable_parameters()]
    for parameter in parameters:
        parameter.grad = None
    accumulate_gradients(policy, drawn, microbatch_size=microbatch_size, head_chunk=chunk)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    assert flat.numel() == sum(p.numel() for p in parameters)
    return flat


def warm_up(
    policy: Policy, draws: dict[str, Draw], seed: int = 0, **settings: float
) -> tuple[SftResult, list[SftStep]]:
    seen: list[SftStep] = []
    config = SftConfig.model_validate({"batch_size": 4, "microbatch_size": 2, **settings})
    result = run_sft(policy, draws, config, seed=seed, head_chunk=16, on_step=seen.append)
    return result, seen


def adapter(policy: Policy) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in policy.adapter_state().values()])


# --- what is supervised


def test_worked_mask():
    # T8.3: ids [p, p, p, a, b, eot, pad] -> labels [-100, -100, -100, a, b, eot, -100], 3 tokens.
    # Read from the batch that training uses, so the mask is tested where it acts; the row is padded
    # to the next multiple of 8.
    sample = SftSample((10, 11, 12), (20, 21, EOT))
    batch = sft_batch([sample])
    assert batch.input_ids[0, :7].tolist() == [10, 11, 12, 20, 21, EOT, PAD]
    assert labels([sample])[0, :7].tolist() == [-100, -100, -100, 20, 21, EOT, -100]
    assert labels([sample])[0, 7:].tolist() == [-100]
    assert batch.num_tokens == 3


def test_a_pad_or_end_of_turn_inside_the_prompt_is_not_supervised():
    # Masks found by comparing ids (label != pad, split at the first end of turn) get these wrong.
    sample = SftSample((PAD, 11, EOT, 12), (PAD, EOT))
    assert labels([sample])[0].tolist() == [-100] * 4 + [PAD, EOT, -100, -100]


def test_sample_is_ids_behind_ids_with_the_end_of_turn():
    sample = sft_sample(tiny_models.prompt([5, 6]), "w1 w2", WordEncoder(), max_new_tokens=3)
    # w1 and w2 are ids 5 and 6: the vocabulary starts with four control tokens.
    assert sample == SftSample((5, 6), (5, 6, EOT))


def test_a_reply_over_the_limit_is_dropped_and_never_cut():
    # 3 words and the end of turn are 4 tokens.
    encoder, prompt = WordEncoder(), tiny_models.prompt([5, 6])
    assert sft_sample(prompt, "w1 w2 w3", encoder, max_new_tokens=3) is None
    assert sft_sample(prompt, "w1 w2 w3", encoder, max_new_tokens=4) is not None


@pytest.mark.parametrize("target", ["", " \n"])
def test_a_blank_target_is_refused_by_name(target: str):
    prompt = tiny_models.prompt([5], name="bbq/Age/7")
    with pytest.raises(PromptError, match=r"bbq/Age/7 \(synthetic\)"):
        sft_sample(prompt, target, WordEncoder(), max_new_tokens=8)


def test_loss_and_gradient_are_those_of_the_dense_masked_computation():
    # HF's own loss on right-padded rows with labels -100 outside the completion: mean over
    # supervised tokens. One objective, so the two means are the same number.
    policy = tiny_models.policy()
    drawn = samples(5, tokens=range(1, 7), seed=1)
    batch = sft_batch(drawn)
    parameters = [p for _, p in policy.trainable_parameters()]
    dense = policy.model(
        input_ids=batch.input_ids,
        attention_mask=(batch.segment_ids >= 0).long(),
        labels=labels(drawn),
    ).loss
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(dense, parameters)])
    losses = accumulate_gradients(policy, {"f": drawn}, microbatch_size=8, head_chunk=4)
    assert losses["f"].count == sum(len(s.completion_ids) for s in drawn)
    assert losses["f"].value == pytest.approx(dense.item(), rel=1e-5)
    assert (gradient(policy, {"f": drawn}) - expected).norm() <= 1e-5 * expected.norm()


def test_the_end_of_turn_is_learnt():
    # A completion of nothing but the end of turn has a loss, which is its own cross entropy.
    policy = tiny_models.policy()
    losses = accumulate_gradients(
        policy, {"f": [SftSample((5, 6, 7), (EOT,))]}, microbatch_size=1, head_chunk=4
    )
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    assert losses["f"].value == pytest.approx(-logits.log_softmax(-1)[EOT].item(), rel=1e-5)


# --- how it is averaged


@pytest.mark.parametrize(("size", "chunk"), [(1, 1), (2, 5), (3, 64)])
def test_accumulated_micro_batches_are_one_batch(size: int, chunk: int):
    policy = tiny_models.policy(dtype=torch.float64)
    drawn = {
        "f": samples(5, tokens=range(1, 3), seed=2),
        "h": samples(6, tokens=range(1, 20), seed=3),
    }
    whole = gradient(policy, drawn)
    split = gradient(policy, drawn, microbatch_size=size, chunk=chunk)
    # HF's RMSNorm computes in fp32 inside fp64 models: 1e-6 relative is its floor.
    assert (split - whole).norm() <= 1e-6 * whole.norm()


def test_samples_of_unequal_length_count_by_tokens_not_by_rows():
    # Within an objective the mean is over tokens: (1 l_1 + 9 l_9) / 10, not (l_1 + l_9) / 2.
    policy = tiny_models.policy(dtype=torch.float64)
    short, long = samples(1, tokens=range(0, 1), seed=4), samples(1, tokens=range(8, 9), seed=5)
    expected = 0.1 * gradient(policy, {"f": short}) + 0.9 * gradient(policy, {"f": long})
    both = gradient(policy, {"f": short + long}, microbatch_size=1)
    assert (both - expected).norm() <= 1e-6 * expected.norm()


def test_an_objective_with_long_answers_does_not_outweigh_another():
    policy = tiny_models.policy(dtype=torch.float64)
    fair = samples(4, tokens=range(1, 3), seed=6)
    for answers in (range(5, 6), range(11, 12)):  # 6 and 12 tokens with the end of turn: doubled
        honest = samples(4, tokens=answers, seed=7)
        # What is left of the step's gradient without the other's half is this one's half, always.
        share = gradient(policy, {"f": fair, "h": honest}) - gradient(policy, {"h": honest}) / 2
        expected = gradient(policy, {"f": fair}) / 2
        assert (share - expected).norm() <= 1e-6 * expected.norm()


def test_step_loss_is_the_plain_mean_of_the_objectives_token_means():
    draws = {
        "f": cycle(samples(3, tokens=range(1, 2), seed=8)),
        "h": cycle(samples(3, tokens=range(9, 15), seed=9)),
    }
    _, (step,) = warm_up(tiny_models.policy(), draws, steps=1)
    means = [mean.total / mean.count for mean in step.losses.values()]
    assert step.loss == pytest.approx(sum(means) / 2, rel=1e-12)


def test_the_batch_is_divided_evenly_and_the_rest_goes_round():
    # 4 sequences for 3 objectives: 2 + 1 + 1, another one gets the second place every step.
    asked: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def counting(name: str) -> Draw:
        inner = cycle(samples(2, tokens=range(1, 3), seed=10))

        def draw(n: int) -> Sequence[SftSample | None]:
            asked[name].append(n)
            return inner(n)

        return draw

    warm_up(tiny_models.policy(), {name: counting(name) for name in asked}, steps=3)
    assert [sum(places) for places in zip(*asked.values(), strict=True)] == [4, 4, 4]
    assert all(sorted(places) == [1, 1, 2] for places in asked.values())


# --- the run


def test_loss_falls():
    policy = tiny_models.policy(live_adapter=False)
    draws = {
        "f": cycle(samples(3, tokens=range(1, 3), seed=11)),
        "h": cycle(samples(3, tokens=range(4, 9), seed=12)),
    }
    result, seen = warm_up(policy, draws, steps=40, batch_size=6, learning_rate=1e-2)
    assert result.first_loss is not None
    assert result.last_loss is not None
    # 6 sequences learnt by heart; a random model starts above log(67) = 4.2.
    assert result.first_loss > 4
    assert result.last_loss < 0.25 * result.first_loss
    assert [s.step for s in seen] == list(range(1, 41))
    assert result.skipped == 0
    assert all(p.grad is None for _, p in policy.trainable_parameters())


def test_rate_rises_linearly_and_stays():
    draws = {"f": cycle(samples(2, tokens=range(1, 3), seed=13))}
    _, seen = warm_up(tiny_models.policy(), draws, steps=6, warmup_steps=4, learning_rate=4e-3)
    assert [s.learning_rate for s in seen] == pytest.approx([1e-3, 2e-3, 3e-3, 4e-3, 4e-3, 4e-3])


def test_no_steps_draw_and_touch_nothing():
    policy = tiny_models.policy()
    before, rng = adapter(policy), torch.random.get_rng_state()

    def never(_: int) -> list[SftSample | None]:
        raise AssertionError("nothing may be drawn")

    result, seen = warm_up(policy, {"f": never, "h": never}, steps=0)
    assert torch.equal(adapter(policy), before)
    assert torch.equal(torch.random.get_rng_state(), rng)
    assert (result.steps, result.first_loss, seen) == (0, None, [])
    assert result.dropped == {"f": 0, "h": 0}


def dropping_policy() -> Policy:
    lora = LoraConfig(rank=4, alpha=8, targets=SEVEN, dropout=0.3)
    return tiny_models.policy(config=ModelConfig(dtype="float32", lora=lora, device="cpu"))


def test_dropout_acts_and_the_seed_decides_it_whatever_the_global_generator_says():
    def run(seed: int, noise: int) -> Tensor:
        policy = dropping_policy()
        torch.manual_seed(noise)
        rng = torch.random.get_rng_state()
        warm_up(policy, {"f": cycle(samples(4, tokens=range(1, 5), seed=14))}, seed=seed, steps=3)
        assert torch.equal(torch.random.get_rng_state(), rng)
        return adapter(policy)

    first = run(seed=0, noise=1)
    assert torch.equal(first, run(seed=0, noise=2))
    assert not torch.equal(first, run(seed=1, noise=1))


def test_dropped_targets_are_replaced_and_counted():
    kept = samples(3, tokens=range(1, 3), seed=15)
    draws = {"f": cycle(kept), "h": cycle([kept[0], None, None, kept[1]])}
    result, seen = warm_up(tiny_models.policy(), draws, steps=2)
    # Two places of each step are h's. Step 1 draws [0, -], then [-], then [1]; step 2 the same.
    assert [dict(s.dropped) for s in seen] == [{"f": 0, "h": 2}, {"f": 0, "h": 2}]
    assert result.dropped == {"f": 0, "h": 4}
    per_step = len(kept[0].completion_ids) + len(kept[1].completion_ids)
    assert result.tokens["h"] == 2 * per_step


def test_an_objective_whose_targets_never_fit_is_named():
    with pytest.raises(DataError, match=r"objectives\.h.*max_new_tokens"):
        warm_up(tiny_models.policy(), {"h": cycle([None])}, steps=1)


def test_a_draw_of_the_wrong_size_is_named():
    sample = samples(1, tokens=range(1, 2), seed=16)
    with pytest.raises(DataError, match=r"objectives\.h: its draw\(4\) returned 1"):
        warm_up(tiny_models.policy(), {"h": lambda _: sample}, steps=1)


def test_a_batch_smaller_than_the_objectives_is_refused():
    draw = cycle(samples(1, tokens=range(1, 2), seed=17))
    with pytest.raises(ConfigError, match=r"sft\.batch_size is 1 for 2 objectives"):
        warm_up(tiny_models.policy(), {"f": draw, "h": draw}, steps=1, batch_size=1)


def test_three_broken_steps_in_a_row_stop_the_run_and_leave_the_adapter_alone():
    policy = tiny_models.policy()
    with torch.no_grad():
        policy.causal_lm.get_output_embeddings().weight[5, 0] = float("nan")
    before = adapter(policy)
    seen: list[SftStep] = []
    draws = {"f": cycle(samples(2, tokens=range(1, 3), seed=18))}
    with pytest.raises(NumericsError, match=r"3 steps in a row.*sft\.learning_rate"):
        run_sft(
            policy,
            draws,
            SftConfig(steps=9, batch_size=2),
            seed=0,
            head_chunk=16,
            on_step=seen.append,
        )
    assert [s.skipped for s in seen] == [True, True, True]
    assert torch.equal(adapter(policy), before)


def test_the_reference_is_not_trained():
    policy = tiny_models.policy()
    policy.freeze_reference()
    before = policy.adapter_state(adapter="reference")
    warm_up(policy, {"f": cycle(samples(2, tokens=range(1, 3), seed=19))}, steps=2)
    after = policy.adapter_state(adapter="reference")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(adapter(policy), torch.cat([t.flatten() for t in before.values()]))
