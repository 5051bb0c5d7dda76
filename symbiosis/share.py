"""A finished run's lessons as a data set with a card, ready for `hf upload`: `python -m symbiosis.share RUN`."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from symbiosis import params
from symbiosis.data.lesson import load_lesson
from symbiosis.data.readers import DataError
from symbiosis.errors import SymbiosisError
from symbiosis.prompts import read_prompts
from symbiosis.settings import root
from symbiosis.store.folders import atomic_folder, write_atomic
from symbiosis.store.results import read_rows
from symbiosis.store.stages import check_products, read_json

TERMS = {  # of texts that lessons may quote: licence as the hub spells it, and what it asks
    "miniature": ("apache-2.0", "The world is written by the project: no text of anybody else is in it."),
    "ag_news": ("other", "AG News is for research and other non-commercial use; its publishers hold the texts."),
    "sciq": ("cc-by-nc-3.0", "SciQ is CC BY-NC 3.0: no commercial use."),
    "arc": ("cc-by-sa-4.0", "ARC is CC BY-SA 4.0: share alike."),
}
UNKNOWN = ("other", "The terms of this task's texts are not known here: look them up before you publish its rows.")
QUOTED = ("real", "world")  # origins whose texts nobody's model wrote


def share(run: Path, out: Path) -> Path:
    """Write lessons, rows and a card (README.md) of the finished run in `run`; returns the folder.

    Raises RunError where the run is not whole, DataError where it has no lessons.
    """
    record = read_json(run / "record.json")
    check_products(run)
    lessons = sorted((run / "lessons").glob("gen-*.parquet"))
    if not lessons:
        raise DataError(f"{run}: holds no lessons to share; runs of this method or notebook write none")
    with atomic_folder(out) as folder:
        for path in lessons:
            (folder / "data").mkdir(exist_ok=True)
            shutil.copyfile(path, folder / "data" / path.name)
        shutil.copyfile(run / "rows.csv", folder / "rows.csv")
        write_atomic(folder / "record.json", json.dumps(record, indent=1).encode())
        write_atomic(folder / "README.md", card(record, lessons, read_rows(run)).encode())
    return out


def terms_of(task: str) -> tuple[str, str]:
    """(licence, sentence) of the texts of a task, by its hub id or folder name."""
    known = [terms for name, terms in TERMS.items() if name in Path(task).name.lower()]
    return known[0] if known else UNKNOWN


def card(record: dict, lessons: list[Path], rows: pd.DataFrame) -> str:
    """The data set card: a YAML head, terms, columns, what was asked, measures by generation, and the record."""
    settings = record["settings"]
    licence, sentence = terms_of(settings["task"])
    origins = pd.concat([load_lesson(path).to_pandas() for path in lessons])["origin"].value_counts()
    quoted = int(origins.reindex(QUOTED).fillna(0).sum())
    configs = "".join(f"      - split: {p.stem.replace('-', '_')}\n        path: data/{p.name}\n" for p in lessons)
    prompts = read_prompts(settings.get("prompts", "news")).model_dump()
    asked = {name: text for name, text in prompts.items() if isinstance(text, str)}
    measures = rows[rows["metric"].str.startswith("lesson_")].pivot_table("value", "metric", "generation")
    head = f"""---
license: {licence}
task_categories: [text-classification]
tags: [synthetic, model-collapse]
size_categories: [{"n<1K" if origins.sum() < 1000 else "1K<n<10K" if origins.sum() < 10_000 else "10K<n<100K"}]
configs:
  - config_name: default
    data_files:
{configs}---
"""
    return f"""{head}
# Lessons of `{record["run_id"]}`

What a Student was taught in each of {len(lessons)} generations by the method `{settings["method"]}`, one split per
generation. Made by Symbiosis at commit `{record["commit"]}`.

## Terms
{sentence} {quoted} of {origins.sum()} rows quote a text of the task `{Path(settings["task"]).name}`; the others were
written by `{Path(settings["generator"]).name}`, whose licence may say more.

## Columns
`text`, `label` (class number), `origin` (real, generator, student, world), `generation`, `prompt_kind`, `source_id`
(the row a text comes from or explains), `weight`, `label_probs` (a soft label; null where the label is certain).

## What was asked
{"".join(f"- {name.lower()}: `{text!r}`" + chr(10) for name, text in sorted(asked.items()))}
## Measures by generation
```
{measures.round(3).to_string() if len(measures) else "none"}
```

## Record
```yaml
{"".join(f"{key}: {json.dumps(value)}" + chr(10) for key, value in settings.items())}```
"""


def main(words: list[str]) -> None:
    """RUN, as `miniature/main/symbiosis-s11` below reports/local/runs, or its folder; into reports/local/share."""
    run = (words[0] if words else "").strip("/")
    runs = root() / params.LOCAL / "runs"
    folder = next((path for path in (runs / run, Path(run)) if (path / "record.json").is_file()), None)
    if not run or folder is None:
        example = f"{params.LOCAL}/runs, as miniature/main/symbiosis-s11"
        raise SystemExit(f"RUN: no finished run '{run}'; name one below {example}")
    try:
        out = share(folder, root() / params.LOCAL / "share" / "-".join(folder.resolve().parts[-3:]))
    except SymbiosisError as error:
        raise SystemExit(str(error)) from None
    print(f"{out}: read README.md, above all its terms, then: hf upload OWNER/NAME {out} --repo-type dataset")


if __name__ == "__main__":
    main(sys.argv[1:])
