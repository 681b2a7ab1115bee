"""The embedded model through likelihood: pairs, yes and no, plain texts, each context once."""

import pytest
import torch

from grpo_dual.config.schema import ModelConfig
from grpo_dual.evaluation.detection import likelier, score_verdicts, shown_texts, verdict_choices
from grpo_dual.evaluation.preference import pair_choices, pairs_of, score_preference
from grpo_dual.evaluation.retention import pieces, plain_texts, score_texts
from grpo_dual.model.continuations import continuation_logprobs
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.prompts import hallucination
from grpo_dual.prompts.chat import ChatEncoder
from grpo_dual.prompts.recognition import recognition_messages
from grpo_dual.records import synthetic

PAIRS = pairs_of(
    record
    for subset in ("qa", "dialogue", "summarization")
    for record in synthetic.halueval_records("test", subset, 20, 0)
)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(ModelConfig(name="embedded", dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def encoder(policy: Policy) -> ChatEncoder:
    return ChatEncoder(policy.tokenizer, generation_eos_ids=policy.generation_eos_ids)


def test_it_prefers_what_its_passages_say(policy: Policy, encoder: ChatEncoder) -> None:
    """A model that reads is right far above the null of length; it was on 93 % of 120 pairs."""
    items = [
        pair_choices(r, encoder.encode(hallucination.messages(r)), encoder.encode_completion)
        for r in PAIRS
    ]
    pairs = [(own[0], own[1]) for own in continuation_logprobs(policy, items)]
    found = score_preference(PAIRS, pairs)
    low = found.numbers["sum"].low
    assert low is not None
    assert low > 0.75
    assert found.numbers["null_shorter"].value == pytest.approx(0.5, abs=0.1)
    assert found.numbers["ties_sum"].value == 0


def test_the_papers_prompt_is_answered_by_likelihood(policy: Policy, encoder: ChatEncoder) -> None:
    """It has never seen this prompt; what counts is that nothing is invalid and both are asked."""
    shown = shown_texts(PAIRS[:6], seed=0)
    prompts = [encoder.encode(recognition_messages(s.record, knowledge=False)) for s in shown]
    items = [verdict_choices(ids, encoder.encode_completion) for ids in prompts]
    said = [likelier(own) for own in continuation_logprobs(policy, items, token_budget=2000)]
    found = score_verdicts(shown, said)
    assert found.numbers["invalid"].value == 0
    assert found.numbers["accuracy"].items == 12
    assert found.numbers["null_majority"].value == 0.5


def test_plain_texts_cost_what_one_forward_says(policy: Policy) -> None:
    texts = plain_texts()[:3]
    bos = policy.tokenizer.bos_token_id
    ids = [policy.tokenizer.encode(t.text, add_special_tokens=False) for t in texts]
    cut = [pieces(own, size=100, bos=bos) for own in ids]
    scores = iter(continuation_logprobs(policy, [piece for own in cut for piece in own]))
    found = score_texts(texts, [[next(scores)[0] for _ in own] for own in cut])
    for outcome, own in zip(found.outcomes, ids, strict=True):
        nats = 0.0
        for start in range(0, len(own), 100):
            row = torch.tensor([[bos, *own[start : start + 100]]])
            with torch.no_grad():
                logits = policy.model(input_ids=row).logits[0, :-1]
            logprobs = torch.log_softmax(logits.double(), -1)
            nats -= float(logprobs.gather(1, row[0, 1:, None]).sum())
        assert outcome.tokens == len(own)
        # Some 200 tokens of 12 nats: 1e-6 of the sum, as 1e-5 of a token's log-prob.
        assert outcome.nats == pytest.approx(nats, rel=1e-6)
