"""The measures of every finished lesson, collected into reports/measures.csv and reports/null_bands.csv."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson, texts_of
from symbiosis.data.task import load_task
from symbiosis.data.world import World
from symbiosis.errors import SymbiosisError
from symbiosis.measures.lessons import DIGITS, RealText, lesson_rows, null_band
from symbiosis.settings import RunSettings, derive_seed, make_settings, resolve
from symbiosis.store import results
from symbiosis.store.folders import digest, write_atomic
from symbiosis.store.results import COLUMNS, csv_bytes, one_at_a_time, read_or_empty, select

VERSION = 5  # of the measures: raised when a formula changes, so that finished lessons are measured anew
BAND_COLUMNS = ("scale", "study", "metric", "low", "high", "n_texts", "draws")
BAND_NUMBERS = {"low": float, "high": float, "n_texts": int, "draws": int}
DRAWS = 100  # lessons of real text behind a null band


# --- from runs to reports/measures.csv -------------------------------------------------------------------------------
@one_at_a_time
def collect(reports_dir: Path, scale: str | None = None, study: str | None = None, *, into: Path) -> list[str]:
    """Merge the lessons of finished runs (of one scale, one study) into measures.csv; the run_ids merged, sorted.

    Columns and rule are those of `results.collect`; the runs are those of `runs_with_lessons`. Each study's null band
    comes into null_bands.csv.
    """
    folders = results.runs_with_lessons(reports_dir, scale, study)
    if not folders:
        return []
    merged = results.merge_into(into / "measures.csv", map(run_rows, folders))
    firsts = {folder.parts[-3:-1]: folder for folder in reversed(folders)}
    _merge_bands(into / "null_bands.csv", pd.concat(map(band_of_run, firsts.values())))
    return merged


def _merge_bands(path: Path, new: pd.DataFrame) -> None:
    """Bring bands into null_bands.csv, in place of those of the same scale and study."""
    old, key = read_or_empty(path, BAND_COLUMNS, BAND_NUMBERS), ["scale", "study"]
    kept = old[~pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(new[key]))]
    rows = pd.concat([kept, new]).sort_values([*key, "metric"], ignore_index=True)
    write_atomic(path, csv_bytes(rows, BAND_COLUMNS))


def band_of_run(folder: Path) -> pd.DataFrame:
    """`null_band` of lessons as large as this run's, of the world of seed 0 or of its task's train split.

    Rare words of real text are those of the pool, which shares no text with train. Empty where the task's files are
    not here, or its train split holds no two lessons.
    """
    settings, _ = _read_settings(folder)
    n, task = settings.lesson_size, None if settings.task == "miniature" else _task(settings)
    if settings.task == "miniature":
        band = _world_band(n)
    elif task and len(task.train) >= 2 * n and len(task.pool):
        real = _real_text(settings, task)
        rng = np.random.default_rng(derive_seed(0, "null_band"))
        band = null_band(task.train["text"][:], n, rng=rng, real=real, draws=DRAWS)
    else:
        return pd.DataFrame(columns=list(BAND_COLUMNS))
    numbers = {"scale": settings.scale, "study": settings.study, "n_texts": n, "draws": DRAWS}
    return band.round(DIGITS).assign(**numbers)[list(BAND_COLUMNS)]


@functools.cache  # the studies of one world have lessons of one size
def _world_band(n_texts: int) -> pd.DataFrame:
    rng = np.random.default_rng(derive_seed(0, "null_band"))
    return null_band(_world(0), n_texts, rng=rng, draws=DRAWS)


def read_band(reports_dir: str | Path, scale: str, study: str) -> pd.DataFrame:
    """metric -> low, high of one study in reports/null_bands.csv; empty where there is none."""
    bands = read_or_empty(resolve(reports_dir) / "null_bands.csv", BAND_COLUMNS, BAND_NUMBERS)
    return bands[(bands["scale"] == scale) & (bands["study"] == study)].set_index("metric")[["low", "high"]]


def read(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """Rows of reports/measures.csv of one scale and study, with the column `arm`; none where nothing was measured."""
    return select(reports_dir, "measures.csv", scale=scale, study=study)


# --- one run ---------------------------------------------------------------------------------------------------------
def run_rows(folder: str | Path) -> pd.DataFrame:
    """The long rows of every lesson of one finished run, with `generation`.

    They are kept in the run's folder, so that the job that made the run can measure it; what was measured by another
    version, of another run or into a damaged file is measured anew.
    """
    folder = Path(folder)
    table, mark = folder / "measures.csv", folder / "measures.digest"
    if not (table.is_file() and mark.is_file() and mark.read_text() == _mark(folder)):
        write_atomic(table, csv_bytes(_measured(folder), COLUMNS))
        write_atomic(mark, _mark(folder).encode())
    return results.read_table(table)


def _mark(folder: Path) -> str:
    return f"{VERSION} {digest([folder / 'record.json', folder / 'measures.csv'])}"


def _measured(folder: Path) -> pd.DataFrame:
    settings, run_id = _read_settings(folder)
    run = {name: getattr(settings, name) for name in ("study", "method", "variant", "scale", "seed")}
    world = _world(settings.seed) if settings.task == "miniature" else None
    task, student = None if world else _task(settings), _initial_student(settings)
    real = _real_text(settings, task) if task and len(task.pool) else None
    base_loss, rows = _base_loss(settings, student) if student else None, []
    for generation in range(1, settings.generations + 1):
        lesson = load_lesson(folder / "lessons" / f"gen-{generation}.parquet")
        rng = np.random.default_rng(derive_seed(settings.seed, generation, "measures"))
        measured = lesson_rows(texts_of(lesson), world, rng=rng, real=real, base_loss=base_loss)
        rows += [run | {"run_id": run_id, "generation": generation} | row for row in measured]
    return pd.DataFrame(rows, columns=list(COLUMNS))


_world = functools.lru_cache(maxsize=64)(World.make)  # the runs of one seed share their world


def _task(settings: RunSettings):
    """The run's task; None where its files are not here any more."""
    with contextlib.suppress(SymbiosisError):
        return load_task(settings)


