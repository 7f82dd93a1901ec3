"""``thread-embed push``: a package to the hub. Without ``--really`` it says what would be uploaded, and nothing leaves."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thread_embed_assets.errors import InputError
from thread_embed_assets.release.card_copies import hub_card
from thread_embed_assets.release.package import CARD
from thread_embed_assets.sources.catalog import Source, load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.checkpoint import MODEL_DETAILS

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_REPOSITORY = re.compile(r"^[\w.-]+/[\w.-]+$")
_TOKEN = "HF_TOKEN"  # noqa: S105  the name of a variable


@dataclass(frozen=True)
class Upload:
    """What goes, or would go, where.

    Attributes:
        files: path in the repository to bytes.
        commit: address of the commit; None where nothing was uploaded.
    """

    repository: str
    private: bool
    files: Mapping[str, int]
    commit: str | None = None

    def __str__(self) -> str:
        kind = "private" if self.private else "public"
        head = f"{self.commit}:" if self.commit else f"Nothing was uploaded. To {self.repository} ({kind}) would go:"
        lines = [f"{size:>12,}  {path}" for path, size in self.files.items()]
        end = [] if self.commit else [f"Add --really to upload it; the token is read from {_TOKEN}."]
        return "\n".join([head, *lines, f"{sum(self.files.values()):>12,}  bytes in {len(lines)} files", *end])


def push_to_hub(
    package: Path,
    repository: str,
    catalog: Mapping[str, Source],
    *,
    token: str | None = None,
    really: bool = False,
    private: bool = True,
    endpoint: str | None = None,
) -> Upload:
    """Upload a package in one commit, its card naming the repository; that is made where it is not there.

    Args:
        package: a folder with a card, and details that name the sources the model was trained on.
        repository: ``owner/name`` on the hub.
        catalog: tells whether the sources may be passed on.
        token: one that may write; by default the one that ``huggingface_hub`` finds, such as in ``HF_TOKEN``.
        really: upload; otherwise only look.
        private: whether a repository that is made is private; one that is there stays what it is.
        endpoint: of the hub; its own by default.

    Raises:
        InputError: this is no package, its sources may not be passed on, there is no token, or the hub refuses.
    """
    if not _REPOSITORY.match(repository):
        raise InputError(f"repository '{repository}'", "it is no name on the hub", "Name it as owner/name")
    files = {name: path for path in sorted(package.rglob("*")) if path.is_file() and (name := _name_of(path, package))}
    if not {CARD, MODEL_DETAILS} <= files.keys():
        raise InputError(package, "there is no model package", "Materialise model_package, or name one with --package")
    _require_free(_sources(package), catalog, package)
    card = hub_card((package / CARD).read_text(encoding="utf-8"), repository).encode()
    sizes = {path: len(card) if path == CARD else file.stat().st_size for path, file in files.items()}
    if not really:
        return Upload(repository, private, sizes)
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = token or get_token()
    if not token:
        raise InputError("push", "there is no token", f"Set {_TOKEN} to one that may write to {repository}")
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path, card if path == CARD else file) for path, file in files.items()]
        commit = api.create_commit(repository, operations, commit_message="Upload the model package")
    except (HfHubHTTPError, OSError, ValueError) as error:
        said = str(error).replace(token, "***")
        raise InputError(repository, f"the hub refuses ({said})", "See the message; what was there before stays") from None
    return Upload(repository, private, sizes, str(commit.commit_url))


def _name_of(path: Path, package: Path) -> str:
    """In the repository; empty of what Python or the system leave behind when ``chat_text`` is used."""
    parts = path.relative_to(package).parts
    return "" if any(part.startswith((".", "__pycache__")) for part in parts) else "/".join(parts)


def _sources(package: Path) -> list[str]:
    return list(json.loads((package / MODEL_DETAILS).read_text(encoding="utf-8")).get("sources", ()))


def _require_free(sources: Collection[str], catalog: Mapping[str, Source], package: Path) -> None:
    withheld = [name for name in sources if name not in catalog or not catalog[name].redistribute]
    if withheld or not sources:
        told = f"it was trained on {', '.join(withheld)}, which may not be passed on" if withheld else "it names no sources"
        raise InputError(package, told, "Package a model of the mix 'open', or a released one")


def add_push_command(commands: Commands) -> None:
    parser = commands.add_parser("push", help="upload a package to the hub; without --really, say what would be uploaded")
    parser.add_argument("repository", help="owner/name")
    parser.add_argument("--package", type=Path, help="its folder (default: models/thread-embed)")
    parser.add_argument("--public", action="store_true", help="make the repository public, where it is not there yet")
    parser.add_argument("--really", action="store_true", help=f"upload; needs a token in {_TOKEN}")


def run_push(options: argparse.Namespace, layout: Layout) -> str:
    """What the command prints.

    Raises:
        InputError: see :func:`push_to_hub`.
    """
    package = options.package or layout.promoted_model
    public = bool(options.public)
    return str(push_to_hub(package, options.repository, load_catalog(), really=options.really, private=not public))
