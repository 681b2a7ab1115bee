"""Group-relative advantages of one objective.

Axes: P prompts (one group each), K completions of a prompt. Everything here is per objective:
another objective's groups are never in these tensors, so they cannot move these advantages.
Numbers: tests/numerics/test_worked_numbers_advantages.py.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Normalization = Literal["group", "none", "batch"]


class GroupAdvantages(NamedTuple):
    """Advantages of P groups, and what became of each group.

    Example: totals ``[[1, 0, 0, 1], [1, 1, 1, 1]]``, all scored, give
    ``advantages_PK = [[.866, -.866, -.866, .866], [0, 0, 0, 0]]``, ``live_P = [True, False]``,
    ``dead_P = [False, True]``, ``std_P = [.577, 0]``.
    """

    advantages_PK: Tensor
    """In the rewards' dtype; exactly 0 for dead groups and for unscored completions."""
    live_P: Tensor
    """bool: some scored advantage is not 0."""
    dead_P: Tensor
    """bool: at least two scored totals, all equal. Neither live nor dead: fewer than two were
    scored."""
    shaping_only_P: Tensor
    """bool: live, but the task parts are all equal; its advantages are centred and not divided."""
    std_P: Tensor
    """Unbiased std of the scored totals within the group; 0 when dead, NaN below two scored."""
    counted_PK: Tensor
    """bool: scored completions of live groups, whose tokens belong in the policy term's
    denominator."""


class GroupClasses(NamedTuple):
    """Why a group does or does not teach, judged on the task parts alone (shaping apart).

    A group with fewer than two scored completions is none of the three.
    """

    solved_P: Tensor
    """bool: every scored task part is at its best value: needs a harder prompt."""
    dead_P: Tensor
    """bool: all task parts alike but not the best: needs a doctor."""
    live_P: Tensor
    """bool: the task parts differ."""


def group_advantages(
    rewards_PK: Tensor,
    task_PK: Tensor,
    scored_PK: Tensor,
    *,
    normalization: Normalization = "group",
    eps: float = 1e-4,
) -> GroupAdvantages:
    """``A_i = (R_i - mean_g) / (std_g + eps)``, GRPO's advantage within the group g of a prompt.

    ``group`` divides by the group's own std (GRPO, arXiv 2402.03300); ``none`` does not divide
    (Dr. GRPO, arXiv 2503.20783); ``batch`` divides by one std, that of all totals in the live
    groups of this objective (Lite PPO, arXiv 2508.08221). The std is unbiased (ddof 1).

    Rules that keep noise out of the policy:

    - dead means max == min of the scored totals, never a small std: the fp32 mean of K equal
      numbers need not equal them, and a later division turns that residue into a signal;
    - an unscored completion is in no statistic and gets 0; below two scored the group gets 0;
    - where all task parts are equal and only shaping differs, the totals are centred and not
      divided, in every mode, so that a length penalty of .01 never becomes an advantage of 1.

    Args:
        rewards_PK: Total rewards, fp32 or fp64; anything, NaN included, where unscored.
        task_PK: The task part of the totals; anything where unscored.
        scored_PK: bool, False where the judge gave no verdict.
        normalization: See above.
        eps: Added to the std; at least 0.

    Returns:
        The advantages with their masks; they carry no gradient.

    Raises:
        ValueError: Shapes or dtypes do not agree, K < 2, eps < 0, or a scored reward is not finite.
    """
    _check(rewards_PK, task_PK, scored_PK)
    if eps < 0:
        raise ValueError(f"eps is {eps}; it is added to a std and must be at least 0")
    with torch.no_grad():
        comparable_P = scored_PK.sum(-1) >= 2
        equal_P = _all_equal(rewards_PK, scored_PK)
        live_P = comparable_P & ~equal_P
        dead_P = comparable_P & equal_P
        shaping_only_P = live_P & _all_equal(task_PK, scored_PK)

        centred_PK, std_P = _centre(rewards_PK, scored_PK)
        std_P = torch.where(dead_P, 0.0, std_P)  # exactly, whatever the mean's rounding left
        counted_PK = scored_PK & live_P[:, None]
        if normalization == "group":
            scale_P = std_P + eps
        elif normalization == "batch":
            divided_PK = counted_PK & ~shaping_only_P[:, None]
            scale_P = (_std(rewards_PK[divided_PK]) + eps).expand_as(std_P)
        elif normalization == "none":
            scale_P = torch.ones_like(std_P)
        else:
            raise ValueError(f"normalization is {normalization!r}; known are group, none, batch")
        scale_P = torch.where(shaping_only_P, 1.0, scale_P)
        advantages_PK = torch.where(counted_PK, centred_PK / scale_P[:, None], 0.0)
        std_P = torch.where(comparable_P, std_P, torch.nan)
    return GroupAdvantages(advantages_PK, live_P, dead_P, shaping_only_P, std_P, counted_PK)


