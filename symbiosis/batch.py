"""Batches of runs: which runs a batch has, how each stands, and a table and a page about all of them.

The Snakefile asks this module what to run. `python -m symbiosis.batch STEP SCALE STUDY ARM SEED [-- -p KEY VALUE ...]`
are steps of its rules: `bases` makes the initial models of a seed, `aside` keeps a run of other settings, `merge`
brings the runs of a scale into the tables that the reports read.
"""

import argparse
import contextlib
import csv
import difflib
import fcntl
import html
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from symbiosis.errors import SymbiosisError
from symbiosis.execute import without_grammar
from symbiosis.settings import (
    InteractionSettings,
    RunSettings,
    SettingsError,
    literal_parameters,
    make_settings,
    read_params,
    root,
)
from symbiosis.store.folders import locked, sha256, write_atomic

NOTEBOOKS = {"symbiosis": "03_symbiosis_loop", "interaction": "04_model_interaction"}  # the others: 02_baselines
REPORTS = {  # notebooks that read all runs of a scale; 05 asks what only the miniature's known truth can answer
    "miniature": ("05_ratio_or_diversity", "06_analysis", "07_paper_figures"),
    "interaction": ("04_model_interaction",),
    "other": ("06_analysis", "07_paper_figures"),
}
MADE = ("miniature", "small")  # initial models that are pre-trained here (bases.MAKERS, whose import takes seconds)
DECIDES_BASE = ("student", "generator")  # a study that sets a key of these begins with models of its own
DONE, RUNNING, FAILED, MISSING = "done", "running", "failed", "missing"
COLUMNS = ("run_id", "status", "wall_s", "peak_memory_gib", "started", "finished", "commit")
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
    def world_files(self) -> list[str]:
        """The scale's file and the study's, which changes the world of every arm alike."""
        own = f"params/studies/{self.study}.yaml"
        return [f"params/{self.scale}.yaml", *([own] if (root() / own).is_file() else [])]

    @property
    def files(self) -> list[str]:
        """Params files in the order papermill reads them: a later one has the last word."""
        scale, *study = self.world_files
        return [scale, arm_files()[self.arm], *study]

    @property
    def notebook(self) -> str:
        return f"notebooks/{NOTEBOOKS.get(self.arm.partition('-')[0], '02_baselines')}.ipynb"

    @property
    def base(self) -> list[str]:
        """The mark that this seed's initial models are made; none where they come ready or the run makes its own."""
        scale, *study = [read_params(path) for path in self.world_files]
        own = study and any(key.startswith(DECIDES_BASE) for key in study[0])
        if scale.get("generator") not in MADE:
            return []
        return [f".cache/symbiosis/ready/{self.scale}-{self.study if own else 'main'}-s{self.seed}"]

    def given(self, args: Sequence[str] = ()) -> dict:
        """All parameters of the run: its notebook's defaults, its files, the seed, and those of `-p KEY VALUE` last."""
        given = dict(notebook_defaults(self.notebook))
        for path in self.files:
            given |= read_params(path)
        return given | {"seed": self.seed} | _passed(args)


