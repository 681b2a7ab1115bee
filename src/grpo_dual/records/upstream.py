"""What ``data fetch`` downloads: upstream's files, pinned by commit and git blob id."""

from dataclasses import dataclass
from typing import Literal

DataSet = Literal["bbq", "halueval"]


@dataclass(frozen=True, slots=True)
class UpstreamFile:
    """One file of an upstream repository."""

    dataset: DataSet
    owner: str
    repository: str
    commit: str
    path: str
    """Path in the repository."""
    blob: str
    """Git blob id: sha1 of ``blob <size>``, a NUL byte and the content."""

    @property
    def name(self) -> str:
        """File name in the cache, e.g. ``bbq/Age.jsonl``."""
        return f"{self.dataset}/{self.path.rsplit('/', 1)[-1]}"

    def address(self, base_url: str) -> str:
        """Where it is, e.g. ``<base>/<owner>/<repository>/<commit>/<path>``."""
        parts = (self.owner, self.repository, self.commit, self.path)
        return "/".join((base_url.rstrip("/"), *parts))


def _bbq(path: str, blob: str) -> UpstreamFile:
    commit = "bea11bd97d79217245b5871acd247b9d6eb24598"
    return UpstreamFile("bbq", "nyu-mll", "BBQ", commit, path, blob)


def _halueval(path: str, blob: str) -> UpstreamFile:
    commit = "b7253db3cdaa0ab2c382f92b26b390109174f77e"
    return UpstreamFile("halueval", "RUCAIBox", "HaluEval", commit, path, blob)


FILES: tuple[UpstreamFile, ...] = (
    # the same metadata also lies in supplemental/
    _bbq(
        "analysis_scripts/additional_metadata.csv",
        "564eb184be7427cefe9f1ffd8fd03cb700e6aa98",
    ),
    _bbq("data/Age.jsonl", "5c5e7586163b869fe029e77e63716f2026e4ae08"),
    _bbq("data/Disability_status.jsonl", "9aedeccaf599299cdfa523531d625ae85ecb9131"),
    _bbq("data/Gender_identity.jsonl", "dc79ceaaa9e7126edc99a200d632899c50274b16"),
    _bbq("data/Nationality.jsonl", "cba9b63d34536cb51a6cbae76b189df3d2a945c0"),
    _bbq("data/Physical_appearance.jsonl", "8cbdf83265459083224e3a2d37809294ff12ad77"),
    _bbq("data/Race_ethnicity.jsonl", "68daf3d692b27a10596772b3b15742b26f0b110e"),
    _bbq("data/Race_x_SES.jsonl", "905cd8a5b8734e2063fe524e69a38f0a71c75907"),
    _bbq("data/Race_x_gender.jsonl", "dd09a905b284690445d36259d675243950fa0bd7"),
    _bbq("data/Religion.jsonl", "44c1940ee22f00891ab4a5526a293691957aeacb"),
    _bbq("data/SES.jsonl", "78d11ffbdb70f501617345e5c697d00045d57c29"),
    _bbq("data/Sexual_orientation.jsonl", "a06351f4dd67ba30632396eeb0c3677c67b7d387"),
    _halueval("data/dialogue_data.json", "271c2e99c1eee5f87d45cd7470ab8fc7393ea98f"),
    _halueval("data/general_data.json", "4b395488fcbe333702cf8ab07b5a3cf192fae424"),
    _halueval("data/qa_data.json", "981d8944c2a74937a9556d50dd12ffb493d95c27"),
    _halueval("data/summarization_data.json", "15b0622c60d1991e2742bf1beac50c24f45c2717"),
)
"""Every file of both sets."""
