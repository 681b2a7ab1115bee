"""``grpo-dual doctor RUN``: a run, live or finished, or a CSV file of metrics from elsewhere."""

from pathlib import Path

from grpo_dual.diagnosis.bands import bands
from grpo_dual.diagnosis.doctor import diagnose
from grpo_dual.diagnosis.foreign import read_csv
from grpo_dual.diagnosis.history import History
from grpo_dual.diagnosis.journal import acted
from grpo_dual.diagnosis.needs import missing
from grpo_dual.diagnosis.page import as_json, page
from grpo_dual.diagnosis.reading import CONFIG, read_run
from grpo_dual.diagnosis.tree import ask
from grpo_dual.errors import DataError
from grpo_dual.types import Severity

OK, ACT = 0, 3
"""Exit codes."""


def diagnose_run(path: Path, *, json: bool) -> int:
    """Print what is wrong with a run and what to change.

    Args:
        path: A run folder, or a CSV file.
        json: Print JSON.

    Returns:
        ``ACT`` when something of severity act holds, else ``OK``.

    Raises:
        DataError: It is neither, or a file in it is damaged.
    """
    history = read(path)
    found = diagnose(history)
    lacks = [m.says for m in missing(history.trained)]
    write = as_json if json else page
    stages = bands(history) if history.own else ()
    remedies = acted(path) if history.own else ()
    print(write(found, ask(history), stages, missing=lacks, acted=remedies))
    return ACT if found.worst is Severity.ACT else OK


def undo_run(folder: Path) -> int:
    """Take back the doctor's last remedy, and say how to go on.

    Raises:
        CheckpointError: There is none, or the file system refuses.
    """
    from grpo_dual.train.acts import undo  # torch

    act = undo(folder)
    print(
        f"{folder}: the remedy for {act['code']} (behind step {act['at']}) is undone; what it led "
        "to is kept in acts/. doctor.mode is now warn. Go on with: grpo-dual train --resume "
        f"{folder}"
    )
    return OK


def read(path: Path) -> History:
    """A run folder or a CSV file.

    Raises:
        DataError: It is neither.
    """
    if path.is_dir():
        inside = sorted(found.parent.name for found in path.glob(f"*/{CONFIG}"))
        if inside and not (path / CONFIG).exists():
            raise DataError(
                f"{path}: no run folder itself; it holds {', '.join(inside[:5])}"
                f"{', ...' if len(inside) > 5 else ''}: give one of them"
            )
        return read_run(path)
    if path.suffix in (".yaml", ".yml"):
        raise DataError(
            f"{path}: a configuration, not a run; look at it with "
            f"`grpo-dual doctor --preflight {path}`"
        )
    if path.is_file():
        return read_csv(path)
    raise DataError(f"{path}: there is no such run folder or CSV file")
