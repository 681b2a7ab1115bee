"""Length shaping: a soft penalty for completions that come near the token limit."""


def soft_overlong(tokens: int, *, limit: int, margin: float) -> float:
    """DAPO's soft overlong punishment, in [-1, 0].

        R = 0                          for n <= L - Lc
        R = ((L - Lc) - n) / Lc        for L - Lc < n < L
        R = -1                         for n >= L

    Args:
        tokens: n, length of the completion in tokens, its end token included.
        limit: L, max_new_tokens.
        margin: Lc as a share of L, in (0, 1].

    Source: DAPO, arXiv 2503.14476, eq. 13.
    """
    width = margin * limit
    if tokens >= limit:
        return -1.0
    return min(0.0, (limit - width - tokens) / width)
