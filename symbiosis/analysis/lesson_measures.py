"""The measures of every finished lesson, collected into reports/measures.csv and reports/null_bands.csv."""

import functools
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
    csv_bytes,
    finished_runs,
    from_record,
    merge_into,
    one_at_a_time,
    read_long,
    read_or_empty,
    read_table,
    with_arm,
)

VERSION = 2  # of the measures: raised when a formula changes, so that finished lessons are measured anew

HOW_TO_MEASURE = "make it with `symbiosis.analysis.lesson_measures.collect`, which reads the finished runs"
BAND_COLUMNS = ("scale", "study", "metric", "low", "high", "n_texts", "draws")
BAND_NUMBERS = {"low": float, "high": float, "n_texts": int, "draws": int}
BASE = "base"  # as an encoder: the initial Student
DRAWS = 100  # lessons of real text behind a null band


# --- from runs to reports/measures.csv -------------------------------------------------------------------------------
@one_at_a_time
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

    Columns and rule are those of `results.collect`. Each study's null band comes into null_bands.csv. Runs of method
    interaction have no lessons of this kind, and others may have been cleared of their texts: both are passed over.
    """
    reports_dir, named = resolve(reports_dir), (encoder, encoder_revision)
    folders = [folder for folder in finished_runs(reports_dir, scale, study) if (folder / "lessons").is_dir()]
    folders = [folder for folder in folders if folder.parts[-2] != "interaction"]
    if not folders:
        return []
    merged = merge_into(reports_dir / "measures.csv", (run_rows(folder, *named) for folder in folders))
    firsts = {folder.parts[-3:-1]: folder for folder in reversed(folders)}
    _merge_bands(reports_dir / "null_bands.csv", [band_of_run(folder, *named) for folder in firsts.values()])
    return merged


def _merge_bands(path: Path, bands: Sequence[pd.DataFrame]) -> None:
    """Bring the bands, one of each (scale, study), into null_bands.csv."""
    key, new = ["scale", "study"], pd.concat(bands)
    old = read_or_empty(path, BAND_COLUMNS, BAND_NUMBERS)
    kept = old[~pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(new[key]))]
    rows = pd.concat([kept, new]).sort_values([*key, "metric"], ignore_index=True)
    write_atomic(path, csv_bytes(rows, BAND_COLUMNS))


def band_of_run(folder: Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """`null_band` of lessons as large as this run's, of the world of seed 0 or of its task's train split.

    Rare words of real text are those of the pool, which shares no text with train. Empty where the task's files are
    not here, or its train split holds no two lessons.
    """
    settings, _ = _read_settings(folder)
    n = settings.lesson_size
    if settings.task == "miniature":
        band = _world_band(n, DRAWS)
    elif (task := _task(settings)) and len(task.train) >= 2 * n and len(task.pool):
        encode = _encoder(settings, _initial_student(settings), encoder, encoder_revision)
        real, rng = RealText.of(task.pool["text"][:], encode), np.random.default_rng(derive_seed(0, "null_band"))
        band = null_band(task.train["text"][:], n, rng=rng, real=real, draws=DRAWS)
    else:
        return pd.DataFrame(columns=list(BAND_COLUMNS))
    numbers = {"scale": settings.scale, "study": settings.study, "n_texts": n, "draws": DRAWS}
    return band.round(DIGITS).assign(**numbers)[list(BAND_COLUMNS)]


@functools.cache  # the studies of one world have lessons of one size
def _world_band(n_texts: int, draws: int) -> pd.DataFrame:
    return null_band(_world(0), n_texts, rng=np.random.default_rng(derive_seed(0, "null_band")), draws=draws)


def read_band(reports_dir: str | Path, scale: str, study: str) -> pd.DataFrame:
    """metric -> low, high of one study in reports/null_bands.csv; empty where there is none."""
    bands = read_or_empty(resolve(reports_dir) / "null_bands.csv", BAND_COLUMNS, BAND_NUMBERS)
    return bands[(bands["scale"] == scale) & (bands["study"] == study)].set_index("metric")[["low", "high"]]


def read(reports_dir: str | Path, scale: str, study: str = "main", *, missing_ok: bool = False) -> pd.DataFrame:
    """Rows of reports/measures.csv of one scale and study, with the column `arm`.

    ResultsError where the lessons of that study have not been measured; no rows with `missing_ok`.
    """
    path = resolve(reports_dir) / "measures.csv"
    if not missing_ok:
        return read_long(path, scale, study, HOW_TO_MEASURE)
    rows = with_arm(read_or_empty(path, COLUMNS, NUMBERS))
    return rows[(rows["scale"] == scale) & (rows["study"] == study)].reset_index(drop=True)


# --- one run ---------------------------------------------------------------------------------------------------------
def run_rows(folder: str | Path, encoder: str = BASE, encoder_revision: str = "") -> pd.DataFrame:
    """The long rows of every lesson of one finished run, with `generation`; encoder: see `collect`.

    They are kept in the run's folder, so that the job that made the run can measure it; what was measured by another
    version, of another run or into a damaged file is measured anew.
    """
    folder, named = Path(folder), (encoder, encoder_revision)
    table, mark = folder / "measures.csv", folder / "measures.digest"
    if not (table.is_file() and mark.is_file() and mark.read_text() == _mark(folder, *named)):
        write_atomic(table, csv_bytes(_measured(folder, *named), COLUMNS))
        write_atomic(mark, _mark(folder, *named).encode())
    return read_table(table, COLUMNS, NUMBERS)


def _mark(folder: Path, encoder: str, encoder_revision: str) -> str:
    content = digest([folder / "record.json", folder / "measures.csv"])
    return f"{VERSION} {content} {encoder} {encoder_revision}"


def _measured(folder: Path, encoder: str, encoder_revision: str) -> pd.DataFrame:
    settings, run_id = _read_settings(folder)
    run = {name: getattr(settings, name) for name in ("study", "method", "variant", "scale", "seed")}
    world = _world(settings.seed) if settings.task == "miniature" else None
    task, student = None if world else _task(settings), _initial_student(settings)
    against = {"base_loss": _base_loss(settings, student)}
    if task and len(task.pool):
        against["real"] = RealText.of(task.pool["text"][:], _encoder(settings, student, encoder, encoder_revision))
    rows = []
    for generation in range(1, settings.generations + 1):
        lesson = load_lesson(folder / "lessons" / f"gen-{generation}.parquet")
        rng = np.random.default_rng(derive_seed(settings.seed, generation, "measures"))
        measured = lesson_rows(lesson["text"][:], world, rng=rng, **against)
        rows += [run | {"run_id": run_id, "generation": generation} | row for row in measured]
    return pd.DataFrame(rows, columns=list(COLUMNS))


_world = functools.lru_cache(maxsize=64)(World.make)  # the runs of one seed share their world


def _task(settings: RunSettings):
    """The run's task; None where its files are not here any more."""
    try:
        return load_task(settings)
    except SymbiosisError:
        return None


