"""The trackers of a run, as its configuration says."""

from collections.abc import Callable
from pathlib import Path

from grpo_dual.config.schema import RunConfig
from grpo_dual.metrics.names import tags
from grpo_dual.metrics.trackers import Target, Trackers
from grpo_dual.train.acts import acts


def open_trackers(config: RunConfig, folder: Path, tell: Callable[[str], None]) -> Trackers:
    """Open them, to go on with what they have of the run.

    Args:
        config: The run.
        folder: Its folder.
        tell: Hears of a tracker that fails.

    Raises:
        ConfigError: One cannot be started.
        CheckpointError: What the folder says of them or of the doctor's acts is damaged.
    """
    done = acts(folder) if config.tracking.to else []
    target = Target(
        to=config.tracking.to,
        project=config.tracking.project,
        samples=config.tracking.samples,
        folder=folder,
        generation=len(done) + sum(bool(act["undone"]) for act in done),
        tags=tags(tuple(config.objectives), tuple(config.judge.providers)),
        config=told(config),
    )
    return Trackers(target, tell)


def told(config: RunConfig) -> dict[str, object]:
    """What trackers hear of a configuration: no judges, no folders, nothing of a plug-in's own."""
    resolved = config.model_dump(mode="json", exclude={"judge", "out", "tracking"})
    for objective in resolved["objectives"].values():
        objective.pop("settings", None)
        objective.get("data", {}).pop("path", None)
    return resolved
