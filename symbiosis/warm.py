"""Commands of a batch begin in a Python that has imported everything already: each in a fork, a process of its own.

`python symbiosis/warm.py MODULE WORDS ...` does what `python -m MODULE WORDS ...` does. Where SYMBIOSIS_WARM names the
socket of a server, as `serving` starts one beside a batch on this machine, the command runs in a fork of it: without
the five seconds of a core that torch and transformers take to import, and with the same numbers, as nothing has been
computed there. It gets the caller's words, folder, environment and streams, and ends with it.

`python -m symbiosis.warm --beside MODULE WORDS ...` starts a server for the kernels of one command, such as a test of
all notebooks. This file is also the caller, which has to begin at once: its top imports the standard library alone.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from select import select

SERVER = "SYMBIOSIS_WARM"  # the socket, in the environment of all that a batch starts
SERVE, BESIDE = "--serve", "--beside"
LOADED = ("papermill.cli", "nbclient", "ipykernel.kernelapp", "symbiosis.loop.runs", "symbiosis.analysis.gallery")
KERNEL = "ipykernel_launcher"
INLINE = "module://matplotlib_inline.backend_inline"  # shows the figures of a kernel
AT_IMPORT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "PYTHONPATH")
LOOKS = 1.0  # seconds after which a caller sees that its own parent is gone


def skip_rfc3987_import() -> None:
    """Let what reads notebooks start a second sooner; to be called before its first import.

    All of it imports jsonschema, which builds a grammar of web addresses to check fields that no notebook has. Refused
    that import, it does without, as where the package is not installed.
    """
    sys.modules.setdefault("rfc3987_syntax", None)


# ---- the caller
def command(module: str, *words: str) -> list[str]:
    """What starts a module as quickly as can be."""
    return [sys.executable, "-SP", __file__, module, *words]


def warm_kernels() -> None:
    """Let kernels that this process starts begin on the server, where there is one."""
    from jupyter_client.provisioning import local_provisioner

    cold = local_provisioner.launch_kernel

    def launch(cmd: list[str], **how):
        start = [sys.executable, "-m", KERNEL]
        known = f"--IPKernelApp.parent_handle={os.getpid()}"  # else it tells its log how it is to be ended
        return cold(command(*cmd[2:], known) if cmd[:3] == start else cmd, **how)

    if os.environ.get(SERVER):
        local_provisioner.launch_kernel = launch


def call(words: list[str]) -> int | None:
    """Run a command on the server; its exit status, None without one. It ends where this process or its parent does."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(os.environ.get(SERVER, ""))
        except OSError:
            return None  # there is none any more, or it is on another machine
        asked = json.dumps({"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
        socket.send_fds(line, [len(asked).to_bytes(4)], [0, 1, 2])
        line.sendall(asked)
        kernel = words[0] == KERNEL  # is told to stop by message, and interrupted beside it
        signal.signal(signal.SIGINT, signal.SIG_IGN if kernel else signal.SIG_DFL)
        parent = os.getppid()
        while not select([line], [], [], LOOKS)[0]:
            if os.getppid() != parent:
                return 1
        return int.from_bytes(line.recv(1) or b"\1")


# ---- the server
@contextlib.contextmanager
def serving(loaded: Sequence[str] = LOADED) -> Iterator[None]:
    """A server for all commands that are called meanwhile; it ends with this process, however that ends."""
    with tempfile.TemporaryDirectory(prefix="symbiosis-") as folder:  # of this user alone
        os.environ[SERVER] = str(Path(folder) / "warm")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.environ[SERVER])
            listener.listen()  # so that calls wait while it imports
            served = [sys.executable, "-m", "symbiosis.warm", SERVE, str(listener.fileno()), *loaded]
            how = {"stdin": subprocess.PIPE, "pass_fds": [listener.fileno()], "start_new_session": True}
            server = subprocess.Popen(served, **how)
        try:
            yield
        finally:
            os.environ.pop(SERVER, None)
            server.stdin.close()
            server.wait()


def serve(listener: socket.socket) -> list[str]:
    """Answer calls until standard input ends; [] then, and in each fork the words of its command."""
    running = {}  # the line of each caller -> its process
    while True:
        ready = select([listener, sys.stdin, *running], [], [], LOOKS / 20 if running else None)[0]
        for line, process in list(running.items()):
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                with contextlib.suppress(OSError):
                    line.sendall(bytes([abs(os.waitstatus_to_exitcode(status)) % 256]))
            if done or line in ready or sys.stdin in ready:  # a caller says nothing more: ready means ended
                _end(running.pop(line), line)
        if sys.stdin in ready:
            return []
        if listener in ready:
            line, _ = listener.accept()
            size, streams, _, _ = socket.recv_fds(line, 4, 3)
            with line.makefile("rb") as rest:
                asked = json.loads(rest.read(int.from_bytes(size)))
            process = os.fork()
            if not process:
                for one in (listener, line, *running):
                    one.close()
                return _become(asked, streams)
            for stream in streams:
                os.close(stream)
            running[line] = process


def _end(process: int, line: socket.socket) -> None:
    """End a command with what it may have left running, and its line."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)
    line.close()


def _become(asked: dict, streams: list[int]) -> list[str]:
    """In a fork: take the caller's folder, environment and streams; its words."""
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["cwd"])
    words, env = asked["words"], asked["env"]
    if any(env.get(key) != os.environ.get(key) for key in AT_IMPORT):
        os.execve(sys.executable, [sys.executable, "-m", *words], env)
    os.environ.clear()
    os.environ.update(env)
    return words


def become(words: list[str]) -> None:
    """Do what `python -m MODULE WORDS ...` does, in this process."""
    sys.argv = words
    sys.modules.pop(words[0], None)
    if words[0] == KERNEL and "matplotlib" in sys.modules:  # which read the environment before the kernel set it
        sys.modules["matplotlib"].rcParams["backend"] = os.environ.get("MPLBACKEND", INLINE)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def main(words: list[str]) -> None:
    if words[0] == SERVE:
        skip_rfc3987_import()
        for module in words[2:]:
            importlib.import_module(module)
        gc.freeze()  # what is here stays, in every fork
        if called := serve(socket.socket(fileno=int(words[1]))):
            become(called)
    elif words[0] == BESIDE:
        with serving():
            warm_kernels()
            become(words[1:])
    else:
        status = call(words)
        if status is None:
            os.execv(sys.executable, [sys.executable, "-m", *words])
        sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