def _initial_student(settings: RunSettings):
    """The model all arms of the run's seed begin with; None where it cannot be had."""
    from symbiosis.models import loading
    from symbiosis.pretrain import initial

    try:
        return loading.load(initial.initial_model_folder("student", settings), settings.student_revision, device="cpu")
    except SymbiosisError:
        return None


def _encoder(
    settings: RunSettings, student: tuple | None, name: str, revision: str
) -> Callable[[Sequence[str]], np.ndarray] | None:
    """texts -> vectors; None where the run's initial Student is asked for and cannot be had."""
    from symbiosis.models import encoders, hidden_states, loading

    loading.use_threads(settings.threads)
    if name != BASE:
        return encoders.load(name, revision, device=settings.device, precision=settings.precision)
    return (lambda texts: hidden_states.hidden_states(student, texts, settings)) if student else None


def _base_loss(settings: RunSettings, student: tuple | None) -> Callable[[Sequence[str]], float] | None:
    """Mean LM loss of texts under the run's initial Student; None where that model cannot be had."""
    from symbiosis.models import loading, scoring

    if not student:
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


def _read_settings(folder: Path) -> tuple[RunSettings, str]:
    """Settings and run_id of a finished run."""
    run_id, settings = from_record(folder, lambda record: (record["run_id"], dict(record["settings"])))
    return make_settings(str(folder / "record.json"), **settings), run_id
