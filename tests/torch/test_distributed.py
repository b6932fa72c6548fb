"""Several processes that train one pruned module: masks and zeros are the same in each."""

import contextlib
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import kanbatsu.torch


def network():
    return nn.ModuleDict({"core": nn.GRU(8, 16), "head": nn.Linear(16, 4)})


@contextlib.contextmanager
def group(folder, rank=0, size=1):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


class Model(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.parts = network()

    def forward(self, x):
        return self.parts["head"](self.parts["core"](x)[0])


def train(rank, size, folder):
    """Train on samples of this rank's own; store what comes of it."""
    with group(folder, rank, size):
        # Ranks that drew masks of their own take those of the first, as they take its weights.
        model = kanbatsu.torch.prune(Model(rank), 0.5, seed=rank, distribution="uniform", also="*")
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.Adam(wrapped.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            wrapped(torch.randn(5, 2, 8)).square().mean().backward()
            optimizer.step()
        torch.save(model.state_dict(), f"{folder}/{rank}.pt")


def assert_pruned_alike(folder, size):
    first = torch.load(folder / "0.pt")
    masks = kanbatsu.torch.masks(first)
    drawn = kanbatsu.torch.prune(Model(0), 0.5, distribution="uniform", also="*")
    assert len(masks) == 3
    for path, mask in kanbatsu.torch.masks(drawn).items():
        assert torch.equal(mask, masks[path])
        assert not first[path][~mask].any()
        assert first[path][mask].any()
    for rank in range(1, size):
        other = torch.load(folder / f"{rank}.pt")
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_one_process_of_ddp_keeps_zeros(tmp_path):
    train(0, 1, tmp_path)
    assert_pruned_alike(tmp_path, 1)


@pytest.mark.slow
def test_two_processes_of_ddp_agree_on_masks_and_zeros(tmp_path):
    multiprocessing.spawn(train, (2, tmp_path), nprocs=2)
    assert_pruned_alike(tmp_path, 2)


def test_shards_are_refused_by_name(tmp_path):
    with group(tmp_path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="DistributedDataParallel"):
            fully_shard(kanbatsu.torch.prune(nn.Linear(8, 8), 0.5))
        with pytest.raises(ValueError, match="nothing was pruned: FSDP shards"):
            kanbatsu.torch.prune(fully_shard(nn.Sequential(nn.Linear(8, 8))), 0.5)
        whole = fully_shard(kanbatsu.torch.prune(nn.Sequential(nn.Linear(8, 8)), 0.5))
        with pytest.raises(ValueError, match="masks do not follow shards"):
            whole.state_dict()


def train_kept(rank, size, folder, seed):
    with group(folder, rank, size):
        model = kanbatsu.torch.prune(nn.Sequential(nn.Linear(8, 16)), 0.5, seed, storage="kept")
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.Adam(wrapped.parameters(), 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            wrapped(torch.randn(5, 8)).square().mean().backward()
            optimizer.step()
        torch.save(model.state_dict(), f"{folder}/{rank}.pt")


def train_kept_by_rank(rank, size, folder, same):
    train_kept(rank, size, folder, 0 if same else rank)


def test_kept_values_train_in_ddp_and_are_stored_before_it_wraps(tmp_path):
    train_kept(0, 1, tmp_path, 0)
    assert torch.load(tmp_path / "0.pt")["0.weight_kept"].shape == (64,)
    (tmp_path / "again").mkdir()
    with group(tmp_path / "again"):
        wrapped = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16)))
        with pytest.raises(ValueError, match="before the module is wrapped"):
            kanbatsu.torch.prune(wrapped, 0.5, storage="kept")


@pytest.mark.slow
def test_ranks_with_kept_values_of_other_masks_are_refused(tmp_path):
    (tmp_path / "same").mkdir()
    multiprocessing.spawn(train_kept_by_rank, (2, tmp_path / "same", True), nprocs=2)
    first, other = (torch.load(tmp_path / "same" / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(value, other[name]) for name, value in first.items())
    with pytest.raises(multiprocessing.ProcessRaisedException, match="prune with one seed"):
        multiprocessing.spawn(train_kept_by_rank, (2, tmp_path, False), nprocs=2)
