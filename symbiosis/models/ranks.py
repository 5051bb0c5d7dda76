"""Several processes that train as one: every rank takes its slice of each batch, and sums go over all of them.

The notebook's process is no rank: it hands model, lesson and settings to `torchrun -m symbiosis.models.launch` as files
and reads the weights back. With one process every function here gives back what it was given, to the bit.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from symbiosis.errors import SymbiosisError
from symbiosis.models import loading
from symbiosis.settings import RunSettings

Losses = Callable[[np.ndarray, np.ndarray], dict[str, torch.Tensor]]  # of rows, as parts of a batch's means


class TrainingError(SymbiosisError):
    """Training that cannot go on; nothing of it is saved."""


# --- inside a rank -------------------------------------------------------------------------------------------------


def joined() -> bool:
    """Whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized()


def size() -> int:
    return dist.get_world_size() if joined() else 1


def everyone(count: torch.Tensor) -> torch.Tensor:
    """A count or weight without gradient, summed over the ranks: what a mean over the whole batch divides by."""
    if joined():
        count = count.clone()
        dist.all_reduce(count)
    return count


def total(parts: dict[str, torch.Tensor]) -> dict[str, float]:
    """Each loss summed over the ranks, as floats."""
    if not joined():
        return {name: value.item() for name, value in parts.items()}
    values = everyone(torch.stack([value.detach().float() for value in parts.values()]))
    return dict(zip(parts, values.tolist(), strict=True))


def slice_of(batch: np.ndarray) -> np.ndarray:
    """This rank's rows of a batch: every size()-th, so that lengths stay even; one process: all of them.

    Of a batch with fewer rows than ranks every rank takes all: rows and counts are then both size() times too many,
    which leaves every mean as it is.
    """
    return batch[dist.get_rank() :: size()] if joined() and len(batch) >= size() else batch


def most_parts(batch: np.ndarray, parts: int) -> int:
    """Into how many parts, none empty, every rank can split its slice of a batch; `parts` at most."""
    return min(parts, len(batch) // size() or len(batch))


class _Step(torch.nn.Module):
    """The losses as a module's forward pass, whatever parts of the model they call: what torch's wrappers ask for."""

    def __init__(self, model: torch.nn.Module, losses: Losses):
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, rows: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        return self.losses(rows, batch)


def together(model: torch.nn.Module, losses: Losses, sharding: str) -> Losses:
    """The losses of this rank's rows, whose gradients are averaged over the ranks; one process: losses itself.

    losses(rows, batch) must be linear: sums over rows, divided by `everyone`'s counts of the batch. size() times their
    averaged gradient is then the gradient of one process. `fsdp` also shares weights, gradients and AdamW's moments
    among the ranks (torch's fully_shard, a group per layer); the model's parameters are then replaced by their shards.
    """
    if not joined():
        return losses
    step = _Step(model, losses)
    if sharding == "none":
        return DistributedDataParallel(step, broadcast_buffers=False)
    mesh = init_device_mesh(model.device.type, (size(),))
    for layer in [m for m in model.modules() if type(m).__name__ in model._no_split_modules]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(step, mesh=mesh)  # embeddings and head, which may be one matrix, in one group


def write_weights(model: torch.nn.Module, path: Path) -> None:
    """All parameters as safetensors, gathered from their shards; every rank calls it and the first one writes."""
    first, weights = dist.get_rank() == 0, {}
    for name, p in model.named_parameters():
        whole = p.full_tensor() if hasattr(p, "full_tensor") else p
        if first:
            weights[name] = whole.detach().cpu().contiguous()
    if first:
        save_file(weights, path)


# --- the process that starts them ----------------------------------------------------------------------------------


def wanted(settings: RunSettings) -> bool:
    """Whether training is to be handed to ranks: several are asked for, and this process is none of them."""
    return settings.num_processes > 1 and not joined()


def train(trainer: str, model, tokenizer, settings: RunSettings, *, seed: int, lesson=None, **arguments) -> list[dict]:
    """models.training's function `trainer` in `num_processes` ranks: its history; the model is changed in place.

    Weights, lesson (parquet) and arguments (JSON) travel through a temporary folder (TMPDIR), which holds the weights
    twice. The model leaves its device until the ranks are done. Raises TrainingError, the model untouched, where a
    rank dies or there are fewer GPUs than ranks.
    """
    device = model.device
    if device.type == "cuda" and torch.cuda.device_count() < settings.num_processes:
        raise TrainingError(
            f"num_processes: {settings.num_processes} ranks need a GPU each, {torch.cuda.device_count()} visible; "
            "lower it, or set device to cpu"
        )
    with tempfile.TemporaryDirectory(prefix="symbiosis-ranks-") as name:
        folder = Path(name)
        loading.save(model, tokenizer, folder / "model")
        if lesson is not None:
            lesson.to_parquet(folder / "lesson.parquet")
        job = {"trainer": trainer, "settings": settings.model_dump(), "seed": seed, "arguments": arguments}
        (folder / "job.json").write_text(json.dumps(job))
        model.to("cpu")
        try:
            _torchrun(folder, settings.num_processes)
            weights = load_file(folder / "weights.safetensors")
            with torch.no_grad():
                for part, p in model.named_parameters():
                    p.copy_(weights[part])
        finally:
            model.to(device)
        return json.loads((folder / "history.json").read_text())


def _torchrun(folder: Path, num_processes: int) -> None:
    """Run the job of a folder to its end. The ranks end with this process: they watch the pipe that is their input."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={num_processes}",
        "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1",  # port 0: any free one
        "-m", "symbiosis.models.launch", str(folder),
    ]  # fmt: skip
    loopback = "lo0" if sys.platform == "darwin" else "lo"  # by itself gloo asks which network the host's name is in
    env = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback} | os.environ | {"TQDM_DISABLE": "1"}
    with (
        open(folder / "log", "wb") as log,
        subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        code = process.wait()
    if code:
        raise TrainingError(_what_happened(folder, num_processes))


def _what_happened(folder: Path, num_processes: int) -> str:
    """The sentence a rank left, else which rank died of what, from torchrun's own summary."""
    if (folder / "error").exists():
        return (folder / "error").read_text()
    log = (folder / "log").read_text(errors="replace")
    summary = re.search(r"Root Cause.*?rank\s*: (\d+).*?exitcode\s*: (-?\d+)", log, re.DOTALL)
    rank, code = summary.groups() if summary else ("?", "unknown")
    said = re.findall(r"^(?:\[rank\d+\]: )?(\w+(?:\.\w+)*(?:Error|Exception): .*)", log, re.MULTILINE)
    why = f"killed by signal {code[1:]}" if code.startswith("-") else said[0] if said else f"exit code {code}"
    return (
        f"num_processes: rank {rank} of the {num_processes} ended early ({why}); nothing of this stage was saved "
        "and the run continues from the last whole one: start it again, or, where memory ran out, lower batch_size or "
        "num_processes in the params file"
    )
