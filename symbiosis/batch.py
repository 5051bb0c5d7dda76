"""Batches of runs: which runs a batch has, how each stands, and the steps it is made of.

The Snakefile asks this module what to run. `python -m symbiosis.batch STEP SCALE STUDY ARM SEED [-- -p KEY VALUE ...]`
are steps of its rules: `bases` makes the initial models of a seed, `params` prints all parameters of a run, `merge`
brings the runs of a scale into the tables that the reports read.
"""

import argparse
import contextlib
import csv
import fcntl
import hashlib
import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from symbiosis import params
from symbiosis.errors import SymbiosisError
from symbiosis.settings import InteractionSettings, RunSettings, Settings, make_settings, nearest, root
from symbiosis.store.folders import locked, sha256, write_atomic
from symbiosis.yaml_files import read_params

NOTEBOOKS = {"symbiosis": "03_symbiosis_loop", "interaction": "04_model_interaction"}  # the others: 02_baselines
REPORTS = {  # notebooks that read all runs of a scale; 05, 12 ask what only the miniature's known truth can answer
    "miniature": ("05_ratio_or_diversity", "06_analysis", "07_paper_figures", "11_regimes", "12_recursion"),
    "interaction": ("04_model_interaction", "09_theory_many_models"),
    "other": ("06_analysis", "07_paper_figures", "11_regimes"),
}
MADE = ("miniature",)  # initial models that are pre-trained here (initial.MAKERS, whose import takes seconds)
DECIDES_BASE = ("student", "generator")  # a study that sets a key of these begins with models of its own
STATUSES = DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"
ASKED_FOR = ("scale", "study", "arms", "seeds", "first_seed", "args")  # what a batch is asked for by
NAMES_A_RUN = ("scale", "study", "method", "variant", "seed", "reports_dir")  # two places must not decide one folder
ASKS = {"05_ratio_or_diversity": "ratio_or_diversity", "12_recursion": "mixing"}  # nothing to read without this study


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
        return f"{params.LOCAL}/runs/{self.scale}/{self.study}/{self.arm}-s{self.seed}"

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
        """All that the run sets, `-p KEY VALUE ...` last."""
        return params.of_run(*self) | passed(args)

    def settings(self, args: Sequence[str] = ()) -> Settings:
        """Its parameters, checked."""
        kind = InteractionSettings if _interacts(self.arm) else RunSettings
        return make_settings(self.folder, kind, **self.parameters(args))


def passed(args: Sequence[str]) -> dict[str, Any]:
    """What `-p KEY VALUE ...` sets: a text as it stands, any other value as in a params file."""
    if len(args) % 3 or any(word != "-p" for word in args[::3]):
        raise BatchError(
            f"ARGS={shlex.join(args)}: write -p KEY VALUE, as often as needed; a value with spaces in quotes"
        )
    return {key: _value(key, text) for key, text in zip(args[1::3], args[2::3], strict=True)}


def _value(key: str, text: str) -> Any:
    field = (InteractionSettings.model_fields | RunSettings.model_fields).get(key)
    if field is None or isinstance(field.default, str):
        return text
    try:
        return float(text) if "e" in text.lower() and isinstance(field.default, float) else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text  # which the settings refuse by name


def request(config: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, list[Run], list[str]]:
    """(scale, runs, ARGS) that a batch is asked for, all of it checked before anything begins.

    `make` hands its words over as they are, in BATCH_SCALE and so on: Snakemake reads what --config sets as YAML, which
    takes quotes and more away.
    """
    asked = {key: environ[f"BATCH_{key.upper()}"] if "make" in config else config.get(key) for key in ASKED_FOR}
    asked = {key: "" if value is None else str(value) for key, value in asked.items()}
    try:
        args = shlex.split(asked["args"])
    except ValueError as error:
        raise BatchError(f"ARGS={asked['args']}: {error}; a value with spaces stands in quotes") from None
    scale, first_seed = asked["scale"] or "miniature", asked["first_seed"] or None
    studies, arms = asked["study"].split() or ["main"], asked["arms"].split()
    planned = plan(scale, studies, arms, asked["seeds"] or 3, first_seed)
    planned = planned if arms else _possible(planned)
    check(planned, args)
    return scale, planned, args


