"""Tokens a second of our rollout loop and of Transformers' ``generate``, on the same tiny Llama.

    OMP_NUM_THREADS=1 python benchmarks/rollout_speed.py

Random weights of the embedded model's shape, one thread, no EOS, so that every completion has the
full length and both sides draw equally many tokens. ``generate`` returns what training needs of it:
sampled ids and the log-prob of each. The two take turns, so that another process on the machine
slows both. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence

import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grpo_dual.config.schema import ModelConfig, SamplingConfig
from grpo_dual.model.loading import attach_lora
from grpo_dual.model.policy import Policy
from grpo_dual.rollouts.transformers import TransformersEngine
from grpo_dual.types import Prompt, Record, Task

VOCABULARY = 1024


class NoEnd:
    """A codec whose completions never end by themselves."""

    eos_ids: tuple[int, ...] = (VOCABULARY - 1,)
    pad_id = 0

    def decode(self, ids: Sequence[int]) -> str:
        """Text is not looked at."""
        return f"{len(ids)} tokens"


def policy() -> Policy:
    """The embedded model's shape with random weights and the default adapter."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=1024,
        pad_token_id=0,
        eos_token_id=VOCABULARY - 1,
        attn_implementation="sdpa",
    )
    config = ModelConfig(dtype="float32", device="cpu")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    )
    return Policy(attach_lora(LlamaForCausalLM(shape), config.lora), tokenizer, config)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def measure(prompts: int, prompt_tokens: int, k: int, new_tokens: int, rounds: int) -> dict:
    """Tokens a second of both, best and worst of the rounds."""
    live = policy()
    sampling = SamplingConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens, temperature=1.0)
    record = Record(
        record_id="r", objective="fairness", subset="s", task=Task.ANSWER, origin="benchmark"
    )
    ids = torch.randint(1, VOCABULARY - 1, (prompts, prompt_tokens)).tolist()
    asked = [
        Prompt(record=record, messages=(), token_ids=tuple(row), shortened=False) for row in ids
    ]
    engine = TransformersEngine(live, NoEnd(), sampling, max_sequences=prompts * k)
    width = torch.tensor(ids)
    plain = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=k,
        max_new_tokens=new_tokens, min_new_tokens=new_tokens, pad_token_id=0,
        eos_token_id=VOCABULARY - 1, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip

    def ours() -> None:
        engine.generate(asked, k)

    def theirs() -> None:
        with live.inference():
            out = live.model.generate(
                input_ids=width, attention_mask=torch.ones_like(width), generation_config=plain
            )
        logits = torch.stack(out.logits, 1).float()
        drawn = out.sequences[:, prompt_tokens:, None]
        torch.log_softmax(logits, -1).gather(2, drawn)

    total = prompts * k * new_tokens
    ours(), theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    return {
        "threads": torch.get_num_threads(),
        "shape": {"prompts": prompts, "prompt_tokens": prompt_tokens, "k": k, "new": new_tokens},
        **{
            f"{name}_tokens_per_second": [round(total / max(t)), round(total / min(t))]
            for name, t in zip(("ours", "generate"), zip(*times, strict=True), strict=True)
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("prompts", 8), ("prompt-tokens", 80), ("k", 8), ("new-tokens", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=9)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
