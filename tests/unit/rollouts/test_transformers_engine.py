"""Our loop against ``generate``, and its recorded log-probs against the trainer's."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

import tiny_models
from grpo_dual.config.schema import SamplingConfig
from grpo_dual.errors import NumericsError
from grpo_dual.model.packing import pack, unpack
from grpo_dual.model.policy import Policy
from grpo_dual.model.processors import Replay
from grpo_dual.rollouts.collect import collect
from grpo_dual.rollouts.transformers import TransformersEngine
from grpo_dual.types import RolloutGroup

PROMPTS = [
    tiny_models.prompt([1, 20, 21, 22, 23], "five"),
    tiny_models.prompt([1, 30], "two"),
    tiny_models.prompt([1, 40, 41, 40, 42, 43, 44, 45], "eight"),
    tiny_models.prompt([1, 50, 51], "three"),
]
HANDOFF = SamplingConfig(
    max_new_tokens=24,
    min_new_tokens=5,
    temperature=0.9,
    top_k=20,
    top_p=0.9,
    repetition_penalty=1.18,
)
PLAIN = SamplingConfig(max_new_tokens=24, temperature=0.9)


def engine(policy: Policy, sampling: SamplingConfig, sequences: int = 64) -> TransformersEngine:
    return TransformersEngine(policy, tiny_models.Codec(), sampling, max_sequences=sequences)


def flat(groups: list[RolloutGroup]) -> list[tuple[int, ...]]:
    return [rollout.token_ids for group in groups for rollout in group.rollouts]


def trainer_logprobs(
    policy: Policy, groups: list[RolloutGroup], sampling: SamplingConfig, layout: Any
) -> torch.Tensor:
    batch = layout(
        [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups], tiny_models.PAD
    )
    rollouts = [r for g in groups for r in g.rollouts]
    kept = (
        None
        if rollouts[0].kept_ids is None
        else [ids for r in rollouts for ids in (r.kept_ids or ())]
    )
    replay = None if sampling.plain else Replay(batch, sampling, (2, 3), kept)
    return policy.token_stats(
        batch, temperature=sampling.temperature, chunk=50, processor=replay
    ).logprobs


@pytest.mark.parametrize(
    ("dtype", "spread", "tolerance"),
    # Peaked distributions in fp64; in fp32 softer ones, whose logits leave 1e-5 to rounding. In
    # fp64 it is not 1e-12, because Transformers computes its norms in fp32.
    [(torch.float64, 0.3, 1e-6), (torch.float32, 0.15, 1e-5)],
)
@pytest.mark.parametrize("layout", [pack, unpack])
@pytest.mark.parametrize(
    "sampling",
    [
        PLAIN,
        HANDOFF,
        HANDOFF.model_copy(update={"top_k": 0, "top_p": 1.0}),
        HANDOFF.model_copy(update={"repetition_penalty": 1.0}),
    ],
)
def test_recorded_log_probs_are_the_trainers(
    sampling: SamplingConfig, layout: Any, dtype: torch.dtype, spread: float, tolerance: float
) -> None:
    policy = tiny_models.policy(0, dtype=dtype, initializer_range=spread)
    torch.manual_seed(1)
    groups = engine(policy, sampling).generate(PROMPTS, 6)
    values = [x for g in groups for r in g.rollouts for x in r.logprobs]
    recorded = torch.tensor(values, dtype=dtype)
    replayed = trainer_logprobs(policy, groups, sampling, layout)
    assert (replayed - recorded).abs().max() <= tolerance


def test_the_replay_is_what_generate_samples_from() -> None:
    """``generate`` with the hand-off's decode, its tokens scored by our trainer's side."""
    policy = tiny_models.policy(0, initializer_range=0.15)
    torch.manual_seed(2)
    prompt = PROMPTS[2]
    ids = torch.tensor([prompt.token_ids])
    completions, logprobs, kept = _generated(policy, ids)
    batch = pack([(prompt.token_ids, completions)], tiny_models.PAD)
    replay = Replay(batch, HANDOFF, (2, 3), kept)
    ours = policy.token_stats(batch, temperature=0.9, chunk=50, processor=replay).logprobs
    assert torch.allclose(ours, torch.tensor(logprobs), rtol=0, atol=1e-5)


def _generated(
    policy: Policy, ids: torch.Tensor
) -> tuple[list[list[int]], list[float], list[list[int]]]:
    """8 completions by ``generate``, with log-probs and kept ids from its returned scores."""
    output = policy.causal_lm.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=GenerationConfig(
            do_sample=True,
            num_return_sequences=8,
            max_new_tokens=HANDOFF.max_new_tokens,
            min_new_tokens=HANDOFF.min_new_tokens,
            temperature=HANDOFF.temperature,
            top_k=HANDOFF.top_k,
            top_p=HANDOFF.top_p,
            repetition_penalty=HANDOFF.repetition_penalty,
            eos_token_id=[2, 3],
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        ),
    )
    scores = torch.stack(output.scores, 1)
    completions, logprobs, kept = [], [], []
    for row, row_scores in zip(output.sequences[:, ids.shape[1] :], scores, strict=True):
        ended = [i for i, token in enumerate(row.tolist()) if token in (2, 3)]
        length = ended[0] + 1 if ended else len(row)
        completion = row[:length].tolist()
        completions.append(completion)
        for token, values in zip(completion, row_scores, strict=False):
            logprobs.append(torch.log_softmax(values, -1)[token].item())
            kept.append(values.isfinite().nonzero().flatten().tolist())
    return completions, logprobs, kept


def test_greedy_is_that_of_generate() -> None:
    policy = tiny_models.policy(3, initializer_range=0.15)
    groups = engine(policy, PLAIN).generate(PROMPTS, 1, greedy=True)
    for prompt, group in zip(PROMPTS, groups, strict=True):
        ids = torch.tensor([prompt.token_ids])
        output = policy.causal_lm.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=24, eos_token_id=[2, 3], pad_token_id=0
            ),
        )
        rollout = group.rollouts[0]
        assert list(rollout.token_ids) == output[0, ids.shape[1] :].tolist()
    recorded = torch.tensor([x for g in groups for r in g.rollouts for x in r.logprobs])
    model = SamplingConfig(max_new_tokens=24)
    assert torch.allclose(
        trainer_logprobs(policy, groups, model, pack), recorded, rtol=0, atol=1e-5
    )


def test_a_seed_gives_the_same_bits() -> None:
    policy = tiny_models.policy(0)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(engine(policy, HANDOFF).generate(PROMPTS, 4))
    assert results[0] == results[1]
    torch.manual_seed(6)
    assert engine(policy, HANDOFF).generate(PROMPTS, 4) != results[0]


def test_waves_keep_order_and_greedy_results() -> None:
    policy = tiny_models.policy(0)
    whole = engine(policy, PLAIN).generate(PROMPTS, 3, greedy=True)
    waves = engine(policy, PLAIN, sequences=3).generate(PROMPTS, 3, greedy=True)
    assert flat(whole) == flat(waves)
    assert [g.prompt.record.record_id for g in waves] == ["five", "two", "eight", "three"]
    assert all(len(g.rollouts) == 3 for g in waves)


def test_completions_end_where_they_should() -> None:
    policy = tiny_models.policy(0)
    torch.manual_seed(0)
    for sampling, least in ((PLAIN, 1), (HANDOFF, 6)):
        rollouts = [r for g in engine(policy, sampling).generate(PROMPTS, 16) for r in g.rollouts]
        assert {r.finished for r in rollouts} == {True, False}
        for rollout in rollouts:
            ends = [t in (2, 3) for t in rollout.token_ids]
            assert not any(ends[:-1])
            assert ends[-1] == rollout.finished
            assert rollout.finished or len(rollout.token_ids) == 24
            assert len(rollout.token_ids) >= (least if rollout.finished else 24)
            assert len(rollout.logprobs) == len(rollout.token_ids)
            assert "<eo" not in rollout.text
        # Both EOS ids end a completion.
        assert {r.token_ids[-1] for r in rollouts if r.finished} == {2, 3}


def test_kept_ids_hold_the_token_and_number_at_most_top_k() -> None:
    policy = tiny_models.policy(0)
    torch.manual_seed(0)
    for group in engine(policy, HANDOFF).generate(PROMPTS, 4):
        for rollout in group.rollouts:
            assert rollout.kept_ids is not None
            for token, kept in zip(rollout.token_ids, rollout.kept_ids, strict=True):
                assert token in kept
                assert len(kept) <= 20
    rollout = engine(policy, PLAIN).generate(PROMPTS[:1], 1)[0].rollouts[0]
    assert rollout.kept_ids is None


def test_padding_does_not_change_the_penalty() -> None:
    """``generate`` penalises the pad id of left-padded prompts; here padding has no effect."""
    policy = tiny_models.policy(0, initializer_range=0.15)
    sampling = HANDOFF.model_copy(update={"max_new_tokens": 1, "min_new_tokens": 0, "top_k": 0})
    sampling = sampling.model_copy(update={"top_p": 1.0, "repetition_penalty": 2.0})
    torch.manual_seed(0)
    groups = engine(policy, sampling).generate([PROMPTS[1], PROMPTS[2]], 400)
    # Id 0 is the pad id; its log-prob for the short prompt is the trainer's, pads unseen.
    recorded = torch.tensor([r.logprobs[0] for g in groups for r in g.rollouts])
    assert any(r.token_ids[0] == 0 for r in groups[0].rollouts)
    replayed = trainer_logprobs(policy, groups, sampling, pack)
    assert torch.allclose(replayed, recorded, rtol=0, atol=1e-5)


def test_samples_follow_the_distribution() -> None:
    policy = tiny_models.policy(0)
    sampling = SamplingConfig(max_new_tokens=1, temperature=0.9)
    torch.manual_seed(0)
    draws = 20_000
    group = engine(policy, sampling, sequences=draws).generate(PROMPTS[:1], draws)[0]
    counts = Counter(r.token_ids[0] for r in group.rollouts)
    with torch.no_grad():
        logits = policy.model(torch.tensor([PROMPTS[0].token_ids])).logits[0, -1]
    probabilities = torch.softmax(logits / 0.9, -1)
    for token, p in enumerate(probabilities.tolist()):
        # Five standard deviations of a binomial share.
        assert abs(counts[token] / draws - p) <= 5 * (p * (1 - p) / draws) ** 0.5 + 1e-4


def test_the_adapter_is_live() -> None:
    policy = tiny_models.policy(0)
    before = flat(engine(policy, PLAIN).generate(PROMPTS, 1, greedy=True))
    tiny_models.randomise(policy, scale=0.5)
    assert flat(engine(policy, PLAIN).generate(PROMPTS, 1, greedy=True)) != before


def test_no_gradient_and_no_sampling_settings_of_the_model() -> None:
    policy = tiny_models.policy(0)
    config = policy.causal_lm.generation_config
    assert config is not None
    torch.manual_seed(3)
    before = engine(policy, PLAIN).generate(PROMPTS, 4)
    config.temperature, config.top_p, config.top_k, config.do_sample = 0.1, 0.1, 1, True
    torch.manual_seed(3)
    assert engine(policy, PLAIN).generate(PROMPTS, 4) == before
    assert torch.is_grad_enabled()


def test_diverged_weights_stop_with_a_reason() -> None:
    policy = tiny_models.policy(0)
    with torch.no_grad():
        policy.trainable_parameters()[0][1].fill_(float("nan"))
    with pytest.raises(NumericsError, match="diverged"):
        engine(policy, PLAIN).generate(PROMPTS, 2)


class Broken:
    """An engine that returns what it is told."""

    def __init__(self, groups: list[RolloutGroup]) -> None:
        self.groups = groups

    def generate(self, *_: Any, **__: Any) -> list[RolloutGroup]:
        return self.groups


def test_collect_counts_and_checks() -> None:
    policy = tiny_models.policy(0)
    torch.manual_seed(0)
    good = collect(engine(policy, PLAIN), PROMPTS, 2)
    assert good.tokens == sum(len(ids) for ids in flat(list(good.groups)))
    assert good.seconds > 0
    first = good.groups[0].rollouts[0]
    spoilt = {
        "is at least one": replace(first, token_ids=(), logprobs=()),
        "each token needs one": replace(first, logprobs=first.logprobs[1:]),
        "not finite": replace(first, logprobs=(float("nan"),) * len(first.token_ids)),
    }
    for text, rollout in spoilt.items():
        group = RolloutGroup(PROMPTS[0], (rollout, rollout))
        with pytest.raises(NumericsError, match=text):
            collect(Broken([group]), PROMPTS[:1], 2)
    with pytest.raises(NumericsError, match="4 groups for 1 prompts"):
        collect(Broken(list(good.groups)), PROMPTS[:1], 2)
    with pytest.raises(NumericsError, match="2 completions for five, not 3"):
        collect(Broken([good.groups[0]]), PROMPTS[:1], 3)