def _passed(args: Sequence[str]) -> dict:
    """What `-p KEY VALUE ...` sets, in the types papermill gives it."""
    if not args:
        return {}
    without_grammar()
    from papermill.cli import _resolve_type

    pairs = argparse.ArgumentParser(prog="ARGS", add_help=False)
    pairs.add_argument("-p", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"))
    return {key: _resolve_type(value) for key, value in pairs.parse_args(args).p}


@cache
def notebook_defaults(notebook: str) -> dict:
    """Names and values of a notebook's parameters cell."""
    cells = json.loads((root() / notebook).read_text())["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return literal_parameters(["".join(cell["source"]) for cell in tagged])


@cache
def batches() -> dict:
    """profiles/batches.yaml: groups of arms, the arms of each study, what a run of each scale asks for."""
    return yaml.safe_load((root() / "profiles" / "batches.yaml").read_text())


@cache
def arm_files() -> dict[str, str]:
    """{arm: its params file}, of the arms of params/ and the cells of its folders."""
    params, found = root() / "params", {}
    for path in [*sorted(params.glob("*.yaml")), *sorted(params.glob("*/*.yaml"))]:
        given = read_params(path)
        if "variant" in given:  # a scale or a study has none
            method = given.get("method", path.parent.name)
            arm = method if given["variant"] == "plain" else f"{method}-{given['variant']}"
            found[arm] = str(path.relative_to(root()))
    return found


def plan(
    scale: str,
    studies: Sequence[str] = ("main",),
    arms: Sequence[str] = (),
    seeds: int | str = 3,
    first_seed: int | str | None = None,
) -> list[Run]:
    """The runs of a batch: study by study, arm by arm, seed by seed.

    Args:
        scale:      a file of params/ that names a scale.
        studies:    'main', or files of params/studies.
        arms:       arms, groups or folders; those profiles/batches.yaml gives each study where there are none.
        seeds:      how many, from first_seed on.
        first_seed: the scale's own where None.

    Raises BatchError where a name is not known or a number is none.
    """
    if not (root() / "params" / f"{scale}.yaml").is_file() or "scale" not in read_params(f"params/{scale}.yaml"):
        scales = [path.stem for path in (root() / "params").glob("*.yaml") if "\nscale:" in path.read_text()]
        raise BatchError(f"SCALE={scale}: there is no params/{scale}.yaml that names a scale{_nearest(scale, scales)}")
    first = needs(scale)["first_seed"] if first_seed is None else first_seed
    if not (str(first).isdigit() and str(seeds).isdigit() and int(seeds)):
        raise BatchError(f"SEEDS={seeds}, FIRST_SEED={first}: write whole numbers, at least one seed")
    numbers = range(int(first), int(first) + int(seeds))
    planned = [
        Run(scale, study, arm, seed)
        for study in studies
        for arm in _arms(list(arms) or arms_of(study))
        for seed in numbers
    ]
    if foreign := [run.arm for run in planned if _interacts(run.arm) != _interacts(scale)]:
        raise BatchError(f"SCALE={scale}: cannot run {foreign[0]}; such scales and STUDY=interaction go together")
    return list(dict.fromkeys(planned))


def _interacts(name: str) -> bool:
    return name.startswith("interaction")


def arms_of(study: str) -> list[str]:
    """Names of the arms, groups and folders that run in a study of its own."""
    known = {"main", *batches()["studies"], *(path.stem for path in (root() / "params" / "studies").glob("*.yaml"))}
    if study not in known:
        raise BatchError(f"STUDY={study}: no such file in params/studies{_nearest(study, known)}")
    return batches()["studies"].get(study, ["rivals"])


def _arms(names: Iterable[str]) -> list[str]:
    """Groups and folders taken apart, file names replaced by the arms they hold."""
    groups, arms = batches()["groups"], []
    by_file = {Path(path).stem: arm for arm, path in arm_files().items()}
    for name in names:
        inside = [arm for arm, path in arm_files().items() if Path(path).parent == Path("params", name)]
        if name in groups:
            arms += _arms(groups[name])
        elif not inside and name not in by_file:
            raise BatchError(f"ARMS={name}: no such file or folder in params/{_nearest(name, [*by_file, *groups])}")
        else:
            arms += inside or [by_file[name]]
    return list(dict.fromkeys(arms))


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def needs(scale: str) -> dict:
    """What one run of a scale asks a machine for: mem_mb, gpu, runtime [minutes]; and the scale's first_seed."""
    scales = batches()["scales"]
    asked = scales.get(scale, scales["other"])
    return asked | ({"gpu": 0} if read_params(f"params/{scale}.yaml").get("device") == "cpu" else {})


def threads(scale: str) -> int:
    """CPU threads of one run: the scale file's `threads`; where that is 0 (all cores), 8 or what the machine has."""
    return read_params(f"params/{scale}.yaml").get("threads", 1) or 8  # Snakemake lowers it to the cores it may use


def report_notebooks(scale: str) -> tuple[str, ...]:
    """The notebooks that read all runs of a scale."""
    return REPORTS.get(scale.partition("_")[0], REPORTS["other"])


# ---- steps of a run


def make_bases(run: Run, args: Sequence[str] = ()) -> None:
    """Pre-train and cache the initial models of one seed in the run's world."""
    from symbiosis.pretrain.initial import initial_model_folder

    given = {key: value for path in run.world_files for key, value in read_params(path).items()}
    settings = make_settings(", ".join(run.world_files), **given | _passed(args) | {"method": "real", "seed": run.seed})
    for role in ("student", "generator"):
        print(initial_model_folder(role, settings))


def set_aside(run: Run, args: Sequence[str] = ()) -> Path | None:
    """Make room where the folder holds a run of other settings: it moves to reports/replaced/<run_id>.

    A run of the settings asked for that was itself replaced before comes back from there. Returns where the other one
    went, or None where nothing was in the way. What is being written stays: its own lock will stop the newcomer.
    """
    folder, replaced = root() / run.folder, root() / "reports" / "replaced"
    if not (folder / "settings.json").is_file() or in_use(folder):
        return None
    stored, given = json.loads((folder / "settings.json").read_text()), run.given(args)
    if all(stored.get(key, value) == value for key, value in given.items()):
        return None
    kept = replaced / _run_id(stored)
    kept = next(path for n in range(10**6) if not (path := kept.with_name(kept.name + f".{n}" * bool(n))).exists())
    kept.parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder, kept)
    earlier = replaced / _run_id(given)
    if earlier.is_dir():
        os.replace(earlier, folder)
    folder.mkdir(exist_ok=True)
    print(f"{run.folder} held a run of other settings, now in {kept.relative_to(root())}")
    return kept


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


def _run_id(given: dict) -> str:
    kind = InteractionSettings if given.get("method") == "interaction" else RunSettings
    return make_settings("a planned run", kind, **given).run_id


@contextlib.contextmanager
def only_one() -> Iterator[None]:
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


def done_already(planned: Sequence[Run]) -> str:
    """What a dry run says beside what would run: the planned runs that are there, a line each."""
    done = [run.folder for run in planned if run.finished]
    return "\n".join([f"{len(done)} of {len(planned)} runs are done already", *(f"  {folder}" for folder in done)])


def progress(planned: Sequence[Run], minutes: float, done: int, total: int) -> str:
    """One line about the whole batch: runs that are there, and the time the steps left take at the pace so far."""
    finished = sum(run.finished for run in planned)
    left = minutes / done * (total - done)
    return f"batch: {finished} of {len(planned)} runs done, {minutes:.1f} minutes so far, about {left:.1f} minutes left"


def table(planned: Sequence[Run]) -> list[dict]:
    """A line per run, planned or found in reports/runs of the same scales: COLUMNS, and its `folder`; nulls are ''."""
    scales = sorted({run.scale for run in planned})
    found = {str(path.relative_to(root())) for scale in scales for path in root().glob(f"reports/runs/{scale}/*/*-s*")}
    ids = {run.folder: run for run in planned}
    return [_line(folder, ids.get(folder)) for folder in sorted(found | set(ids))]


def _line(folder: str, run: Run | None) -> dict:
    place = root() / folder
    line = dict.fromkeys(COLUMNS, "") | {"folder": folder, "status": status(place)}
    times = _papermill(place)
    line |= {"started": times.get("start_time") or "", "finished": times.get("end_time") or ""}
    if line["status"] != DONE:
        return line | {"run_id": _id_of(place, run)}
    record = json.loads((place / "record.json").read_text())
    return line | {name: record[name] for name in ("run_id", "wall_s", "peak_memory_gib", "commit")}


def _id_of(place: Path, run: Run | None) -> str:
    """The run_id of a run that is not finished; without its fingerprint where its parameters are not known or wrong."""
    stored = place / "settings.json"
    with contextlib.suppress(SettingsError, FileNotFoundError):
        if stored.is_file() or run:
            return _run_id(json.loads(stored.read_text()) if stored.is_file() else run.given())
    return "/".join(place.parts[-3:])


def _papermill(folder: Path) -> dict:
    """papermill's own notes of when the notebook began and ended; empty where there is none or it is cut short."""
    for name in ("run.part.ipynb", "run.ipynb"):
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            return json.loads((folder / name).read_text())["metadata"].get("papermill", {})
    return {}


def last_lines(folder: Path, n: int = LAST_LINES) -> str:
    """The end of a run's log, where there is one, without the colours of a terminal."""
    log = folder / "run.log"
    lines = log.read_text(errors="replace").splitlines()[-n:] if log.is_file() else ["(no log)"]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))


