"""Where a run's numbers go beside its own files."""

from typing import Literal

from pydantic import Field

from grpo_dual.config.strict import Strict


class TrackingConfig(Strict):
    """Optional trackers; the files of the run folder are written in any case."""

    to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """``tensorboard`` (a folder in the run's), ``wandb``, ``trackio``; each needs the extra of its
    name. Where they send to, if anywhere, is theirs to say: ``WANDB_MODE=offline`` and the like."""
    project: str = Field(default="grpo-dual", min_length=1)
    """Project in wandb and trackio."""
    samples: bool = False
    """Send the sample completions and their prompts too, not only numbers."""
