"""Which GPUs a run may use, and in which precision its processor multiplies well.

Free GPUs are claimed by lock, so that several runs share a box: Snakemake's `gpu` resource says how many runs go side
by side, not which device each takes.
"""

import contextlib
import errno
import functools
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm

from symbiosis.errors import SymbiosisError
from symbiosis.store.folders import locked

VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE_S = 5.0  # between two looks at devices that are taken
BF16_FLAGS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu, private: they may go
PRODUCT, NATIVE = 256, 1.5  # side of the timed matrices; bf16_factor up to which a CPU is said to multiply bf16

_own_locks = contextlib.ExitStack()  # the system lets go of them when this process ends, however it ends


class DeviceError(SymbiosisError):
    """Devices that cannot be had, with who has them."""


def claim(n: int = 1, *, devices: Sequence[str] | None = None, wait: bool = False) -> list[str]:
    """Take n free GPUs for this process till it ends, and show CUDA no others: their ids, as CUDA numbers them.

    Where CUDA_VISIBLE_DEVICES is set (by Slurm, by hand, by an earlier claim) its devices are the answer, and nothing
    is claimed; a machine without a GPU gives []. Call it before the first tensor on a GPU.

    devices: ids to choose from; None: all of this machine.
    wait: whether to wait till n are free at once.

    Only runs of one user see each other's locks (in the folder for temporary files). Raises DeviceError where devices
    are taken and `wait` is false, where there are fewer than n, or where CUDA has begun and would not notice.
    """
    if VISIBLE in os.environ:
        return [d for d in os.environ[VISIBLE].split(",") if d]
    devices = [str(i) for i in range(torch.cuda.device_count())] if devices is None else list(devices)
    if not devices:
        return []
    if n > len(devices):
        raise DeviceError(f"num_processes: {n} GPUs asked for, {len(devices)} here; lower it")
    if torch.cuda.is_initialized():
        raise DeviceError(f"CUDA has already begun in this process; claim before the first model, or set {VISIBLE}")
    while holders := _try(n, devices):
        told = f"{n} of {len(devices)} GPUs asked for, {len(devices) - len(holders)} free: {'; '.join(holders)}"
        if not wait:
            raise DeviceError(f"{told}; wait for one, stop it, or set {VISIBLE} yourself")
        tqdm.write(f"{told}; waiting")
        time.sleep(PAUSE_S)
    return os.environ[VISIBLE].split(",")


def _try(n: int, devices: Sequence[str]) -> list[str]:
    """Claim n devices and return [], or claim none and return who holds the others."""
    folder = Path(tempfile.gettempdir()) / f"symbiosis-devices-{os.getuid()}"
    holders, free = [], []
    try:
        _own(folder)
        with locked(folder / "claiming.lock", wait=True), contextlib.ExitStack() as taken:  # two at once would share
            for device in devices:
                try:
                    if len(free) < n:
                        taken.enter_context(locked(folder / f"{device}.lock", wait=False))
                        free.append(device)
                except BlockingIOError as error:
                    holders.append(f"{device} is held by {error}")
            if len(free) < n:
                return holders
            _own_locks.push(taken.pop_all())
    except OSError as error:
        raise DeviceError(
            f"{folder}: cannot hold the locks of GPUs ({error.strerror}); remove it, set TMPDIR to a folder of your "
            f"own, or set {VISIBLE}"
        ) from None
    os.environ[VISIBLE] = ",".join(free)
    return []


def _own(folder: Path) -> None:
    """Make the folder of this user's locks; PermissionError for one that somebody else has planted, or a link."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it is a link, or another user's")
    folder.chmod(0o700)


# --- precision -----------------------------------------------------------------------------------------------------
def resolved_precision(precision: str, device: torch.device) -> str:
    """'bf16' or 'fp32': what is asked for, and of `auto` bf16 where the device multiplies it natively.

    `auto` is `auto` in a run's settings and so in its run_id: the same parameters name one run on any machine. What it
    came to is the record's `precision`, a run that is continued must come to the same, and one table refuses runs of
    one study that came to different ones.
    """
    return ("bf16" if bf16_is_native(device) else "fp32") if precision == "auto" else precision


def bf16_is_native(device: torch.device) -> bool:
    """Whether bf16 products are the faster ones: by a GPU's own word, by a CPU's and one timed product."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    said = any(getattr(torch.cpu, name, bool)() for name in BF16_FLAGS)
    return said and bf16_factor() <= NATIVE  # ATEN_CPU_CAPABILITY or ONEDNN_MAX_CPU_ISA may forbid what is there


@functools.cache
def bf16_factor() -> float:
    """Time of a matrix product in bf16 over that in fp32, on this CPU: .5 where it multiplies bf16, else tens."""

    def seconds(dtype: torch.dtype) -> float:
        a, times = torch.ones(PRODUCT, PRODUCT, dtype=dtype), []
        for _ in range(6):  # the fastest: others share the core, and the first is slower
            began = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - began)
        return min(times)

    return seconds(torch.bfloat16) / seconds(torch.float32)


def tell_precision(precision: str, device: torch.device) -> str:
    """`resolved_precision`, and a line where it was chosen here, or where a CPU will emulate what is asked for."""
    chosen = resolved_precision(precision, device)
    if precision == "auto":
        tqdm.write(f"precision: auto is {chosen} on this {device.type}")
    elif chosen == "bf16" and not bf16_is_native(device):
        slower = f": a product takes {bf16_factor():.0f} times as long as in fp32" if device.type == "cpu" else ""
        tqdm.write(f"precision: bf16 is emulated on this {device.type}{slower}; set it to auto, or to fp32")
    return chosen
