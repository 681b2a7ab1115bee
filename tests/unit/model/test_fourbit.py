"""NF4 base weights: the same numbers as their dequantised selves, and only the adapter learns."""

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import LlamaForCausalLM

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig, SamplingConfig
from grpo_dual.errors import ConfigError, ModelError
from grpo_dual.model import fourbit
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.joined import Stages
from grpo_dual.model.llama import use_flat_layers
from grpo_dual.model.lora import use_products
from grpo_dual.model.packing import PackedBatch, flatten, pack, unpack
from grpo_dual.model.policy import Policy, load_policy
from grpo_dual.rollouts.graph import GraphEngine
from grpo_dual.rollouts.weights import Weights

CPU = torch.device("cpu")
GROUPS = [([1, 5, 6, 7], [[8, 9, 2], [10, 11, 12, 3]]), ([1, 3], [[20, 2], [21]])]


def test_bytes_by_hand() -> None:
    # 4096 x 4096: 8,388,608 half bytes of weights, 262,144 scales of a byte, 1,024 of four; beside
    # them 16 + 256 + 1 numbers of four bytes. 4.127 bits a weight, as the paper says, and 1,092.
    assert fourbit.nf4_bytes(4096**2) == 8_388_608 + 262_144 + 4_096 + 1_092
    assert 8 * (fourbit.nf4_bytes(4096**2) - 1_092) / 4096**2 == pytest.approx(4.127, abs=1e-4)
    # 65 weights are two blocks, whose scales are one block.
    assert fourbit.nf4_bytes(65) == 33 + 2 + 4 + 1_092


def test_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(fourbit, "version", absent)
    with pytest.raises(ConfigError, match=r"pip install 'grpo-dual\[4bit\]'"):
        load_policy(ModelConfig(quantization="nf4", dtype="float32", device="cpu"))
    monkeypatch.setattr(fourbit, "version", lambda _: "0.43.1")
    with pytest.raises(ConfigError, match=r"0\.50 or newer, and 0\.43\.1 is installed"):
        fourbit.quantization(torch.float32, CPU)


def test_a_device_that_cannot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Linear4bit:
        def __init__(self, *_: Any, **__: Any) -> None:
            raise NotImplementedError("no kernel\nfor this one")

    library = type(sys)("bitsandbytes")
    library.nn = type(sys)("nn")  # type: ignore[attr-defined]
    library.nn.Linear4bit = Linear4bit
    monkeypatch.setitem(sys.modules, "bitsandbytes", library)
    monkeypatch.setattr(fourbit, "version", lambda _: "0.50.2")
    with pytest.raises(ConfigError, match=r"does not work on cpu .*0\.50\.2.*no kernel for this"):
        fourbit.quantization(torch.float32, CPU)


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(ModelError, match="no layer of x could be quantised"):
        fourbit.prepare(nn.Sequential(nn.Embedding(3, 4)), "x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bitsandbytes", reason="4-bit weights need the extra 4bit")
    return tiny_models.save_model(tmp_path_factory.mktemp("model"), hidden_size=64)


def config(name: Path | str, **changes: Any) -> ModelConfig:
    return ModelConfig(
        **{
            "name": str(name),
            "dtype": "float32",
            "device": "cpu",
            "quantization": "nf4",
            "lora": LoraConfig(rank=4, alpha=8),
            **changes,
        }
    )


def live(folder: Path, **changes: Any) -> Policy:
    policy = load_policy(config(folder, **changes))
    torch.manual_seed(3)
    tiny_models.randomise(policy)
    return policy


def dequantised(policy: Policy) -> dict[str, Tensor]:
    """The plain model's parameters that a 4-bit one stands for."""
    from bitsandbytes.functional import dequantize_4bit

    found: dict[str, Tensor] = {}
    for name, parameter in policy.causal_lm.named_parameters():
        if ".lora_" in name:
            continue
        state: Any = getattr(parameter, "quant_state", None)
        plain = parameter.data if state is None else dequantize_4bit(parameter.data, state)
        found[name.replace(".base_layer", "")] = plain
    return found


def plain(policy: Policy, folder: Path) -> LlamaForCausalLM:
    """The folder's model with the weights that the 4-bit one stands for."""
    base = LlamaForCausalLM.from_pretrained(str(folder)).requires_grad_(False)
    base.load_state_dict(dequantised(policy), strict=False)
    return base


