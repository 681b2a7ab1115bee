"""The held-out yardstick inside a run: items never trained on, scored by evaluation/."""

import torch

from grpo_dual.rollouts.collect import collect
from grpo_dual.train.drawing import Tell, fitting
from grpo_dual.train.seed import step_seed
from grpo_dual.train.wiring import Parts


def evaluate(parts: Parts, tell: Tell) -> dict[str, dict[str, float | int | str | None]]:
    """Score every objective's held-out items under the policy as it is.

    The same stream of random numbers is used at every step, so that before and after differ by the
    policy alone; training's own streams are separate and do not notice. Items whose prompt is over
    the limit and cannot be shortened are left out, every time the same.

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
    return results
