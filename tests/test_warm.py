"""A command in a fork of a warm Python is the command itself: words, streams, exit status, and its end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from symbiosis import warm

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import os, sys, json
print(sys.argv[1:], __name__, os.getcwd(), os.environ["ASKED"], "decimal" in sys.modules)
print("a warning", file=sys.stderr)
json.dump(os.getpid(), open("pid", "w"))
if sys.argv[1] == "wait":
    import time
    time.sleep(600)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def server():
    """Where a module of standard imports is loaded already, `symbiosis` itself is not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:.")
        with warm.serving(loaded=["decimal"]):
            yield


@pytest.fixture
def program(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASKED", "yes")
    return "program"


def start(*words):
    return subprocess.Popen(warm.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def gone(pid):
    """Whether a process ends within ten seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("with_server", [True, False])
def test_a_command_is_the_same_in_a_fork(program, tmp_path, monkeypatch, request, with_server):
    """Its words, folder, environment, streams and status."""
    if with_server:
        request.getfixturevalue("server")
    else:
        monkeypatch.setenv(warm.SERVER, str(tmp_path / "none"))
        monkeypatch.setenv("PYTHONPATH", ".")
    for status in (0, 3):
        done = start(program, str(status), "a word")
        said, warned = done.communicate(timeout=60)
        assert done.returncode == status and warned == "a warning\n"
        assert said == f"{[str(status), 'a word']} __main__ {tmp_path} yes {with_server}\n"


def test_what_is_read_at_import_is_read_anew_where_it_differs(server, program, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert start(program, "0").communicate(timeout=60)[0].endswith("False\n")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_a_command_ends_with_its_caller(server, program, tmp_path, how):
    caller = start(program, "wait")
    while not (tmp_path / "pid").is_file() or not (pid := (tmp_path / "pid").read_text()):
        time.sleep(0.05)
    caller.send_signal(how)
    assert caller.wait(timeout=60) != 0 and gone(int(pid))


def test_a_command_ends_with_the_server_and_the_server_with_who_started_it(program, tmp_path):
    code = "import os, signal, subprocess; from symbiosis import warm\nwith warm.serving([]):\n"
    code += (
        "    subprocess.Popen(warm.command('program', 'wait'))\n    input()\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    batch = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True, env=environment)
    while not (tmp_path / "pid").is_file() or not (pid := (tmp_path / "pid").read_text()):
        time.sleep(0.05)
    batch.communicate("\n", timeout=60)
    assert gone(int(pid))


def test_a_kernel_of_a_warm_python_shows_its_figures(tmp_path, monkeypatch):
    code = "import sys; print('decimal' in sys.modules)\nimport matplotlib.pyplot as plt; plt.plot([1, 2]);"
    cells = [
        nbformat.v4.new_code_cell("n: int = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "a.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with warm.serving(["decimal", "matplotlib.pyplot", "ipykernel.kernelapp"]):
        done = start("symbiosis.execute", str(tmp_path / "a.ipynb"), str(tmp_path / "b.ipynb"), "--no-progress-bar")
        assert "Traceback" not in done.communicate(timeout=120)[1] and done.returncode == 0
    said, figure, *_ = nbformat.read(tmp_path / "b.ipynb", as_version=4).cells[-1].outputs
    assert said.text == "True\n" and "image/png" in figure.data
