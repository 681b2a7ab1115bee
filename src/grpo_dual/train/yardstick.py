"""The held-out yardstick inside a run: items never trained on, scored by evaluation/."""

from collections.abc import Callable, Iterator, Sequence

import torch

from grpo_dual.errors import PromptError
from grpo_dual.rollouts.collect import collect
from grpo_dual.train.drawing import Tell, fitting
from grpo_dual.train.objectives import Objective
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts
from grpo_dual.types import Prompt, Record

Keep = Callable[[dict[str, object]], None]
"""Takes a completion of a held-out item."""


def evaluate(
    parts: Parts, tell: Tell, keep: Keep | None = None
) -> dict[str, dict[str, float | int | str | None]]:
    """Score every objective's held-out items under the policy as it is.

    The same stream of random numbers is used at every step, so that before and after differ by the
    policy alone; training's own streams are separate and do not notice. Items whose prompt is over
    the limit and cannot be shortened are left out, every time the same.

    Args:
        parts: Of the run.
        tell: Hears of items that are left out.
        keep: Gets ``train.completions_per_step`` completions of each objective, every time of the
            same items.

    Returns:
        The yardstick's numbers by objective; objectives without held-out items are left out.
    """
    config = parts.config
    torch.manual_seed(step_seed(config.train.seed, 0, "yardstick"))
    results: dict[str, dict[str, float | int | str | None]] = {}
    for name, objective in parts.objectives.items():
        prompts = fitting(parts, objective, objective.eval_records, tell)
        if not prompts:
            continue
        if config.eval.decode == "greedy":
            groups = parts.engine.generate(prompts, 1, greedy=True)
        else:
            groups = list(collect(parts.engine, prompts, 1).groups)
        texts = [group.rollouts[0].text for group in groups]
        results[name] = objective.evaluate([prompt.record for prompt in prompts], texts)
        if keep is not None:
            for reply in _replies(objective, prompts, texts, config.train.completions_per_step):
                keep(reply)
    return results


def _replies(
    objective: Objective, prompts: Sequence[Prompt], texts: Sequence[str], count: int
) -> Iterator[dict[str, object]]:
    """Completions at even distances over the items, each with what was wanted."""
    count = min(count, len(prompts))
    for place in (i * len(prompts) // count for i in range(count)):
        prompt = prompts[place]
        yield {
            "objective": objective.name,
            "record": prompt.record.record_id,
            "prompt": prompt.messages[-1].content,
            "completion": texts[place],
            "wanted": _wanted(objective, prompt.record),
        }


def _wanted(objective: Objective, record: Record) -> str | None:
    """The supervised reply; None of an item that has none."""
    try:
        return objective.target(record)
    except PromptError:
        return None
