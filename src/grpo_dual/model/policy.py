"""The policy: a frozen base model, the trained adapter, and a frozen reference in the same weights.

The model stays in eval mode while it is trained: packed and plain passes agree only without
dropout, and the sampler's log-probs are the trainer's only then. SFT may switch the adapter's
dropout on for its own passes (:meth:`Policy.adapter_dropout`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from grpo_dual.config.schema import ModelConfig
from grpo_dual.errors import ModelError
from grpo_dual.model.attention import ByGroup, RowAttention, use_runs
from grpo_dual.model.checks import check_architecture, check_forward
from grpo_dual.model.family import UnsupportedError
from grpo_dual.model.head import Processor, TokenStats, project, token_stats
from grpo_dual.model.joined import Stages
from grpo_dual.model.llama import leave_flat_layers, use_flat_layers
from grpo_dual.model.loading import TRAINED, attach_lora, eos_ids, load_base, resolve_device
from grpo_dual.model.lora import use_products
from grpo_dual.model.norms import Norms
from grpo_dual.model.packing import PackedBatch, Runs

REFERENCE = "reference"


def load_policy(config: ModelConfig) -> "Policy":
    """Load model and tokenizer, attach a fresh adapter, check that packed rows are exact on it.

    The adapter's A matrices are drawn from torch's global generator: seed it first.

    Raises:
        ModelError: see :mod:`grpo_dual.model.loading` and :mod:`grpo_dual.model.checks`.
    """
    device = resolve_device(config.device)
    base, tokenizer = load_base(config, device)
    return Policy(attach_lora(base, config.lora), tokenizer, config)


class Policy:
    """A causal language model with a trained LoRA adapter.

    Attributes:
        model: the PEFT model.
        tokenizer: its tokenizer.
        config: what it was loaded from.
        device: where its weights are.
        window: length up to which its attention is full; None: whatever the length.
        flat: can score flat rows (attention by runs) fast: 16 bit on CUDA, any on the CPU.
        layers: how training passes compute the decoder's layers: all of a layer in few kernels
            (``fused``), by Transformers with LoRA products in the model's dtype (``joined``), or by
            Transformers and PEFT (``peft``).
        unfused: why its layers are not ``fused``, where flat rows are taken; else None.
        notes: what is slower than it might be, and why.
        checkpointing: activations are recomputed in the backward pass.
    """

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: ModelConfig
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        causal_lm = model.get_base_model()
        assert isinstance(causal_lm, PreTrainedModel)
        self.causal_lm = causal_lm
        self.body = _body(causal_lm)
        self._head = _head(causal_lm)
        self.device: torch.device = self._head.weight.device
        self.window = check_architecture(causal_lm.config)
        self._trained = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        self._adapted = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
        self._recomputed = [
            m for m in causal_lm.modules() if isinstance(m, GradientCheckpointingLayer)
        ]
        model.eval()
        half = causal_lm.dtype in (torch.bfloat16, torch.float16)
        on_cpu = self.device.type == "cpu"
        self.flat = (on_cpu or (half and self.device.type == "cuda")) and use_runs(causal_lm)
        self.layers: Literal["fused", "joined", "peft"] = "peft"
        self._stages = Stages()
        """Of the layers that compute flat rows."""
        if half and use_products(model, self._stages):
            self.layers = "joined"
        self.checkpointing = False
        self._can_checkpoint = False
        self.use_checkpointing(config.gradient_checkpointing is True)
        self.unfused: str | None = None
        if self.flat:
            try:
                self._fuse_layers()
            except UnsupportedError as reason:
                self.unfused = str(reason)
        self.notes: tuple[str, ...] = ()
        if self.unfused is not None:
            self.notes = (f"training passes by Transformers' layers, not fused: {self.unfused}",)
        self._norms = Norms()
        if half and self.device.type == "cuda" and self.layers != "fused":
            self._norms.take_over(self.body)
        if self.layers != "fused":
            check_forward(self)

    def _fuse_layers(self) -> None:
        """Compute the layers in few kernels, if that gives what they give.

        Raises:
            UnsupportedError: They are not the Llama family's, or only look like it.
        """
        layers, stages, own = self.layers, self._stages, Stages()
        use_flat_layers(self.body, self.causal_lm.config.get_text_config(), own)
        self.layers, self._stages = "fused", own
        try:
            check_forward(self)
        except torch.OutOfMemoryError:
            raise
        except (ModelError, RuntimeError) as error:
            leave_flat_layers(self.body)
            self.layers, self._stages = layers, stages
            raise UnsupportedError(
                f"{type(self.causal_lm).__name__} looks like a Llama and computes something else"
            ) from error

    def use_checkpointing(self, active: bool) -> None:
        """Recompute activations in the backward pass from now on, or keep them."""
        if active and not self._can_checkpoint:
            # Transformers renamed the method between the versions we support.
            enable: Any = getattr(self.causal_lm, "activation_checkpointing_enable", None)
            (enable or self.causal_lm.gradient_checkpointing_enable)({"use_reentrant": False})
            self._can_checkpoint = True
        self.checkpointing = active
        self._checkpointing(active)

    def hidden_states(self, batch: PackedBatch) -> Tensor:
        """[N, D] states that predict the batch's completion tokens (the body without its head)."""
        if self.window is not None:
            self._check_window(int(batch.position_ids.max()) + 1, self.window)
        if batch.runs is not None:
            runs = batch.runs
            if self.device.type == "cpu":
                runs = ByGroup(runs.lengths(), self.causal_lm.dtype)
            return self.flat_states(
                batch.input_ids[0], batch.position_ids[0], runs, batch.hidden_index
            )
        output = self.body(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask(),
            position_ids=batch.position_ids,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden.reshape(-1, hidden.shape[-1])[batch.hidden_index]

    def flat_states(
        self,
        ids_S: Tensor,
        positions_S: Tensor,
        runs: Runs | RowAttention,
        wanted_N: Tensor | None = None,
    ) -> Tensor:
        """[N, D] final states of a flat row's tokens; for a policy that is ``flat``.

        Args:
            ids_S: token ids.
            positions_S: rotary positions.
            runs: who sees whom.
            wanted_N: places in the row; None: all S.
        """
        output = self.body(
            input_ids=ids_S[None],
            # Nobody reads it; without one Transformers would make a mask of S^2 places.
            attention_mask=ids_S.new_ones(1, 1, 1, 1, dtype=torch.bool),
            position_ids=positions_S[None],
            use_cache=False,
            runs=runs,
            wanted=wanted_N,
        )
        # Fused layers leave an fp32 residual stream, and so the final norm.
        states: Tensor = output.last_hidden_state[0].to(self._head.weight.dtype)
        if wanted_N is None or self.layers == "fused":  # these leave the others out
            return states
        return states[wanted_N]

    def token_stats(
        self,
        batch: PackedBatch,
        *,
        temperature: float,
        chunk: int,
        processor: Processor | None = None,
    ) -> TokenStats:
        """Score every completion token of a batch under the active adapter.

        Args:
            batch: packed or plain rows, on this policy's device.
            temperature: T of the behaviour distribution.
            chunk: tokens whose logits exist at the same time.
            processor: replays processed sampling, see :class:`grpo_dual.model.processors.Replay`.

        Returns:
            [N] statistics in the batch's token order; the gradient flows through ``logprobs``.
        """
        return token_stats(
            self.hidden_states(batch),
            self._head.weight,
            batch.targets,
            temperature=temperature,
            chunk=chunk,
            bias=self._head.bias,
            processor=processor,
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """[M, V] fp32 logits of [M, D] states: the same product that training scores with."""
        return project(hidden, self._head.weight, self._head.bias)

    @property
    def generation_eos_ids(self) -> tuple[int, ...]:
        """EOS ids of the model's generation_config; its sampling settings are never used."""
        return eos_ids(self.causal_lm.generation_config)

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters of the trained adapter, in a fixed order."""
        return list(self._trained)

    def freeze_reference(self) -> None:
        """Make the adapter as it is now the reference of KL; nothing to do for ``reference: base``.

        May be called again: the reference is then overwritten.
        """
        if self.config.reference == "base":
            return
        state = self.adapter_state()
        if REFERENCE not in self.model.peft_config:
            # add_adapter draws initial weights, overwritten below: leave the generators alone.
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                self.model.add_adapter(REFERENCE, self.model.peft_config[TRAINED])
            for dropout in self._dropouts():
                dropout.eval()  # PEFT makes new modules in training mode
            for name, parameter in self.model.named_parameters():
                if f".{REFERENCE}." in name:
                    parameter.requires_grad_(False)
            self._activate(TRAINED)
        self.load_adapter_state(state, adapter=REFERENCE)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the model is the reference: no gradient, the frozen adapter (or none) active.

        Raises:
            ModelError: the reference is the frozen adapter, and :meth:`freeze_reference` was not
                called.
        """
        name = None if self.config.reference == "base" else REFERENCE
        if name is not None and name not in self.model.peft_config:
            raise ModelError(
                "the reference adapter does not exist yet: call freeze_reference() first"
            )
        self._activate(name)
        try:
            with torch.no_grad():
                yield
        finally:
            self._activate(TRAINED)

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Inside, no gradient and no checkpointing (which would refuse the cache)."""
        self._checkpointing(False)
        try:
            with torch.no_grad():
                yield
        finally:
            self._checkpointing(self.checkpointing)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """As :meth:`inference`, for rollouts: norms are one kernel each (norms.py)."""
        with self.inference(), self._norms.fused():
            yield

    def hold_adapters(self) -> None:
        """Stage the active adapter, as it is now, where captured graphs of flat rows read it.

        Raises:
            UnsupportedError: Several adapters are active at once, or one is merged into the base.
        """
        self._stages.hold()

    @contextmanager
    def held_adapters(self) -> Iterator[None]:
        """Inside, flat rows read what :meth:`hold_adapters` has staged.

        Not for passes with a gradient: what they keep is written to again.
        """
        with self._stages.held():
            yield

    @property
    def acting(self) -> frozenset[tuple[bool, bool, tuple[str, ...]]]:
        """Which adapters act on the layers: disabled, merged, and the names of those active."""
        return frozenset(
            (layer.disable_adapters, layer.merged, tuple(layer.active_adapters))
            for layer in self._adapted
        )

    @contextmanager
    def adapter_dropout(self) -> Iterator[None]:
        """Inside, the adapter's own dropout is active (SFT); everything else stays in eval mode."""
        dropouts = self._dropouts()
        for dropout in dropouts:
            dropout.train()
        try:
            yield
        finally:
            for dropout in dropouts:
                dropout.eval()

    def _dropouts(self) -> list[nn.Module]:
        return [
            dropout
            for module in self._adapted
            for dropout in getattr(module, "lora_dropout", nn.ModuleDict()).values()
        ]

    def adapter_state(self, *, adapter: str = TRAINED) -> dict[str, Tensor]:
        """CPU copies of an adapter's weights; ``reference`` gives the frozen one.

        Keys carry no adapter name, so one adapter's state can be loaded into the other.

        Raises:
            ModelError: there is no such adapter.
        """
        return {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in self._adapter_tensors(adapter).items()
        }

    def load_adapter_state(self, state: Mapping[str, Tensor], *, adapter: str = TRAINED) -> None:
        """Overwrite an adapter's weights in place.

        A reference that was not frozen yet is created.

        Raises:
            ModelError: names or shapes are not exactly this adapter's.
        """
        if adapter == REFERENCE and REFERENCE not in self.model.peft_config:
            self.freeze_reference()
        tensors = self._adapter_tensors(adapter)
        wrong = sorted(tensors.keys() ^ state.keys()) or sorted(
            name for name, tensor in tensors.items() if tensor.shape != state[name].shape
        )
        if wrong:
            raise ModelError(
                f"the saved adapter does not fit this model: {', '.join(wrong[:4])} ({len(wrong)} "
                "tensors) are missing, unknown or of another shape; model.name and model.lora must "
                "be those it was saved with"
            )
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(state[name])

    def save_adapter(self, folder: Path) -> None:
        """Write the trained adapter as ``PeftModel.from_pretrained(base, folder)`` reads it."""
        self.model.save_pretrained(
            str(folder),
            safe_serialization=True,
            selected_adapters=[TRAINED],
            save_embedding_layers=False,
        )

    def _adapter_tensors(self, adapter: str) -> dict[str, nn.Parameter]:
        if adapter not in self.model.peft_config:
            raise ModelError(f"there is no adapter {adapter!r} in this policy")
        mark = f".{adapter}."
        return {
            name.replace(mark, ".", 1): parameter
            for name, parameter in self.model.named_parameters()
            if mark in name and ".lora_" in name
        }

    @staticmethod
    def _check_window(longest: int, window: int) -> None:
        if longest > window:
            raise ModelError(
                f"a sequence of {longest} tokens is longer than this model's attention window of "
                f"{window}, which a packed row's mask would not respect; lower "
                "rollout.max_prompt_tokens or rollout.sampling.max_new_tokens"
            )

    def _activate(self, adapter: str | None) -> None:
        """Switch to an adapter, or to none, whoever requires a gradient.

        PEFT's ``set_adapter`` walks over all modules, and toggles what requires a gradient: tens of
        milliseconds of a step in which a card has nothing to do. This is what it leaves behind.
        """
        tuner: Any = self.model.base_model
        if adapter is not None:
            tuner.active_adapter = adapter
        for layer in self._adapted:
            layer._disable_adapters = adapter is None  # pyright: ignore[reportPrivateUsage]
            if adapter is not None:
                layer._active_adapter = [adapter]  # pyright: ignore[reportPrivateUsage]

    def _checkpointing(self, active: bool) -> None:
        # Transformers checkpoints only layers in training mode. The flag is set on the layers
        # alone, not on their children, so attention and dropout modules stay in eval mode.
        for module in self._recomputed:
            module.training = active


def _body(causal_lm: PreTrainedModel) -> nn.Module:
    body: Any = causal_lm.base_model
    if body is causal_lm:
        raise ModelError(
            f"{type(causal_lm).__name__} has no decoder body apart from its head; choose a causal "
            "language model such as Llama, Qwen or Mistral"
        )
    return body


def _head(causal_lm: PreTrainedModel) -> nn.Linear:
    head = causal_lm.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise ModelError(
            f"the output head of {type(causal_lm).__name__} is {type(head).__name__}, not a plain "
            "linear layer"
        )
    return head
