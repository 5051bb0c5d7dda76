"""Files and folders that appear complete or not at all, their checksums, and locks."""

import errno
import os
import platform
import subprocess
import threading
import time
from unittest import mock

import pytest

from symbiosis.store import folders
from symbiosis.store.folders import (
    SUMS,
    LockError,
    atomic_folder,
    corrupted,
    link_folder,
    locked,
    locked_folder,
    remove_partial,
    write_atomic,
    write_checksums,
)


@pytest.fixture
def summed(tmp_path):
    """A folder with a file, a subfolder, and a file elsewhere that belongs to it."""
    folder, outside = tmp_path / "stage", tmp_path / "elsewhere" / "lesson"
    for path, text in ((folder / "result", "1 2 3"), (folder / "model" / "weights", "4 5 6"), (outside, "7 8 9")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    write_checksums(folder, also=[outside])
    return folder


def test_checksums_are_those_of_sha256sum(summed):
    lines = (summed / SUMS).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["../elsewhere/lesson", "model/weights", "result"]
    assert corrupted(summed) == []
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=summed, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert folders.sha256(summed / "result") == lines[2].split("  ")[0]


def test_a_file_that_is_not_as_written_or_that_nobody_wrote_is_named(summed):
    for name in ("result", "model/weights", "../elsewhere/lesson"):
        path = summed / name
        content = path.read_bytes()
        for harmed in (content[:-1], bytes([content[0] ^ 1]) + content[1:]):  # cut, or one bit flipped
            path.write_bytes(harmed)
            assert corrupted(summed) == [name]
        path.unlink()
        assert corrupted(summed) == [name]
        path.write_bytes(content)
    (summed / "model" / "weights.pkl").write_text("")
    assert corrupted(summed) == ["model/weights.pkl"]


def test_a_second_folder_of_the_same_files_takes_no_room_and_on_a_disk_without_links_is_a_copy(tmp_path, monkeypatch):
    for path in (source := tmp_path / "made") / "result", source / "model" / "weights":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1 2 3")
    write_checksums(source)
    for name, files in (("linked", 1), ("copied", 2)):
        if name == "copied":
            monkeypatch.setattr(os, "link", mock.Mock(side_effect=OSError(errno.EPERM, "no links here")))
        link_folder(source, tmp_path / name)
        assert corrupted(tmp_path / name) == []
        inodes = {(folder / "model" / "weights").stat().st_ino for folder in (source, tmp_path / name)}
        assert len(inodes) == files
    folders.remove(source)
    assert (tmp_path / "linked" / "result").read_text() == "1 2 3"


def test_a_cut_list_is_seen_wherever_it_is_cut(summed):
    whole = (summed / SUMS).read_bytes()
    for size in range(len(whole) - 1):  # without its last byte, the line's end, it says the same
        (summed / SUMS).write_bytes(whole[:size])
        assert corrupted(summed), f"cut after {size} bytes of {len(whole)}"
    (summed / SUMS).unlink()
    assert corrupted(summed) == [SUMS]


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path):
    (tmp_path / "state" / ".student-1-abc.part" / "model").mkdir(parents=True)
    (tmp_path / ".rows.csv.4711.part").write_text("half")
    for kept in (".lock", "rows.csv", "run.part.ipynb"):
        (tmp_path / kept).write_text("")
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "rows.csv", "run.part.ipynb", "state"]
    assert not list((tmp_path / "state").iterdir())


def test_a_replaced_folder_is_never_half_there(tmp_path, monkeypatch):
    folder, seen, rmtree = tmp_path / "stage", [], folders.shutil.rmtree
    with atomic_folder(folder) as out:
        (out / "old").write_text("")

    def watched(path, **keywords):
        seen.append([p.name for p in folder.iterdir()] if folder.exists() else None)
        rmtree(path, **keywords)

    monkeypatch.setattr(folders.shutil, "rmtree", watched)
    with atomic_folder(folder) as out:
        (out / "new").write_text("")
    assert seen[0] is None and set(map(str, seen)) <= {"None", "['new']"}  # gone before it is emptied, then the new one