# ---- the report of a batch


def report(planned: Sequence[Run]) -> list[dict]:
    """Write reports/batch.csv and reports/index.html; print the failures with the last lines of their logs."""
    lines, reports = table(planned), root() / "reports"
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomic(reports / "batch.csv", text.getvalue().encode())
    write_atomic(reports / "index.html", index_page(lines, sorted({run.scale for run in planned})).encode())
    for line in failures(lines):
        print(f"FAILED: {line['folder']}\n{line['last_lines']}\n")
    print(f"{_tally(lines)}: reports/batch.csv, reports/index.html")
    return lines


def failures(lines: Sequence[dict]) -> list[dict]:
    """Runs that began and did not finish, each with `last_lines` of its log."""
    return [line | {"last_lines": last_lines(root() / line["folder"])} for line in lines if line["status"] == FAILED]


def _tally(lines: Sequence[dict]) -> str:
    counted = Counter(line["status"] for line in lines)
    return (
        ", ".join(f"{counted[name]} {name}" for name in (DONE, RUNNING, FAILED, MISSING) if counted[name]) or "no runs"
    )


def index_page(lines: Sequence[dict], scales: Sequence[str]) -> str:
    """The batch as one page that works offline: how each run stands, failures, and the reports with their figures."""
    parts = [f"<h1>Batch: {html.escape(', '.join(scales))}</h1>", f"<p>{_tally(lines)}</p>"]
    for line in failures(lines):
        parts.append(f"<h2>Failed: {html.escape(line['folder'])}</h2><pre>{html.escape(line['last_lines'])}</pre>")
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(line))}</tr>\n" for line in lines)
    heads = "".join(f"<th>{name}</th>" for name in COLUMNS)
    parts.append(f"<details><summary>Runs</summary><table><tr>{heads}</tr>\n{cells}</table></details>")
    for notebook in [path for scale in scales for path in sorted((root() / "reports/runs" / scale).glob("*.ipynb"))]:
        name = html.escape(f"{notebook.parent.name}: {notebook.stem}")
        parts.append(f"<details><summary>{name}</summary>{notebook_body(notebook)}</details>")
    return page("Batch", "\n".join(parts))


