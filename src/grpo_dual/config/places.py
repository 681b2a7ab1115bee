"""Where this package keeps what runs share."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder of downloaded data and of judges' verdicts.

    ``$GRPO_DUAL_CACHE``, else ``grpo-dual`` in ``$XDG_CACHE_HOME``.

    Without either it is ``~/.cache/grpo-dual``. The XDG variable counts only when it is absolute,
    as its specification says.
    """
    own = os.environ.get("GRPO_DUAL_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache"
    return base / "grpo-dual"