def test_content_reaches_the_disk_before_its_name_and_the_name_before_we_go_on(tmp_path, monkeypatch):
    events, replace = [], os.replace
    monkeypatch.setattr(folders, "sync", lambda path: events.append(("sync", path.name.partition(".part")[0])))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append(("rename", b.name)), replace(a, b)))
    write_atomic(tmp_path / "rows", b"1")
    assert events == [("sync", f".rows.{os.getpid()}"), ("rename", "rows"), ("sync", tmp_path.name)]
    events.clear()
    with atomic_folder(tmp_path / "stage") as out:
        (out / "result").write_text("1")
        with atomic_folder(out / "model") as inner:
            (inner / "weights").write_text("2")
    names = [name for what, name in events if what == "sync"]
    assert {"result", "model", "weights"} <= set(names)
    assert events[-2:] == [("rename", "stage"), ("sync", tmp_path.name)]


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path):
    path = tmp_path / ".lock"
    path.write_text("process 999999 on another-host since 2001-01-01 00:00:00+00:00")  # its process is long gone
    with locked(path, wait=False):
        with pytest.raises(BlockingIOError) as held, locked(path, wait=False):
            pass
        holder = f"process {os.getpid()} on {platform.node()} since 2"
        assert str(held.value).startswith(holder)
    with locked(path, wait=False):
        pass


def test_who_waits_long_for_a_lock_says_once_who_holds_it(tmp_path, monkeypatch, capsys):
    path, told = tmp_path / "student-0.lock", []
    monkeypatch.setattr(folders, "PATIENCE_S", 0.2)
    with locked(path, wait=True):
        pass
    assert not capsys.readouterr().out  # free: nothing to tell
    held = threading.Event()

    def hold():
        with locked(path, wait=False):
            held.set()
            while "waiting" not in "".join(told) and len(told) < 500:
                time.sleep(0.01)
                told.append(capsys.readouterr().out)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    with locked(path, wait=True):
        holder.join(10)
    said = "".join(told)
    assert said.startswith(f"student-0.lock is held by process {os.getpid()} on ") and said.count("waiting") == 1


def test_a_disk_without_locks_is_one_sentence(tmp_path, monkeypatch):
    for refusal in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
        refuses = mock.Mock(side_effect=OSError(refusal, os.strerror(refusal)))
        monkeypatch.setattr(folders.fcntl, "flock", refuses)
        with (
            pytest.raises(LockError, match=r"\.lock: cannot be locked \(.+\), and without a lock"),
            locked(tmp_path / ".lock", wait=False),
        ):
            pass


def test_a_lock_that_is_a_link_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), locked(tmp_path / ".lock", wait=True):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_who_waited_for_a_lock_that_was_deleted_holds_the_new_one(tmp_path, monkeypatch):
    path, flock, seen = tmp_path / ".lock", folders.fcntl.flock, []

    def deleted_meanwhile(handle, how):
        if not seen:
            path.unlink()
        seen.append(how)
        return flock(handle, how)

    monkeypatch.setattr(folders.fcntl, "flock", deleted_meanwhile)
    with locked(path, wait=True):
        assert len(seen) == 2 and path.read_text().startswith(f"process {os.getpid()}")
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass


def test_a_folder_on_a_disk_that_locks_files_only_is_held_by_its_file(tmp_path, monkeypatch):
    flock = folders.fcntl.flock

    def files_only(handle, how):
        if isinstance(handle, int):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return flock(handle, how)

    monkeypatch.setattr(folders.fcntl, "flock", files_only)
    with locked_folder(tmp_path, wait=False), pytest.raises(BlockingIOError), locked_folder(tmp_path, wait=False):
        pass
