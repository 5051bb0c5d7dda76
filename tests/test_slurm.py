"""A batch on a real Slurm of one node: minutes, root and a few packages, so only `make test-slow` runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm_smoke.sh")


@pytest.mark.slow
def test_a_canceled_slurm_job_is_submitted_again_and_continues_at_its_first_missing_stage():
    done = subprocess.run(["bash", str(SCRIPT), sys.executable], capture_output=True, text=True)
    print(done.stdout)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("canceled 1, resumed 1, finished 4 of 4")


def test_the_script_says_why_it_cannot_run_here(tmp_path):
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path / "no-python")], capture_output=True, text=True)
    assert done.returncode == 77 and done.stdout.strip().splitlines()[-1].startswith("skipped: ")
