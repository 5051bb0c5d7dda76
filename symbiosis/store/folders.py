"""Files and folders that appear complete or not at all, their checksums, and locks between processes."""

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from tqdm.auto import tqdm

from symbiosis.errors import SymbiosisError

SUMS = "SHA256SUMS"  # in the format of sha256sum: `sha256sum --check SHA256SUMS` says the same as `corrupted`
PATIENCE_S, PAUSE_S = 5.0, 0.05  # before a wait for a lock is told; between two tries
PART = ".part"  # ends the hidden name of whatever is not complete yet
DISK_TROUBLE = (
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENOTEMPTY, errno.ESTALE,
)  # fmt: skip


class LockError(SymbiosisError):
    """A file system without locks."""


class DiskError(SymbiosisError):
    """What the disk refuses to hold, with the remedy."""


def write_atomic(path: Path, content: bytes) -> None:
    """Written beside under another name, then renamed. Equal content is left untouched."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    try:
        partial.write_bytes(content)
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well, and vanishes when it does not.

    What a killed process left of the same folder is cleared first: the caller holds a lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary = _beside(folder)
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        if folder.exists():
            remove(folder)
        os.replace(temporary, folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def link_folder(source: Path, folder: Path) -> None:
    """A second folder with the same files, which need no more room; copies of them on a disk without links."""
    with atomic_folder(folder) as out:
        shutil.copytree(source, out, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError:
        shutil.copy2(source, place)


def remove(folder: Path) -> None:
    """Delete a folder, in one step for whoever looks: it is renamed away first, so a killed process leaves no half."""
    trash = _beside(folder)
    os.replace(folder, trash)
    shutil.rmtree(trash, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Delete what killed processes left half-written anywhere below `folder`; the caller holds its lock."""
    for leftover in list(folder.rglob(f".*{PART}")):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


def _beside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}-", suffix=PART, dir=folder.parent))


def sync(path: Path) -> None:
    """Force a file's content, or a folder's names, onto the disk: a power loss cannot undo what comes after."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(handle)


# --- checksums -----------------------------------------------------------------------------------------------------
def sha256(path: Path) -> str:
    """Hex digits over one file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(paths: Iterable[Path]) -> str:
    """sha256 over the contents of files, in the order given."""
    content = hashlib.sha256()
    for path in paths:
        content.update(bytes.fromhex(sha256(path)))
    return content.hexdigest()


def write_checksums(folder: Path, also: Iterable[Path] = ()) -> None:
    """SHA256SUMS over every file in `folder`, and over files elsewhere that belong to it."""
    sums = sorted((os.path.relpath(path, folder), sha256(path)) for path in (*_files(folder), *also))
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums))


def corrupted(folder: Path) -> list[str]:
    """Names of files that are not as SHA256SUMS of their folder has them: changed, cut, gone, or not listed."""
    if not (folder / SUMS).is_file():
        return [SUMS]
    lines = (folder / SUMS).read_text(errors="replace").splitlines()  # a cut line names a file that cannot match
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    now = {name: sha256(folder / name) for name in listed if (folder / name).is_file()}
    wrong = [name for name, digest in listed.items() if now.get(name) != digest]
    return wrong + sorted({path.relative_to(folder).as_posix() for path in _files(folder)} - set(listed))


def _files(folder: Path) -> list[Path]:
    """All files below, but the list itself and anything hidden."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [folder / n for n in names if n != Path(SUMS) and not any(part.startswith(".") for part in n.parts)]


# --- locks ---------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock file at `path`; where another process has it, wait, or raise BlockingIOError that names it.

    Who waits longer than PATIENCE_S says so, once.

    The system frees the lock of a process that is gone, however it went; what the file says is for people. No link is
    followed. Raises LockError on a file system without locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "a+", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666)) as handle:
            _lock(handle, path, wait)
            if not _is_still_at(handle, path):
                continue  # deleted while this process waited: whoever comes next locks another file
            handle.truncate(0)
            now = datetime.now(UTC).isoformat(" ", "seconds")
            handle.write(f"process {os.getpid()} on {platform.node()} since {now}")
            handle.flush()
            yield
            return


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold `folder/.lock` and the folder itself, so that nobody enters who deletes that file."""
    with locked(folder / ".lock", wait=wait):
        handle = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(LockError):  # some network file systems lock files only
                _lock(handle, folder, wait)
            yield
        finally:
            os.close(handle)


def _lock(handle: Any, path: Path, wait: bool) -> None:
    until = time.monotonic() + (PATIENCE_S if wait else 0)
    while not _had_at_once(handle, path):
        if time.monotonic() >= until:
            said = path.read_text(errors="replace").strip() if path.is_file() else ""
            if not wait:
                raise BlockingIOError(said or "another process")
            tqdm.write(f"{path.name} is held by {said or 'another process'}; waiting for it")
            until = math.inf
        time.sleep(PAUSE_S)


def _had_at_once(handle: Any, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise LockError(
            f"{path}: cannot be locked ({error.strerror}), and without a lock two processes could write the same "
            "files; work on a disk with locks (some network file systems have none)"
        ) from None
    return True


def _is_still_at(handle: Any, path: Path) -> bool:
    """Whether the open file is the one that stands at `path` now."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.lstat())
    except FileNotFoundError:
        return False


# --- what the disk refuses -----------------------------------------------------------------------------------------
@contextlib.contextmanager
def disk_errors_said(place: Path, remedy: str) -> Iterator[None]:
    """Make the folder `place`; inside, what the disk refuses is a DiskError, one sentence that ends in the remedy."""
    made = False
    try:
        place.mkdir(parents=True, exist_ok=True)
        made = True
        yield
    except SafetensorError as error:
        raise DiskError(f"{place}: cannot be written ({error}); {remedy}. Nothing half-written is left") from None
    except OSError as error:
        if made and error.errno not in DISK_TROUBLE:
            raise
        if made and error.filename and place not in Path(error.filename).absolute().parents:
            raise DiskError(f"{error.filename}: {error.strerror}; see that you may read and write it") from None
        raise DiskError(f"{place}: cannot be written ({error}); {remedy}. Nothing half-written is left") from None
