"""Several processes that train as one: every rank takes its shard of each batch, and sums go over all of them.

The notebook's process is no rank: it starts `num_processes` copies of a trainer (torch.multiprocessing) and waits. With
one process every function here gives back what it was given, to the bit.
"""

import contextlib
import copy
import functools
import json
import os
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import ProcessException
from torch.nn.parallel import DistributedDataParallel

from symbiosis.errors import SymbiosisError
from symbiosis.models.loading import pick_device, use_threads
from symbiosis.settings import RunSettings

Losses = Callable[[np.ndarray, np.ndarray], dict[str, torch.Tensor]]  # of rows, as parts of a batch's means


class TrainingError(SymbiosisError):
    """Training that cannot go on; nothing of it is saved."""


# --- inside a rank -------------------------------------------------------------------------------------------------
def is_distributed() -> bool:
    """Whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized()


def size() -> int:
    return dist.get_world_size() if is_distributed() else 1


def all_reduce_sum(count: torch.Tensor) -> torch.Tensor:
    """A count or weight without gradient, summed over the ranks: what a mean over the whole batch divides by."""
    if is_distributed():
        count = count.clone()
        dist.all_reduce(count)
    return count


def reduce_losses(parts: dict[str, torch.Tensor]) -> dict[str, float]:
    """Each loss summed over the ranks, as floats."""
    if not is_distributed():
        return {name: value.item() for name, value in parts.items()}
    values = all_reduce_sum(torch.stack([value.detach().float() for value in parts.values()]))
    return dict(zip(parts, values.tolist(), strict=True))


def shard(batch: np.ndarray) -> np.ndarray:
    """This rank's rows of a batch: every size()-th, so that lengths stay even; one process: all of them.

    Of a batch with fewer rows than ranks every rank takes all: rows and counts are then both size() times too many,
    which leaves every mean as it is.
    """
    return batch[dist.get_rank() :: size()] if is_distributed() and len(batch) >= size() else batch


def n_microbatches(batch: np.ndarray, at_most: int) -> int:
    """Into how many parts, none empty, every rank can split its shard of a batch."""
    return min(at_most, len(batch) // size() or len(batch))


class _Step(torch.nn.Module):
    """The losses as a module's forward pass, whatever parts of the model they call: what torch's wrappers ask for."""

    def __init__(self, model: torch.nn.Module, losses: Losses):
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, rows: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        return self.losses(rows, batch)


def wrap_ddp_or_fsdp(model: torch.nn.Module, losses: Losses, sharding: str) -> Losses:
    """The losses of this rank's rows, whose gradients are averaged over the ranks; one process: losses itself.

    losses(rows, batch) must be linear: sums over rows, divided by `all_reduce_sum` of the batch's counts. size() times
    their averaged gradient is then the gradient of one process. `fsdp` also shares weights, gradients and AdamW's
    moments among the ranks (torch's fully_shard, a group per layer): the model's parameters are replaced by shards.
    """
    if not is_distributed():
        return losses
    step = _Step(model, losses)
    if sharding == "none":
        return DistributedDataParallel(step, broadcast_buffers=False)
    mesh = init_device_mesh(model.device.type, (size(),))
    for layer in [m for m in model.modules() if type(m).__name__ in model._no_split_modules]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(step, mesh=mesh)  # embeddings and head, which may be one matrix, in one group


def _rank(rank: int, job: tuple):
    """What each rank runs. The model's memory is shared, so it trains a copy; the first copies weights back."""
    trainer, model, settings, arguments, named, folder = job
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch sends it when the parent dies; Python's own handler may hang
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    use_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.num_processes))
    cuda = pick_device(settings.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("nccl" if cuda else "gloo", rendezvous, rank=rank, world_size=settings.num_processes)
    own, own_arguments, own_named = copy.deepcopy((model, arguments, named))  # at once: the model may be in arguments
    own.to(pick_device(settings.device))
    try:
        history = trainer(*own_arguments, **own_named)
        with torch.no_grad():
            for shared, trained in zip(model.parameters(), own.parameters(), strict=True):
                whole = trained.full_tensor() if hasattr(trained, "full_tensor") else trained
                if rank == 0:
                    shared.copy_(whole)
        if rank == 0:
            (folder / "history.json").write_text(json.dumps(history))
    except SymbiosisError as error:  # every rank sees the same sums, so all of them stop here
        if rank == 0:
            (folder / "error").write_text(str(error))
    finally:
        dist.destroy_process_group()


def _exit_with_parent(parent: int) -> None:
    """End this rank when the process that started it is gone, however it went and whatever the rank waits for."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


# --- the process that starts them ----------------------------------------------------------------------------------
def needs_launch(settings: RunSettings) -> bool:
    """Whether training is to be handed to ranks: several are asked for, and this process is none of them."""
    return settings.num_processes > 1 and not is_distributed()


def distributed(trainer: Callable[..., list[dict]]) -> Callable[..., list[dict]]:
    """A method that trains its learner (with `lm` and `settings`) in place, in as many ranks as its settings ask for.

    Its random numbers follow from `seed` alone: torch's global state is set inside and put back.
    """

    @functools.wraps(trainer)
    def train(learner, *arguments, seed: int, **named) -> list[dict]:
        model, settings = learner.lm.model, learner.settings
        if needs_launch(settings):
            return launch(train, model, settings, (learner, *arguments), named | {"seed": seed})
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(seed)
            return trainer(learner, *arguments, seed=seed, **named)

    return train


def launch(trainer: Callable, model, settings: RunSettings, arguments: tuple, named: dict) -> list[dict]:
    """trainer(*arguments, **named) in `num_processes` ranks: its history; the model is changed in place.

    Arguments travel by pickle, weights through shared memory. The model leaves its device until the ranks are done.
    Raises TrainingError, the model untouched, where a rank dies or there are fewer GPUs than ranks.
    """
    device, n = model.device, settings.num_processes
    if device.type == "cuda" and torch.cuda.device_count() < n:
        raise TrainingError(
            f"num_processes: {n} ranks need a GPU each, {torch.cuda.device_count()} visible; lower it, or set device "
            "to cpu"
        )
    model.to("cpu")
    try:
        with tempfile.TemporaryDirectory(prefix="symbiosis-ranks-") as name:
            folder = Path(name)
            with _children():
                job = (trainer, model, settings, arguments, named, folder)
                context = multiprocessing.spawn(_rank, (job,), nprocs=n, join=False)
            try:
                while not context.join():
                    pass
            except ProcessException as error:
                raise TrainingError(failure_reason(error, n)) from None
            finally:
                for path in context.error_files:  # torch reads at most one of them and deletes none
                    Path(path).unlink(missing_ok=True)
            if (folder / "error").exists():
                raise TrainingError((folder / "error").read_text())
            return json.loads((folder / "history.json").read_text())
    finally:
        model.to(device)


@contextlib.contextmanager
def _children() -> Iterator[None]:
    """Inside, new processes talk over loopback, draw no bars, and do not run this one's main script again."""
    loopback = "lo0" if sys.platform == "darwin" else "lo"  # by itself gloo asks which network the host's name is in
    main, environment = sys.modules["__main__"], dict(os.environ)
    try:
        os.environ |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback} | environment | {"TQDM_DISABLE": "1"}
        sys.modules["__main__"] = types.ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(environment)


def failure_reason(error: ProcessException, n: int) -> str:
    """Which rank ended how, in one sentence."""
    if signal_name := getattr(error, "signal_name", None):
        why = f"killed by {signal_name}"
    elif code := getattr(error, "exit_code", None):
        why = f"exit code {code}"
    else:
        why = error.msg.strip().splitlines()[-1]
    return (
        f"num_processes: rank {error.error_index} of the {n} ended early ({why}); nothing of this stage was saved and "
        "the run continues from the last whole one: start it again, or, where memory ran out, lower batch_size or "
        "num_processes in the params file"
    )
