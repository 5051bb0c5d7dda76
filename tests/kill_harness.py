"""Kill runs with SIGKILL at random points, continue them till they are done, compare them with unbroken ones.

    python tests/kill_harness.py --kills 30 --seed 0 --kernel 4 --papermill 4

Plain processes are killed while they compute, then a notebook's kernel, then papermill itself; with `--command` also
whatever a command line starts (Snakemake, say), in a copy of the working tree. Kill points are seeded: a stage, rather
one hit rarely so far, is waited for and struck within; every fourth point is any moment at all. The last line is JSON:
kills, kills per kind and per stage, and the files that differ from an unbroken run (there must be none).
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from symbiosis.loop import runs
from symbiosis.settings import RunSettings
from symbiosis.store import stages

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "generations": 2, "lesson_size": 24, "train_size": 96, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "generator_steps": 40, "hard_examples": 6, "scale": "tiny", "threads": 1,
}  # fmt: skip
BATCH = (
    {"method": "recursive", "mixing": "accumulate", "recursive_start": "warm"},
    {"method": "symbiosis", "generations": 3},
)
TOGETHER = ({"method": "static", "calibration": "written"}, {"method": "symbiosis", "calibration": "written"})
NOTEBOOK = {"recursive": "02_baselines", "symbiosis": "03_symbiosis_loop"}
LAST = "rows and record"
LIMIT_S = 300  # for one process; far more than any needs


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of plain processes that compute")
    parser.add_argument("--kernel", type=int, default=0, help="of a notebook's kernel under papermill")
    parser.add_argument("--papermill", type=int, default=0, help="of papermill itself")
    parser.add_argument("--together", type=int, default=0, help="of one of two arms that share stages, side by side")
    parser.add_argument(
        "--command", default="", help="a shell line that runs a batch into reports/local/runs, killed too"
    )
    parser.add_argument("--command-kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(Path(folder), random.Random(args.seed))
        harness.kill_runs("process", args.kills)
        harness.kill_runs("kernel", args.kernel)
        harness.kill_runs("papermill", args.papermill)
        harness.kill_together(args.together)
        if args.command:
            harness.kill_command(args.command, args.command_kills)
    report = harness.report() | {"wall_s": round(time.perf_counter() - began, 1)}
    print(json.dumps(report))
    return int(bool(report["differences"]))


class Harness:
    """What was killed where, and what came out otherwise than unbroken."""

    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        self.kinds, self.stages, self.differences, self.compared = Counter(), Counter(), [], 0
        self.struck_last: set[Path] = set()  # runs killed once while they wrote rows and record: once is enough

    def report(self) -> dict:
        return {
            "kills": self.kinds.total(),
            "kinds": dict(self.kinds),
            "stages": dict(sorted(self.stages.items())),
            "files_compared": self.compared,
            "differences": self.differences,
        }

    # --- runs, one by one

    def kill_runs(self, kind: str, kills: int) -> None:
        """Runs of the batch in turn, each killed and continued till it is done, until there were so many kills."""
        unbroken, turn = {}, 0
        while self.kinds[kind] < kills:
            which = turn % len(BATCH)
            place = {"reports_dir": str(self.folder / f"{kind}-{turn}")}
            settings, turn = RunSettings(**TINY | BATCH[which] | place), turn + 1
            while not finished(settings):
                self._start_and_kill(kind, settings, more=self.kinds[kind] < kills)
            if which not in unbroken:
                unbroken[which] = unbroken_like(settings, self.folder / f"{kind}-unbroken-{which}")
            self._compare(unbroken[which], stages.run_folder(settings), f"{kind} {turn}")
            shutil.rmtree(settings.reports_dir)

    def _start_and_kill(self, kind: str, settings: RunSettings, *, more: bool) -> None:
        """One process of the run, killed at the next point, or left to end where there were kills enough."""
        log = self.folder / f"{kind}.log"
        process = fork(settings, log) if kind == "process" else papermill(settings, log)
        if more and wait(process, self._point(settings)):
            victim = kernel_of(process) if kind == "kernel" else process
            helpers = process.children(recursive=True)  # a kernel that outlives papermill ends by itself
            hit = at_work(stages.run_folder(settings), settings)
            if victim is not None and kill(victim):
                self._count(kind, hit, settings)
                psutil.wait_procs([process, *helpers], timeout=60)
                return
        code = process.wait(LIMIT_S)
        if code:
            raise SystemExit(f"{kind}: the run ended with {code}, unasked\n{log.read_text()[-3000:]}")

    def _count(self, kind: str, hit: str, settings: RunSettings) -> None:
        self.kinds[kind] += 1
        self.stages[hit] += 1
        if hit == LAST:
            self.struck_last.add(stages.run_folder(settings))
        print(f"{kind} kill {self.kinds[kind]}: {settings.name} in {hit}", flush=True)

    def _point(self, settings: RunSettings) -> Callable[[], bool]:
        """When to strike: some time into a stage, rather one hit rarely so far, or any time at all."""
        folder = stages.run_folder(settings)
        if self.rng.random() < 0.25:
            return after(lambda: (folder / ".lock").is_file(), self.rng.uniform(0, 2))
        ahead = [name for name in runs.stage_names(settings) if not (folder / "state" / name).is_dir()]
        last = folder / "state" / runs.stage_names(settings)[-1]
        names = [*ahead, *([LAST] if folder not in self.struck_last else [])]
        if not names:
            return lambda: False  # every stage is there and the end was struck already: let it be done
        rarely = [1 / (1 + self.stages[kind_of(name)]) ** 2 for name in names]
        (aim,) = self.rng.choices(names, rarely)
        if aim == LAST:
            return after(last.is_dir, self.rng.uniform(0, 0.2))
        return after(lambda: any((folder / "state").glob(f".{aim}-*")), self.rng.expovariate(1 / 0.08))

    # --- two arms of a seed side by side

    def kill_together(self, kills: int) -> None:
        """Two arms that share their first stages: one is killed while one of these is made or taken, the other ends.

        Then the killed one is continued, which takes what the other has made.
        """
        unbroken = {}
        while self.kinds["together"] < kills:
            place = self.folder / "together"
            arms = [RunSettings(**TINY | arm | {"reports_dir": str(place)}) for arm in TOGETHER]
            processes = [fork(arm, self.folder / "together.log") for arm in arms]
            victim = self.rng.randrange(2)
            folders = [stages.run_folder(arm) for arm in arms]
            begun = [folders[0].parents[1] / ".shared", *(folder / "state" for folder in folders)]
            point = after(lambda: any(any(f.glob(".*.part")) for f in begun), self.rng.expovariate(1 / 0.2))  # noqa: B023
            if wait(processes[victim], point):
                hit = at_work(folders[victim], arms[victim])
                if kill(processes[victim]):
                    self._count("together", hit, arms[victim])
            codes = [processes[1 - victim].wait(LIMIT_S)]
            codes.append(fork(arms[victim], self.folder / "together.log").wait(LIMIT_S))
            if any(codes):
                log = (self.folder / "together.log").read_text()
                raise SystemExit(f"together: runs ended with {codes}, unasked\n{log[-3000:]}")
            for arm, folder in zip(arms, folders, strict=True):
                if arm.name not in unbroken:
                    unbroken[arm.name] = unbroken_like(arm, self.folder / f"together-unbroken-{arm.name}")
                self._compare(unbroken[arm.name], folder, "together")
            shutil.rmtree(place)

    # --- a batch by a command

    def kill_command(self, command: str, kills: int) -> None:
        """The command in two copies of the working tree: once left alone, once killed and started again till done."""
        trees = [copy_of_tree(self.folder / name) for name in ("left-alone", "killed")]
        log = self.folder / "command.log"
        if shell(command, trees[0], log).wait():
            raise SystemExit(f"the command fails, unasked\n{log.read_text()[-3000:]}")
        process, struck = shell(command, trees[1], log), 0
        for _ in range(10 * kills):
            if struck < kills and wait(process, self._point_of_batch(trees[1])):
                struck += self._strike_into(process, trees[1])
            elif process.wait() == 0:
                break
            else:  # killed itself, or given up on a run that was; what it left behind may still hold that run's lock
                process = shell(command, trees[1], log)
        for there in sorted(trees[0].glob("reports/local/runs/*/*/*/rows.csv")):
            self._compare(there.parent, trees[1] / there.parent.relative_to(trees[0]), "command")

    def _point_of_batch(self, tree: Path) -> Callable[[], bool]:
        """Into one of the next four stages of any run, or any time at all."""
        if self.rng.random() < 0.25:
            return after(lambda: True, self.rng.uniform(2, 40))

        def whole_and_half() -> tuple[int, int]:
            names = [path.name for path in tree.glob("reports/local/runs/*/*/*/state/*")]
            half = sum(name.startswith(".") for name in names)
            return len(names) - half, half

        aim = whole_and_half()[0] + self.rng.randrange(4)
        return after(lambda: whole_and_half() >= (aim, 1), self.rng.expovariate(1 / 0.08))

    def _strike_into(self, process: psutil.Popen, tree: Path) -> bool:
        """Kill the command's own process (every other time) or any below it; whether that was met alive."""
        below = process.children(recursive=True)
        victim = self.rng.choice(below) if below and self.rng.random() < 0.5 else process
        name = "command" if victim is process else "below command"
        hits = [at_work(state.parent, None) for state in tree.glob("reports/local/runs/*/*/*/state")]
        if not kill(victim):
            return False
        hit = max(hits, key=lambda stage: stage not in ("between stages", LAST), default="before the first stage")
        self.kinds[name] += 1
        self.stages[hit] += 1
        print(f"{name} killed in {hit}", flush=True)
        return True

    def _compare(self, unbroken: Path, broken: Path, what: str) -> None:
        """rows.csv and every lesson, byte by byte."""
        names = [path.relative_to(unbroken) for path in sorted(unbroken.glob("lessons/*.parquet"))]
        for name in [Path("rows.csv"), *names]:
            self.compared += 1
            if not (broken / name).is_file() or (broken / name).read_bytes() != (unbroken / name).read_bytes():
                self.differences.append(f"{what}: {broken.name}/{name}")


