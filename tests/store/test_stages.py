"""Whatever happens to a run: one sentence says so, no complete stage is lost, the numbers are those of an unbroken one.

`python tests/kill_harness.py` kills more, and the kernel and papermill, too.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import kill_harness
import pytest
from kill_harness import BATCH, TINY

from symbiosis.loop import runs
from symbiosis.settings import RunSettings
from symbiosis.store import record, stages
from symbiosis.store.folders import DiskError, atomic_folder, write_checksums
from symbiosis.store.stages import RunError, RunStopped


def tiny(reports_dir, which, **changes) -> RunSettings:
    return RunSettings(**TINY | BATCH[which] | {"generations": 3, "reports_dir": str(reports_dir)} | changes)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Both runs of the batch, never interrupted."""
    return {which: run_in(tmp_path_factory.mktemp("unbroken"), which) for which in range(len(BATCH))}


def run_in(place, which) -> Path:
    runs.run(tiny(place, which))
    return stages.run_folder(tiny(place, which))


@pytest.fixture(scope="module")
def half_done(tmp_path_factory):
    """Both runs, stopped in the lesson of generation 3."""
    return {which: stopped_in(tmp_path_factory.mktemp("half"), which) for which in range(len(BATCH))}


def stopped_in(place, which) -> Path:
    def stop(name):
        if name == "lesson-3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.run(tiny(place, which), on_stage=stop)
    return place


@pytest.fixture
def copy(half_done, tmp_path):
    """A half-done run of one's own: settings and folder."""

    def copied(which, reports=tmp_path / "reports"):
        shutil.copytree(half_done[which], reports)
        settings = tiny(reports, which)
        return settings, stages.run_folder(settings)

    return copied


def same_as(unbroken: Path, folder: Path) -> bool:
    names = ["rows.csv", *(f"lessons/gen-{g}.parquet" for g in (1, 2, 3))]
    return all((folder / name).read_bytes() == (unbroken / name).read_bytes() for name in names)


