"""Random Llamas of a few thousand parameters, with a word-level tokenizer, for tests."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.model.loading import attach_lora
from grpo_dual.model.policy import Policy
from grpo_dual.types import Prompt, Record, Task

# Threads that wait for each other cost more than these tensors: minutes, when cores are shared.
torch.set_num_threads(1)

VOCABULARY = 67
PAD, BOS, EOS, EOT = 0, 1, 2, 3
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<bos>", "<eos>", "<eot>"] + [f"w{i}" for i in range(VOCABULARY - 4)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="w0"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="w0",
        additional_special_tokens=["<eot>"],
    )


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A tiny Llama whose large initial weights make its distributions peaked, not uniform."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": [EOS, EOT],
        "attn_implementation": "sdpa",
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).requires_grad_(False)


def save_model(folder: Path, seed: int = 0, **changes: Any) -> Path:
    llama(seed, **changes).save_pretrained(str(folder))
    tokenizer().save_pretrained(str(folder))
    return folder


def policy(
    seed: int = 0,
    *,
    dtype: torch.dtype = torch.float32,
    live_adapter: bool = True,
    config: ModelConfig | None = None,
    **changes: Any,
) -> Policy:
    """A policy on a tiny Llama; its adapter is random in A and B, or fresh (B = 0)."""
    config = config or ModelConfig(
        dtype="float32", lora=LoraConfig(rank=4, alpha=8, targets=SEVEN), device="cpu"
    )
    wrapped = attach_lora(llama(seed, **changes), config.lora).to(dtype)
    result = Policy(wrapped, tokenizer(), config)
    if live_adapter:
        randomise(result)
    return result


FAMILY: dict[str, tuple[type, type]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def family_policy(name: str, *, dtype: torch.dtype, config: ModelConfig, layers: int = 2) -> Policy:
    """A policy on a tiny model of one of the families; biases and norms are random too."""
    torch.manual_seed(1)
    kind, model = FAMILY[name]
    base = model(
        kind(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            max_position_embeddings=128,
            initializer_range=0.3,
            attn_implementation="sdpa",
        )
    )
    for parameter in base.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.8, 0.2)
    base.requires_grad_(False)
    result = Policy(attach_lora(base, config.lora).to(dtype), tokenizer(), config)
    randomise(result)
    return result


def randomise(policy: Policy, scale: float = 0.2) -> None:
    with torch.no_grad():
        for _, parameter in policy.trainable_parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)


def without_own_layers(policy: Policy) -> None:
    """Flat rows through Transformers' layers, as models of other families take them."""
    body: Any = policy.body
    for layer in body.layers:
        del layer.forward
    policy.layers = "peft"


def random_ids(count: int, generator: torch.Generator) -> list[int]:
    return torch.randint(4, VOCABULARY, (count,), generator=generator).tolist()


def prompt(ids: list[int] | tuple[int, ...], name: str = "a") -> Prompt:
    record = Record(
        record_id=name, objective="fairness", subset="s", task=Task.ANSWER, origin="synthetic"
    )
    return Prompt(record=record, messages=(), token_ids=tuple(ids), shortened=False)


class Codec:
    """What the engine needs of a ChatEncoder."""

    eos_ids = (EOS, EOT)
    pad_id = PAD

    def decode(self, ids: Any) -> str:
        return str(tokenizer().decode(list(ids), skip_special_tokens=True))