def _cells(line: dict) -> list[str]:
    """A line of the table, escaped; the run's name is a link to its notebook, converted where it is new."""
    texts = [html.escape(str(line[name])) for name in COLUMNS]
    notebook = root() / line["folder"] / "run.ipynb"
    if line["status"] == DONE:
        place = Path("html", *Path(line["folder"]).parts[2:]).with_suffix(".html")
        shown = root() / "reports" / place
        if not shown.is_file() or shown.stat().st_mtime_ns < notebook.stat().st_mtime_ns:
            write_atomic(shown, page(line["run_id"], notebook_body(notebook)).encode())
        texts[0] = f'<a href="{place.as_posix()}">{texts[0]}</a>'
    return texts


STYLE = """body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em} img{max-width:100%}
table{border-collapse:collapse;font-size:.85em} td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}
pre{overflow:auto;background:#f6f6f6;padding:.6em;font-size:.85em}
summary{cursor:pointer;font-weight:bold;margin:.6em 0} .anchor-link{display:none} .output_area{overflow:auto}"""


def page(title: str, body: str) -> str:
    """A whole HTML page. Its policy lets the browser run and fetch nothing, whatever the texts in it try."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


TAGS = [
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "br", "hr", "div", "span", "blockquote", "pre", "code", "a", "ul", "ol"),
    *("li", "b", "i", "em", "strong", "del", "small", "sub", "sup", "dl", "dt", "dd", "abbr", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
]


def notebook_body(path: Path) -> str:
    """An executed notebook as HTML without its input cells: text, tables and figures inline, no script.

    Output may hold text that a model wrote, so of its markup only the TAGS of texts and tables are obeyed.
    """
    without_grammar()
    import nbformat

    notebook, (cleaner, exporter) = nbformat.read(path, as_version=4), _converters()
    notebook.metadata.pop("widgets", None)  # the state of progress bars would become a script
    for cell in notebook.cells:
        for data in [output["data"] for output in cell.get("outputs", []) if "data" in output]:
            if "text/html" in data:  # a styled table brings its own sheet, which would be shown as text
                data["text/html"] = re.sub(r"<style\b.*?</style>", "", data["text/html"], flags=re.S | re.I)
            data.setdefault("text/plain", data.get("text/markdown", ""))
        if cell.cell_type == "code":
            cell.outputs = cleaner.sanitize_code_outputs(cell.outputs)
    return exporter.from_notebook_node(notebook)[0]


@cache
def _converters():
    """(what cleans outputs, what makes HTML of a notebook), made once: the templates compile in a tenth of a second."""
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors.sanitize import SanitizeHTML
    from traitlets.config import Config

    shown = Config({"NbConvertBase": {"display_data_priority": ["text/html", "image/png", "text/plain"]}})
    exporter = HTMLExporter(config=shown, template_name="basic", exclude_input=True, exclude_output_prompt=True)
    return SanitizeHTML(tags=TAGS), exporter


# ---- the steps as commands


STEPS = {"bases": make_bases, "aside": set_aside, "merge": merge}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m symbiosis.batch", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=list(STEPS))
    for name in Run._fields:
        parser.add_argument(name, type=int if name == "seed" else str)
    parser.add_argument("args", nargs="*", metavar="-- -p KEY VALUE")
    told = parser.parse_args()
    STEPS[told.step](Run(told.scale, told.study, told.arm, told.seed), told.args)


if __name__ == "__main__":
    main()
