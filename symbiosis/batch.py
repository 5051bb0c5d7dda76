"""Batches of runs: which runs a batch has, how each stands, and a table and a page about all of them.

The Snakefile asks this module what to run. `python -m symbiosis.batch STEP SCALE STUDY ARM SEED [-- -p KEY VALUE ...]`
are steps of its rules: `bases` makes the initial models of a seed, `params` prints all parameters of a run, `merge`
brings the runs of a scale into the tables that the reports read.
"""

import argparse
import contextlib
import csv
import fcntl
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from symbiosis import params
from symbiosis.errors import SymbiosisError
from symbiosis.pages import as_html, page_of
from symbiosis.settings import InteractionSettings, RunSettings, make_settings, nearest, read_params, root
from symbiosis.store.folders import locked, sha256, write_atomic

NOTEBOOKS = {"symbiosis": "03_symbiosis_loop", "interaction": "04_model_interaction"}  # the others: 02_baselines
REPORTS = {  # notebooks that read all runs of a scale; 05 asks what only the miniature's known truth can answer
    "miniature": ("05_ratio_or_diversity", "06_analysis", "07_paper_figures"),
    "interaction": ("04_model_interaction",),
    "other": ("06_analysis", "07_paper_figures"),
}
MADE = ("miniature", "small")  # initial models that are pre-trained here (initial.MAKERS, whose import takes seconds)
DECIDES_BASE = ("student", "generator")  # a study that sets a key of these begins with models of its own
STATUSES = DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"
COLUMNS = ("run_id", "status", "accuracy", "wall_s", "peak_memory_gib", "written", "commit")
LAST_LINES = 15  # of a failed run's log


class BatchError(SymbiosisError):
    """A batch that cannot be planned or started, with the remedy."""


# ---- what a batch runs


class Run(NamedTuple):
    """One run of a batch: its scale, study, arm (`method` or `method-variant`) and seed."""

    scale: str
    study: str
    arm: str
    seed: int

    @property
    def folder(self) -> str:
        """From the repository's root; the folder the run itself chooses."""
        return f"reports/runs/{self.scale}/{self.study}/{self.arm}-s{self.seed}"

    @property
    def finished(self) -> bool:
        return status(root() / self.folder) == DONE

    @property
    def notebook(self) -> str:
        return f"notebooks/{NOTEBOOKS.get(self.arm.partition('-')[0], '02_baselines')}.ipynb"

    @property
    def base(self) -> list[str]:
        """The mark that this seed's initial models are made; none where they come ready or the run makes its own."""
        if params.files()[self.scale].get("generator") not in MADE:
            return []
        own = any(key.startswith(DECIDES_BASE) for key in params.study_world(self.study))
        return [f".cache/symbiosis/ready/{self.scale}-{self.study if own else 'main'}-s{self.seed}"]

    def parameters(self, args: Sequence[str] = ()) -> dict[str, Any]:
        """All that the run sets: those of its scale, its arm, its study, the seed, and `-p KEY VALUE ...` last."""
        arm = params.all_arms()[self.arm] | params.study_world(self.study)
        return params.files()[self.scale] | arm | {"seed": self.seed} | passed(args)


def passed(args: Sequence[str]) -> dict[str, Any]:
    """What `-p KEY VALUE ...` sets; a value is read as in a params file."""
    pairs = argparse.ArgumentParser(prog="ARGS", add_help=False)
    pairs.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    return {key: yaml.safe_load(value) for key, value in pairs.parse_args(args).p}


def plan(
    scale: str,
    studies: Sequence[str] = ("main",),
    arms: Sequence[str] = (),
    seeds: int | str = 3,
    first_seed: int | str | None = None,
) -> list[Run]:
    """The runs of a batch, study by study, arm by arm, seed by seed, from the scale's first seed on where None.

    `arms` are arms, groups, or studies for their cells; those of each study where there are none. Raises BatchError
    where a name is not known or a number is none.
    """
    scales = [name for name, given in params.files().items() if given.get("scale") == name]
    if scale not in scales:
        raise BatchError(f"SCALE={scale}: no params/{scale}.yaml says `scale: {scale}`{nearest(scale, scales)}")
    first = needs(scale)["first_seed"] if first_seed is None else first_seed
    if not (str(first).isdigit() and str(seeds).isdigit() and int(seeds)):
        raise BatchError(f"SEEDS={seeds}, FIRST_SEED={first}: write whole numbers, at least one seed")
    numbers = range(int(first), int(first) + int(seeds))
    planned = [
        Run(scale, study, arm, seed)
        for study in studies
        for arm in (params.named_arms(arms) if arms else params.arms_of(study))
        for seed in numbers
    ]
    if foreign := [run.arm for run in planned if _interacts(run.arm) != _interacts(scale)]:
        raise BatchError(f"SCALE={scale}: cannot run {foreign[0]}; such scales and STUDY=interaction go together")
    return list(dict.fromkeys(planned))


