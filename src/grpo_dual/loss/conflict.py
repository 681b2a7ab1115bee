"""Do two objectives pull the policy apart? Scalars of their gradients.

Axes: O objectives; a gradient is a list of tensors, one for each trained parameter (None counts as
zeros, as autograd means it). Take the raw accumulated gradients of the policy terms, unweighted and
before clipping. Inner products are accumulated in fp64: in fp32 the cosine of nearly orthogonal
gradients is rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Gradient = Sequence[Tensor | None]


def gram_matrix(gradients: Sequence[Gradient]) -> Tensor:
    """``G_ij = g_i . g_j``. For two objectives the three scalars that PCGrad, MGDA and Nash need.

    Args:
        gradients: One gradient for each objective, over the same parameters in the same order.

    Returns:
        [O, O] fp64, symmetric, without gradient. All-reducing gradients must come before, not
        after.

    Raises:
        ValueError: The gradients differ in length or in a parameter's shape.
    """
    if not gradients:
        raise ValueError("gram_matrix needs at least one gradient")
    device = next((g.device for row in gradients for g in row if g is not None), None)
    gram_OO = torch.zeros(len(gradients), len(gradients), dtype=torch.float64, device=device)
    for i, first in enumerate(gradients):
        for j, second in enumerate(gradients[: i + 1]):
            gram_OO[i, j] = gram_OO[j, i] = _dot(first, second, gram_OO)
    return gram_OO


def gradient_norms(gram_OO: Tensor) -> Tensor:
    """``|g_i| = sqrt(G_ii)``, the gradient signal S_k of each objective.

    Args:
        gram_OO: From ``gram_matrix``.

    Returns:
        [O] fp64.
    """
    return gram_OO.diagonal().sqrt()


def cosines(gram_OO: Tensor) -> Tensor:
    """``cos_ij = G_ij / (|g_i| |g_j|)``; NaN, that is undefined, where a gradient is zero.

    Args:
        gram_OO: From ``gram_matrix``.

    Returns:
        [O, O] fp64 in [-1, 1].
    """
    norms_O = gradient_norms(gram_OO)
    products_OO = norms_O[:, None] * norms_O[None, :]
    cosines_OO = (gram_OO / products_OO).clamp(-1, 1)
    return torch.where(products_OO > 0, cosines_OO, torch.nan)


def half_cosine(first: Tensor, whole: Tensor) -> float | None:
    """Cosine between a part of a gradient and the rest of it.

    Args:
        first: [D] of one half of the prompts.
        whole: [D] of both halves together.

    Returns:
        In [-1, 1]; None where a half has no gradient.
    """
    cosine = cosines(gram_matrix([[first], [whole - first]]))[0, 1].item()
    return None if cosine != cosine else cosine


def _dot(first: Gradient, second: Gradient, like: Tensor) -> Tensor:
    if len(first) != len(second):
        raise ValueError(f"gradients over {len(first)} and {len(second)} parameters do not compare")
    total = torch.zeros((), dtype=torch.float64, device=like.device)
    for a, b in zip(first, second, strict=True):
        if a is None or b is None:
            continue
        if a.shape != b.shape:
            raise ValueError(
                f"gradients of shape {list(a.shape)} and {list(b.shape)} do not compare"
            )
        total += torch.dot(a.detach().flatten().double(), b.detach().flatten().double())
    return total