# --- killed --------------------------------------------------------------------------------------------------------
def test_killed_runs_continue_to_the_numbers_of_unbroken_ones(capsys):
    assert kill_harness.main(["--kills", "3", "--seed", "2"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["differences"] == [] and report["files_compared"] >= 3
    assert report["kills"] == 3 == sum(report["stages"].values()) and len(report["stages"]) >= 2


def test_the_harness_would_see_a_difference_in_the_last_digit(unbroken, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(unbroken[0], broken)
    harness = kill_harness.Harness(tmp_path, random.Random(0))
    harness._compare(unbroken[0], broken, "same")
    assert harness.differences == [] and harness.compared == 4
    text = (broken / "rows.csv").read_text()
    (broken / "rows.csv").write_text(text[:-40] + text[-40:].replace("1", "2", 1))
    (broken / "lessons" / "gen-2.parquet").unlink()
    harness._compare(unbroken[0], broken, "other")
    assert harness.differences == ["other: broken/rows.csv", "other: broken/lessons/gen-2.parquet"]


# --- damaged -------------------------------------------------------------------------------------------------------
def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000] if path.stat().st_size > 2000 else path.read_bytes()[:-3])


DAMAGE = [  # which run, file, the first stage that is made again
    (0, "state/student-2/model/model.safetensors", "student-2"),
    (1, "state/teach-2/model/model.safetensors", "teach-2"),
    (0, "state/lesson-2/so_far.parquet", "lesson-2"),
    (1, "lessons/gen-1.parquet", "lesson-1"),
]


def written(folder: Path) -> dict[str, int]:
    """When each stage was written; a copy keeps the times."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("state/*/result.json")}


def test_a_corrupted_stage_and_those_after_it_are_made_again(copy, unbroken, capsys, tmp_path):
    for number, (which, name, first) in enumerate(DAMAGE):
        settings, folder = copy(which, tmp_path / str(number))
        before = written(folder)
        cut(folder / name)
        runs.run(settings)
        said = [line for line in capsys.readouterr().out.splitlines() if "not as it was written" in line]
        assert len(said) == 1 and f"{first}: " in said[0] and Path(name).name in said[0]
        after, names = written(folder), runs.stage_names(settings)
        made_again = names[names.index(first) :]
        assert {stage for stage in before if after[stage] != before[stage]} == set(made_again) & set(before)
        assert same_as(unbroken[which], folder)


def test_a_run_goes_on_before_its_first_stage_that_is_not_as_written(tmp_path):
    names = ["a-1", "b-1", "c-1", "a-2", "b-2"]  # b-2 is yet to come
    for number, harm in enumerate(["result.json", "model/weights", "SHA256SUMS", "model", ""]):
        state = tmp_path / str(number)
        for name in names[:4]:
            with atomic_folder(state / name) as out:
                (out / "model").mkdir()
                for path in (out / "result.json", out / "model" / "weights"):
                    path.write_text(name)
                write_checksums(out)
        stages.invalidate(state, names)
        assert left(state) == ["a-1", "a-2", "b-1", "c-1"]
        harmed = state / "c-1" / harm
        shutil.rmtree(harmed) if harmed.is_dir() else harmed.write_text("c-2")
        stages.invalidate(state, names)
        assert left(state) == ["a-1", "b-1"]


def left(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir())


# --- the disk ------------------------------------------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own size, and how to mount it anew; where nobody may mount, the test is skipped."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> subprocess.CompletedProcess:
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(words, capture_output=True, text=True)

    with contextlib.suppress(FileNotFoundError):
        done = mount("size=16k")
        if done.returncode == 0:
            yield place, lambda options: mount(f"remount,{options}")
            subprocess.run(["umount", "--lazy", str(place)], check=True)  # weights may still be mapped
            return
    pytest.skip("a small tmpfs cannot be mounted here (needs root)")


@pytest.mark.parametrize("size", ["16k", "1400k"])
def test_a_full_disk_is_one_sentence_and_the_run_continues_where_there_is_space(small_disk, unbroken, size):
    place, remount = small_disk
    remount(f"size={size}")
    settings = tiny(place, 1)
    with pytest.raises(DiskError, match=r"No space left on device.*; free some space, or set reports_dir") as error:
        runs.run(settings)
    assert "\n" not in str(error.value)
    assert not list(place.rglob(".*.part")) and not list(place.rglob("record.json")), "something half-written is left"
    folder = stages.run_folder(settings)
    kept = written(folder)
    remount("size=64m")
    runs.run(settings)
    assert kept.items() <= written(folder).items()  # complete stages were used
    assert same_as(unbroken[1], folder)


def test_a_file_that_may_not_grow_is_one_sentence(unbroken, tmp_path):
    settings, limits = tiny(tmp_path, 0), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # below the weights, above all the rest
    try:
        with pytest.raises(DiskError, match=r"File too large.*; free some space"):
            runs.run(settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob(".*.part"))
    runs.run(settings)
    assert same_as(unbroken[0], stages.run_folder(settings))


def test_a_read_only_disk_is_one_sentence(small_disk, unbroken, half_done):
    place, remount = small_disk
    remount("size=64m")
    shutil.copytree(half_done[0], place / "reports")
    settings = tiny(place / "reports", 0)
    remount("ro,size=64m")
    with pytest.raises(
        DiskError, match=r"cannot be written .*Read-only file system.*set reports_dir to a folder you may"
    ):
        runs.run(settings)
    remount("rw,size=64m")
    runs.run(settings)
    assert same_as(unbroken[0], stages.run_folder(settings))


def test_a_place_one_may_not_write_to_is_one_sentence(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    closed = [tmp_path / "closed"] if os.geteuid() else []  # root may write into any folder
    for place in ("/proc/nowhere", "/dev/null", "/etc/hostname/reports", *closed):
        with pytest.raises(
            DiskError, match=r"cannot be written .*; free some space, or set reports_dir to a folder you"
        ):
            runs.run(tiny(place, 0))


def test_models_that_cannot_be_kept_are_one_sentence_that_names_their_folder(tmp_path, monkeypatch):
    (tmp_path / "params").mkdir(), (tmp_path / "notebooks").mkdir()
    (tmp_path / ".cache").write_text("no folder")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiskError, match=rf"^{tmp_path}/.cache/symbiosis: cannot be written .*see that you may write"):
        runs.run(tiny("reports", 0))
    (tmp_path / ".cache").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))
    try:
        with pytest.raises(DiskError, match=rf"^{tmp_path}/.cache/symbiosis: cannot be written .*File too large"):
            runs.run(tiny("reports", 0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("model.safetensors"))


def test_nobody_enters_who_deletes_the_lock_of_a_run(tmp_path):
    for begun in (True, False):
        with stages.writing(tmp_path):
            (tmp_path / ".lock").unlink()
            if begun:
                (tmp_path / ".lock").write_text("")
            with pytest.raises(RunError, match="in use by another process; wait"), stages.writing(tmp_path):
                pytest.fail("two write at once")
        with stages.writing(tmp_path):
            pass


# --- clock, signals, threads ---------------------------------------------------------------------------------------
def test_nothing_depends_on_the_clock(copy, unbroken, monkeypatch):
    settings, folder = copy(1)
    for path in folder.rglob("*"):
        os.utime(path, (4_000_000_000, 4_000_000_000))  # in 2096
    ticks = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 3600 * next(ticks))  # an hour back at every look
    runs.run(settings)
    assert same_as(unbroken[1], folder)
    told = record.read_record(settings)
    assert (
        all(wall_s >= 0 for wall_s in told["stages"].values()) and told["stage_costs"].keys() == told["stages"].keys()
    )
    peaks = [cost["peak_memory_gib"] for cost in told["stage_costs"].values()]
    assert peaks[0] > 0 and peaks == sorted(peaks) and peaks[-1] <= told["peak_memory_gib"]


SIGNALS = [
    (signal.SIGTERM, RunStopped, runs, "save_lesson"),
    (signal.SIGINT, KeyboardInterrupt, stages, "write_checksums"),
]


@pytest.mark.parametrize("number, error, module, where", SIGNALS)
def test_a_signal_leaves_complete_stages_only(unbroken, tmp_path, monkeypatch, capsys, number, error, module, where):
    settings, real, calls = tiny(tmp_path, 1), getattr(module, where), []
    before = signal.getsignal(signal.SIGTERM)

    def signalled(*args, **keywords):
        calls.append(1)
        result = real(*args, **keywords)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(module, where, signalled)
    with pytest.raises(error) as raised:
        runs.run(settings)
    assert signal.getsignal(signal.SIGTERM) == before and not list(tmp_path.rglob(".*.part"))
    if error is RunStopped:
        last = capsys.readouterr().err.splitlines()[-1]
        assert raised.value.code == 143 and last.endswith("run it again to continue from them") and "SIGTERM" in last
    monkeypatch.setattr(module, where, real)
    runs.run(settings)
    assert same_as(unbroken[1], stages.run_folder(settings))


def test_a_process_that_a_batch_system_stops_ends_with_143(unbroken, tmp_path):
    settings = tiny(tmp_path, 1)
    code = f"from symbiosis.loop import runs; runs.run(runs.RunSettings(**{settings.model_dump()!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(tmp_path.rglob("state/.lesson-1-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 143, said
    assert "stopped by SIGTERM; complete stages are kept" in said.splitlines()[-1] and "Traceback" not in said
    runs.run(settings)
    assert same_as(unbroken[1], stages.run_folder(settings))


def test_a_run_outside_the_main_thread_needs_no_signal(tmp_path):
    settings, rows = tiny(tmp_path, 0, generations=1), []
    thread = threading.Thread(target=lambda: rows.append(runs.run(settings)))
    thread.start()
    thread.join(240)
    assert len(rows) == 1 and set(rows[0]["generation"]) == {0, 1}