def _possible(planned: Sequence[Run]) -> list[Run]:
    """Those of a study's runs that their scale can make, all where it can make none; a line for each arm left out."""
    refused = {}
    for run in planned:
        try:
            run.settings()
        except SymbiosisError as error:
            refused[run] = f"left out, as {run.scale} cannot run it: {error}"
    if len(refused) == len(planned):
        return list(planned)
    for line in dict.fromkeys(line.replace(f"-s{run.seed}", "") for run, line in refused.items()):
        print(line, file=sys.stderr)
    return [run for run in planned if run not in refused]


def check(planned: Sequence[Run], args: Sequence[str] = ()) -> None:
    """Stop where a run's parameters are wrong, name another run's folder, or would replace what is published."""
    for key in passed(args):
        if key in NAMES_A_RUN:
            raise BatchError(
                f"ARGS: {key} says which run it is, as SCALE, STUDY, ARMS and FIRST_SEED do; take it out; what should "
                f"stand beside other runs needs a scale or a method of its own, a file in {params.OWN}"
            )
    scale = planned[0].scale
    if set(NAMES_A_RUN[1:]) & set(params.files()[scale]):
        raise BatchError(
            f"params/**/{scale}.yaml: the batch sets {', '.join(NAMES_A_RUN[1:])}; take them out of the file"
        )
    chosen = {run: run.settings(args) for run in planned}
    if args and (changed := _changes(chosen)) and (place := _table_with(scale)):
        key, old, new = changed
        raise BatchError(
            f"ARGS: {key} is {old!r} in the runs of scale '{scale}' in {place}/results.csv and {new!r} here; copy the "
            f"scale's file to {params.OWN}/NAME.yaml, set it and `scale: NAME` there, and give SCALE=NAME"
        )


def _changes(chosen: Mapping[Run, Settings]) -> tuple[str, Any, Any] | None:
    """The first parameter by which ARGS make another run: its name, its value without and with them."""
    for run, settings in chosen.items():
        without = run.settings()
        if without.run_id != settings.run_id:
            return next((k, v, getattr(settings, k)) for k, v in without if v != getattr(settings, k))
    return None


def _table_with(scale: str) -> str:
    """Where results.csv has a run of this scale as its files set it today: among the published ones, here, or ''."""
    for place in (params.PUBLISHED, params.LOCAL):
        for run_id in {row["run_id"] for row in table_rows("results.csv", scale, place) if row["scale"] == scale}:
            _, study, name = run_id.partition("@")[0].split("/")
            arm, _, seed = name.rpartition("-s")
            with contextlib.suppress(KeyError, SymbiosisError):
                if Run(scale, study, arm, int(seed)).settings().run_id == run_id:
                    return place
    return ""


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
    if not (re.fullmatch(r"\d{1,9}", str(first)) and re.fullmatch(r"[1-9]\d{0,5}", str(seeds))):
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


def report_notebooks(scale: str, studies: Collection[str] | None = None) -> list[str]:
    """The notebooks that read all runs of a scale; of those that ask one study, such as are among `studies`."""
    names = REPORTS.get(scale.partition("_")[0], REPORTS["other"])
    return [name for name in names if studies is None or ASKS.get(name) in (None, *studies)]


def studies_here(planned: Sequence[Run]) -> set[str]:
    """The studies that a scale has finished runs of, and those of the batch."""
    found = (root() / params.LOCAL / "runs" / planned[0].scale).glob("*/*/record.json")
    return {path.parts[-3] for path in found} | {run.study for run in planned}


# ---- how a run stands
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
    run.settings(args)
    print(f"# papermill {run.notebook} OUT.ipynb -f params.yaml  (this file)")
    print(yaml.safe_dump(run.parameters(args), sort_keys=False), end="")


def merge(run: Run, args: Sequence[str] = ()) -> None:
    """Bring a scale's runs into results.csv, what a study's lessons are like and cost into measures.csv and costs.csv.

    Prints their `mark`.
    """
    _collect(run, params.LOCAL)
    print(mark(run.scale))


