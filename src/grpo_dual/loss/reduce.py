"""From per-token values to one number: sums of a micro-batch, denominators of the whole step.

Axes: N tokens of a micro-batch, flat; ``sequence_index_N`` says which sequence a token belongs to.
The denominators count the whole optimiser step (all micro-batches and ranks) and are handed in, so
that accumulated micro-batches equal one batch in value and gradient. A mean over each micro-batch
would weight a token by how many others happened to travel with it.

Two sequences with r = 1, one with A = +1 and 2 tokens, one with A = -1 and 4 tokens, limit 8:
``sequence_mean_token_mean`` 0, ``token_mean`` 1/3, ``sequence_mean_length_norm`` .125,
``sequence_mean_token_sum`` 1.
"""

import torch
from torch import Tensor


def token_mean(values_N: Tensor, *, tokens: float) -> Tensor:
    """``sum_t v_t / tokens``: DAPO's token mean (arXiv 2503.14476), what the trainer uses.

    Every token of the step counts alike.

    Args:
        values_N: Values of this micro-batch, 0 for the tokens that are not counted.
        tokens: Counted tokens of the whole optimiser step; 0 says there are none, and the result is
            a 0 that can still be propagated backwards.

    Returns:
        This micro-batch's share of the step's token mean, 0-d.
    """
    return _share(values_N.sum(), tokens)


def sequence_mean_token_mean(
    values_N: Tensor, sequence_index_N: Tensor, *, sequences: float
) -> Tensor:
    """``(1 / sequences) sum_i (1 / n_i) sum_t v_it``, GRPO as published (arXiv 2402.03300).

    A token of a short sequence counts for more than one of a long sequence.

    Args:
        values_N: Values of this micro-batch; each sequence's tokens are all here.
        sequence_index_N: int64, the sequence of each token.
        sequences: Sequences with at least one token, in the whole optimiser step.

    Returns:
        This micro-batch's share, 0-d.
    """
    lengths = torch.bincount(sequence_index_N)
    return _share((values_N / lengths[sequence_index_N]).sum(), sequences)


def sequence_mean_length_norm(values_N: Tensor, *, sequences: float, max_length: float) -> Tensor:
    """``sum v / (sequences max_length)``, a constant length (Dr. GRPO, arXiv 2503.20783).

    Args:
        values_N: Values of this micro-batch.
        sequences: Sequences in the whole optimiser step.
        max_length: The completion limit in tokens, not the longest one that occurred.

    Returns:
        This micro-batch's share, 0-d.
    """
    return _share(values_N.sum(), sequences * max_length)


def sequence_mean_token_sum(values_N: Tensor, *, sequences: float) -> Tensor:
    """``(1 / sequences) sum_i sum_t v_it``: every token counts alike; grows with length.

    Args:
        values_N: Values of this micro-batch.
        sequences: Sequences in the whole optimiser step.

    Returns:
        This micro-batch's share, 0-d.
    """
    return _share(values_N.sum(), sequences)


def sequence_sums(values_N: Tensor, sequence_index_N: Tensor, *, sequences: int) -> Tensor:
    """``sum_t v_it`` of each sequence: log-probs of tokens to those of whole replies.

    Args:
        values_N: Values of this micro-batch.
        sequence_index_N: int64, the sequence of each token, from 0.
        sequences: Sequences of this micro-batch.

    Returns:
        [sequences] sums; 0 for one without tokens.
    """
    return values_N.new_zeros(sequences).index_add(0, sequence_index_N, values_N)


def _share(total: Tensor, denominator: float) -> Tensor:
    if denominator < 0:
        raise ValueError(f"a denominator counts tokens or sequences and cannot be {denominator}")
    return total / denominator if denominator > 0 else total * 0.0
