"""What made a run: code, environment, machine, settings, time and memory."""

import contextlib
import platform
import resource
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from symbiosis.settings import RunSettings, Settings, root
from symbiosis.store.folders import (
    sha256,
)
from symbiosis.store.stages import _read_json, products, run_folder

NO_CODE = ("reports", "profiles", "params/own")  # changes here are results, or how a machine is used
PACKAGES = ("torch", "transformers", "datasets", "numpy", "accelerate", "peft", "papermill")


def versions() -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hardware(device: torch.device) -> str:
    """The name of the GPU, or of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def constraints_mark() -> str | None:
    """sha256 of constraints.txt, which pins every package; None where it is not there."""
    path = root() / "constraints.txt"
    return sha256(path) if path.is_file() else None


def provenance(folder: Path, settings: Settings, device: torch.device, results: list[dict]) -> dict:
    """What made the rows in `folder`: code, environment, machine, settings, time and memory."""
    return {
        "run_id": settings.run_id,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **git_state(),
        "constraints": constraints_mark(),
        "device": str(device),
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "wall_s": round(sum(r["wall_s"] for r in results), 2),
        "peak_memory_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        "versions": versions(),
        "products": products(folder),
        "settings": settings.model_dump(),
        "stages": {r["stage"]: r["wall_s"] for r in results},
    }


def git_state() -> dict:
    """Commit and whether tracked files, those of NO_CODE aside, differ from it; None outside a checkout."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root()), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in NO_CODE))
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def read_record(settings: RunSettings) -> dict:
    """The record of a finished run."""
    return _read_json(run_folder(settings) / "record.json")
