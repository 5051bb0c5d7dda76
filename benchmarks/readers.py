"""Lessons read by other Students: is what was written to teach one Student good for others, too?

`python benchmarks/readers.py minilm --study real_weights_teach` has a Student `minilm` learn the last lesson of every
finished run of that study in --reports, and says how many test rows it then gets right; its rows take the place of
older ones of the same reader and run in readers.csv in --folder, the published one of which stands in reports/. A
lesson that was made by feedback, or by a Generator that learned to teach, keeps what it owes to its own Student.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.settings import PROXIES, RunSettings, arm_of, derive_seed, make_settings, resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import from_record, runs_with_lessons

SCALE = "smollm"


def settings_of(folder: Path) -> RunSettings:
    """Those of a finished run."""
    return make_settings(str(folder), **from_record(folder, lambda record: dict(record["settings"])))


def read(settings: RunSettings, folder: Path, student, test) -> dict:
    """What a Student gets right on test that learns the last lesson of a run; it learns in place."""
    lesson = load_lesson(folder / "lessons" / f"gen-{settings.generations}.parquet")
    began = time.process_time()
    student.learn(lesson, seed=derive_seed(settings.seed, settings.generations, "student"))
    right = student.evaluate(test)["correct"]
    arm = {"study": settings.study, "arm": arm_of(settings.method, settings.variant), "seed": settings.seed}
    cost = round(time.process_time() - began, 1)
    return arm | {"reader": student.settings.student, "accuracy": float(np.mean(right)), "n": len(right), "cpu_s": cost}


def merged(path: Path, rows: list[dict]) -> pd.DataFrame:
    """The table at `path`, with these rows in place of those of the same reader and run, in order."""
    keys, new = ["study", "reader", "arm", "seed"], pd.DataFrame(rows)
    old = [pd.read_csv(path)] if path.is_file() else []
    return pd.concat([*old, new]).drop_duplicates(keys, keep="last").sort_values(keys, ignore_index=True)


def main(command: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("reader", help="a Student: minilm, probe, smollm2-135m-instruct")
    parser.add_argument("--study", default="real_weights_teach")
    parser.add_argument("--arms", nargs="*", help="these arms alone")
    parser.add_argument("--seeds", nargs="*", type=int, help="these seeds alone")
    parser.add_argument("--reports", default="reports/local", help="where the runs are")
    parser.add_argument("--folder", default="reports/local", help="where the table goes")
    chosen = parser.parse_args(command)
    path, known = resolve(chosen.folder) / "readers.csv", {}
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in runs_with_lessons(resolve(chosen.reports), SCALE, chosen.study):
        settings = settings_of(folder)
        arm, seed = arm_of(settings.method, settings.variant), settings.seed
        if arm not in (chosen.arms or [arm]) or seed not in (chosen.seeds or [seed]):
            continue
        if seed not in known or chosen.reader not in PROXIES:  # a quick Student forgets one lesson with the next
            world = settings.model_copy(update={"student": chosen.reader})
            task = load_task(world)
            known = {seed: (runs.initial_student(world, task), task.test)}
        rows = [read(settings, folder, *known[seed])]
        print(rows[0], flush=True)
        write_atomic(path, merged(path, rows).to_csv(index=False, lineterminator="\n").encode())


if __name__ == "__main__":
    main()