def _initial_student(settings: RunSettings):
    """The model all arms of the run's seed begin with; None where it cannot be had."""
    from symbiosis.models import loading
    from symbiosis.pretrain import initial

    loading.use_threads(settings.threads)
    with contextlib.suppress(SymbiosisError):
        return loading.load(initial.initial_model_folder("student", settings), settings.student_revision, device="cpu")


def _real_text(settings: RunSettings, task) -> RealText:
    """The pool's texts as real text; meaning is that of the sentence encoder, where `make weights` has fetched it."""
    from symbiosis.models import encoders

    encode = None
    with contextlib.suppress(SymbiosisError):
        encode = encoders.load(encoders.SENTENCES, device="cpu", max_length=settings.max_length)
    return RealText.of(task.pool["text"][:], encode)


def _base_loss(settings: RunSettings, student) -> Callable[[Sequence[str]], float]:
    """Mean LM loss of texts under the run's initial Student."""
    from symbiosis.models import loading, scoring

    start = len(loading.start_ids(student.tokenizer))

    def mean_loss(texts: Sequence[str]) -> float:
        rows = loading.document_rows(student.tokenizer, texts, settings.max_length)
        tokens = np.array([len(row) - start for row in rows])
        losses = scoring.text_losses(student, rows, [start] * len(rows), settings)
        return float(losses @ tokens / tokens.sum())

    return mean_loss


def _read_settings(folder: Path) -> tuple[RunSettings, str]:
    """Settings and run_id of a finished run."""
    run_id, settings = results.from_record(folder, lambda record: (record["run_id"], dict(record["settings"])))
    return make_settings(str(folder / "record.json"), **settings), run_id