def publish(run: Run, args: Sequence[str] = ()) -> None:
    """`merge` into the published tables, then every figure, table and claim from them: for the author alone.

    Raises WorldError where one table, or one paired comparison, would hold what does not belong together.
    """
    merged = _collect(run, params.PUBLISHED)
    print(f"{len(merged)} runs of {run.scale} are now in {params.PUBLISHED}/results.csv")
    for name in report_notebooks(run.scale):
        executed = root() / params.LOCAL / "published" / run.scale / f"{name}.ipynb"
        executed.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "symbiosis.execute", f"notebooks/{name}.ipynb", str(executed)]
        subprocess.run(
            [*command, "-p", "scale", run.scale, "-p", "reports_dir", params.PUBLISHED], check=True, cwd=root()
        )


def _collect(run: Run, into: str) -> list[str]:
    from symbiosis.analysis import costs, gallery, lesson_measures
    from symbiosis.store import results
    from symbiosis.store.stages import prune_shared

    prune_shared(root() / params.LOCAL / "runs" / run.scale)
    merged = results.collect(params.LOCAL, run.scale, into=into)
    if not merged:
        raise BatchError(f"{params.LOCAL}: no run of scale '{run.scale}' is finished, so there is nothing to report")
    lesson_measures.collect(params.LOCAL, run.scale, run.study, into=into)
    costs.collect(params.LOCAL, run.scale, run.study, into=into)
    gallery.save_tables(gallery.Reports(into, run.scale))
    return merged


def mark(scale: str) -> str:
    """Checksums of the finished runs of a scale, and of what the tables hold for its reports."""
    found = sorted((root() / params.LOCAL / "runs" / scale).glob("*/*/record.json"))
    lines = [f"{sha256(path.with_name('rows.csv'))} {path.parent.relative_to(root())}" for path in found]
    for name in ("results.csv", "records.csv", "measures.csv", "null_bands.csv", "costs.csv"):
        rows = json.dumps(list(table_rows(name, scale)))
        lines.append(f"{hashlib.sha256(rows.encode()).hexdigest()} {name}")
    return "\n".join(lines)


def in_step(scale: str) -> bool:
    """Whether the reports' tables still are what the last merge left, and the runs what it found."""
    merged = root() / params.LOCAL / "runs" / scale / "merged.txt"
    try:
        return merged.is_file() and merged.read_text().rstrip("\n") == mark(scale)
    except (OSError, ValueError, KeyError, csv.Error):
        return False  # merging says what is wrong


def out_of_step(scale: str) -> list[str]:
    """A file that is newer than the last merge, for Snakemake, where `in_step` does not hold; else none."""
    if in_step(scale):
        return []
    changed = root() / ".cache" / "symbiosis" / "out_of_step" / scale
    write_atomic(changed, str(time.time_ns()).encode())
    return [str(changed.relative_to(root()))]


def table_rows(name: str, scale: str, place: str = params.LOCAL) -> Iterator[dict[str, str]]:
    """The lines of a long table that reports of a scale read; the paper's figures show all interacting models, too."""
    path = root() / place / name
    with path.open(newline="") if path.is_file() else contextlib.nullcontext([]) as lines:
        for row in csv.DictReader(lines):
            of = (row["scale"] if "scale" in row else row["run_id"].partition("/")[0]) or ""
            if of == scale or (_interacts(of) and not _interacts(scale)):
                yield row


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """What is refused is told in its sentence alone, and ends the process with 2: nothing has begun."""
    try:
        yield
    except SymbiosisError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def batch_lock() -> Iterator[None]:
    """One batch at a time in this repository; the lock ends with its process, so a killed batch leaves none behind."""
    try:
        with locked(root() / ".cache" / "batch.lock", wait=False):
            yield
    except BlockingIOError as error:
        raise BatchError(f"another batch is running here ({error}); wait for it or stop it") from None


# ---- the steps as commands


COMMANDS = {"bases": make_bases, "params": print_params, "merge": merge, "publish": publish}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m symbiosis.batch", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=list(COMMANDS))
    parser.add_argument("scale")
    parser.add_argument("study")
    parser.add_argument("arm", help="or `all`, which `bases` and `merge` do not look at")
    parser.add_argument("seed", type=int)
    parser.add_argument("args", nargs="*", metavar="-- -p KEY VALUE")
    args = parser.parse_args()
    arm = args.arm if args.arm == "all" else params.named_arms([args.arm])[0]
    COMMANDS[args.step](Run(args.scale, args.study, arm, args.seed), args.args)


if __name__ == "__main__":
    with one_sentence():
        main()
