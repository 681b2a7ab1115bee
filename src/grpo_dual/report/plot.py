"""The hand-off's figure of a run: rewards, KL, lengths, entropy and clipping, two by two."""

from dataclasses import replace
from pathlib import Path

from grpo_dual.errors import ConfigError, DataError
from grpo_dual.metrics import names
from grpo_dual.report import draw
from grpo_dual.report.panels import Line
from grpo_dual.report.reading import Run
from grpo_dual.report.trends import ENTROPY, KL, LENGTH, REWARD, of_one

FORMATS = (".png", ".svg", ".pdf")


def plot(run: Run, out: Path) -> None:
    """Write the figure; its format is the file's ending.

    Raises:
        ConfigError: The ending is none of ``FORMATS``.
        DataError: The run has no step yet.
        CheckpointError: The file cannot be written.
    """
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the file must end in {', '.join(FORMATS)}.")
    if not run.history.steps:
        raise DataError(f"{run.folder}: no step is written down yet, so there is nothing to plot.")
    panels = [of_one(run, quantity) for quantity in (REWARD, KL, LENGTH, ENTROPY)]
    values = run.history.run(names.CLIP_FRAC).values
    unseen = "no token was clipped" if run.history.run(names.CLIP_FRAC) else "clipping not measured"
    title = "Entropy and clipping" if any(values) else f"Entropy ({unseen})"
    panels[-1] = replace(panels[-1], title=title)
    clipped = Line("clipped tokens", len(run.history.objectives), run.history.steps, values)
    right = {len(panels) - 1: (clipped, "share of tokens clipped")} if any(values) else {}
    draw.grid(panels, 2, out, right)
