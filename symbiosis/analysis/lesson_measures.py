"""The measures of every finished lesson, collected into reports/measures.csv and reports/null_bands.csv."""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.task import load_task
from symbiosis.data.world import World
from symbiosis.errors import SymbiosisError
from symbiosis.measures.lessons import DIGITS, RealText, lesson_rows, null_band
from symbiosis.settings import RunSettings, derive_seed, make_settings, resolve
from symbiosis.store.folders import digest, write_atomic
from symbiosis.store.results import (
    COLUMNS,
    NUMBERS,
    UNREPORTED,
    ResultsError,
    csv_bytes,
    merge,
    read_long,
    read_or_empty,
    read_table,
    with_arm,
)

VERSION = 2  # of the measures: raised when a formula changes, so that finished lessons are measured anew


HOW_TO_MAKE = "make it with `symbiosis.analysis.lesson_measures.collect`, which reads the finished runs"


BAND_COLUMNS = ("scale", "study", "metric", "low", "high", "n_texts", "draws")


BAND_NUMBERS = {"low": float, "high": float, "n_texts": int, "draws": int}


BANDS, BAND_BOUNDS = ".cache/symbiosis/bands", {"low": float, "high": float}  # bands of the world that were made


BASE, INTERACTION = "base", "interaction"  # the initial Student as encoder; the study of notebook 04


DRAWS = 100  # lessons of real text behind a null band


# --- from runs to reports/measures.csv -------------------------------------------------------------------------------
def collect(
    reports_dir: str | Path,
    scale: str | None = None,
    study: str | None = None,
    *,
    encoder: str = BASE,
    encoder_revision: str = "",
) -> list[str]:
    """Merge the lessons of finished runs (of one scale, one study) into measures.csv; the run_ids merged, sorted.

    encoder: of the semantic measures on real text, whose meanings no world tells: 'base' (the run's initial Student), a
    local folder or a hub id at `encoder_revision`.

    The columns and the rule are those of `results.collect`: a run replaces the rows of the same study, method, variant,
    scale and seed, all others stay; a repeat changes no byte; scale 'smoke' never enters. Each study's null band comes
    into null_bands.csv. Runs of method interaction have no lessons of this kind and are passed over.
    """
    reports_dir, asked = resolve(reports_dir), (encoder, encoder_revision)
    records = sorted(reports_dir.glob(f"runs/{scale or '*'}/{study or '*'}/*/record.json"))
    folders = [path.parent for path in records if path.parts[-4] != UNREPORTED and path.parts[-3] != INTERACTION]
    folders = [folder for folder in folders if (folder / "lessons").is_dir()]  # others were cleared of their texts
    if not folders:
        return []
    rows = pd.concat([run_rows(folder, *asked) for folder in folders], ignore_index=True)
    rows = rows[rows["scale"] != UNREPORTED]
    path = reports_dir / "measures.csv"
    write_atomic(path, csv_bytes(merge(read_or_empty(path, COLUMNS, NUMBERS), rows), COLUMNS))
    firsts = {folder.parts[-3:-1]: folder for folder in reversed(folders)}
    _collect_bands(reports_dir, [band_of_run(folder, *asked) for folder in firsts.values()])
    return sorted(set(rows["run_id"]))


def _collect_bands(reports_dir: Path, found: Sequence[pd.DataFrame]) -> None:
    """Bring the bands, one of each (scale, study), into null_bands.csv."""
    path = reports_dir / "null_bands.csv"
    old, new = read_or_empty(path, BAND_COLUMNS, BAND_NUMBERS), pd.concat(found)
    key = ["scale", "study"]
    kept = old[~pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(new[key]))]
    bands = pd.concat([kept, new]).sort_values([*key, "metric"], ignore_index=True)
    write_atomic(path, csv_bytes(bands, BAND_COLUMNS))


