"""What a run folder keeps so that the run can be repeated: configuration, revision, versions."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import grpo_dual
from grpo_dual.config.schema import RunConfig
from grpo_dual.errors import ConfigError

PACKAGES = (
    "grpo-dual",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
    "numpy",
    "pydantic",
    "tyro",
    "pyyaml",
    "rich",
)
"""Distributions whose versions can change a run's numbers or its configuration."""


def snapshot(config: RunConfig, folder: Path) -> None:
    """Writes ``config.json`` (resolved configuration) and ``environment.json`` into a run folder.

    ``config.json`` holds every key with its value, paths as the user gave them.
    ``environment.json`` holds no user name, host name or absolute path.

    Raises:
        ConfigError: the folder cannot be written.
    """
    resolved = json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
    described = json.dumps(environment(), indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / "config.json", resolved)
        _replace(folder / "environment.json", described)
    except OSError as error:
        raise ConfigError(
            f"{folder}: the run folder cannot be written ({error.strerror or error}); "
            "choose another with `out:` or --out."
        ) from error


def amend(config: RunConfig, folder: Path) -> None:
    """Replaces ``config.json`` of a run that goes on otherwise; the old one stays beside it.

    Raises:
        ConfigError: the folder cannot be written.
    """
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    try:
        old = (folder / "config.json").read_text(encoding="utf-8")
        _replace(folder / f"config-until-{stamp}.json", old)
        _replace(
            folder / "config.json", json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
        )
    except OSError as error:
        raise ConfigError(
            f"{folder}: config.json cannot be replaced ({error.strerror or error})"
        ) from error


def environment() -> dict[str, object]:
    """Git revisions, package versions, Python and platform, as JSON-able values."""
    return {
        "git": {
            "package": revision(Path(grpo_dual.__file__).parent, tracked="__init__.py"),
            "working_directory": revision(Path.cwd()),
        },
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
        },
    }


def revision(folder: Path, tracked: str | None = None) -> dict[str, object] | None:
    """Commit of the git work tree around a folder and whether tracked files differ from it.

    Args:
        folder: any folder in the work tree.
        tracked: a file in ``folder`` that must belong to that repository; an installed package in
            a virtual environment inside someone's repository does not.

    Returns:
        ``{"revision": <40 hex digits>, "modified": bool}``, or None without git or a repository.
    """
    if tracked and _git(folder, "ls-files", "--error-unmatch", tracked) is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": commit, "modified": None if status is None else bool(status)}


def _git(folder: Path, *args: str) -> str | None:
    """Output of a git command, or None when git is absent, fails or hangs."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, "-C", str(folder), "--no-optional-locks", *args],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _replace(path: Path, text: str) -> None:
    """Writes beside the file and renames, so that a kill leaves no half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
