"""Small files of a run folder: read and replaced whole, with errors that name them."""

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import cast

from grpo_dual.errors import CheckpointError, DataError


def read_object(path: Path) -> dict[str, object]:
    """A JSON object.

    Raises:
        DataError: The file cannot be read, or holds no object.
    """
    try:
        document: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: an object is expected, not a {type(document).__name__}")
    return cast("dict[str, object]", document)


@contextlib.contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn what the file system refuses into an error which names the file and the way out."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror or error}. Check that the folder exists, "
            "belongs to you and has free space, or choose another place with --out (or --json)."
        ) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` so that a reader sees the old content or the new one, never a part.

    Raises:
        CheckpointError: The file system refuses.
    """
    part = path.with_name(f".{path.name}.part")
    with writing(path):
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
