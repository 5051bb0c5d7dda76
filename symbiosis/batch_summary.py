"""What is told of a batch: how far it is, what came out of it, and a table and a page about all of its runs."""

import base64
import csv
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from symbiosis import params
from symbiosis.batch import DONE, FAILED, STATUSES, Run, needs, one_sentence, plan, status, table_rows
from symbiosis.pages import as_html, page_of
from symbiosis.settings import root
from symbiosis.store.folders import write_atomic

COLUMNS = ("run_id", "status", "accuracy", "wall_s", "peak_memory_gib", "written", "commit")
LAST_LINES = 15  # of a failed run's log
MOST_LINES = 8  # of the result by arms, at the end of a batch
HEADLINES = ("accuracy_comparison", "accuracy_named")  # figures that stand above all else where they are drawn


def progress(planned: Sequence[Run], minutes: float, done: int, total: int) -> str:
    """One line about the whole batch: runs that are there, and the time the steps left take at the pace so far."""
    finished = sum(run.finished for run in planned)
    left = f", about {minutes / done * (total - done):.1f} minutes left" if done else ""
    return f"{finished} of {len(planned)} runs done, {minutes:.1f} minutes so far{left}"


def expected(planned: Sequence[Run]) -> str:
    """What a batch would run: how many runs are left, of which arms, and their time by the published runs.

    A scale of which no run is published goes by the `minutes` of profiles/scales.yaml, where it has any.
    """
    left = [run for run in planned if not run.finished]
    took: dict[str, list[float]] = {}
    for row in _published(planned[0].scale):
        took.setdefault(row["run_id"].split("/")[2].rpartition("-s")[0], []).append(float(row["wall_s"]))
    known = [sum(took[run.arm]) / len(took[run.arm]) for run in left if run.arm in took]
    seconds = sum(known) / len(known) if known else 60 * needs(planned[0].scale).get("minutes", 0)
    time_ = f", about {seconds / 60 * len(left):.0f} minutes of one core" if seconds else ""
    arms = ", ".join(dict.fromkeys(run.arm for run in planned))
    return f"{len(planned) - len(left)} of {len(planned)} runs are done; left: {len(left)}{time_}\narms: {arms}"


def _published(scale: str) -> Iterator[dict[str, str]]:
    """Records of a scale's published runs on what it asks for, a GPU or none: on the other they took another time."""
    device = "cuda" if needs(scale).get("gpu") else "cpu"
    return (row for row in table_rows("records.csv", scale, params.PUBLISHED) if row["device"].startswith(device))


def prices(planned: Sequence[Run], others: Sequence[tuple[str, int]] = ()) -> list[str]:
    """A line per study: what is left of it and its CPU minutes, and one of the sum.

    A run costs what its study's published ones did on average, else those of its scale (wall time where no CPU time was
    recorded). others: (study, seed) of what is no run, by `small_studies.SECONDS`.
    """
    from symbiosis.small_studies import SECONDS

    took: dict[str, list[float]] = {}
    for row in _published(planned[0].scale):
        for study in (row["run_id"].split("/")[1], ""):
            took.setdefault(study, []).append(float(row.get("cpu_s") or row["wall_s"]))
    mean = {study: sum(seconds) / len(seconds) for study, seconds in took.items()}
    lines, total = [], 0.0
    for study in dict.fromkeys(run.study for run in planned):
        runs = [run for run in planned if run.study == study]
        n, each = sum(not run.finished for run in runs), mean.get(study, mean.get("", 0))
        total += n * each
        lines.append(f"{study:29}{n:4} of {len(runs):4} runs left {n * each / 60:8.1f} CPU minutes")
    for study in dict.fromkeys(study for study, _ in others):
        n = sum(other == study for other, _ in others)
        total += n * SECONDS.get(study, 0)
        price = f"{n * SECONDS[study] / 60:8.1f} CPU minutes" if study in SECONDS else "  not measured"
        lines.append(f"{study:29}{n:4}         seeds left {price}")
    return [*lines, f"{'all of it':49}{total / 60:8.1f} CPU minutes"]


def studies() -> None:
    """`make studies`, before it starts: BATCH_STUDY, of `main` the BATCH_ARMS, and the studies that are no runs."""
    from symbiosis.small_studies import left

    asked = {key: os.environ.get(f"BATCH_{key}", "") for key in ("STUDY", "ARMS", "SEEDS", "FIRST_SEED")}
    seeds, first = asked["SEEDS"] or 3, asked["FIRST_SEED"] or None
    planned = plan("miniature", ["main"], asked["ARMS"].split(), seeds, first)
    planned += plan("miniature", asked["STUDY"].split(), (), seeds, first)
    print("\n".join(prices(planned, left(int(seeds)))))


def say(line: str) -> None:
    """Put a line in the place of the last one, on a terminal; elsewhere, as in a log, each stands by itself."""
    moving = sys.stderr.isatty()
    print(f"\r\x1b[K{line}" if moving else line, end="" if moving else "\n", file=sys.stderr, flush=True)


