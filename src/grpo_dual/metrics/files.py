"""A small file of a run folder, read with an error that names it."""

import json
from pathlib import Path
from typing import cast

from grpo_dual.errors import DataError


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