def twin(policy: Policy, folder: Path) -> Policy:
    """The same policy on plain linear layers."""
    from grpo_dual.model.loading import attach_lora

    settings = config(folder, quantization="none")
    made = Policy(
        attach_lora(plain(policy, folder), settings.lora), tiny_models.tokenizer(), settings
    )
    made.load_adapter_state(policy.adapter_state())
    return made


def batch(policy: Policy, layout: Any = pack) -> PackedBatch:
    return layout(GROUPS, 0).to(policy.device)


def logprobs(policy: Policy, layout: Any = pack) -> Tensor:
    return policy.token_stats(batch(policy, layout), temperature=1.0, chunk=4).logprobs


def gradient(policy: Policy, layout: Any = pack) -> list[Tensor]:
    values = logprobs(policy, layout)
    weights = torch.linspace(-1, 1, len(values))
    parameters = [p for _, p in policy.trainable_parameters()]
    return list(torch.autograd.grad((values * weights).sum(), parameters))


def test_what_is_in_four_bit(folder: Path) -> None:
    policy = load_policy(config(folder))
    packed = {n for n, m in policy.causal_lm.named_modules() if fourbit.is_fourbit(m)}
    # 2 layers x 7; embedding and head stay as they are
    assert len(packed) == 14
    assert all(name.startswith("model.layers.") for name in packed)
    assert policy.causal_lm.dtype == torch.float32
    assert {p.dtype for _, p in policy.trainable_parameters()} == {torch.float32}
    assert len(policy.trainable_parameters()) == 28
    assert not any(fourbit.is_fourbit(m) for m in tiny_models.llama().modules())


def test_bytes_are_those_of_the_tensors(folder: Path) -> None:
    policy = load_policy(config(folder))
    stored, largest, plain_bytes = 0, 0, 0
    for module in policy.causal_lm.modules():
        if fourbit.is_fourbit(module):
            weight: Any = module.weight
            state = weight.quant_state
            scales = state.state2
            tensors = (weight, state.absmax, state.code, state.offset, scales.absmax, scales.code)
            stored += sum(t.numel() * t.element_size() for t in tensors)
            largest = max(largest, module.in_features * module.out_features)
    for name, parameter in policy.causal_lm.named_parameters():
        if "lora_" not in name and "quant_state" not in vars(parameter):
            plain_bytes += parameter.numel() * 4
    # One layer at a time is dequantised to fp32; here q_proj is the largest.
    assert largest == 64 * 64
    assert fourbit.stored_bytes(policy.model) == stored + plain_bytes + 4 * largest


def test_logits_are_those_of_the_dequantised_weights(folder: Path) -> None:
    policy = live(folder)
    other = twin(policy, folder)
    row = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])
    with torch.no_grad():
        found, expected = policy.model(row).logits, other.model(row).logits
    # The same fp32 products of at most 64 terms, in another order at most: sqrt(64) x 6e-8 relative
    # a product, 15 of them one behind the other, below 1e-5.
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    # 4 bits are not the weights that they were made of.
    original = LlamaForCausalLM.from_pretrained(str(folder))
    assert not torch.allclose(
        dequantised(policy)["model.layers.0.mlp.up_proj.weight"],
        original.model.layers[0].mlp.up_proj.weight,
        atol=1e-3,
    )


@pytest.mark.parametrize("layout", [pack, unpack])
def test_passes_and_gradients_are_those_of_the_dequantised_weights(
    folder: Path, layout: Any
) -> None:
    policy = live(folder)
    other = twin(policy, folder)
    assert torch.allclose(logprobs(policy, layout), logprobs(other, layout), rtol=1e-5, atol=1e-5)
    for found, expected in zip(gradient(policy, layout), gradient(other, layout), strict=True):
        # 27 is the largest of them.
        assert torch.allclose(found, expected, rtol=1e-5, atol=27e-5)


def test_only_the_adapter_learns_and_a_pass_without_gradient_changes_nothing(
    folder: Path,
) -> None:
    policy = live(folder)
    before = {n: p.detach().clone() for n, p in policy.model.named_parameters()}
    expected = gradient(policy)
    # bitsandbytes would re-lay weights for a CPU's bf16 in such a pass.
    with policy.inference():
        policy.model(torch.tensor([[1, 5, 6]]))
    policy.freeze_reference()
    with policy.reference():
        logprobs(policy)
    assert all(torch.equal(a, b) for a, b in zip(gradient(policy), expected, strict=True))
    logprobs(policy).sum().backward()
    learning = {n for n, p in policy.model.named_parameters() if p.grad is not None}
    assert learning == {n for n, _ in policy.trainable_parameters()}
    for name, parameter in policy.model.named_parameters():
        if name in before:
            assert torch.equal(parameter, before[name])