def _interacts(name: str) -> bool:
    return name.startswith("interaction")


def needs(scale: str) -> dict[str, int]:
    """What a run of a scale asks a machine for: mem_mb, gpu, runtime [minutes], threads; and the scale's first_seed."""
    given, asked = params.files()[scale], read_params("profiles/scales.yaml")
    needed = asked.get(scale, asked["other"])
    needed["threads"] = given.get("threads", 1) or 8  # 0 takes all cores; Snakemake lowers 8 to those it may use
    return needed | ({"gpu": 0} if given.get("device") == "cpu" else {})


def report_notebooks(scale: str) -> tuple[str, ...]:
    """The notebooks that read all runs of a scale."""
    return REPORTS.get(scale.partition("_")[0], REPORTS["other"])


# ---- steps of a run


def make_bases(run: Run, args: Sequence[str] = ()) -> None:
    """Pre-train and cache the initial models of one seed in the run's world."""
    from symbiosis.pretrain.initial import initial_model_folder

    world = params.files()[run.scale] | params.study_world(run.study)
    settings = make_settings(f"{run.scale}, {run.study}", **world | passed(args) | {"method": "real", "seed": run.seed})
    for role in ("student", "generator"):
        print(initial_model_folder(role, settings))


def print_params(run: Run, args: Sequence[str] = ()) -> None:
    """All parameters of a run as one flat file, checked, with the command that takes it."""
    given = run.parameters(args)
    make_settings(run.folder, InteractionSettings if _interacts(run.arm) else RunSettings, **given)
    print(f"# papermill {run.notebook} OUT.ipynb -f params.yaml  (this file)")
    print(yaml.safe_dump(given, sort_keys=False), end="")


def merge(run: Run, args: Sequence[str] = ()) -> None:
    """Bring the runs of a scale into results.csv, and the measures of one study's lessons into measures.csv.

    Prints the checksums of what the reports then read, and the runs merged.
    """
    from symbiosis.analysis import lesson_measures
    from symbiosis.store import results

    merged = results.collect("reports", run.scale)
    lesson_measures.collect("reports", run.scale, run.study)
    for name in ("results.csv", "records.csv", "measures.csv", "null_bands.csv"):
        if (root() / "reports" / name).is_file():
            print(sha256(root() / "reports" / name), name)
    print(*merged, sep="\n")


@contextlib.contextmanager
def batch_lock() -> Iterator[None]:
    """One batch at a time in this repository; the lock ends with its process, so a killed batch leaves none behind."""
    try:
        with locked(root() / ".cache" / "batch.lock", wait=False):
            yield
    except BlockingIOError as error:
        raise BatchError(f"another batch is running here ({error}); wait for it or stop it") from None


# ---- how a batch stands


def in_use(folder: Path) -> bool:
    """Whether a process is writing this run; asking does not touch its lock file."""
    if not (folder / ".lock").is_file():
        return False
    with open(folder / ".lock") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def status(folder: Path) -> str:
    """done | running | failed (the last attempt began and did not finish) | missing (finished by hand, too)."""
    if in_use(folder):
        return RUNNING
    begun = [name for name in ("run.part.ipynb", "run.log", "settings.json") if (folder / name).is_file()]
    if "run.part.ipynb" not in begun and (folder / "run.ipynb").is_file() and (folder / "record.json").is_file():
        return DONE
    by_hand = begun == ["settings.json"] and (folder / "record.json").is_file()
    return FAILED if begun and not by_hand else MISSING


