"""``grpo-dual export``: a run's checkpoint as a folder for PEFT, Transformers or vLLM."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from grpo_dual.cli.parsing import Parser, command
from grpo_dual.errors import ConfigError, DataError


def parser() -> Parser:
    """The arguments of the command."""
    made = command("export", "A checkpoint as a folder for PEFT, Transformers or vLLM.", run)
    made.add_argument(
        "run_name",
        metavar="RUN",
        help="a run folder (its newest checkpoint), RUN@STEP or RUN@best",
    )
    made.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet"
    )
    made.add_argument(
        "--merged", action="store_true", help="one model, base and adapter added up; else adapter"
    )
    made.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the weights; default: float32 for an adapter, model.dtype for a merged model",
    )
    made.add_argument(
        "--results", type=Path, metavar="FILE", help="a result of `eval`, for the model card"
    )
    made.add_argument(
        "--license", metavar="ID", help="for the model card, e.g. apache-2.0; else none is claimed"
    )
    made.add_argument("--push", metavar="REPO_ID", help="upload the folder to the hub too")
    made.add_argument(
        "--private", action="store_true", help="make the repository of --push private"
    )
    return made


def run(parsed: argparse.Namespace) -> int:
    """Run the command; returns the exit code.

    Raises:
        CheckpointError: Run or checkpoint is wrong, or the folder is there already.
        ModelError, ConfigError: The base cannot be loaded, or flags contradict each other.
        DataError: The result file cannot be read.
        DownloadError: The hub refuses.
    """
    if parsed.private and parsed.push is None:
        raise ConfigError("--private says what --push makes: give --push REPO_ID too.")
    if parsed.push is not None:
        from grpo_dual.model.push import check_repo

        check_repo(parsed.push)
    results = None if parsed.results is None else _read_results(parsed.results)
    from grpo_dual.cli.exporting import export  # torch: only once the flags are right

    notes = export(
        parsed.run_name,
        parsed.out,
        merged=parsed.merged,
        dtype=parsed.dtype,
        results=results,
        licence=parsed.license,
        repo=parsed.push,
    )
    for note in notes:
        print(f"note: {note}")
    what = "model" if parsed.merged else "adapter"
    print(f"{parsed.out}: {what}, tokenizer, generation config and model card of {parsed.run_name}")
    if parsed.push is not None:
        from grpo_dual.model.push import push

        print(f"pushed: {push(parsed.out, parsed.push, private=parsed.private)}")
    return 0


def _read_results(path: Path) -> tuple[str, Mapping[str, object]]:
    """The file's name and what it holds."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: is no result file; give what `eval ... --json` wrote")
    return path.name, cast("Mapping[str, object]", content)