def report_study(planned: Sequence[Run]) -> str:
    """The study that the reports begin with: main where a run of it is finished here, else the batch's first."""
    main = (root() / params.LOCAL / "runs" / planned[0].scale / "main").glob("*/record.json")
    return "main" if any(main) else planned[0].study


def table(planned: Sequence[Run]):
    """A pandas frame of COLUMNS and `folder`: a row per run, planned or found beside those of the same scales."""
    import pandas as pd

    scales = {run.scale for run in planned}
    places = [root() / params.LOCAL / "runs" / scale for scale in scales]
    found = {str(path.relative_to(root())) for place in places for path in place.glob("*/*-s*")}
    lines = [_line(folder) for folder in sorted(found | {run.folder for run in planned})]
    return pd.DataFrame(lines, columns=[*COLUMNS, "folder"])


def _line(folder: str) -> dict[str, Any]:
    place, state = root() / folder, status(root() / folder)
    line = {"folder": folder, "status": state, "run_id": folder.partition("/runs/")[2]}
    if state != DONE:
        return line
    rows = csv.DictReader((place / "rows.csv").read_text().splitlines())
    accuracy = [row["value"] for row in rows if row["metric"] == "accuracy"]  # in the order of generations
    line |= json.loads((place / "record.json").read_text()) | {"accuracy": "".join(accuracy[-1:])}
    return line | {"commit": str(line["commit"] or "")[:10]}


def last_lines(folder: Path) -> str:
    """Why a run failed: the sentence its log ends with, else its last lines, without the colours of a terminal."""
    log = folder / "run.log"
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace")) if log.is_file() else "(no log)"
    sentence = re.search(r"^\w+Error: (?!.*^\w+Error: ).*", text, flags=re.M | re.S)
    return sentence[0] if sentence and "Traceback (" not in text else "\n".join(text.splitlines()[-LAST_LINES:])


# ---- the report of a batch
def report(planned: Sequence[Run]) -> None:
    """Write batch.csv, the page of the scale and an index of all pages; print failures with their causes, then results.

    A page holds the scale's headline figures, a line per run and a link to each executed notebook.
    """
    lines, place, scale = table(planned), root() / params.LOCAL, planned[0].scale
    write_atomic(place / "batch.csv", lines[[*COLUMNS]].to_csv(index=False).encode())
    for folder in lines.loc[lines["status"] == FAILED, "folder"]:
        print(f"FAILED: {folder}\n{last_lines(root() / folder)}\n")
    by_arm, said = summary(planned)
    said += agreement(scale)
    write_atomic(place / f"{scale}.html", scale_page(lines, scale, [*by_arm.values(), *said]).encode())
    write_atomic(place / "index.html", index_page(place).encode())
    shown = brief(by_arm)
    more = f" ({len(by_arm) - len(shown)} more arms there)" if len(by_arm) > len(shown) else ""
    print("\n".join(["", *shown, *said, f"{_status_counts(lines)}; open {(place / f'{scale}.html').as_uri()}{more}"]))


def brief(by_arm: Mapping[str, str]) -> list[str]:
    """The head and as many lines as a reader takes in at once: of many arms those of the main figures, or the first."""
    from symbiosis.analysis.tables import STYLES

    if len(by_arm) <= MOST_LINES:
        return list(by_arm.values())
    main = {"", *(arm for arm, style in STYLES["arms"].items() if style.get("main"))}
    return [line for arm, line in by_arm.items() if arm in main or not main & {*by_arm} - {""}][:MOST_LINES]


def summary(planned: Sequence[Run]) -> tuple[dict[str, str], list[str]]:
    """Final accuracy over the seeds of this batch, beside the published rows of the same runs: a line per arm.

    The head stands under ''. The sentences say whether the rows are the published ones, digit by digit, or by how much
    accuracies differ.
    """
    import pandas as pd

    from symbiosis.analysis.tables import arm_name, order

    published: dict[str, dict] = {}
    for row in table_rows("results.csv", planned[0].scale, params.PUBLISHED) if planned else ():
        published.setdefault(row["run_id"], {})[row["generation"], row["metric"]] = float(row["value"] or "nan")
    lines, classes = [], None
    for run in [run for run in planned if run.finished]:
        rows = list(csv.DictReader((root() / run.folder / "rows.csv").read_text().splitlines()))
        ours = {(row["generation"], row["metric"]): float(row["value"] or "nan") for row in rows}
        record = json.loads((root() / run.folder / "record.json").read_text())
        theirs, classes = published.get(record["run_id"], {}), record.get("inputs", {}).get("classes", classes)
        last = max((key for key in ours if key[1] == "accuracy"), key=lambda key: int(key[0]), default=None)
        equal = str(sorted(ours.items())) == str(sorted(theirs.items()))
        lines.append((run.arm, ours.get(last), theirs.get(last), bool(theirs), equal))
    table = pd.DataFrame(lines, columns=["arm", "here", "published", "known", "equal"])
    table = table[table["here"].notna()]
    if table.empty:
        return {}, []
    means = table.groupby("arm")[["here", "published"]].mean().loc[order(table)]
    guessing = f" (guessing: {1 / len(classes):.3f})" if classes else ""
    head, known, said = f"mean final test accuracy{guessing}", table[table["known"]], []
    width = max(map(len, [head, *map(arm_name, means.index)]))
    by_arm = {"": f"{head:{width}}  here" + "   published" * bool(len(known))}
    for arm, mean in means.iterrows():
        theirs = "" if pd.isna(mean["published"]) else f"  {mean['published']:.3f}"
        by_arm[arm] = f"{arm_name(arm):{width}}  {mean['here']:.3f}{theirs}"
    if len(known):
        off = (known["here"] - known["published"]).abs().max()
        last = "" if known["equal"].all() else f"; accuracies differ by at most {off:.4f}, see docs/faq.md"
        said.append(f"{known['equal'].sum()} of {len(known)} runs equal the published rows, digit by digit{last}")
    return by_arm, said