def progress(planned: Sequence[Run], minutes: float, done: int, total: int) -> str:
    """One line about the whole batch: runs that are there, and the time the steps left take at the pace so far."""
    finished = sum(run.finished for run in planned)
    left = minutes / done * (total - done)
    return f"batch: {finished} of {len(planned)} runs done, {minutes:.1f} minutes so far, about {left:.1f} minutes left"


def table(planned: Sequence[Run]):
    """A pandas frame of COLUMNS and `folder`: a row per run, planned or found in reports/runs of the same scales."""
    import pandas as pd

    scales = {run.scale for run in planned}
    found = {str(path.relative_to(root())) for scale in scales for path in root().glob(f"reports/runs/{scale}/*/*-s*")}
    lines = [_line(folder) for folder in sorted(found | {run.folder for run in planned})]
    return pd.DataFrame(lines, columns=[*COLUMNS, "folder"])


def _line(folder: str) -> dict[str, Any]:
    place, state = root() / folder, status(root() / folder)
    line = {"folder": folder, "status": state, "run_id": folder.removeprefix("reports/runs/")}
    if state != DONE:
        return line
    rows = csv.DictReader((place / "rows.csv").read_text().splitlines())
    accuracy = [row["value"] for row in rows if row["metric"] == "accuracy"]  # in the order of generations
    return line | json.loads((place / "record.json").read_text()) | {"accuracy": "".join(accuracy[-1:])}


def last_lines(folder: Path) -> str:
    """The end of a run's log, where there is one, without the colours of a terminal."""
    log = folder / "run.log"
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:] if log.is_file() else ["(no log)"]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


# ---- the report of a batch


def report(planned: Sequence[Run]) -> None:
    """Write reports/batch.csv and reports/index.html; print the failures with the last lines of their logs."""
    lines, reports = table(planned), root() / "reports"
    write_atomic(reports / "batch.csv", lines[[*COLUMNS]].to_csv(index=False).encode())
    write_atomic(reports / "index.html", index_page(lines, sorted({run.scale for run in planned})).encode())
    for folder in lines.loc[lines["status"] == FAILED, "folder"]:
        print(f"FAILED: {folder}\n{last_lines(root() / folder)}\n")
    print(f"{_tally(lines)}: reports/batch.csv, {(reports / 'index.html').as_uri()}")


def _tally(lines) -> str:
    counts = lines["status"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in STATUSES if name in counts) or "no runs"


def index_page(lines, scales: Sequence[str]) -> str:
    """The batch as one page: failures, links to the reports, a line per run with a link to its executed notebook."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    cells = [new_markdown_cell(f"# Batch: {', '.join(scales)}\n\n{_tally(lines)}")]
    for folder in lines.loc[lines["status"] == FAILED, "folder"]:
        log = new_output("stream", text=last_lines(root() / folder))
        cells += [new_markdown_cell(f"## Failed: {folder}"), new_code_cell(outputs=[log])]
    notebooks = [path for scale in scales for path in sorted((root() / "reports/runs" / scale).glob("*.ipynb"))]
    links = "\n".join(f"- [{path.parent.name}: {path.stem}]({page_of(path)})" for path in notebooks)
    pages = {folder: page_of(root() / folder / "run.ipynb") for folder in lines.query("status == @DONE")["folder"]}
    names = [
        f'<a href="{pages[f]}">{i}</a>' if f in pages else i for i, f in zip(lines.run_id, lines.folder, strict=True)
    ]
    runs = lines.assign(run_id=names)[[*COLUMNS]].to_html(index=False, escape=False, na_rep="")
    cells.append(new_markdown_cell(f"## Reports\n\n{links}\n\n## Runs"))
    cells.append(new_code_cell(outputs=[new_output("display_data", {"text/html": runs})]))
    return as_html(new_notebook(cells=cells), "Batch")


# ---- the steps as commands


STEPS = {"bases": make_bases, "params": print_params, "merge": merge}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m symbiosis.batch", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("scale")
    parser.add_argument("study")
    parser.add_argument("arm", help="or `all`, which `bases` and `merge` do not look at")
    parser.add_argument("seed", type=int)
    parser.add_argument("args", nargs="*", metavar="-- -p KEY VALUE")
    args = parser.parse_args()
    arm = args.arm if args.arm == "all" else params.named_arms([args.arm])[0]
    STEPS[args.step](Run(args.scale, args.study, arm, args.seed), args.args)


if __name__ == "__main__":
    main()
