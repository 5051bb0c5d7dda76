"""Which GPUs a run may use: free ones are claimed by lock, so that several runs share a box.

Snakemake's `gpu` resource says how many runs go side by side, not which device each takes.
"""

import contextlib
import errno
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
