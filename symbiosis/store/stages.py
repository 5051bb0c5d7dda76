"""Stages of a run that appear complete or not at all, the run folder they stand in, and who may write there."""

import contextlib
import hashlib
import json
import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tqdm.auto import tqdm

from symbiosis.errors import SymbiosisError
from symbiosis.settings import RunSettings, Settings, SettingsError, make_settings, resolve, short
from symbiosis.store.folders import (
    atomic_folder,
    corrupted,
    disk_errors_said,
    link_folder,
    locked,
    locked_folder,
    remove,
    remove_partial,
    sha256,
    write_atomic,
    write_checksums,
)


class RunError(SymbiosisError):
    """A run folder that cannot be used, with the remedy."""


class RunStopped(SystemExit):
    """SIGTERM reached a run: the process ends with 143, as the shell reports such an end, if nothing catches this.

    Like KeyboardInterrupt no Exception, so that no library's `except Exception` carries on after it.
    """

    def __init__(self, message: str):
        super().__init__(message)
        self.code = 128 + signal.SIGTERM


def run_folder(settings: RunSettings) -> Path:
    return resolve(settings.reports_dir) / "runs" / settings.folder


def shared_folder(run: Path, name: str, needs: dict) -> Path:
    """Where the runs of a scale share a stage: its name tells `needs`, all that the stage is made from, by sha256."""
    digest = hashlib.sha256(json.dumps(needs, sort_keys=True).encode()).hexdigest()
    return run.parents[1] / ".shared" / f"{name}-{digest[:32]}"


def invalidate(state: Path, names: Sequence[str]) -> None:
    """Remove the first stage that is not as it was written, and all after it: a run goes on from there.

    names: the stages in the order in which they are made. A stage without checksums is an older version's; nothing
    unchecked should feed a run.
    """
    first = next((i for i, name in enumerate(names) if not _is_complete(state / name)), len(names))
    for name in names[first:]:
        if (state / name).is_dir():
            remove(state / name)


def _is_complete(folder: Path) -> bool:
    """Whether a stage is there as it was written; one that is there otherwise is told in a line."""
    if not folder.is_dir():
        return False
    wrong = corrupted(folder)
    if wrong:
        tqdm.write(f"{folder}: {', '.join(wrong)} not as it was written; this stage and those after it are made again")
    return not wrong


def stage(
    state: Path, name: str, make: Callable[[Path], dict], *, also: Iterable[Path] = (), shared: Path | None = None
) -> dict:
    """The result of a stage: read from `state/name`, or made; the folder appears only when all of it is written.

    `also` are files that the stage writes elsewhere. `shared` is where all runs that would make the very same stage
    look for it first, and leave it: the one that comes first makes it, others wait and take it, its costs included.
    """
    folder = state / name
    if not folder.is_dir():
        with locked(shared.with_suffix(".lock"), wait=True) if shared else contextlib.nullcontext():
            if shared and shared.is_dir() and not corrupted(shared):
                link_folder(shared, folder)
            else:
                _make(folder, make, also)
                if shared:
                    link_folder(folder, shared)
    return json.loads((folder / "result.json").read_text())


