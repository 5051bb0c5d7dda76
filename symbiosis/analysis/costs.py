"""What each run cost, collected into reports/costs.csv, and a table of it: a line an arm, a mean over its seeds.

An arm that is ahead may only have been given more. Every number is of a whole run, all its generations together, and
is counted where the work is done (`LoopState.counts`) or read off the lessons:

    texts          different texts the Student was taught
    repeats        rows beyond these: a text that is taught again, in the same lesson or a later one
    pool_texts     different pool texts that were labelled and taught, retrieved ones among them, or explained
    drafts         texts a model wrote: asked for, drawn again, edited, or to name a subject
    label_calls    texts a Generator read to decide something: a label, which draft is kept, how hard a text is. What is
                   read to be measured only (`agreed`, accuracies) is not counted
    pool_scored    pool texts a Student scored to find hard ones
    dev_labels     labelled dev rows that were taught, explained or decided what is taught; never what they are tuned by
    real_labels    labelled train rows that were taught, as they are or edited
    student_rows   rows trained on, times `epochs`; other Students taught on the way are counted, too
    cpu_s          CPU seconds of the run's process, pre-training of the models it begins with where it made them
"""

import math
from collections import Counter
from pathlib import Path

import pandas as pd

from symbiosis.analysis.tables import means_over_seeds, order
from symbiosis.data.lesson import load_lesson
from symbiosis.loop.policy import STUDENTS
from symbiosis.store.results import COLUMNS, from_record, merge_into, one_at_a_time, runs_with_lessons, select
from symbiosis.store.stages import metric

UNITS = {
    "texts": "texts", "repeats": "rows", "pool_texts": "texts", "drafts": "texts", "label_calls": "texts",
    "pool_scored": "texts", "dev_labels": "rows", "real_labels": "rows", "student_rows": "rows", "cpu_s": "s",
}  # fmt: skip
DECIDED_BY_DEV = {"feedback": {"influence"}, "generator_update": {"influence", "dpo", "teach"}}
COUNTED_SINCE = ("label_calls", "pool_scored")  # counts that runs without `cpu_s` in their record did not keep


@one_at_a_time
def collect(reports_dir: Path, scale: str | None = None, study: str | None = None, *, into: Path) -> list[str]:
    """Merge the costs of finished runs (of one scale, one study) into costs.csv; the run_ids merged, sorted.

    Columns and rule are those of `results.collect`; the runs are those of `runs_with_lessons`.
    """
    folders = runs_with_lessons(reports_dir, scale, study)
    return merge_into(into / "costs.csv", map(run_rows, folders)) if folders else []


def run_rows(folder: Path) -> pd.DataFrame:
    """Rows of costs.csv of one finished run, at its last generation; nan where an older run did not count."""
    record = from_record(folder, lambda record: record | {"settings": dict(record["settings"])})
    settings = record["settings"]
    head = {key: settings[key] for key in ("study", "method", "variant", "scale", "seed")}
    head["run_id"] = record["run_id"]
    rows = [
        metric(settings["generations"], name, value, UNITS[name], 1) for name, value in costs(folder, record).items()
    ]
    return pd.DataFrame([head | row for row in rows], columns=list(COLUMNS))


def costs(folder: Path, record: dict) -> dict[str, float]:
    """{cost: amount} of a run, from its record and its lessons."""
    settings, counts = record["settings"], Counter()
    for stage in record.get("writing_counts", []):
        if stage.get("step") == "round" and "drafts" in stage:  # as it was called before bfe4da5
            taught = STUDENTS * settings["lesson_size"]
            stage |= {"asked": stage["drafts"] + taught, "student_rows": taught}
        counts.update({name: number for name, number in stage.items() if isinstance(number, int)})
    paths = sorted((folder / "lessons").glob("*.parquet"))
    lessons = pd.concat([load_lesson(path).to_pandas() for path in paths], ignore_index=True)
    sizes, texts = record.get("inputs", {}).get("sizes", {}), lessons["text"].nunique()
    starts_warm = settings["method"] == "recursive" and settings.get("recursive_start") == "warm"
    warm = sizes.get("train", 0) if starts_warm else 0
    found = {
        "texts": texts,
        "repeats": len(lessons) - texts,
        "pool_texts": _sources(lessons, "label", "explain", "retrieve"),
        "drafts": counts["asked"] + counts["redrawn"] + counts["named"],
        "label_calls": counts["labelled"] + counts["read"],
        "pool_scored": counts["scored"],
        "dev_labels": sizes.get("dev", math.nan) if _dev_decides(settings) else _sources(lessons, "dev", "explain_dev"),
        "real_labels": max(warm, _sources(lessons, "real", "student_edit")),
        "student_rows": settings["epochs"] * (len(lessons) + warm + counts["student_rows"]),
        "cpu_s": record.get("cpu_s"),
    }
    if found["cpu_s"] is None:
        found |= dict.fromkeys((*COUNTED_SINCE, "cpu_s"), math.nan)
    return {name: float(value) for name, value in found.items()}


def table(reports_dir: str | Path, scale: str, study: str) -> pd.DataFrame:
    """A line per arm of a study, a column per cost, means over seeds, and `seeds`; empty where nothing is collected."""
    rows = select(reports_dir, "costs.csv", scale=scale, study=study)
    if rows.empty:
        return pd.DataFrame(columns=[*UNITS, "seeds"])
    means = means_over_seeds(rows, ["arm", "metric"])
    wide = means.pivot(index="arm", columns="metric", values="mean").reindex(index=order(rows), columns=list(UNITS))
    return wide.assign(seeds=rows.groupby("arm")["seed"].nunique())


def _sources(lessons: pd.DataFrame, *kinds: str) -> int:
    """How many different rows of a split the lessons' rows of these prompt kinds come from."""
    return lessons.loc[lessons["prompt_kind"].isin(kinds), "source_id"].nunique()


def _dev_decides(settings: dict) -> bool:
    """Whether the loss on the dev rows has a say in what is chosen or in how the Generator is changed."""
    told = {key: settings.get(key) for key in DECIDED_BY_DEV}
    if settings.get("teach_reward") == "label" or settings.get("teach_held_out") == "pool":
        told["generator_update"] = None  # taught without them
    return settings["method"] == "symbiosis" and any(told[key] in by for key, by in DECIDED_BY_DEV.items())
