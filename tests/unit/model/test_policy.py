"""Loading, refusing, the trained adapter and its frozen reference."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers import LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import tiny_models
from grpo_dual.config.schema import LoraConfig, ModelConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.checks import check_architecture
from grpo_dual.model.packing import PackedBatch, pack
from grpo_dual.model.policy import Policy, load_policy

GROUPS = [([1, 5, 6, 7], [[8, 9, 2], [10, 11, 12, 3]]), ([1, 3], [[20, 2], [21]])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save_model(tmp_path_factory.mktemp("model"))


def config(name: Path | str, **changes: Any) -> ModelConfig:
    return ModelConfig(
        **{
            "name": str(name),
            "dtype": "float32",
            "device": "cpu",
            "lora": LoraConfig(rank=4, alpha=8),
            **changes,
        }
    )


def batch(policy: Policy) -> PackedBatch:
    return pack(GROUPS, 0).to(policy.device)


def logprobs(policy: Policy) -> Tensor:
    return policy.token_stats(batch(policy), temperature=1.0, chunk=4).logprobs


def flags(policy: Policy) -> dict[str, bool]:
    return {name: p.requires_grad for name, p in policy.model.named_parameters()}


def test_a_fresh_adapter_is_the_base_model(folder: Path) -> None:
    policy = load_policy(config(folder))
    base = LlamaForCausalLM.from_pretrained(str(folder)).eval()
    row = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])
    with torch.no_grad():
        expected = torch.log_softmax(base(row).logits[0, 3:6], -1)[range(3), [8, 9, 2]]
    assert torch.allclose(logprobs(policy)[:3], expected, rtol=0, atol=1e-5)
    assert policy.device == torch.device("cpu")
    assert not policy.model.training
    assert policy.generation_eos_ids == (2, 3)
    # 2 layers x 7 linear layers x (A, B); the head is not among them.
    names = [name for name, _ in policy.trainable_parameters()]
    assert len(names) == 28
    assert not any("lm_head" in name or "embed" in name for name in names)


def test_the_adapter_is_fp32_on_a_bf16_base(folder: Path) -> None:
    policy = load_policy(config(folder, dtype="bfloat16"))
    assert policy.causal_lm.dtype == torch.bfloat16
    assert {p.dtype for _, p in policy.trainable_parameters()} == {torch.float32}
    values = logprobs(policy)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert all(p.grad is not None for _, p in policy.trainable_parameters())


def test_only_the_adapter_learns(folder: Path) -> None:
    policy = load_policy(config(folder, lora=LoraConfig(rank=2, targets=("q_proj", "v_proj"))))
    trained = {name for name, _ in policy.trainable_parameters()}
    assert len(trained) == 8
    assert {name for name, flag in flags(policy).items() if flag} == trained


@pytest.mark.parametrize("mode", ["adapter", "base"])
def test_the_reference_stays_while_the_adapter_moves(folder: Path, mode: str) -> None:
    policy = load_policy(config(folder, reference=mode))
    with torch.no_grad():
        base = logprobs(policy)
    tiny_models.randomise(policy)
    with torch.no_grad():
        frozen = logprobs(policy)
    policy.freeze_reference()
    with policy.reference():
        at_start = logprobs(policy)
    # Section 7.3: same kernel and packing, so equal, not only close.
    assert torch.equal(at_start, frozen if mode == "adapter" else base)
    tiny_models.randomise(policy)
    with policy.reference():
        later = logprobs(policy)
        assert not later.requires_grad
        assert not torch.is_grad_enabled()
    assert torch.equal(later, at_start)
    assert not torch.allclose(logprobs(policy), at_start)
    assert logprobs(policy).requires_grad


@pytest.mark.parametrize("mode", ["adapter", "base"])
def test_the_reference_leaves_gradients_and_flags_alone(folder: Path, mode: str) -> None:
    policy = load_policy(config(folder, reference=mode))
    tiny_models.randomise(policy)
    expected = torch.autograd.grad(
        logprobs(policy).sum(), [p for _, p in policy.trainable_parameters()]
    )
    before = flags(policy)
    policy.freeze_reference()
    policy.freeze_reference()
    assert {n: f for n, f in flags(policy).items() if n in before} == before
    frozen = {n for n in flags(policy) if ".reference." in n}
    assert len(frozen) == (28 if mode == "adapter" else 0)
    assert not any(flags(policy)[name] for name in frozen)
    # A graph built before the reference pass must survive it.
    total = logprobs(policy).sum()
    with policy.reference():
        logprobs(policy)
        assert all(p.requires_grad for _, p in policy.trainable_parameters())
    total.backward()
    for (_, parameter), gradient in zip(policy.trainable_parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)
    with pytest.raises(RuntimeError, match="boom"), policy.reference():
        raise RuntimeError("boom")
    assert {n: f for n, f in flags(policy).items() if n in before} == before
    assert torch.equal(logprobs(policy).sum(), total)


def test_switching_is_what_pefts_own_leaves_behind(folder: Path) -> None:
    policy = load_policy(config(folder))
    tiny_models.randomise(policy)
    policy.freeze_reference()
    tiny_models.randomise(policy)

    def state() -> tuple[object, ...]:
        layers = [m for m in policy.model.modules() if isinstance(m, BaseTunerLayer)]
        acting = [(m.active_adapters, m.disable_adapters) for m in layers]
        return acting, policy.model.base_model.active_adapter, logprobs(policy).detach().tolist()

    with policy.reference():
        ours = state()
    trained = state()
    policy.model.set_adapter("reference")
    assert state() == ours
    policy.model.set_adapter("default")
    assert state() == trained
    assert ours != trained


def test_freezing_draws_no_random_numbers(folder: Path) -> None:
    policy = load_policy(config(folder))
    torch.manual_seed(0)
    state = torch.get_rng_state()
    policy.freeze_reference()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unfrozen_reference_is_refused(folder: Path) -> None:
    policy = load_policy(config(folder))
    with pytest.raises(ModelError, match="freeze_reference"), policy.reference():
        pass


def test_adapter_state_round_trip(folder: Path) -> None:
    policy, other = load_policy(config(folder)), load_policy(config(folder))
    tiny_models.randomise(policy)
    policy.freeze_reference()
    reference = policy.adapter_state(adapter="reference")
    tiny_models.randomise(policy)
    other.load_adapter_state(policy.adapter_state())
    other.load_adapter_state(reference, adapter="reference")
    assert torch.equal(logprobs(other), logprobs(policy))
    with other.reference(), policy.reference():
        assert torch.equal(logprobs(other), logprobs(policy))
    state = policy.adapter_state()
    tiny_models.randomise(policy)
    assert any(
        not torch.equal(state[name], tensor) for name, tensor in policy.adapter_state().items()
    )


def test_a_foreign_adapter_state_is_refused(folder: Path) -> None:
    policy = load_policy(config(folder))
    other = load_policy(config(folder, lora=LoraConfig(rank=8)))
    fewer = dict(list(policy.adapter_state().items())[1:])
    for state in (other.adapter_state(), fewer):
        with pytest.raises(ModelError, match="does not fit this model"):
            policy.load_adapter_state(state)
    with pytest.raises(ModelError, match="no adapter 'reference'"):
        policy.adapter_state(adapter="reference")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own
def test_a_saved_adapter_is_plain_peft(folder: Path, tmp_path: Path) -> None:
    policy = load_policy(config(folder))
    tiny_models.randomise(policy)
    policy.freeze_reference()
    policy.save_adapter(tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "reference").exists()
    base = LlamaForCausalLM.from_pretrained(str(folder))
    loaded = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    row = torch.tensor([[1, 5, 6, 7, 8, 9, 2]])
    with torch.no_grad():
        assert torch.allclose(loaded(row).logits, policy.model(row).logits, rtol=0, atol=1e-6)


def test_checkpointing_changes_no_number_and_keeps_the_cache_for_rollouts(folder: Path) -> None:
    torch.manual_seed(0)
    plain = load_policy(config(folder))
    torch.manual_seed(0)
    saving = load_policy(config(folder, gradient_checkpointing=True))
    tiny_models.randomise(plain)
    saving.load_adapter_state(plain.adapter_state())
    for policy in (plain, saving):
        logprobs(policy).sum().backward()
    for (_, a), (_, b) in zip(
        plain.trainable_parameters(), saving.trainable_parameters(), strict=True
    ):
        assert torch.equal(a.grad, b.grad)
    row = torch.tensor([[1, 5, 6]])
    with saving.inference():
        assert saving.body(input_ids=row, use_cache=True).past_key_values.get_seq_length() == 3


def test_dropout_acts_in_sft_only(folder: Path) -> None:
    policy = load_policy(config(folder, lora=LoraConfig(rank=4, alpha=8, dropout=0.5)))
    tiny_models.randomise(policy)
    calm = logprobs(policy)
    assert torch.equal(logprobs(policy), calm)
    with policy.adapter_dropout():
        assert not torch.allclose(logprobs(policy), calm)
    assert torch.equal(logprobs(policy), calm)


def test_a_reference_frozen_after_loading_has_no_dropout(folder: Path) -> None:
    policy = load_policy(config(folder, lora=LoraConfig(rank=4, alpha=8, dropout=0.5)))
    tiny_models.randomise(policy)
    policy.freeze_reference()
    with policy.reference():
        assert torch.equal(logprobs(policy), logprobs(policy))
        frozen = logprobs(policy)
    # KL is 0 before the first update.
    assert torch.equal(frozen, logprobs(policy).detach())


def broken(folder: Path, tmp_path: Path, name: str, **files: str | None) -> Path:
    """A copy of the model folder with files replaced or (None) removed."""
    copy = tmp_path / name
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    for key, text in files.items():
        path = copy / key.replace("__", ".")
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    return copy


def test_unusable_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    deeper = json.dumps({**settings, "num_hidden_layers": 3})
    foreign = json.dumps({"model_type": "house", "auto_map": {"AutoConfig": "house.HouseConfig"}})
    pickled = broken(folder, tmp_path, "pickled", model__safetensors=None)
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    cases = {
        "there is no model folder": tmp_path / "absent",
        "has no config.json": broken(folder, tmp_path, "bare", config__json=None),
        "has no weights at all": broken(folder, tmp_path, "hollow", model__safetensors=None),
        "pickled weights": pickled,
        "is not valid JSON": broken(folder, tmp_path, "torn", config__json='{"a": '),
        "could not be loaded": broken(folder, tmp_path, "cut", model__safetensors="x" * 9),
        "do not fit its config.json": broken(folder, tmp_path, "deeper", config__json=deeper),
        "trust_remote_code": broken(folder, tmp_path, "foreign", config__json=foreign),
    }
    for text, path in cases.items():
        with pytest.raises(ModelError, match=text) as caught:
            load_policy(config(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.save_model(tmp_path, vocab_size=40)
    with pytest.raises(ModelError, match="has 67 ids but the model embeds only 40"):
        load_policy(config(folder))


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (("q_proj", "query"), "'query' is not a linear layer.*choose from down_proj, gate_proj"),
        (("lm_head",), "'lm_head' is the output head"),
        (("all-linear", "q_proj"), "'all-linear' is not a linear layer"),
    ],
)
def test_unknown_lora_targets_are_refused(
    folder: Path, targets: tuple[str, ...], text: str
) -> None:
    with pytest.raises(ModelError, match=text):
        load_policy(config(folder, lora=LoraConfig(targets=targets)))


@pytest.mark.parametrize(
    ("device", "text"), [("cuda:99", "CUDA devices here"), ("gpu", "is not a device")]
)
def test_absent_devices_are_refused(folder: Path, device: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        load_policy(config(folder, device=device))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("final_logit_softcapping", 30.0, "transform their logits"),
        ("logit_scale", 0.06, "transform their logits"),
        ("layer_types", ["full_attention", "linear_attention"], "carry state"),
        ("_attn_implementation", "eager", "does not honour the boolean mask"),
    ],
)
def test_architectures_we_would_get_wrong_are_refused(key: str, value: Any, text: str) -> None:
    settings = tiny_models.llama().config
    setattr(settings, key, value)
    with pytest.raises(ModelError, match=text):
        check_architecture(settings)


def test_a_sliding_window_is_a_limit_not_a_surprise() -> None:
    settings = tiny_models.llama().config
    assert check_architecture(settings) is None
    settings.sliding_window = 8
    assert check_architecture(settings) == 8
    policy = tiny_models.policy(0)
    policy.window = 8
    assert policy.hidden_states(pack([([4] * 5, [[5, 6, 7]])], 0)).shape == (3, 32)
    with pytest.raises(ModelError, match="9 tokens is longer than this model's attention window"):
        policy.hidden_states(pack([([4] * 5, [[5, 6, 7, 8]])], 0))


def test_a_model_that_computes_something_else_is_found_out() -> None:
    """A wrong head (here: scaled logits nobody declared) is caught by the forward comparison."""
    model = tiny_models.llama()
    model.lm_head.register_forward_hook(lambda *arguments: arguments[2] * 1.1)
    with pytest.raises(ModelError, match="silently wrong"):
        Policy(*wrapped(model))


def wrapped(model: Any) -> tuple[PeftModel, Any, ModelConfig]:
    from grpo_dual.model.loading import attach_lora

    settings = ModelConfig(device="cpu", dtype="float32")
    return attach_lora(model, settings.lora), tiny_models.tokenizer(), settings


def test_another_architecture_works() -> None:
    """Qwen2: biases in attention, head tied to the embedding."""
    torch.manual_seed(0)
    settings = Qwen2Config(
        vocab_size=67,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    policy = Policy(*wrapped(Qwen2ForCausalLM(settings).requires_grad_(False)))
    tiny_models.randomise(policy)
    assert logprobs(policy).shape == (10,)
