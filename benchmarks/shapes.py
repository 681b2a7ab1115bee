"""Models of real shape with random weights, and prompts of real length, for the benchmarks."""

import argparse
import functools
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import tiny_models  # noqa: E402
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig  # noqa: E402
from grpo_dual.model.loading import attach_lora  # noqa: E402
from grpo_dual.model.policy import Policy  # noqa: E402
from grpo_dual.types import Prompt  # noqa: E402

LENGTHS = ROOT / "benchmarks" / "prompt_lengths.json"
FOUR = ROOT / "benchmarks" / "four_prompts.json"
SHAPES: dict[str, dict[str, int]] = {
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "1b": {  # Llama-3.2-1B
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "8b": {  # Llama-3-8B
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
EOS = 3
RANK = 16
SAMPLINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "handoff": {"temperature": 0.9, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.18},
}


def model(shape: str, device: torch.device, *, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of that shape, random, in bf16 on CUDA and fp32 elsewhere."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=1,
        eos_token_id=EOS,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            made = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return made.eval().requires_grad_(False)


def policy(
    shape: str,
    device: torch.device,
    *,
    rank: int = RANK,
    checkpointing: bool = False,
    live: bool = True,
) -> Policy:
    """The trainer's policy on it: LoRA on all linear layers, B random unless ``live`` is False."""
    config = ModelConfig(
        name=shape,
        dtype="bfloat16" if device.type == "cuda" else "float32",
        device=str(device),
        gradient_checkpointing=checkpointing,
        lora=LoraConfig(rank=rank, alpha=2 * rank),
    )
    made = Policy(attach_lora(model(shape, device), config.lora), tiny_models.tokenizer(), config)
    if live:
        enliven(made.trainable_parameters())
    return made


@torch.no_grad()
def enliven(named: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
    """Random B, so that the adapter's product is not zero."""
    for name, parameter in named:
        if ".lora_B." in name:
            parameter.normal_(0, 0.01)


def parameters(shape: str) -> int:
    """Weights that a token passes: all but the embedding."""
    s = SHAPES[shape]
    hidden, wide = s["hidden_size"], s["intermediate_size"]
    kv = hidden * s["num_key_value_heads"] // s["num_attention_heads"]
    layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide
    return s["num_hidden_layers"] * layer + hidden * s["vocab_size"]


def words(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer with a word for each id, for those who want prompts as text."""
    names = ["<pad>", "<bos>", "<unk>", "<eos>"] + [f"t{i}" for i in range(4, vocabulary)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )


def lengths(path: Path, count: int) -> list[int]:
    """The first ``count`` prompt lengths of the fixed list, from its start again when it ends."""
    listed: list[int] = json.loads(path.read_text())["lengths"]
    return [listed[i % len(listed)] for i in range(count)]


def prompts(sizes: list[int], vocabulary: int, *, seed: int = 0) -> list[Prompt]:
    """Prompts of those lengths with random ids."""
    rng = random.Random(seed)
    return [
        tiny_models.prompt([1] + [rng.randrange(10, vocabulary) for _ in range(n - 1)], f"p{i}")
        for i, n in enumerate(sizes)
    ]


def never(vocabulary: int) -> int:
    """An end of completion that no model of that vocabulary draws."""
    return vocabulary


class Codec(tiny_models.Codec):
    """Ends a completion at the shapes' EOS, which random weights hardly ever draw."""

    eos_ids: tuple[int, ...] = (EOS,)

    def decode(self, ids: Any) -> str:
        """No text: it is not what is measured."""
        return f"{len(ids)} tokens"


@dataclass(frozen=True, slots=True)
class Work:
    """What a step has to do."""

    prompts: tuple[int, ...]
    """Tokens of each."""
    k: int
    """Completions of each."""
    new_tokens: int
    """Tokens of a completion at most, which random weights reach."""
    sampling: str = "plain"
    """Key of ``SAMPLINGS``."""

    @classmethod
    def of(cls, args: argparse.Namespace, sampling: str = "plain") -> "Work":
        """As the flags of :func:`flags` say."""
        sizes = tuple(lengths(args.prompt_lengths, args.prompts))
        return cls(sizes, args.k, args.new_tokens, sampling)

    @property
    def sequences(self) -> int:
        """Prompts times K."""
        return len(self.prompts) * self.k

    @property
    def packed_tokens(self) -> int:
        """Of all prompts once and all completions."""
        return sum(self.prompts) + self.sequences * self.new_tokens

    def record(self) -> dict[str, Any]:
        """For a result."""
        return {
            "prompt_lengths": list(self.prompts),
            "k": self.k,
            "new_tokens": self.new_tokens,
            "sampling": self.sampling,
        }

    def settings(self) -> SamplingConfig:
        """The behaviour policy."""
        return SamplingConfig(
            max_new_tokens=self.new_tokens, min_new_tokens=0, **SAMPLINGS[self.sampling]
        )


def flags(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark of speed takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--k", type=int, default=4, help="completions of a prompt")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument(
        "--prompt-lengths", type=Path, default=LENGTHS, metavar="FILE", help='{"lengths": [..]}'
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def tell(text: str) -> None:
    """To the one who looks on; stdout is for JSON."""
    print(text, file=sys.stderr, flush=True)


tell_once = functools.cache(tell)
"""What would be told again and again."""


def device() -> torch.device:
    """CUDA if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
