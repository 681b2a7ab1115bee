"""Models of real shape with random weights, and prompts of real length, for the benchmarks."""

import argparse
import functools
import json
import random
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import tiny_models  # noqa: E402
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig  # noqa: E402
from grpo_dual.model.loading import attach_lora  # noqa: E402
from grpo_dual.model.policy import Policy, load_policy  # noqa: E402
from grpo_dual.types import Prompt  # noqa: E402

LENGTHS = ROOT / "benchmarks" / "prompt_lengths.json"
FOUR = ROOT / "benchmarks" / "four_prompts.json"
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 2048,
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "tiny-moe": {
        "model_type": "olmoe",
        "vocab_size": 2048,
        "hidden_size": 256,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "num_experts": 8,
        "num_experts_per_tok": 2,
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
    "olmo2-7b": {  # OLMo-2-7B: norms behind attention and MLP, heads normed together
        "model_type": "olmo2",
        "vocab_size": 100352,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
    },
    "gemma3-4b": {  # Gemma-3-4B's text model: wide heads, five layers of six with a window
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "sliding_window": 1024,
    },
    "phi2": {  # Phi-2: heads of 80, biases, attention and MLP beside each other
        "model_type": "phi",
        "vocab_size": 51200,
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "olmoe-7b": {  # OLMoE-1B-7B: 64 experts, of which a token meets 8
        "model_type": "olmoe",
        "vocab_size": 50304,
        "hidden_size": 2048,
        "intermediate_size": 1024,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "num_experts": 64,
        "num_experts_per_tok": 8,
    },
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}
"""What a shape is unless it says otherwise."""
EOS = 3
RANK = 16
SAMPLINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "handoff": {"temperature": 0.9, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.18},
}


def _made(shape: str, device: torch.device | str) -> PreTrainedModel:
    settings = {**({} if "model_type" in SHAPES[shape] else LLAMA), **SHAPES[shape]}
    config = AutoConfig.for_model(
        settings.pop("model_type"),
        **settings,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=EOS,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    with torch.device(device):
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)


def model(shape: str, device: torch.device, *, seed: int = 0) -> PreTrainedModel:
    """A model of that shape, random, in bf16 on CUDA and fp32 elsewhere."""
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        made = _made(shape, device)
    finally:
        torch.set_default_dtype(before)
    made.eval().requires_grad_(False)
    return made


def policy(
    shape: str,
    device: torch.device,
    *,
    rank: int = RANK,
    checkpointing: bool = False,
    live: bool = True,
    nf4: bool = False,
) -> Policy:
    """The trainer's policy on it: LoRA on all linear layers, B random unless ``live`` is False.

    With ``nf4`` in 4 bit, quantised from a folder as a run does it; needs disk for 16 bit.
    """
    config = ModelConfig(
        name=shape,
        dtype="bfloat16" if device.type == "cuda" else "float32",
        device=str(device),
        gradient_checkpointing=checkpointing,
        quantization="nf4" if nf4 else "none",
        lora=LoraConfig(rank=rank, alpha=2 * rank),
    )
    if nf4:
        with tempfile.TemporaryDirectory() as folder:
            model(shape, device).save_pretrained(folder)
            tiny_models.tokenizer().save_pretrained(folder)
            torch.cuda.empty_cache()
            made = load_policy(config.model_copy(update={"name": folder}))
    else:
        base = attach_lora(model(shape, device), config.lora)
        made = Policy(base, tiny_models.tokenizer(), config)
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
    """Weights of the matrices that a batch passes: all but the embedding, every expert's."""
    made: Any = _made(shape, "meta")
    embedding, head = made.get_input_embeddings().weight, made.get_output_embeddings().weight
    total = sum(p.numel() for p in made.parameters() if p.dim() > 1)
    return total - (0 if embedding is head else embedding.numel())


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
