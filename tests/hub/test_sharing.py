"""To the Hub and back, against a stand-in of the client with the signatures of the real one."""

import fnmatch
import inspect
import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from kanbatsu.deploy import load
from kanbatsu.deploy.entry import PolicyError
from kanbatsu.hub import from_hub, push_to_hub

REPO = "somebody/pendulum"


class Hub:
    """Repositories in a folder, behind the three calls of huggingface_hub that kanbatsu makes."""

    def __init__(self, place):
        self.place, self.calls = Path(place), []

    def module(self):
        hub = self

        class HfApi:
            def __init__(self, endpoint=None, token=None):
                hub.calls.append(("HfApi", token))

            def create_repo(
                self, repo_id, *, token=None, private=None, repo_type=None, exist_ok=False
            ):
                hub.calls.append(("create_repo", private))
                (hub.place / repo_id).mkdir(parents=True, exist_ok=exist_ok)

            def upload_folder(
                self, *, repo_id, folder_path, path_in_repo=None, commit_message=None,
                token=None, repo_type=None, revision=None, delete_patterns=None,
            ):  # fmt: skip
                repository = hub.place / repo_id
                for file in list(repository.rglob("*")):
                    name = file.relative_to(repository).as_posix()
                    if file.is_file() and any(fnmatch.fnmatch(name, x) for x in delete_patterns):
                        file.unlink()
                shutil.copytree(folder_path, repository, dirs_exist_ok=True)
                hub.calls.append(("upload_folder", commit_message, revision))
                return types.SimpleNamespace(commit_url=f"hub:{repo_id}/commit/1")

        def snapshot_download(
            repo_id, *, repo_type=None, revision=None, token=None, allow_patterns=None
        ):
            hub.calls.append(("snapshot_download", revision, token))
            snapshot = hub.place / "cache" / repo_id
            shutil.rmtree(snapshot, ignore_errors=True)
            for file in (hub.place / repo_id).rglob("*"):
                name = file.relative_to(hub.place / repo_id)
                if file.is_file() and any(
                    fnmatch.fnmatch(name.as_posix(), x) for x in allow_patterns
                ):
                    (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                    (snapshot / name).symlink_to(file)  # as the client's cache does
            snapshot.mkdir(parents=True, exist_ok=True)
            return str(snapshot)

        module = types.ModuleType("huggingface_hub")
        module.HfApi, module.snapshot_download = HfApi, snapshot_download
        return module


@pytest.fixture
def hub(monkeypatch, tmp_path):
    stand_in = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", stand_in.module())
    return stand_in


def test_a_run_goes_to_the_hub_and_comes_back_as_its_policy(hub, run, policy):
    assert push_to_hub(run, REPO, licence="mit", private=True, token="t") == f"hub:{REPO}/commit/1"
    assert hub.calls[0] == ("HfApi", "t")
    assert hub.calls[1] == ("create_repo", True)
    repository = hub.place / REPO
    assert (repository / "README.md").read_text().startswith('---\nlicense: "mit"\n')
    contract = json.loads((repository / "policy" / "contract.json").read_text())
    assert contract["provenance"]["licence"] == "mit"
    assert contract["provenance"]["verdict"]
    observations = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    loaded = from_hub(REPO, revision="abc", token="t")
    np.testing.assert_array_equal(loaded(observations), load(policy)(observations))
    assert hub.calls[-1] == ("snapshot_download", "abc", "t")


def test_a_policy_of_any_library_goes_too_and_replaces_the_one_before(hub, run, policy):
    push_to_hub(run, REPO)
    stale = hub.place / REPO / "policy" / "policy.c"
    stale.write_text("of a policy that was there before")
    notes = hub.place / REPO / "notes.md"
    notes.write_text("somebody's own file")
    push_to_hub(policy, REPO, commit_message="Again", revision="dev")
    assert hub.calls[-1] == ("upload_folder", "Again", "dev")
    assert not stale.exists()
    assert notes.exists()
    assert from_hub(REPO).obs_dim == 3


def test_damage_and_strangers_are_refused(hub, run, policy, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(policy, damaged)
    (damaged / "policy.safetensors").write_bytes(b"nothing")
    with pytest.raises(PolicyError, match="does not match its checksum"):
        push_to_hub(damaged, REPO)
    assert hub.calls == []  # nothing was sent
    (hub.place / "somebody" / "other").mkdir(parents=True)
    with pytest.raises(PolicyError, match="somebody/other holds no policy of kanbatsu"):
        from_hub("somebody/other")
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(b"a" * 32)
    other.write_bytes(b"b" * 32)
    push_to_hub(run, REPO, key=key)
    assert from_hub(REPO, key=key).obs_dim == 3
    with pytest.raises(PolicyError):
        from_hub(REPO, key=other)


def test_without_the_client_it_says_what_to_install(monkeypatch, policy):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kanbatsu\[hub\]'"):
        push_to_hub(policy, REPO)


def test_the_stand_in_has_no_more_than_the_real_client(hub):
    monkey = sys.modules.pop("huggingface_hub")
    try:
        real = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
        for ours, theirs in (
            (monkey.HfApi.__init__, real.HfApi.__init__),
            (monkey.HfApi.create_repo, real.HfApi.create_repo),
            (monkey.HfApi.upload_folder, real.HfApi.upload_folder),
            (monkey.snapshot_download, real.snapshot_download),
        ):
            known = inspect.signature(theirs).parameters
            for name, parameter in inspect.signature(ours).parameters.items():
                assert known[name].kind in (parameter.kind, inspect.Parameter.KEYWORD_ONLY)
    finally:
        sys.modules["huggingface_hub"] = monkey


def test_the_real_client_reads_the_card(run, policy):
    real = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from kanbatsu.hub import card

    data = real.ModelCard(card(run, policy=policy)).data
    assert data.library_name == "kanbatsu"
    assert data.license == "mit"
    assert [result.metric_type for result in data.eval_results] == ["mean_reward", "iqm_return"]
    assert {result.dataset_type for result in data.eval_results} == {"gym/Pendulum-v1"}