@functools.lru_cache(maxsize=8)
def band_of_run(folder: Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """`null_band` of lessons as large as this run's, of the world of seed 0 or of its task's train split.

    Rare words of real text are those of the pool, which shares no text with train. Empty where the task's files are
    not here, or its train split holds no two lessons.
    """
    settings, _ = _read_settings(folder / "record.json")
    n, rng = settings.lesson_size, np.random.default_rng(derive_seed(0, "null_band"))
    head, columns = {"scale": settings.scale, "study": settings.study}, list(BAND_COLUMNS)
    if settings.task == "miniature":
        band = _world_band(n, rng=rng)
    elif (task := _task(settings)) and len(task.train) >= 2 * n and len(task.pool):
        real = RealText.of(task.pool["text"][:], _encoder(settings, encoder, encoder_revision))
        band = null_band(task.train["text"][:], n, rng=rng, real=real, draws=DRAWS)
    else:
        return pd.DataFrame(columns=columns)
    return band.round(DIGITS).assign(**head, n_texts=n, draws=DRAWS)[columns]


def _world_band(n_texts: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """The band of the world of seed 0, made once for all studies."""
    path, columns = resolve(BANDS) / f"v{VERSION}-{n_texts}-{DRAWS}.csv", ("metric", *BAND_BOUNDS)
    if not path.is_file():
        band = null_band(_world(0), n_texts, rng=rng, draws=DRAWS)
        write_atomic(path, csv_bytes(band.round(DIGITS), columns))
    return read_table(path, columns, BAND_BOUNDS)


def read_band(reports_dir: str | Path, scale: str, study: str) -> pd.DataFrame:
    """metric -> low, high of one study in reports/null_bands.csv; empty where there is none."""
    bands = read_or_empty(resolve(reports_dir) / "null_bands.csv", BAND_COLUMNS, BAND_NUMBERS)
    return bands[(bands["scale"] == scale) & (bands["study"] == study)].set_index("metric")[["low", "high"]]


def read(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """Rows of reports/measures.csv of one scale and study, with the column `arm`."""
    return read_long(resolve(reports_dir) / "measures.csv", scale, study, HOW_TO_MAKE)


def held(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """As `read`, but empty where the lessons of that study have not been measured."""
    path = resolve(reports_dir) / "measures.csv"
    rows = with_arm(read_or_empty(path, COLUMNS, NUMBERS))
    return rows[(rows["scale"] == scale) & (rows["study"] == study)].reset_index(drop=True)


def run_rows(folder: str | Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """The measures of every lesson of one finished run, as long rows.

    Kept as measures.csv in the run's folder, with a mark beside it: the measures' version, a digest of the run's
    record and the file itself, the encoder. A changed formula, another run or a damaged file is measured anew.
    """
    folder, asked = Path(folder), (encoder, encoder_revision)
    table, mark = folder / "measures.csv", folder / "measures.digest"
    if not (table.is_file() and mark.is_file() and mark.read_text() == _mark(folder, *asked)):
        write_atomic(table, csv_bytes(_measured(folder, *asked), COLUMNS))
        write_atomic(mark, _mark(folder, *asked).encode())
    return read_table(table, COLUMNS, NUMBERS)


def _mark(folder: Path, encoder: str, encoder_revision: str) -> str:
    content = digest([folder / "record.json", folder / "measures.csv"])
    return f"{VERSION} {content} {encoder} {encoder_revision}"


def _measured(folder: Path, encoder: str, encoder_revision: str) -> pd.DataFrame:
    settings, run_id = _read_settings(folder / "record.json")
    head = {name: getattr(settings, name) for name in ("study", "method", "variant", "scale", "seed")}
    world = _world(settings.seed) if settings.task == "miniature" else None
    task = None if world else _task(settings)
    known = {"base_loss": _base_loss(settings)}
    if task and len(task.pool):
        known["real"] = RealText.of(task.pool["text"][:], _encoder(settings, encoder, encoder_revision))
    rows = []
    for generation in range(1, settings.generations + 1):
        lesson = load_lesson(folder / "lessons" / f"gen-{generation}.parquet")
        rng = np.random.default_rng(derive_seed(settings.seed, generation, "measures"))
        found = lesson_rows(lesson["text"][:], world, rng=rng, **known)
        rows += [head | {"run_id": run_id, "generation": generation} | row for row in found]
    return pd.DataFrame(rows, columns=list(COLUMNS))


_world = functools.lru_cache(maxsize=64)(World.make)  # the runs of one seed share their world


@functools.lru_cache(maxsize=4)
def _task(settings: RunSettings):
    """The run's task; None where its files are not here any more."""
    try:
        return load_task(settings)
    except SymbiosisError:
        return None


def _encoder(settings: RunSettings, name: str, revision: str) -> Callable[[Sequence[str]], np.ndarray] | None:
    """texts -> vectors; None where the run's initial Student is asked for and cannot be had."""
    from symbiosis.models import encoders, hidden_states, loading

    loading.use_threads(settings.threads)
    if name != BASE:
        return encoders.load(name, revision, device=settings.device, precision=settings.precision)
    student = _initial_student(settings)
    return (lambda texts: hidden_states.hidden_states(student, texts, settings)) if student else None


def _initial_student(settings: RunSettings):
    """The model all arms of the run's seed begin with; None where it cannot be had."""
    from symbiosis.pretrain import initial

    try:
        return _student(initial.initial_model_folder("student", settings), settings.student_revision)
    except SymbiosisError:
        return None


def _base_loss(settings: RunSettings) -> Callable[[Sequence[str]], float] | None:
    """Mean LM loss of texts under the run's initial Student; None where that model cannot be had."""
    from symbiosis.models import loading, scoring

    if not (student := _initial_student(settings)):
        return None
    tokenizer = student.tokenizer
    loading.use_threads(settings.threads)
    n_given = len(loading.start_ids(tokenizer))

    def mean_loss(texts: Sequence[str]) -> float:
        rows = loading.document_rows(tokenizer, texts, settings.max_length)
        tokens = np.array([len(row) - n_given for row in rows])
        losses = scoring.text_losses(student, rows, [n_given] * len(rows), settings)
        return float(losses @ tokens / tokens.sum())

    return mean_loss


@functools.lru_cache(maxsize=2)
def _student(folder: str, revision: str):
    from symbiosis.models import loading

    return loading.load(folder, revision, device="cpu")


def _read_settings(path: Path) -> tuple[RunSettings, str]:
    """Settings and run_id of a record."""
    try:
        record = json.loads(path.read_text())
        run_id, settings = record["run_id"], record["settings"]
        return make_settings(str(path), **settings), run_id
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}: not valid JSON ({error}); delete the run's folder and run it again") from None
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{path}: no {error}; delete the run's folder and run it again") from None
