"""Stages of a run that appear whole or not at all, the run folder they stand in, and who may write there."""

import contextlib
import errno
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetensors import SafetensorError
from tqdm.auto import tqdm

from symbiosis.errors import SymbiosisError
from symbiosis.settings import RunSettings, Settings, make_settings, resolve
from symbiosis.store.folders import (
    damaged,
    dropped,
    locked,
    remove,
    sha256,
    sweep,
    whole_folder,
    write_atomic,
    write_checksums,
)

DISK_TROUBLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
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


def stage(state: Path, name: str, make: Callable[[Path], dict], *, also: Sequence[Path] = ()) -> dict:
    """The result of a stage: read from `state/name`, or made; the folder appears only when all of it is written.

    `also` are files that the stage writes elsewhere. Whatever is not as its checksum says is made again, and so is a
    stage without checksums: it was left half-way by an older version, and nothing unchecked should feed a run.
    """
    folder = state / name
    if not is_whole(folder):
        began = time.perf_counter()
        with whole_folder(folder) as out:
            result = make(out) | {"stage": name}
            result["wall_s"] = round(time.perf_counter() - began, 2)
            (out / "result.json").write_text(json.dumps(result))
            write_checksums(out, also)
    return json.loads((folder / "result.json").read_text())


def is_whole(folder: Path) -> bool:
    """Whether a stage is there as it was written; one that is there otherwise is told in a line."""
    if not folder.is_dir():
        return False
    wrong = damaged(folder)
    if wrong:
        tqdm.write(f"{folder}: {', '.join(wrong)} not as it was written; this stage is made again")
    return not wrong


def _role(name: str) -> str:
    return name.partition("-")[0]


def rewind(state: Path, names: Sequence[str], role_of: Callable[[str], str] = _role) -> None:
    """Remove damaged stages, and whole ones before them that must be made again because their weights are dropped.

    `role_of` says of a stage whose weights it leaves, if any; a stage needs the last weights of every role before it.
    """
    again = {i for i, name in enumerate(names) if not is_whole(state / name)}
    for first in sorted(again):
        again |= set(range(_last_with_weights(state, names, first, role_of), first))
    for name in (names[i] for i in sorted(again)):
        if (state / name).is_dir():
            remove(state / name)


def _last_with_weights(state: Path, names: Sequence[str], first: int, role_of: Callable[[str], str]) -> int:
    """Where to begin so that stage `first` finds the weights of every role before it."""
    last = {role_of(name): i for i, name in enumerate(names[:first])}
    gone = [i for i in last.values() if dropped(state / names[i])]
    return _last_with_weights(state, names, min(gone), role_of) if gone else first


def metric(generation: int, name: str, value: float, unit: str, n: int) -> dict:
    return {"generation": generation, "metric": name, "value": value, "unit": unit, "n": n}


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """One writer per run folder; what the disk refuses becomes one sentence, and SIGTERM a clean end."""
    try:
        with locked(folder / ".lock", wait=False), _stoppable(folder):
            if not (folder / "record.json").exists():  # a finished run may be read, and measured, by others
                sweep(folder)
            yield
    except BlockingIOError as error:
        raise RunError(f"{folder}: in use by {error}; wait for it or stop it") from None
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) not in DISK_TROUBLE and not isinstance(error, SafetensorError):
            raise
        raise RunError(
            f"{folder}: cannot be written ({error}); free some space, or set reports_dir to a folder you may write to. "
            "Nothing half-written is left, and the run continues from its last whole stage"
        ) from None


@contextlib.contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """SIGTERM (a batch system's notice before it kills) raises RunStopped, so that every block on the way cleans up."""

    def stop(number, frame):
        raise RunStopped(f"{folder}: stopped by SIGTERM; its whole stages are kept, run it again to continue from them")

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


def same_settings(folder: Path, settings: Settings) -> None:
    """A run folder holds one setting only: a changed parameter is another run."""
    path = folder / "settings.json"
    if not path.exists():
        write_atomic(path, settings.model_dump_json(indent=1).encode())
        return
    stored, now = _read_json(path), settings.model_dump()
    changed = [f"{k}: {stored.get(k)!r} there, {v!r} now" for k, v in now.items() if stored.get(k) != v]
    if make_settings(str(path), type(settings), **stored).fingerprint != settings.fingerprint:
        raise RunError(
            f"{folder}: holds a run of other settings ({'; '.join(changed)}); give this one its own `variant` or "
            "`study`, or delete that folder"
        )


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise RunError(
            f"{path}: not valid JSON ({error}); delete this file and run again: whole stages are kept and used"
        ) from None


def products(folder: Path) -> dict[str, str]:
    """sha256 of what a run gives its readers: rows.csv and the lessons."""
    paths = [folder / "rows.csv", *sorted((folder / "lessons").glob("*.parquet"))]
    return {path.relative_to(folder).as_posix(): sha256(path) for path in paths if path.is_file()}


def check_products(folder: Path) -> None:
    """A finished run's rows and lessons are still those it wrote; records without checksums are taken as they are."""
    kept, now = _read_json(folder / "record.json").get("products", {}), products(folder)
    wrong = [name for name, mark in kept.items() if now.get(name) != mark]
    if wrong:
        raise RunError(
            f"{folder}: {', '.join(wrong)} not as the run wrote it; restore the file from a copy, or delete "
            "record.json there and run again: whole stages are kept and used"
        )
