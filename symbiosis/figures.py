"""One function per figure: a long table in, `ax` in and out. Saving puts a source record beside every file."""

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from symbiosis.files import write_atomic
from symbiosis.results import (
    arm_name,
    last_generation,
    order,
    read_records,
    rows_digest,
    summarise,
)
from symbiosis.settings import resolve

# Okabe and Ito 2008, without their yellow (too pale for a line on white), and a grey and Tol's wine for the rest. An
# arm keeps its colour and its marker in every figure, so that the figures also work in print without colour.
METHOD_COLOR = {
    "real": "#000000",
    "pseudo_label": "#56b4e9",
    "symbiosis": "#0072b2",
    "symbiosis-random": "#009e73",
    "symbiosis-frozen": "#882255",
    "static": "#e69f00",
    "recursive": "#d55e00",
    "recursive-warm": "#cc79a7",
    "recursive-warm_t1": "#7f7f7f",
}
METHOD_MARKER = dict(zip(METHOD_COLOR, "osDP<^vX*", strict=True))
SPARE_MARKERS = ">hpd8"
MARKER_SIZE = {"*": 7.5, "P": 6.0, "X": 5.5, "D": 4.0}  # in points, so that all shapes look equally large

METRIC_NAME = {
    "accuracy": "test accuracy",
    "accuracy_tail": "test accuracy on rare subtopics",
    "dev_accuracy": "dev accuracy",
    "label_loss": "label loss on test",
    "lm_loss": "LM loss on test",
    "train_label_loss": "label loss in training",
    "train_lm_loss": "LM loss in training",
    "lesson_distinct_2": "distinct word pairs",
    "lesson_unique": "unique texts",
    "lesson_label_purity": "labels that are right",
    "lesson_tail_mass": "rare subtopics, mass",
    "lesson_tail_coverage": "rare subtopics, covered",
}
TRAINING_LOSSES = ("train_label_loss", "train_lm_loss")
LESSON_MEASURES = ("lesson_tail_coverage", "lesson_label_purity", "lesson_distinct_2")

DODGE = 0.045  # generations between neighbouring arms, so that intervals do not hide each other
DEFAULT_SCALE, DEFAULT_STUDY = "miniature", "main"


def use_style() -> None:
    """seaborn 'ticks' at the sizes of a paper column, in the one font that comes with matplotlib: the same anywhere."""
    small, thin = 7.5, 0.7
    sizes = dict.fromkeys(["font.size", "axes.labelsize", "axes.titlesize"], 8)
    sizes |= dict.fromkeys(["legend.fontsize", "legend.title_fontsize", "xtick.labelsize", "ytick.labelsize"], small)
    lines = dict.fromkeys(["axes.linewidth", "xtick.major.width", "ytick.major.width"], thin)
    lines |= {"lines.linewidth": 1.3, "figure.dpi": 150, "savefig.dpi": 300}
    sns.set_theme(style="ticks", font="DejaVu Sans", rc=sizes | lines)


def new_figure(panels: int = 1, height: float = 2.9) -> tuple[Figure, np.ndarray]:
    """A figure of a page's width [7 inch] with panels side by side; axes (panels,)."""
    fig, axes = plt.subplots(1, panels, figsize=(7.0, height), layout="constrained", squeeze=False)
    return fig, axes[0]


def arm_style(arm: str) -> dict:
    """Colour, marker and line of an arm; one without a colour of its own is dashed in the colour of its method."""
    color, marker, line = METHOD_COLOR.get(arm), METHOD_MARKER.get(arm), "-"
    if color is None:
        color, line = METHOD_COLOR.get(arm.split("-")[0], "#7f7f7f"), "--"
        marker = SPARE_MARKERS[zlib.crc32(arm.encode()) % len(SPARE_MARKERS)]
    size = MARKER_SIZE.get(marker, 4.5)
    return {"color": color, "marker": marker, "markersize": size, "markeredgewidth": 0, "linestyle": line}


def plot_accuracy(rows: pd.DataFrame, *, n_classes: int, ax: Axes | None = None) -> Axes:
    """Test accuracy per generation: mean over seeds, bars are 95% t-intervals over seeds; dotted line: guessing."""
    ax = ax or plt.gca()
    label = f"Guessing one of {n_classes}"
    chance = ax.axhline(1 / n_classes, color="0.4", linewidth=0.9, linestyle=":", label=label, zorder=0)
    plot_metric(rows, "accuracy", ax=ax)
    ax.set_ylim(0, 1)
    title, lines = legend_entries(rows, "accuracy", ax)
    lines.sort(key=lambda line: -line.get_ydata()[-1])  # names beside their lines' ends
    style = {"frameon": False, "alignment": "left", "borderaxespad": 0}
    ax.legend(handles=[*lines, chance], title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), **style)
    return ax


