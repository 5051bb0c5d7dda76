"""The frame of every run, and its record: code, environment, machine, settings, time and memory."""

import contextlib
import json
import platform
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd
import torch

from symbiosis.settings import RunSettings, Settings, root
from symbiosis.store import stages
from symbiosis.store.folders import digest, sha256, write_atomic
from symbiosis.store.results import COLUMNS, UNREPORTED, read_rows
from symbiosis.store.stages import read_json, run_folder

NO_CODE = ("reports", "profiles", "params/own")  # changes here are results, or how a machine is used
PACKAGES = ("torch", "transformers", "datasets", "numpy", "accelerate", "peft", "papermill")


STAGE_COSTS = ("wall_s", "cpu_s", "peak_memory_gib")  # of a process's peak so far: the stage that raised it needed it
Made = tuple[list[dict], torch.device, dict]  # results of the stages, where they were made, more of the record


def run_once(settings: Settings, inputs: dict, make: Callable[[Path], Made]) -> pd.DataFrame:
    """The rows of a run: read where it is finished, continued where it stopped, begun where it is new.

    inputs: name -> digest of what the run is made from. `make` gets the run's folder.
    """
    folder = run_folder(settings)
    with stages.writing(folder):
        if not ((folder / "state").exists() or (folder / "record.json").exists()):  # nothing of it was made yet
            for name in ("settings.json", "inputs.json"):
                (folder / name).unlink(missing_ok=True)
        stages.check_settings(folder, settings)
        stages.settle_inputs(folder, inputs, redo=settings.scale == UNREPORTED)
        if not (folder / "settings.json").exists():
            write_atomic(folder / "settings.json", json.dumps(settings.model_dump(), indent=1).encode())
        if (folder / "record.json").exists():
            stages.check_products(folder)
        else:
            results, device, more = make(folder)
            write_record(folder, settings, results, device, {"inputs": inputs} | more)
        stages.prune_checkpoints(folder)
    return read_rows(folder)


def write_record(folder: Path, settings: Settings, results: list[dict], device: torch.device, more: dict) -> None:
    """rows.csv, then record.json: all that is needed to trust or repeat the run; with it the run is finished."""
    head = {key: getattr(settings, key) for key in ("study", "method", "variant", "scale", "seed", "run_id")}
    rows = pd.DataFrame([head | row for result in results for row in result["rows"]], columns=list(COLUMNS))
    write_atomic(folder / "rows.csv", rows.to_csv(index=False).encode())
    undefined = rows.loc[rows["value"].isna(), "metric"].value_counts().to_dict()  # nothing was there to count
    record = provenance(folder, settings, device, results) | {"undefined": undefined} | more
    write_atomic(folder / "record.json", json.dumps(record, indent=1).encode())


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


def provenance(folder: Path, settings: Settings, device: torch.device, results: list[dict]) -> dict:
    """What made the rows in `folder`: code, environment, machine, settings, time and memory."""
    constraints = root() / "constraints.txt"  # pins every package
    return {
        "run_id": settings.run_id,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        **git_state(),
        "constraints": sha256(constraints) if constraints.is_file() else None,
        **machine(device),
        "wall_s": round(sum(r["wall_s"] for r in results), 2),
        "cpu_s": round(sum(r["cpu_s"] for r in results), 2) if all("cpu_s" in r for r in results) else None,
        "peak_memory_gib": max([stages.peak_memory_gib(), *(r.get("peak_memory_gib") or 0 for r in results)]),
        "versions": versions(),
        "products": stages.products(folder),
        "settings": settings.model_dump(),
        "stages": {r["stage"]: r["wall_s"] for r in results},
        "stage_costs": {r["stage"]: {key: r.get(key) for key in STAGE_COSTS} for r in results},
        "shared_from": {
            r["stage"]: by for r in results if (by := r.get("made_by", settings.run_id)) != settings.run_id
        },
    }


def machine(device: torch.device) -> dict:
    """What else the last digits depend on: device, processor, its instructions, threads."""
    return {
        "device": str(device),
        "hardware": hardware(device),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def code_digest() -> str:
    """sha256 over the package's own files."""
    package = Path(__file__).parents[1]
    return digest(sorted(path for kind in ("*.py", "*.yaml") for path in package.rglob(kind)))


def git_state() -> dict:
    """Commit and whether tracked files, those of NO_CODE aside, differ from it; None outside a checkout."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(root()), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in NO_CODE))
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def read_record(settings: RunSettings) -> dict:
    """The record of a finished run."""
    return read_json(run_folder(settings) / "record.json")
