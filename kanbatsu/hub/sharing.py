"""A policy's way to the Hugging Face Hub and back: a card at the root, the policy in a folder."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kanbatsu.deploy import Contract, Policy, load
from kanbatsu.deploy.contract import CONTRACT
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.deploy.seal import Key
from kanbatsu.hub.card import card
from kanbatsu.hub.facts import facts_of

FOLDER = "policy"
"""Folder of the policy in a repository: whatever else lies there is no part of it."""


def push_to_hub(
    source: str | os.PathLike[str],
    repo_id: str,
    *,
    policy: str | os.PathLike[str] | None = None,
    licence: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    key: Key | None = None,
) -> str:
    """Put a policy on the Hugging Face Hub, with a card that is made of its run and its verdict.

    The repository is made if there is none. It gets `README.md`, the card, and `policy/`, whose
    files are replaced. Before anything is sent the policy is loaded, which checks its files and its
    golden pairs.

    Args:
        source: folder of a run, OUT/runs/<run id>, which is exported; or that of a policy that
            was exported before, from whatever library.
        repo_id: place on the Hub, `user/name` or `organisation/name`.
        policy: folder of the policy that was exported from the run, in place of a new export.
        licence: identifier of the licence, such as `mit`, for the card.
        private: flag of a repository that others do not see; the account's default if it is made.
        token: token of the Hub; that of `hf auth login` by default.
        revision: branch to write to; `main` by default.
        commit_message: words for the commit.
        key: path of a key file to sign the policy with, or that it is signed with.

    Returns:
        The address of the commit.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        FileNotFoundError: the folder holds neither a run nor a policy.
        ValueError: the run cannot be exported, or the policy is not what was written.
    """
    client = _client()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        bundle, folder = root / FOLDER, Path(source)
        is_policy = (folder / CONTRACT).exists()
        exported = folder if is_policy else policy
        if exported is not None:
            shutil.copytree(exported, bundle)
        else:
            from kanbatsu.deploy import export

            facts = facts_of(folder)
            words = None if facts.verdict is None else facts.verdict.title
            export(folder, bundle, contract=Contract(licence=licence, verdict=words), key=key)
        load(bundle, key=key)
        run = bundle if is_policy else folder
        chosen = None if is_policy else bundle
        text = card(run, policy=chosen, licence=licence, repo_id=repo_id, key=key)
        (root / "README.md").write_text(text, encoding="utf-8")
        api = client.HfApi(token=token)
        api.create_repo(repo_id=repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=root,
            commit_message=commit_message or f"Add the policy of {folder.resolve().name}",
            revision=revision,
            delete_patterns=[f"{FOLDER}/*"],
        )
    return str(getattr(commit, "commit_url", commit))


def from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    key: Key | None = None,
) -> Policy:
    """Load a policy from the Hugging Face Hub.

    Nothing is unpickled and no code of the repository runs. Files are checked as
    `kanbatsu.deploy.load` does. Checksums find damage, not malice: a signature does, given the key,
    and a full commit hash as `revision` fixes what is loaded.

    Args:
        repo_id: place on the Hub, such as `user/walker`.
        revision: branch, tag or commit; `main` by default.
        token: token of the Hub, for a private repository.
        key: path of the key file that it was signed with.

    Returns:
        A function of observations.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        PolicyError: the repository holds no policy of kanbatsu, or a damaged one.
    """
    place = _client().snapshot_download(
        repo_id=repo_id, revision=revision, token=token, allow_patterns=[f"{FOLDER}/*"]
    )
    folder = Path(place) / FOLDER
    if not folder.is_dir():
        raise PolicyError(
            f"{repo_id} holds no policy of kanbatsu: it has no folder called {FOLDER}. "
            "kanbatsu.hub.push_to_hub writes one"
        )
    return load(folder, key=key)


def _client() -> Any:
    """The Hub's own client.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the Hub needs huggingface_hub: pip install 'kanbatsu[hub]', or pip install "
            "huggingface_hub"
        ) from error