def classify_groups(task_PK: Tensor, scored_PK: Tensor, best: float | Tensor) -> GroupClasses:
    """Tell solved groups (all at the best task value) from dead ones (all alike below it).

    Args:
        task_PK: Task parts; anything where unscored.
        scored_PK: bool.
        best: The best attainable task part, one number or one for each group [P].

    Returns:
        Three masks [P], at most one of them True for a group.

    Raises:
        ValueError: Shapes or dtypes do not agree, K < 2, or a scored task part is not finite.
    """
    _check(task_PK, task_PK, scored_PK)
    best_P = torch.as_tensor(best, dtype=task_PK.dtype, device=task_PK.device).expand(len(task_PK))
    comparable_P = scored_PK.sum(-1) >= 2
    equal_P = _all_equal(task_PK, scored_PK)
    at_best_P = ((task_PK >= best_P[:, None]) | ~scored_PK).all(-1)
    return GroupClasses(
        solved_P=comparable_P & at_best_P,
        dead_P=comparable_P & equal_P & ~at_best_P,
        live_P=comparable_P & ~equal_P & ~at_best_P,
    )


def _all_equal(values_PK: Tensor, scored_PK: Tensor) -> Tensor:
    """Mask [P]: max == min over the scored members (True when there are none)."""
    top_P = torch.where(scored_PK, values_PK, -torch.inf).amax(-1)
    bottom_P = torch.where(scored_PK, values_PK, torch.inf).amin(-1)
    return top_P <= bottom_P


def _centre(rewards_PK: Tensor, scored_PK: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards minus the scored mean [P, K], 0 where unscored, and their std [P], ddof 1."""
    n_P = scored_PK.sum(-1)
    mean_P = torch.where(scored_PK, rewards_PK, 0.0).sum(-1) / n_P.clamp(min=1)
    centred_PK = torch.where(scored_PK, rewards_PK - mean_P[:, None], 0.0)
    return centred_PK, (centred_PK.square().sum(-1) / (n_P - 1).clamp(min=1)).sqrt()


def _std(values: Tensor) -> Tensor:
    """Unbiased std of a flat tensor; 0 below two values, where nothing will be divided by it."""
    return values.std() if values.numel() > 1 else values.new_zeros(())


def _check(rewards_PK: Tensor, task_PK: Tensor, scored_PK: Tensor) -> None:
    if rewards_PK.ndim != 2 or not rewards_PK.shape == task_PK.shape == scored_PK.shape:
        raise ValueError(
            "rewards, task parts and scored must all be [P, K]; got "
            f"{list(rewards_PK.shape)}, {list(task_PK.shape)}, {list(scored_PK.shape)}"
        )
    if rewards_PK.shape[1] < 2:
        raise ValueError(f"a group needs at least 2 completions, got K={rewards_PK.shape[1]}")
    if scored_PK.dtype != torch.bool:
        raise ValueError(f"scored must be bool, got {scored_PK.dtype}")
    for name, values_PK in (("rewards", rewards_PK), ("task parts", task_PK)):
        if values_PK.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} must be fp32 or fp64, got {values_PK.dtype}")
        if not torch.isfinite(values_PK[scored_PK]).all():
            raise ValueError(f"{name} marked as scored hold NaN or infinity; mark them unscored")
