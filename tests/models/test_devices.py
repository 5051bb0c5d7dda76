import os
import subprocess
import sys
import time

import pytest
import torch
from row_by_row import row_by_row

from symbiosis.models import devices
from symbiosis.models.devices import DeviceError, bf16_factor, bf16_is_native, claim, resolved_precision, tell_precision

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


@row_by_row("planted", ["a link", "another user's folder", "a file", "a link in the folder"])
def test_no_planted_link_is_followed(planted, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
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


# --- precision ------------------------------------------------------------------------------------------------------
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@row_by_row(
    ("flag", "factor", "native"), [(True, 0.5, True), (True, 55.0, False), (False, 0.5, False)]
)  # what the processor says, and what a product says, which has the last word
def test_auto_is_bf16_where_the_processor_says_so_and_a_product_agrees(monkeypatch, capsys, flag, factor, native):
    for name in devices.BF16_FLAGS:
        monkeypatch.setattr(torch.cpu, name, lambda: flag)
    monkeypatch.setattr(devices, "bf16_factor", lambda: factor)
    chosen = "bf16" if native else "fp32"
    assert tell_precision("auto", CPU) == resolved_precision("auto", CPU) == chosen
    assert capsys.readouterr().out == f"precision: auto is {chosen} on this cpu\n"
    assert tell_precision("bf16", CPU) == "bf16" and tell_precision("fp32", CPU) == "fp32"
    warned = f"bf16 is emulated on this cpu: a product takes {factor:.0f} times as long as in fp32; set it to auto"
    assert (warned in capsys.readouterr().out) is not native


def test_flags_that_torch_took_away_leave_fp32(monkeypatch):
    for name in devices.BF16_FLAGS:
        monkeypatch.delattr(torch.cpu, name)
    assert resolved_precision("auto", CPU) == "fp32"


@row_by_row("native", [True, False])
def test_a_gpu_speaks_for_itself(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert resolved_precision("auto", GPU) == ("bf16" if native else "fp32")


@pytest.mark.skipif(not bf16_is_native(CPU), reason="this CPU emulates bf16 anyway")
def test_a_processor_that_is_held_back_is_found_out_by_the_product():
    """oneDNN kept to AVX2, as on a CPU that has no more: the processor's own flags still say bf16."""
    held_back = os.environ | {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    asks = (
        "import torch; from symbiosis.models.devices import *; cpu = torch.device('cpu'); tell_precision('bf16', cpu); "
    )
    command = [sys.executable, "-c", asks + "print(resolved_precision('auto', cpu), bf16_factor())"]
    said, answer = subprocess.run(command, env=held_back, capture_output=True, text=True).stdout.splitlines()
    chosen, factor = answer.split()
    assert chosen == "fp32" and float(factor) > 5 * bf16_factor() and "bf16 is emulated on this cpu" in said