# --- points --------------------------------------------------------------------------------------------------------
def after(condition: Callable[[], bool], delay_s: float) -> Callable[[], bool]:
    """True from `delay_s` after `condition` was first seen."""
    since: list[float] = []

    def now() -> bool:
        if not since and condition():
            since.append(time.monotonic())
        return bool(since) and time.monotonic() >= since[0] + delay_s

    return now


def wait(process: psutil.Popen, point: Callable[[], bool]) -> bool:
    """Whether the point came while the process ran."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None:
        if point():
            return True
        if time.monotonic() > deadline:
            raise SystemExit("a process takes too long")
        time.sleep(0.001)
    return False


def at_work(folder: Path, settings: RunSettings | None) -> str:
    """What a run is doing, from its folder: a stage that is half-written, or what lies between."""
    half = sorted(path.name for path in (folder / "state").glob(".*.part"))
    if half:
        return kind_of(half[0][1:])
    if settings and (folder / "state" / runs.stage_names(settings)[-1]).is_dir():
        return LAST
    return "between stages" if any((folder / "state").glob("*")) else "before the first stage"


def kind_of(name: str) -> str:
    """student-0 stays apart; other stages count over all generations."""
    role, _, rest = name.partition("-")
    return "student-0" if role == "student" and rest.partition("-")[0] == "0" else role


# --- processes -----------------------------------------------------------------------------------------------------
class Forked(psutil.Process):
    """A fork of this process, with the little of Popen that is used here."""

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except psutil.TimeoutExpired:
            return None


def fork(settings: RunSettings, log: Path) -> Forked:
    """The run in a child that need not import torch again."""
    child = os.fork()
    if child:
        return Forked(child)
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1), os.dup2(handle, 2)
        runs.run(settings)
        code = 0
    finally:
        os._exit(code)


def papermill(settings: RunSettings, log: Path) -> psutil.Popen:
    """The run's notebook, with every setting as a parameter."""
    out = Path(settings.reports_dir) / "run.ipynb"
    out.parent.mkdir(parents=True, exist_ok=True)
    given = [word for key, value in settings.model_dump(exclude_unset=True).items() for word in ("-p", key, str(value))]
    notebook = str(ROOT / "notebooks" / f"{NOTEBOOK[settings.method]}.ipynb")
    words = [sys.executable, "-m", "papermill", notebook, str(out), "--no-progress-bar", *given]
    return psutil.Popen(words, cwd=ROOT, stdout=open(log, "a"), stderr=subprocess.STDOUT)