def _make(folder: Path, make: Callable[[Path], dict], also: Iterable[Path]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    with atomic_folder(folder) as out:
        result = make(out) | {"stage": folder.name}
        result["wall_s"] = round(time.perf_counter() - began, 2)
        result["cpu_s"] = round(time.process_time() - cpu, 2)  # of all threads of this process
        result["peak_memory_gib"] = peak_memory_gib()
        (out / "result.json").write_text(json.dumps(result))
        write_checksums(out, also)


def peak_memory_gib() -> float:
    """The most memory this process has held so far, its libraries included."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3)


def prune_checkpoints(folder: Path) -> None:
    """Delete what weights a later generation replaced in a finished run, if it was not made to keep them."""
    settings = read_json(folder / "record.json", "settings")["settings"]
    if not settings.get("keep_checkpoints"):
        for model in (folder / "state").glob("*-*/model"):
            if int(model.parent.name.split("-")[1]) < settings["generations"]:
                remove(model)
    remove_partial(folder / "state")


def prune_shared(scale: Path) -> None:
    """Delete the shared stages of a scale that hold weights: who needs one later makes it again."""
    for model in scale.glob(".shared/*/model"):
        with locked(model.parent.with_suffix(".lock"), wait=True):
            if model.parent.is_dir():
                remove(model.parent)


def metric(generation: int, name: str, value: float, unit: str, n: int) -> dict:
    """A row of a run; n things were counted, 0 where there were none and the value is nan."""
    return {"generation": generation, "metric": name, "value": value, "unit": unit, "n": 0 if math.isnan(value) else n}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """One writer per run folder; what the disk refuses becomes one sentence, and SIGTERM a clean end."""
    remedy = (
        "free some space, or set reports_dir to a folder you may write to; the run goes on after its last whole stage"
    )
    try:
        with disk_errors_said(folder, remedy), locked_folder(folder, wait=False), _stoppable(folder):
            if not (folder / "record.json").exists():  # a finished run may be read, and measured, by others
                remove_partial(folder)
            yield
    except BlockingIOError as error:
        raise RunError(f"{folder}: in use by {error}; wait for it or stop it") from None


@contextlib.contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """SIGTERM (a batch system's notice before it kills) raises RunStopped, so that every block on the way cleans up."""

    def stop(number, frame):
        raise RunStopped(f"{folder}: stopped by SIGTERM; complete stages are kept, run it again to continue from them")

    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread take a signal
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except RunStopped as stopped:
        print(stopped, file=sys.stderr, flush=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def check_settings(folder: Path, settings: Settings) -> None:
    """A run folder holds one setting only: a changed parameter is another run."""
    path = folder / "settings.json"
    if not path.exists():
        return
    stored = read_json(path, "scale", "seed")
    try:
        same = make_settings(str(path), type(settings), **stored).fingerprint == settings.fingerprint
    except SettingsError as error:
        raise _not_whole(path, str(error).splitlines()[0].partition(": ")[2]) from None
    if not same:
        now = settings.model_dump()
        changed = [f"{k}: {short(stored.get(k))} there, {short(v)} now" for k, v in now.items() if stored.get(k) != v]
        more = [f"and {len(changed) - 3} more"] if len(changed) > 3 else []
        raise RunError(
            f"{folder}: holds a run of other settings ({'; '.join(changed[:3] + more)}); give this one its own "
            "`variant` or `study`, or delete that folder"
        )


def settle_inputs(folder: Path, inputs: dict, *, redo: bool) -> None:
    """Keep what a run is made from in inputs.json; a run, finished or begun, is made from today's data and models.

    Where some of that is not what it was: RunError, or with `redo` what the run made is deleted.
    """
    record, begun, inputs = folder / "record.json", folder / "inputs.json", json.loads(json.dumps(inputs))
    stored = read_json(begun) if begun.exists() else {}
    if record.exists():
        stored = read_json(record, "run_id").get("inputs", {})
        if not isinstance(stored, dict):
            raise _not_whole(record, "its `inputs` are no names and values")
    changed = [name for name, value in inputs.items() if stored.get(name, value) != value]
    if changed and not redo:
        raise RunError(
            f"{folder}: its {' and '.join(changed)} came from other code or data than today's; delete the folder to "
            "run it again, or keep its rows (reports/results.csv) and give the new run its own `study`"
        )
    if changed:
        reset_smoke_run(folder)
    if not record.exists():
        write_atomic(begun, json.dumps(inputs if changed else stored | inputs, indent=1).encode())


def reset_smoke_run(folder: Path) -> None:
    """Delete what a run made; the record last: while it is there, a killed reset is done again."""
    if (folder / "state").is_dir():
        remove(folder / "state")
    for name in ("rows.csv", "inputs.json", "record.json"):
        (folder / name).unlink(missing_ok=True)


def read_json(path: Path, *names: str) -> dict:
    """A JSON file of a run, which has these names; RunError where it is cut or of another shape."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise _not_whole(path, f"not valid JSON ({error})") from None
    if not isinstance(found, dict) or not set(names) <= set(found):
        raise _not_whole(path, f"holds no {' and '.join(names) or 'names and values'}")
    return found


def _not_whole(path: Path, why: str) -> RunError:
    return RunError(f"{path}: {why}; delete this file and run again: complete stages are kept and used")


def products(folder: Path) -> dict[str, str]:
    """sha256 of what a run gives its readers: rows.csv and the lessons."""
    paths = [folder / "rows.csv", *sorted((folder / "lessons").glob("*.parquet"))]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths if path.is_file()}


def check_products(folder: Path, *, lessons: bool = True) -> None:
    """A finished run's rows and lessons are still those it wrote; records without checksums are taken as they are.

    lessons: whether they must be there, too.
    """
    path = folder / "record.json"
    kept, now = read_json(path, "run_id").get("products", {}), products(folder)
    if not isinstance(kept, dict):
        raise _not_whole(path, "its `products` are no names and values")
    wrong = [name for name, digest in kept.items() if now.get(name) != digest and (lessons or name in now)]
    if wrong:
        raise RunError(
            f"{folder}: {', '.join(wrong)} not as the run wrote it; restore the file from a copy, or delete "
            "record.json there and run again: complete stages are kept and used"
        )
