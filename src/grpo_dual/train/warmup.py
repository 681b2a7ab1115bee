"""The supervised warm-up of a run: every objective's own records, wording and targets."""

from collections.abc import Sequence

from grpo_dual.train.drawing import Tell, draw_prompts
from grpo_dual.train.objectives import Objective
from grpo_dual.train.progress import Progress
from grpo_dual.train.sft import Draw, SftSample, SftStep, run_sft, sft_sample
from grpo_dual.train.wiring import Parts

LINES = 10
"""The warm-up says how it goes about this often."""


def warm_up(parts: Parts, progress: Progress) -> None:
    """Teach the adapter the objectives' supervised replies; with ``sft.steps: 0`` nothing happens.

    Raises:
        GrpoDualError: See ``run_sft``.
    """
    config = parts.config.sft
    if config.steps == 0:
        return
    between = max(1, config.steps // LINES)

    def tell(step: SftStep) -> None:
        if step.step % between == 0 or step.step == config.steps:
            losses = "  ".join(f"{name}: loss {m.value:.3f}" for name, m in step.losses.items())
            skipped = "  (not finite: no update)" if step.skipped else ""
            progress.note(f"sft {step.step}/{config.steps}  {losses}{skipped}")

    result = run_sft(
        parts.policy,
        {name: _draws(parts, o, progress.left_out) for name, o in parts.objectives.items()},
        config,
        seed=parts.config.train.seed,
        head_chunk=parts.config.loss.head_chunk,
        on_step=tell,
    )
    for name, count in result.dropped.items():
        if count:
            limit = parts.config.rollout.sampling.max_new_tokens
            progress.note(f"note: {name}: {count} targets over {limit} tokens were left out of SFT")


def _draws(parts: Parts, objective: Objective, tell: Tell) -> Draw:
    limit = parts.config.rollout.sampling.max_new_tokens

    def draw(n: int) -> Sequence[SftSample | None]:
        return [
            sft_sample(prompt, objective.target(prompt.record), parts.encoder, max_new_tokens=limit)
            for prompt in draw_prompts(parts, objective, n, tell)
        ]

    return draw