@pytest.mark.parametrize("mode", ["adapter", "base"])
def test_the_reference_stays(folder: Path, mode: str) -> None:
    policy = live(folder, reference=mode)
    other = twin(policy, folder)
    policy.freeze_reference()
    tiny_models.randomise(policy)
    with policy.reference():
        reference = logprobs(policy)
    if mode == "base":
        other.load_adapter_state({n: 0 * t for n, t in other.adapter_state().items()})
    assert torch.allclose(reference, logprobs(other), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(reference, logprobs(policy))


def test_recomputed_activations_change_no_number(folder: Path) -> None:
    policy = live(folder)
    expected = gradient(policy)
    policy.use_checkpointing(True)
    assert all(torch.equal(a, b) for a, b in zip(gradient(policy), expected, strict=True))


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
def test_the_saved_adapter_fits_the_plain_model(folder: Path, tmp_path: Path) -> None:
    policy = live(folder)
    policy.freeze_reference()
    policy.save_adapter(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} >= {"adapter_model.safetensors"}
    assert not (tmp_path / "reference").exists()
    loaded = PeftModel.from_pretrained(plain(policy, folder), str(tmp_path)).eval()
    row = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])
    with torch.no_grad():
        assert torch.allclose(loaded(row).logits, policy.model(row).logits, rtol=1e-5, atol=1e-5)


def test_bf16_computes_in_bf16(folder: Path) -> None:
    policy = live(folder, dtype="bfloat16")
    assert policy.causal_lm.dtype == torch.bfloat16
    assert {p.dtype for _, p in policy.trainable_parameters()} == {torch.float32}
    layers = [m for m in policy.causal_lm.modules() if fourbit.is_fourbit(m)]
    assert {m.compute_dtype for m in layers} == {torch.bfloat16}
    assert policy.layers == "peft"
    with torch.no_grad():
        found, exact = logprobs(policy), logprobs(twin(policy, folder))
    # Against fp32 on the same dequantised weights: 2^-9 a rounding, some 30 of them one behind the
    # other on log-probs of up to 10.
    assert float((found - exact).abs().max()) < 30 * 2**-9 * 10
    assert all(bool(g.isfinite().all()) for g in gradient(policy))


def test_fast_layers_leave_it_alone(folder: Path) -> None:
    policy = live(folder, dtype="bfloat16")
    expected = logprobs(policy)
    settings = policy.causal_lm.config.get_text_config()
    assert not use_products(policy.model, Stages())
    for attempt in (
        lambda: use_flat_layers(policy.body, settings, Stages()),
        lambda: Weights(policy),
    ):
        with pytest.raises(UnsupportedError, match=r"q_proj.* is Linear4bit of Params4bit"):
            attempt()
    assert torch.equal(logprobs(policy), expected)


def test_rollouts_in_place_go_through_its_modules(folder: Path) -> None:
    policy = live(folder)
    sampling = SamplingConfig(max_new_tokens=12)
    engine = GraphEngine(policy, tiny_models.Codec(), sampling, max_sequences=8)
    assert engine.slower is not None
    assert "q_proj.base_layer is Linear4bit of Params4bit" in engine.slower
    prompts = [tiny_models.prompt([1, 20, 21, 22]), tiny_models.prompt([1, 30])]
    for update in (0.1, 0.2):
        tiny_models.randomise(policy, update)
        groups = engine.generate(prompts, 3)
        rows = [(g.prompt.token_ids, [r.token_ids for r in g.rollouts]) for g in groups]
        with torch.no_grad():
            scored = policy.token_stats(flatten(rows), temperature=1.0, chunk=50).logprobs
        recorded = [p for g in groups for r in g.rollouts for p in r.logprobs]
        assert float((scored - torch.tensor(recorded)).abs().max()) < 1e-5


def test_what_is_quantised_already_is_refused(folder: Path, tmp_path: Path) -> None:
    from grpo_dual.model.loading import load_base

    base, _ = load_base(config(folder), CPU)
    base.save_pretrained(str(tmp_path))
    tiny_models.tokenizer().save_pretrained(str(tmp_path))
    for quantization in ("none", "nf4"):
        with pytest.raises(ModelError, match=r"quantised already \(bitsandbytes\)"):
            load_policy(config(tmp_path, quantization=quantization))