def plot_losses(rows: pd.DataFrame, *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Mean loss over each generation's training, a panel per loss; bars are 95% t-intervals over seeds."""
    return plot_panels(rows, TRAINING_LOSSES, axes=axes)


def plot_lesson_measures(rows: pd.DataFrame, *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """What the lessons are made of, a panel per measure that was taken; bars are 95% t-intervals over seeds."""
    return plot_panels(rows, measured(rows, LESSON_MEASURES), axes=axes)


def measured(rows: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that the rows hold: what needs a known true distribution exists in the miniature only."""
    found = set(rows.loc[rows["value"].notna(), "metric"])
    return [metric for metric in metrics if metric in found]


def plot_panels(rows: pd.DataFrame, metrics: Sequence[str], *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """One metric per panel, the unit on its axis; one legend below them all."""
    for metric, ax in zip(metrics, axes, strict=True):
        plot_metric(rows, metric, ax=ax)
        ax.set(title=METRIC_NAME.get(metric, metric), ylabel=_unit(rows, metric))
    title, lines = legend_entries(rows, metrics[-1], axes[-1])
    axes[-1].figure.legend(
        handles=lines, title=title.replace("\n", " "), loc="outside lower center", ncols=4, frameon=False
    )
    return axes


def plot_metric(rows: pd.DataFrame, metric: str, *, ax: Axes) -> Axes:
    """A line per arm: mean over seeds per generation with its 95% t-interval (no bar where there is one seed)."""
    summary = summarise(rows, metric).dropna(subset="mean")
    arms = order(summary)
    for i, arm in enumerate(arms):
        y = summary[summary["arm"] == arm].sort_values("generation")
        x = y["generation"] + DODGE * (i - (len(arms) - 1) / 2)
        ax.plot(x, y["mean"], label=arm_name(arm), **arm_style(arm))
        ax.vlines(x, y["low"], y["high"], color=arm_style(arm)["color"], linewidth=1)
    ax.set(xlabel="generation", ylabel=METRIC_NAME.get(metric, metric))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    sns.despine(ax=ax)
    return ax


def legend_entries(rows: pd.DataFrame, metric: str, ax: Axes) -> tuple[str, list[Line2D]]:
    """Title and lines of a legend, in the order of all tables; n in the title where it is the same for all arms."""
    last = summarise(rows, metric).dropna(subset="mean").sort_values("generation").groupby("arm").last()
    drawn = {line.get_label(): line for line in ax.get_lines()}
    arms = order(last.reset_index())
    lines, seeds = [drawn[arm_name(arm)] for arm in arms], last.loc[arms, "n"]
    if (seeds == 1).all():
        return "one seed: no interval", lines
    if seeds.nunique() == 1:
        return f"mean and 95% interval,\nn = {seeds.iloc[0]} seeds", lines
    for line, n in zip(lines, seeds, strict=True):
        line.set_label(f"{line.get_label()} (n = {n})")
    return "mean and 95% interval, n seeds", lines


def plot_paired(table: pd.DataFrame, baseline: str, *, ax: Axes | None = None) -> Axes:
    """Forest plot of `paired_table` against one baseline: difference, 95% t-interval over seeds, Holm-adjusted p.

    All arms of the table have their line in every panel, so that panels side by side share their names.
    """
    ax = ax or plt.gca()
    arms = order(table)[::-1]
    ax.axvline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    for row in table[table["baseline"] == baseline].itertuples():
        _plot_difference(row, arms.index(row.arm), ax)
    if baseline in arms:
        ax.annotate("baseline", (0, arms.index(baseline)), (3, 0), textcoords="offset points", va="center", color="0.4")
    ax.set_yticks(range(len(arms)), [arm_name(arm) for arm in arms])
    ax.set(title=f"against {arm_name(baseline)}", xlabel="difference in accuracy", ylim=(-0.6, len(arms) - 0.4))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0, labelleft=ax.get_subplotspec() is None or ax.get_subplotspec().is_first_col())
    return ax


def _plot_difference(row: tuple, y: int, ax: Axes) -> None:
    style = arm_style(row.arm)
    ax.hlines(y, row.low, row.high, color=style["color"], linewidth=1.3)
    ax.plot(row.difference, y, **style)
    at_right = {"xy": (1.01, y), "xycoords": ("axes fraction", "data"), "va": "center"}
    ax.annotate(_p_text(row.p_holm), **at_right, fontsize=7.5)


def _p_text(p: float) -> str:
    return "" if pd.isna(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _unit(rows: pd.DataFrame, metric: str) -> str:
    return ", ".join(sorted(rows.loc[rows["metric"] == metric, "unit"].unique()))


# ---- saving


def place(scale: str, study: str = DEFAULT_STUDY) -> str:
    """Folder under figures/ and tables/: none for the main study of the miniature, else <scale> or <scale>/<study>."""
    if (scale, study) == (DEFAULT_SCALE, DEFAULT_STUDY):
        return ""
    return scale if study == DEFAULT_STUDY else f"{scale}/{study}"


def save_figure(fig: Figure, name: str, reports_dir: str | Path, rows: pd.DataFrame) -> Path:
    """figures/[place/]name.pdf, .png and their source name.json; the same bytes for the same data. Returns the PDF."""
    stem = _stem("figures", name, reports_dir, rows)
    formats = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    with plt.rc_context({"pdf.fonttype": 42}):  # TrueType: text stays text, as journals ask
        contents = {suffix: _rendered(fig, suffix, metadata) for suffix, metadata in formats.items()}
    for suffix, content in contents.items():
        write_atomic(stem.with_suffix(f".{suffix}"), content)
    _save_source(stem, reports_dir, rows)
    return stem.with_suffix(".pdf")


def save_table(
    table: pd.DataFrame, name: str, reports_dir: str | Path, rows: pd.DataFrame, *, readable: pd.DataFrame | None = None
) -> Path:
    """tables/[place/]name.csv (all digits), .tex (booktabs; `readable` where given) and name.json. Returns the .tex."""
    stem = _stem("tables", name, reports_dir, rows)
    write_atomic(stem.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n").encode())
    shown = (table if readable is None else readable).style.hide(axis="index")
    shown = shown.format(escape="latex").format_index(escape="latex", axis="columns")
    write_atomic(stem.with_suffix(".tex"), shown.to_latex(hrules=True).encode())
    _save_source(stem, reports_dir, rows)
    return stem.with_suffix(".tex")


def source_of(rows: pd.DataFrame, reports_dir: str | Path) -> dict:
    """Where numbers come from: the runs, how many rows of results.csv, their sha256, and the commits that made them."""
    run_ids = sorted(set(rows["run_id"]))
    records = read_records(reports_dir, run_ids)
    marks = records["dirty"].map({"True": "-dirty"}).fillna("")  # tracked files differed from the commit
    return {
        "scale": sorted(set(rows["scale"])),
        "study": sorted(set(rows["study"])),
        "metrics": sorted(set(rows["metric"])),
        "generations": last_generation(rows),
        "rows": len(rows),
        "rows_sha256": rows_digest(rows),
        "commits": sorted(set(records["commit"] + marks) - {""}),
        "runs_without_record": sorted(set(run_ids) - set(records["run_id"])),
        "run_ids": run_ids,
    }


def _stem(kind: str, name: str, reports_dir: str | Path, rows: pd.DataFrame) -> Path:
    scales, studies = set(rows["scale"]), set(rows["study"])
    if len(scales) != 1 or len(studies) != 1:
        raise ValueError(f"{name}: rows of scales {sorted(scales)} and studies {sorted(studies)}; save one at a time")
    return resolve(reports_dir) / kind / place(scales.pop(), studies.pop()) / name


def _rendered(fig: Figure, suffix: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


def _save_source(stem: Path, reports_dir: str | Path, rows: pd.DataFrame) -> None:
    text = json.dumps(source_of(rows, reports_dir), indent=1) + "\n"
    write_atomic(stem.with_suffix(".json"), text.encode())


# ---- reading


def text_table(frame: pd.DataFrame):
    """Texts as a reader wants them in a notebook: whole, wrapped, left-aligned; HTML in them is shown, not obeyed."""
    cell = {"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top"}
    head = {"selector": "th", "props": [("text-align", "left")]}
    shown = frame.style.format(escape="html", precision=2).hide(axis="index")
    return shown.set_properties(**cell).set_table_styles([head])
