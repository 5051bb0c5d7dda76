"""What is handed to papermill is names and values of its notebook, checked before it begins."""

import json
import os
import subprocess
import sys

import pytest

from symbiosis import execute
from symbiosis.settings import root

CODE = "__import__('pathlib').Path('PWNED').touch();x"
LOOP, THEORY = (str(root() / "notebooks" / name) for name in ("03_symbiosis_loop.ipynb", "08_theory_one_model.ipynb"))


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """The sentence in which a command ends; papermill itself is never reached."""
    (tmp_path / "own.yaml").write_text(json.dumps({CODE: 1}))
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (tmp_path / "misspelt.yaml").write_text("sead: 1\n")

    def end(*words) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["execute", words[0], "out.ipynb", *words[1:]])
        with pytest.raises(SystemExit) as ended:
            execute.main()
        return str(ended.value)

    return end


NO_NAMES = [
    ((LOOP, "-p", CODE, "1"), '-p: "__import__'),
    ((LOOP, f"-p{CODE}", "1"), '-p: "__import__'),
    ((LOOP, f"--parameters={CODE}", "1"), '-p: "__import__'),
    ((LOOP, "-r", CODE, "1"), "is no name of a parameter"),
    ((LOOP, "-f", "own.yaml"), "line 1: "),
    ((LOOP, "-f", "twice.yaml"), "line 2: not valid YAML: 'seed' comes a second time"),
    ((LOOP, "-f", "misspelt.yaml"), "misspelt.yaml: unknown parameter 'sead' (did you mean 'seed'?)"),
    ((LOOP, "-f", "none.yaml"), "none.yaml: no such params file"),
    ((LOOP, "-y", f"{CODE}: 1"), "-y, -b: parameters come from files (-f) and one by one (-p) here"),
    ((LOOP, "-p", "class", "1"), "-p: 'class' is no name of a parameter"),
    ((LOOP, "-p", "epohcs", "1"), "-p: unknown parameter 'epohcs' (did you mean 'epochs'?)"),
    ((THEORY, "-p", "epochs", "1"), "-p: unknown parameter 'epochs'"),
    ((THEORY, "-p", "sampels", "1"), "-p: unknown parameter 'sampels' (did you mean 'samples'?)"),
]


def test_a_name_that_is_none_ends_in_a_sentence_before_papermill(said, tmp_path):
    for words, says in NO_NAMES:
        sentence = said(*words)
        assert sentence.startswith("SettingsError: ") and says in sentence and len(sentence) < 300
    assert not list(tmp_path.glob("PWNED")) and not (tmp_path / "out.ipynb").exists()


def test_parameters_of_a_notebook_are_its_own_and_all_settings_where_it_asks_for_them(tmp_path):
    assert {"samples", "seed"} <= execute.known_names(THEORY) and "epochs" not in execute.known_names(THEORY)
    assert {"epochs", "alpha"} <= execute.known_names(LOOP)
    (tmp_path / "x.ipynb").write_text("[]")
    assert execute.known_names(str(tmp_path / "x.ipynb")) == set()


def test_a_sound_command_is_run_and_alone_without_the_cells_that_only_show(tmp_path):
    notebook = {
        "cells": [
            {"cell_type": "code", "source": "n: int = 1", "metadata": {"tags": ["parameters"]}, "outputs": [],
             "execution_count": None},
            {"cell_type": "markdown", "source": "A look.", "metadata": {"tags": ["look"]}},
            {"cell_type": "code", "source": "n = 0", "metadata": {"tags": ["look"]}, "outputs": [],
             "execution_count": None},
            {"cell_type": "code", "source": "print(n + 1)", "metadata": {}, "outputs": [], "execution_count": None},
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
        "nbformat": 4, "nbformat_minor": 4,
    }  # fmt: skip
    (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
    words = [
        sys.executable,
        "-m",
        "symbiosis.execute",
        "--run-alone",
        "a.ipynb",
        "b.ipynb",
        "-p",
        "n",
        "41",
        "--no-progress-bar",
    ]
    done = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root())}
    )
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "b.ipynb").read_text()
    assert '"42\\n"' in made and "A look." not in made and "A look." in (tmp_path / "a.ipynb").read_text()