def agreement(scale: str) -> list[str]:
    """How many verdicts on the claims of a scale that its runs here decide are the published ones; [] without any."""
    from symbiosis.analysis import claims, verdicts

    found = []
    for place in (params.LOCAL, params.PUBLISHED):
        if not (root() / place / "results.csv").is_file():
            return []
        ledger = claims.ledger(place)
        found.append(ledger[ledger["scale"] == scale].set_index("claim")["verdict"])
    here = found[0][found[0] != verdicts.UNDECIDED]
    same = here == found[1].reindex(here.index)
    where = f"{params.PUBLISHED}/claims.md"
    return [f"{same.sum()} of the {len(here)} claims that the runs here decide are decided so in {where}"] * bool(
        len(here)
    )


def _status_counts(lines) -> str:
    counts = lines["status"].value_counts()
    return ", ".join(f"{counts[name]} {name}" for name in STATUSES if name in counts) or "no runs"


def headline_figures(scale: str) -> list[Path]:
    """The HEADLINES of a scale; those of the miniature's main study stand beside the folders of the others."""
    place = root() / params.LOCAL / "figures"
    folders = [place / scale, *sorted((place / scale).glob("*")), *([place] if scale == "miniature" else [])]
    return [path for name in HEADLINES for folder in folders if (path := folder / f"{name}.png").is_file()]


def scale_page(lines, scale: str, result: Sequence[str] = ()) -> str:
    """A scale's page: its result, failures, links to the reports, a line per run with a link to its notebook."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    cells = [new_markdown_cell(f"# {scale}\n\n{_status_counts(lines)}. [All scales](index.html)")]
    if result:
        shown = [new_output("stream", text="\n".join(result))]
        for path in headline_figures(scale):
            shown.append(new_output("display_data", {"image/png": base64.b64encode(path.read_bytes()).decode()}))
        cells.append(new_code_cell(outputs=shown))
    for folder in lines.loc[lines["status"] == FAILED, "folder"]:
        log = new_output("stream", text=last_lines(root() / folder))
        cells += [new_markdown_cell(f"## Failed: {folder}"), new_code_cell(outputs=[log])]
    notebooks = sorted((root() / params.LOCAL / "runs" / scale).glob("*.ipynb"))
    links = "\n".join(f"- [{path.stem}]({page_of(path)})" for path in notebooks)
    pages = {folder: page_of(root() / folder / "run.ipynb") for folder in lines.query("status == @DONE")["folder"]}
    names = [
        f'<a href="{pages[f]}">{i}</a>' if f in pages else i for i, f in zip(lines.run_id, lines.folder, strict=True)
    ]
    final = [f"{float(one):.4g}" if isinstance(one, str) and one else "" for one in lines["accuracy"]]
    runs = lines.assign(run_id=names, accuracy=final)[[*COLUMNS]].to_html(index=False, escape=False, na_rep="")
    cells.append(new_markdown_cell(f"## Reports\n\n{links}\n\n## Runs"))
    cells.append(new_code_cell(outputs=[new_output("display_data", {"text/html": runs})]))
    return as_html(new_notebook(cells=cells), scale)


def index_page(place: Path) -> str:
    """The result and a link to the page of every scale in a folder of reports."""
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

    cells = [new_markdown_cell("# Scales that were run here")]
    for path in sorted(path for path in place.glob("*.html") if path.name != "index.html"):
        cells.append(new_markdown_cell(f"## [{path.stem}]({path.name})"))
        if result := brief(summary(_finished(path.stem))[0]):
            cells.append(new_code_cell(outputs=[new_output("stream", text="\n".join(result))]))
    return as_html(new_notebook(cells=cells), "Scales")


def _finished(scale: str) -> list[Run]:
    """The finished runs of a scale here, those of its main study where there are any."""
    found = (root() / params.LOCAL / "runs" / scale).glob("*/*-s*/record.json")
    parts = [(path.parts[-3], *path.parts[-2].rpartition("-s")[::2]) for path in sorted(found)]
    runs = [run for study, arm, seed in parts if (run := Run(scale, study, arm, int(seed))).finished]
    return [run for run in runs if run.study == "main"] or runs


if __name__ == "__main__":
    with one_sentence():
        studies()
