"""A run is dirty where what computes it was changed, not where results or profiles were."""

import subprocess

import pytest

from symbiosis.store.record import git_state


def git(*words):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *names, *words], check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("symbiosis/a.py", "params/real.yaml", "notebooks/01.ipynb", "reports/results.csv", "profiles/x.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("as it was\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "Begin")
    return tmp_path


def test_only_changes_of_what_computes_a_run_are_dirty(clone):
    for changed, dirty in (
        ("reports/results.csv", False),
        ("profiles/x.yaml", False),
        ("params/own.yaml", False),  # not tracked
        ("params/real.yaml", True),
        ("symbiosis/a.py", True),
    ):
        (clone / changed).write_text("changed\n")
        state = git_state()
        assert len(state["commit"]) == 40 and state["dirty"] is dirty, changed
        git("stash", "--quiet")


def test_outside_a_clone_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_state() == {"commit": None, "dirty": None}