def kernel_of(process: psutil.Popen) -> psutil.Process | None:
    return next((child for child in process.children() if "ipykernel_launcher" in " ".join(child.cmdline())), None)


def kill(process: psutil.Process) -> bool:
    """Whether SIGKILL still met it."""
    try:
        process.send_signal(signal.SIGKILL)
        return process.wait(LIMIT_S) in (-signal.SIGKILL, None)  # None: another process's child
    except psutil.NoSuchProcess:
        return False


def shell(command: str, folder: Path, log: Path) -> psutil.Popen:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return psutil.Popen(
        command, shell=True, cwd=folder, env=environment, stdout=open(log, "a"), stderr=subprocess.STDOUT
    )


def copy_of_tree(folder: Path) -> Path:
    """Tracked and new files, and the models made so far."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(ROOT / ".cache" / "symbiosis", folder / ".cache" / "symbiosis", dirs_exist_ok=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def finished(settings: RunSettings) -> bool:
    return (stages.run_folder(settings) / "record.json").is_file()


def unbroken_like(settings: RunSettings, reports_dir: Path) -> Path:
    """The folder of the same run, never interrupted, made by a plain process."""
    stored = json.loads((stages.run_folder(settings) / "settings.json").read_text())
    settings = RunSettings(**stored | {"reports_dir": str(reports_dir)})
    if code := fork(settings, reports_dir.with_suffix(".log")).wait(LIMIT_S):
        raise SystemExit(f"the unbroken run ended with {code}\n{reports_dir.with_suffix('.log').read_text()[-3000:]}")
    return stages.run_folder(settings)


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    sys.exit(main())
