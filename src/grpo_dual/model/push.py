"""An exported folder to the hub, and nothing else: the one place that writes to the network."""

from pathlib import Path

from httpx2 import HTTPError
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from grpo_dual.errors import ConfigError, DownloadError


def check_repo(repo_id: str) -> None:
    """Refuse a name that the hub would refuse, before any work is done.

    Raises:
        ConfigError: It is none of the hub's.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"--push {repo_id}: {error}") from error


def push(folder: Path, repo_id: str, *, private: bool) -> str:
    """Upload a folder as one commit, to a new or existing model repository.

    The token is the one of ``hf auth login`` or of HF_TOKEN; it is never written anywhere.

    Args:
        folder: What `new_folder` has made whole.
        repo_id: ``owner/name``, or a name of one's own.
        private: Of a new repository.

    Returns:
        The address of the commit.

    Raises:
        ConfigError: It is to be private, and there is a public one of that name already.
        DownloadError: The hub refuses, or cannot be reached; the folder stays.
    """
    api = HfApi()
    try:
        api.create_repo(repo_id, private=private, repo_type="model", exist_ok=True)
        if private and not api.repo_info(repo_id, repo_type="model").private:
            raise ConfigError(
                f"--push {repo_id}: that repository is there already and public, and --private was "
                f"asked for. Nothing was uploaded; the export is whole in {folder}"
            )
        done = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            repo_type="model",
            commit_message="Exported by grpo-dual",
        )
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:400]
        raise DownloadError(
            f"--push {repo_id}: the hub did not take it ({reason}). The export is whole in "
            f"{folder}. Log in with `hf auth login`, check the name and your rights to it, then "
            f"upload with: hf upload {repo_id} {folder}"
        ) from error
    return str(done.commit_url)
