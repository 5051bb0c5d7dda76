import os
import subprocess
import sys
import time

import pytest
import torch

from symbiosis.models import devices
from symbiosis.models.devices import DeviceError, claim

FOUR = ["0", "1", "2", "3"]


@pytest.fixture(autouse=True)
def no_claims(monkeypatch, tmp_path):
    """No device chosen yet, locks in a folder of the test's own, all of them let go afterwards."""
    monkeypatch.setenv(devices.VISIBLE, "")  # so that what claim() sets is undone
    monkeypatch.delenv(devices.VISIBLE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    devices._own_locks.close()


# A run on the same box: claims, says what it has, holds it until its input ends.
OTHER = """
import sys
from symbiosis.models.devices import claim
print(*claim({n}, devices={ids}), flush=True)
sys.stdin.read()
"""


def other_run(n, ids, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != devices.VISIBLE} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", OTHER.format(n=n, ids=ids)]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    return run, run.stdout.readline().split()


def test_two_runs_never_have_the_same_device_and_a_killed_one_gives_its_own_back(tmp_path):
    run, theirs = other_run(2, FOUR, tmp_path)
    try:
        assert theirs == ["0", "1"] and claim(1, devices=FOUR) == ["2"] == [os.environ[devices.VISIBLE]]
        del os.environ[devices.VISIBLE]  # as if another run asked
        with pytest.raises(DeviceError) as error:
            claim(2, devices=FOUR)
        for device, holder in (("0", run.pid), ("1", run.pid), ("2", os.getpid())):
            assert f"{device} is held by process {holder} on " in str(error.value)
        assert str(error.value).startswith("2 of 4 GPUs asked for, 1 free: 0 is held")
        assert devices.VISIBLE not in os.environ
        assert claim(1, devices=FOUR) == ["3"]  # the refused claim let go of what it had found
    finally:
        run.kill()
        run.wait()
    del os.environ[devices.VISIBLE]
    assert claim(2, devices=FOUR) == ["0", "1"]


def test_a_claim_may_wait_until_enough_are_free_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "PAUSE_S", 0.1)
    run, _ = other_run(1, ["0"], tmp_path)
    began, ends = time.monotonic(), subprocess.Popen(["sleep", "1"])
    monkeypatch.setattr(devices.time, "sleep", lambda s: ends.poll() is None or run.kill())
    assert claim(2, devices=["0", "1"], wait=True) == ["0", "1"]
    assert time.monotonic() - began > 0.9
    run.wait()


@pytest.mark.parametrize("planted", ["a link", "another user's folder", "a file", "a link in the folder"])
def test_no_planted_link_is_followed(planted, tmp_path, monkeypatch):
    folder, precious = tmp_path / f"symbiosis-devices-{os.getuid()}", tmp_path / "precious.txt"
    precious.write_text("mine")
    if planted == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    elif planted == "a file":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o777)
        (folder / "claiming.lock").symlink_to(precious)
        if planted == "another user's folder":
            other = os.getuid() + 1
            monkeypatch.setattr(devices.os, "getuid", lambda: other)
            folder.rename(folder.with_name(f"symbiosis-devices-{other}"))
    with pytest.raises(DeviceError, match=r"devices-\d+: cannot hold the locks of GPUs \(.+\); remove it"):
        claim(1, devices=["0"])
    assert precious.read_text() == "mine"


def test_the_folder_of_locks_is_the_users_alone(tmp_path):
    claim(1, devices=["0"])
    assert (tmp_path / f"symbiosis-devices-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_a_choice_made_elsewhere_stands(monkeypatch):
    monkeypatch.setenv(devices.VISIBLE, "5,7")
    assert claim(1, devices=FOUR) == ["5", "7"]
    monkeypatch.setenv(devices.VISIBLE, "")
    assert claim(1, devices=FOUR) == []  # CUDA is hidden on purpose


def test_a_machine_without_gpus_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert claim(2) == [] and devices.VISIBLE not in os.environ and not list(tmp_path.iterdir())


def test_what_cannot_be_had_is_said_at_once(monkeypatch):
    with pytest.raises(DeviceError, match="num_processes: 3 GPUs asked for, 2 here; lower it"):
        claim(3, devices=["0", "1"], wait=True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(DeviceError, match="CUDA has already begun in this process; claim before the first model"):
        claim(1, devices=FOUR)
