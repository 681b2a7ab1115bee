"""``grpo-dual data fetch``: both data sets from their upstream repositories."""

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from grpo_dual.config.places import cache_dir
from grpo_dual.records import download
from grpo_dual.records.upstream import FILES, UpstreamFile


def fetch(
    *,
    out: Path | None = None,
    base_url: str | None = None,
    only: Literal["all", "bbq", "halueval"] = "all",
) -> None:
    """Downloads BBQ and HaluEval, verified by git blob id.

    Args:
        out: Folder to put bbq/ and halueval/ in; the cache by default, where `train` finds them.
        base_url: Host of the raw files, when upstream's own cannot be reached.
        only: One of the two sets.

    Raises:
        DownloadError: A file cannot be fetched, verified or written.
    """
    wanted = [file for file in FILES if only in ("all", file.dataset)]
    console = Console()
    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:

        def advance(file: UpstreamFile, done: int, total: int | None) -> None:
            if file.name not in tasks:
                tasks[file.name] = bars.add_task(file.name, total=total)
            bars.update(tasks[file.name], completed=done, total=total)

        fetched = download.fetch(
            wanted,
            folder=out,
            base_url=base_url or download.BASE_URL,
            progress=advance,
            tell=lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True),
        )
    for item in fetched:
        console.print(
            f"{item.outcome:>13}  {item.file.name}  {item.size / 1e6:.1f} MB",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    place = (out or cache_dir()).resolve()
    hint = "`path: cache` finds them" if out is None else f"set data.path to {place / 'bbq'} etc."
    console.print(
        f"{len(fetched)} file{'s' * (len(fetched) > 1)} verified in {place}; {hint}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
