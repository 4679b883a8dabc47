"""Bring a model from a hub into a folder: the files that serve it, of one commit, each checked.

The hub's own library talks to it: it knows the tokens, the mirrors (`HF_ENDPOINT`) and how to go on where a transfer
was cut. What it brings is believed no further than its sizes and hashes. Fetching is a step of its own, before a
project is there: what is built later is built from files that lie here, and asks no hub.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightship.cache import file_digest
from lightship.errors import IntegrityError, LightshipError, NetworkError, ProjectError
from lightship.hub.choice import choose
from lightship.hub.file import HubFile
from lightship.hub.gguf_choice import Bits
from lightship.hub.reference import HubReference
from lightship.hub.room import check_room, full_disk
from lightship.quantities import human_size
from lightship.session import Session

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_FILES = 10_000


@dataclass(frozen=True)
class Fetched:
    """What came.

    Attributes:
        folder: Where the model is.
        commit: Of the repository: a branch may have another one tomorrow.
        files: In order of their paths in the repository.
        reason: What was chosen of several forms of the model, and why; empty where there was nothing to choose.
    """

    folder: Path
    commit: str
    files: tuple[HubFile, ...]
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


def fetch(
    reference: HubReference,
    folder: Path,
    session: Session,
    *,
    trust: bool = False,
    bits: Bits | None = None,
    memory: int | None = None,
) -> Fetched:
    """Bring what serves a model into a new folder. What was begun before is gone on with.

    `bits` and `memory` (in bytes) choose among GGUF files: `choose`.

    Raises:
        ProjectError: `folder` is there; the repository is not, or has nothing that can be served or fits.
        NetworkError: The hub cannot be reached.
        StorageError: The disk is full, or takes no file as large.
        IntegrityError: A file is not what the hub said.
        LightshipError: The hub's library is not installed.
    """
    if folder.exists():
        raise ProjectError(f"{folder} is there already.", hint="Name another folder, or remove it.")
    api = _api(session)
    commit, files = _listed(api, reference)
    choice = choose(files, reference, trust=trust, bits=bits, memory=memory)
    chosen = choice.files
    partial = folder.parent / f".{folder.name}.{commit[:12]}.partial"
    check_room(folder.parent, sum(file.size for file in chosen), partial)
    for file in sorted(chosen, key=lambda file: file.path):
        with session.progress.task(f"{file.path} ({human_size(file.size)})", file.size) as task:
            try:
                _download(api, reference, commit, file, partial)
            except LightshipError as error:
                raise full_disk(error, file, chosen, partial) or error from error.__cause__
            _check(partial / file.path, file, reference)
            task.advance(file.size)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the library's notes of what it has
    (partial / choice.root).replace(folder)
    shutil.rmtree(partial, ignore_errors=True)  # where the model was in a folder of its own
    return Fetched(folder, commit, chosen, choice.reason)


def _api(session: Session) -> HfApi:
    if session.offline:
        raise NetworkError("A hub is asked over the network, and --offline was given.", hint="Leave --offline out.")
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError as error:
        raise LightshipError(
            "Models come from a hub through its own library, which is not installed: huggingface_hub.",
            hint="Install it: `pip install 'lightship[hub]'`.",
        ) from error
    disable_progress_bars()
    return HfApi(
        endpoint=session.environ.get("HF_ENDPOINT"),
        token=session.environ.get("HF_TOKEN"),
        library_name="lightship",
    )


def _listed(api: HfApi, reference: HubReference) -> tuple[str, list[HubFile]]:
    """The commit that the revision means, and its files."""
    info = _asked(
        lambda: api.model_info(reference.repository, revision=reference.revision, files_metadata=True), reference
    )
    commit, siblings = info.sha or "", info.siblings or []
    if not _COMMIT.fullmatch(commit) or len(siblings) > _MOST_FILES:
        raise IntegrityError(f"{reference}: the hub's answer has no commit, or more than {_MOST_FILES} files.")
    files = []
    for each in siblings:
        sha256 = each.lfs.sha256 if each.lfs else None
        files.append(HubFile(each.rfilename, int(each.size or 0), sha256))
    return commit, files


def _download(api: HfApi, reference: HubReference, commit: str, file: HubFile, folder: Path) -> None:
    _asked(lambda: api.hf_hub_download(reference.repository, file.path, revision=commit, local_dir=folder), reference)


def _asked(ask: Any, reference: HubReference) -> Any:
    """What the hub's library answers, with its errors in our words."""
    from huggingface_hub import errors

    try:
        return ask()
    except errors.GatedRepoError as error:
        raise ProjectError(
            f"{reference} is shown only to those who accepted its terms.",
            hint="Accept them on the hub's page of the model, and set HF_TOKEN to a token of yours.",
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        raise ProjectError(
            f"{reference}: the hub has no such model, revision or file; or it is private.",
            hint="Check the name; for a private one set HF_TOKEN to a token that may read it.",
        ) from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", "?")
        raise NetworkError(f"{reference}: the hub answered with status {status}.", hint="Try again later.") from error
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NetworkError(
            f"{reference}: the hub cannot be reached, or ended before all was here: {first}",
            hint="Run the same command again: it goes on where it ended. HF_ENDPOINT names a mirror.",
        ) from error
    except Exception as error:  # of the HTTP library below, which differs from version to version
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise
        raise NetworkError(
            f"{reference}: the hub cannot be reached: {type(error).__name__}.",
            hint="Run the same command again: it goes on where it ended. HF_ENDPOINT names a mirror.",
        ) from error


def _check(path: Path, file: HubFile, reference: HubReference) -> None:
    """Whether the file is the one that was listed; else it is removed, so that it comes anew."""
    wrong = None
    if path.is_symlink() or not path.is_file():
        wrong = "is no file"
    elif path.stat().st_size != file.size:
        wrong = f"has {path.stat().st_size} bytes instead of {file.size}"
    elif file.sha256 is not None and file_digest(path) != f"sha256:{file.sha256}":
        wrong = "has another sha256 than the hub said"
    if wrong:
        path.unlink(missing_ok=True)
        raise IntegrityError(f"{reference}: {file.path} {wrong}.", hint="Run the same command again.")
