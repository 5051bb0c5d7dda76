"""How ranks begin and what they run in a test: in a module of its own, because a new process imports it by name."""

from multiprocessing.reduction import ForkingPickler

from torch import multiprocessing

from symbiosis.models import ranks


def fork(rank, arguments: tuple, nprocs: int, join: bool) -> multiprocessing.ProcessContext:
    """As torch's `spawn`, but ranks are forks of this process, global random states included."""
    ForkingPickler.dumps(arguments)  # fails where it could not be spawned, and moves the weights to shared memory
    return multiprocessing.start_processes(rank, arguments, nprocs, join, start_method="fork")


def share_held(model, *, sharding: str) -> list[dict]:
    """The share of a model's weights that one rank holds, as a trainer's history."""
    whole = sum(p.numel() for p in model.parameters())
    ranks.wrap_ddp_or_fsdp(model, None, sharding)
    return [{"share": sum(p.to_local().numel() for p in model.parameters()) / whole}]
