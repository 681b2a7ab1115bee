"""Log-probs and exact entropies of completion tokens, never [tokens, vocabulary] at once.

The output head runs over chunks of tokens, accumulates and returns fp32 (bf16 logits near 25 are
.125 apart, which is ratio noise of several per cent before any update). A log-prob's derivative by
its state, ``(onehot_y - p) W / T``, is the same whatever the loss: it is computed while the logits
are at hand, and only scaled in the backward pass. The head's weight is frozen, so there is no dW.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from grpo_dual.errors import ModelError


class TokenStats(NamedTuple):
    """What the head says about N tokens; fp32 (fp64 for fp64 input), each [N].

    Only ``logprobs`` carries a gradient; the others are detached metrics.
    """

    logprobs: Tensor
    """Log-prob under the behaviour distribution: temperature, and processors if there are any."""
    entropy: Tensor
    """Exact entropy of the model itself (T = 1, no processors), nats."""
    entropy_sampling: Tensor
    """Exact entropy of the behaviour distribution, nats."""
    max_prob: Tensor
    """Largest probability of the model itself (T = 1)."""
    logprobs_model: Tensor
    """Log-prob of the token under the model itself (T = 1, no processors)."""


class Processor(Protocol):
    """Turns the model's logits into those that tokens were sampled from; see processors.py."""

    def __call__(self, logits: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Process the logits of tokens ``start:stop``.

        Args:
            logits: [stop - start, V] of the model; not to be changed in place.
            start: first token.
            stop: one past the last token.

        Returns:
            Processed logits [., V], before the temperature, -inf where a token cannot be drawn; and
            their derivative by the model's logits [., V], or None where it is 1.
        """
        ...


def project(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Logits in fp32 (fp64 if the states are fp64): ``hidden @ weight.T + bias``.

    Products of bf16 are exact in fp32, so on CUDA one bf16 GEMM with fp32 accumulation and output
    is the same as upcasting both sides first; elsewhere both sides are upcast.

    Args:
        hidden: [M, D].
        weight: [V, D].
        bias: [V] or None.

    Returns:
        [M, V].
    """
    logits = _matmul(hidden, weight.t())
    return logits if bias is None else logits.add_(bias.to(logits.dtype))


def token_stats(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    targets_N: Tensor,
    *,
    temperature: float,
    chunk: int,
    bias: Tensor | None = None,
    processor: Processor | None = None,
) -> TokenStats:
    """Score N tokens from the hidden states that predict them.

    Args:
        hidden_ND: [N, D] states, already sliced to the completion tokens.
        weight_VD: [V, D] frozen weight of the output head.
        targets_N: [N] token ids.
        temperature: T of the behaviour distribution.
        chunk: tokens whose logits exist at the same time.
        bias: [V] frozen bias of the head, or None.
        processor: replays repetition penalty, forbidden EOS and truncation; None when sampling was
            plain.

    Returns:
        See :class:`TokenStats`. The gradient reaches ``hidden_ND`` through ``logprobs`` only.

    Raises:
        ModelError: the head is trained (its gradient is not computed here), or shapes do not fit.
    """
    if weight_VD.requires_grad or (bias is not None and bias.requires_grad):
        raise ModelError(
            "the output head requires a gradient, but the chunked head computes none for it: "
            "freeze the head, and leave it out of model.lora.targets and modules_to_save"
        )
    if hidden_ND.shape[0] != targets_N.shape[0] or hidden_ND.shape[1] != weight_VD.shape[1]:
        raise ModelError(
            f"hidden states {tuple(hidden_ND.shape)}, head {tuple(weight_VD.shape)} and "
            f"targets {tuple(targets_N.shape)} do not fit together"
        )
    if temperature <= 0 or chunk < 1:
        raise ModelError(f"temperature ({temperature}) and chunk ({chunk}) must be positive")
    outputs: Any = _ChunkedHead.apply(
        hidden_ND, weight_VD, bias, targets_N, temperature, chunk, processor
    )
    return TokenStats(*outputs)


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product accumulated and returned in fp32 (fp64 when one side is)."""
    wide = torch.float64 if torch.float64 in (left.dtype, right.dtype) else torch.float32
    if left.is_cuda and left.dtype == right.dtype and left.dtype in (torch.bfloat16, torch.float16):
        return torch.mm(left, right, out_dtype=wide)
    return torch.mm(left.to(wide), right.to(wide))


class _Description(NamedTuple):
    """Of M rows, [M] each."""

    logprob: Tensor
    entropy: Tensor
    max_prob: Tensor
    log_z: Tensor


def _by_kernel(logits: Tensor) -> bool:
    return logits.is_cuda and logits.dtype == torch.float32


def _describe(logits: Tensor, chosen: Tensor, temperature: float) -> _Description:
    """What [M, V] logits at a temperature say of [M] chosen ids."""
    if _by_kernel(logits):
        from grpo_dual.model import head_kernels  # triton: on CUDA only

        return _Description(*head_kernels.described(logits, chosen, temperature))
    if temperature != 1.0:
        logits = logits / temperature
    log_z = torch.logsumexp(logits, -1, keepdim=True)
    log_p = logits - log_z
    logprob = log_p.gather(1, chosen[:, None]).squeeze(1)
    max_prob = log_p.amax(-1).exp_()
    p = log_p.exp()
    # Ids that cannot be drawn have log_p = -inf and p = 0: a finite stand-in makes their product 0.
    entropy = p.mul_(log_p.clamp_min_(-1e30)).sum(-1).neg_()
    return _Description(logprob, entropy, max_prob, log_z.squeeze(1))


def _slopes(
    logits: Tensor, chosen: Tensor, log_z: Tensor, temperature: float, dtype: torch.dtype
) -> Tensor:
    """[M, V] ``(onehot - p) / T``, the derivative of the chosen ids' log-probs by the logits."""
    if _by_kernel(logits):
        from grpo_dual.model import head_kernels

        return head_kernels.slopes(logits, chosen, log_z, temperature, dtype)
    minus_p = (logits / temperature - log_z[:, None]).exp_().neg_()
    minus_p.scatter_add_(1, chosen[:, None], torch.ones_like(log_z)[:, None])
    return minus_p.div_(temperature).to(dtype)


class _ChunkedHead(torch.autograd.Function):
    """Log-probs, and with them their derivatives by the states, as no loss has to be known."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
        processor: Processor | None,
    ) -> tuple[Tensor, ...]:
        parts = []
        by_hidden = []
        half = weight.is_cuda and weight.dtype in (torch.bfloat16, torch.float16)
        for start in range(0, hidden.shape[0], chunk):
            stop = min(start + chunk, hidden.shape[0])
            logits = project(hidden[start:stop], weight, bias)
            chosen = targets[start:stop]
            model = sampled = _describe(logits, chosen, 1.0)
            bend = None
            if processor is not None:
                logits, bend = processor(logits, start, stop)
            if processor is not None or temperature != 1.0:
                sampled = _describe(logits, chosen, temperature)
            parts.append(
                (sampled.logprob, model.entropy, sampled.entropy, model.max_prob, model.logprob)
            )
            if not ctx.needs_input_grad[0]:
                continue
            # The result is rounded to the states' bf16 anyway; 16 bit keep it on tensor cores.
            kind = weight.dtype if half and bend is None else logits.dtype
            d_logits = _slopes(logits, chosen, sampled.log_z, temperature, kind)
            if bend is not None:
                d_logits = d_logits.mul_(bend)
            by_hidden.append(_matmul(d_logits.to(weight.dtype) if half else d_logits, weight))
        outputs = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        ctx.dtype = hidden.dtype
        ctx.save_for_backward(*by_hidden)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad: Tensor, *_: Tensor
    ) -> tuple[Tensor | None, ...]:
        grads = grad[:, None].split([len(part) for part in ctx.saved_tensors])
        found = [(g * part).to(ctx.dtype) for g, part in zip(grads, ctx.saved_tensors, strict=True)]
        return torch.cat(found), None, None, None, None, None, None
