"""One function per figure: a long table in, `ax` in and out. Saving puts a source record beside every file."""

import io
import json
import textwrap
import zlib
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from symbiosis.analysis.statistics import mean_interval
from symbiosis.analysis.studies import REGIMES
from symbiosis.analysis.tables import arm_name, last_generation, order, summarise
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import read_records, rows_digest
from symbiosis.theory.curves import mean_and_error

# Okabe and Ito 2008, without their yellow (too pale for a line on white); Tol's wine, indigo and olive and a grey for
# the rest. Controls that share the hue of their family are dashed with an open marker. An arm keeps its colour and its
# marker in every figure, so that the figures also work in print without colour.
METHOD_COLOR = {
    "real": "#000000",
    "pseudo_label": "#56b4e9",
    "symbiosis": "#0072b2",
    "symbiosis-best": "#009e73",
    "symbiosis-random": "#882255",
    "symbiosis-frozen": "#332288",
    "symbiosis-fresh_filtered": "#999933",
    "static": "#e69f00",
    "recursive": "#d55e00",
    "recursive-warm": "#cc79a7",
    "recursive-warm_t1": "#7f7f7f",
}
METHOD_MARKER = dict(zip(METHOD_COLOR, "osD*P<h^vX>", strict=True))
CONTROL_COLOR = {
    "symbiosis-best_random": "#009e73",
    "symbiosis-best_foreign": "#117733",
    "symbiosis-best_influence": "#44aa99",
    "symbiosis-pool_and_write_25": "#8fc9ee",
    "symbiosis-pool_and_write_50": "#4a97c9",
    "symbiosis-pool_and_write_75": "#1f5f8b",
    "symbiosis-label_hard": "#56b4e9",
    "static-dev": "#e69f00",
    "static-attributes": "#a66f00",
}
CONTROL_MARKER = dict(zip(CONTROL_COLOR, "*PXo>sD^v", strict=True))
SPARE_MARKERS = "pd8H"  # of arms without a style of their own
MARKER_SIZE = {"*": 7.5, "P": 6.0, "X": 5.5, "D": 4.0}  # in points, so that all shapes look equally large
MAIN_ARMS = ("real", "pseudo_label", "symbiosis", "symbiosis-best", "static", "recursive", "recursive-warm")

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
    "perplexity": "perplexity on real text",
    "label_purity": "labels that are right",
    "log_likelihood": "log likelihood",
    "distinct_2": "distinct word pairs",
    "distinct_2_1k": "distinct word pairs",
    "vendi": "Vendi score",
    "mauve": "MAUVE against real text",
    "word_tail_mass": "words that are rare ones",
    "word_new_mass": "words of no real text",
    "mean_words": "words per text",
    "base_lm_loss": "loss of the base Student",
}
TRAINING_LOSSES = ("train_label_loss", "train_lm_loss")
LEVER_PANELS = (  # of symbiosis.measures.lessons: quality, diversity, complexity; what was not measured gets no panel
    "label_purity", "log_likelihood", "distinct_2", "vendi", "word_tail_mass", "word_new_mass", "mean_words",
    "base_lm_loss",
)  # fmt: skip
RECURSION_PANELS = ("perplexity", "word_tail_mass", "mean_words", "distinct_2_1k", "vendi", "mauve")
LESSON_MEASURES = ("lesson_tail_coverage", "lesson_label_purity", "lesson_distinct_2")

DODGE, SPREAD = 0.045, 0.7  # generations between neighbouring arms (so that intervals do not hide each other), in all
FOREST_LINE, FOREST_MARGIN = 0.17, 0.75  # inch of height per line of a forest plot, and around its lines
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
    """Colour, marker and line of an arm; one without a style of its own is a control in the colour of its method."""
    control = arm not in METHOD_COLOR
    color, marker = METHOD_COLOR.get(arm) or CONTROL_COLOR.get(arm), METHOD_MARKER.get(arm) or CONTROL_MARKER.get(arm)
    if color is None:
        color = METHOD_COLOR.get(arm.split("-")[0], "#7f7f7f")
        marker = SPARE_MARKERS[zlib.crc32(arm.encode()) % len(SPARE_MARKERS)]
    style = {"color": color, "marker": marker, "markersize": MARKER_SIZE.get(marker, 4.5)}
    if control:
        return style | {"linestyle": "--", "markerfacecolor": "white", "markeredgewidth": 0.9}
    return style | {"linestyle": "-", "markeredgewidth": 0}


def main_arms(rows: pd.DataFrame) -> list[str]:
    """The arms of a table that the main figures show: those of MAIN_ARMS, or all where it has none of them."""
    arms = order(rows)
    return [arm for arm in arms if arm in MAIN_ARMS] or arms


def control_arms(rows: pd.DataFrame) -> list[str]:
    """All other arms of a table: variants that tell what the main ones owe to what."""
    return [arm for arm in order(rows) if arm not in main_arms(rows)]


def plot_accuracy(
    rows: pd.DataFrame, *, n_classes: int, arms: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Test accuracy per generation: mean over seeds, bars are 95% t-intervals over seeds; dotted line: guessing.

    `arms` chooses what is drawn (default: all); one that has no rows is left out.
    """
    ax = ax or plt.gca()
    rows = rows if arms is None else rows[rows["arm"].isin(arms)]
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


def new_grid(panels: int, columns: int = 3, height: float = 2.1) -> tuple[Figure, np.ndarray]:
    """A figure of a page's width with panels in lines of `columns`, each `height` [inch]; axes (panels,)."""
    lines = -(-panels // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(7.0, height * lines + 0.5), layout="constrained", squeeze=False)
    for ax in axes.flat[panels:]:
        ax.set_axis_off()
    return fig, axes.flat[:panels]


def plot_panels(
    rows: pd.DataFrame, metrics: Sequence[str], *, axes: Sequence[Axes], band: pd.DataFrame | None = None
) -> Sequence[Axes]:
    """One metric per panel, the unit on its axis; one legend below them all.

    band: `measures.read_band`; what lessons of real text have is shaded.
    """
    for metric, ax in zip(metrics, axes, strict=True):
        plot_metric(rows, metric, ax=ax)
        ax.set(title=METRIC_NAME.get(metric, metric), ylabel=_unit(rows, metric))
        if band is not None and metric in band.index:
            ax.axhspan(*band.loc[metric, ["low", "high"]], color="0.88", zorder=0)
    title, lines = legend_entries(rows, metrics[-1], axes[-1])
    if band is not None and set(metrics) & set(band.index):
        lines = [*lines, Rectangle((0, 0), 1, 1, color="0.88", label="lessons of real text, 95%")]
    axes[-1].figure.legend(
        handles=lines, title=title.replace("\n", " "), loc="outside lower center", ncols=4, frameon=False
    )
    return axes


def plot_recursion(
    rows: pd.DataFrame, metrics: Sequence[str], *, axes: Sequence[Axes], band: pd.DataFrame
) -> Sequence[Axes]:
    """One arm, a metric per panel: mean over seeds, each seed as a thin line, what lessons of real text have in grey.

    Single seeds instead of intervals: with two of them a t-interval is wider than any panel. Perplexity is logarithmic.
    """
    style = arm_style(rows["arm"].iloc[0])
    for metric, ax in zip(metrics, axes, strict=True):
        values = rows[rows["metric"] == metric].pivot(index="generation", columns="seed", values="value")
        for seed in values:
            ax.plot(values.index, values[seed], color=style["color"], linewidth=0.7, alpha=0.7, label="single seeds")
        ax.plot(values.index, values.mean(axis=1), label=f"mean, {_seeds_text(pd.Series([values.shape[1]]))}", **style)
        if metric in band.index:
            ax.axhspan(*band.loc[metric, ["low", "high"]], color="0.88", zorder=0, label="lessons of real text, 95%")
        ax.set(xlabel="generation", title=METRIC_NAME.get(metric, metric), ylabel=_unit(rows, metric))
        ax.set(**({"yscale": "log"} if metric == "perplexity" else {"ylim": (0, None)}))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        sns.despine(ax=ax)
    entries = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    axes[-1].figure.legend(entries.values(), entries, loc="outside lower center", ncols=3, frameon=False)
    return axes


def plot_metric(rows: pd.DataFrame, metric: str, *, ax: Axes) -> Axes:
    """A line per arm: mean over seeds per generation with its 95% t-interval (no bar where there is one seed)."""
    summary = summarise(rows, metric).dropna(subset="mean")
    arms = order(summary)
    dodge = min(DODGE, SPREAD / len(arms))
    for i, arm in enumerate(arms):
        y = summary[summary["arm"] == arm].sort_values("generation")
        x = y["generation"] + dodge * (i - (len(arms) - 1) / 2)
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


def forest_height(lines: int) -> float:
    """Height [inch] of a figure whose forest plot has this many lines, so that its texts keep apart."""
    return FOREST_MARGIN + FOREST_LINE * max(lines, 4)


def plot_paired(table: pd.DataFrame, baseline: str, *, ax: Axes | None = None) -> Axes:
    """Forest plot of `paired_table` against one baseline: difference, 95% t-interval over seeds, Holm-adjusted p.

    All arms of the table have their line in every panel, so that panels side by side share their names.
    """
    ax = ax or plt.gca()
    arms = order(table)[::-1]
    ax.axvline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    _shade_lines(len(arms), ax)
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


def _shade_lines(lines: int, ax: Axes) -> None:
    """Every other line on pale grey: the eye finds its way from the name to the number."""
    for y in range(0, lines, 2):
        ax.axhspan(y - 0.5, y + 0.5, color="0.95", linewidth=0, zorder=-1)


def _plot_difference(row: tuple, y: int, ax: Axes) -> None:
    style = arm_style(row.arm)
    ax.hlines(y, row.low, row.high, color=style["color"], linewidth=1.3)
    ax.plot(row.difference, y, **style)
    _write_right(_p_text(row.p_holm), y, ax)


def _write_right(text: str, y: float, ax: Axes) -> None:
    ax.annotate(text, xy=(1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)


def _p_text(p: float) -> str:
    return "" if pd.isna(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def plot_ablation(effects: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Forest plot of `studies.ablation_effects`: a group per factor, a line per level, the p of Holm at its right.

    Points are mean differences from the reference level over the pairs of cells, bars 95% t-intervals over seeds.
    """
    ax = ax or plt.gca()
    ax.axvline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    ticks, y = {}, 0.0
    for factor, levels in effects.groupby("factor", sort=False):
        head = f"{factor.replace('_', ' ')}, against {levels['reference'].iloc[0]}"
        ax.annotate(head, (0.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=7.5, weight="bold")
        for row in levels.itertuples():
            y -= 1
            ticks[y] = f"{row.level.replace('_', ' ')} ({row.pairs} {'pair' if row.pairs == 1 else 'pairs'})"
            ax.hlines(y, row.low, row.high, color=METHOD_COLOR["symbiosis"], linewidth=1.3)
            ax.plot(row.mean, y, **arm_style("symbiosis"))
            _write_right(_p_text(row.p_holm), y, ax)
        y -= 1.3
    ax.set_yticks(list(ticks), ticks.values())
    ax.set(xlabel=f"difference in accuracy, {_seeds_text(effects['n'])}", ylim=(y + 0.5, 0.8))
    sns.despine(ax=ax, left=True)
    ax.tick_params(axis="y", length=0)
    return ax


def ablation_height(effects: pd.DataFrame) -> float:
    """Height [inch] of a figure of `plot_ablation`."""
    return forest_height(round(len(effects) + 1.3 * effects["factor"].nunique()))


# Vermilion below zero, blue above, as the arms that lose and win are seldom told apart by red and green in print.
DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#d55e00", "#f8dcc8", "#ffffff", "#c4dff0", "#0072b2"])
GROUP_PLACE = 0.22  # distance of the group's name from the map, in widths of the map
LEAST_RANGE = 2.0  # points at full colour at least, so that a map of small differences looks pale
MOST_RANGE = 15.0  # and at most, so that one large difference does not make all others look pale


def plot_regimes(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The map of `studies.regime_table`: a row per world, a column per rival, the mean difference in points.

    Blue is a lead, vermilion a deficit, white none. A bold number in a frame: the 95% t-interval over seeds excludes 0.
    A hatched cell was not run.
    """
    ax = ax or plt.gca()
    regimes = [study for study in REGIMES if study in set(table["study"])]
    rivals = list(table["rival"].unique())
    largest = 100 * table["mean"].abs().max()
    limit = min(max(LEAST_RANGE, largest), MOST_RANGE)
    ax.add_patch(Rectangle((0, 0), len(rivals), len(regimes), facecolor="none", edgecolor="0.8", hatch="////", lw=0))
    for row in table.itertuples():
        _plot_cell(row, rivals.index(row.rival), regimes.index(row.study), limit, ax)
    _name_regimes(table, regimes, ax)
    names = [textwrap.fill(arm_name(arm), 14, break_on_hyphens=True) for arm in rivals]
    ax.set_xticks(np.arange(len(rivals)) + 0.5, names, fontsize=7)
    ax.set(xlim=(0, len(rivals)), ylim=(len(regimes), 0))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    colors = ScalarMappable(Normalize(-limit, limit), DIVERGING)
    extend = "both" if largest > limit else "neither"
    bar = ax.figure.colorbar(colors, ax=ax, location="bottom", shrink=0.5, aspect=40, pad=0.03, extend=extend)
    bar.set_label("lead over the rival [points of accuracy]; framed: 95% interval excludes 0")
    bar.outline.set_visible(False)
    return ax


def _plot_cell(row: tuple, x: int, y: int, limit: float, ax: Axes) -> None:
    sure = row.low > 0 or row.high < 0  # false where there is no interval
    shade = DIVERGING(0.5 + 100 * row.mean / (2 * limit))
    ax.add_patch(Rectangle((x, y), 1, 1, facecolor=shade, edgecolor="white", linewidth=1))
    if sure:
        ax.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, fill=False, edgecolor="black", linewidth=1.2))
    dark = np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.5
    style = {"weight": "bold" if sure else "normal", "color": "white" if dark else "black", "fontsize": 8}
    ax.text(x + 0.5, y + 0.5, f"{100 * row.mean:+.1f}".replace("-", "−"), ha="center", va="center_baseline", **style)


def _name_regimes(table: pd.DataFrame, regimes: list[str], ax: Axes) -> None:
    """World and seeds at the left of each row, upright the group of worlds, a line between groups."""
    groups = [REGIMES[study][1] for study in regimes]
    seeds = [_seeds_text(table.loc[table["study"] == study, "n"]) for study in regimes]
    names = [f"{REGIMES[study][0]}\n{n}" for study, n in zip(regimes, seeds, strict=True)]
    ax.set_yticks(np.arange(len(regimes)) + 0.5, names, fontsize=7)
    for group in dict.fromkeys(groups):
        first, size = groups.index(group), groups.count(group)
        style = {"rotation": 90, "ha": "center", "va": "center", "weight": "bold", "fontsize": 7.5}
        name = textwrap.fill(group, 9 if size < 2 else 20)
        ax.text(-GROUP_PLACE, first + size / 2, name, transform=ax.get_yaxis_transform(), **style)
        if first:
            ax.axhline(first, color="black", linewidth=1.5)


def regimes_height(table: pd.DataFrame) -> float:
    """Height [inch] of a figure of `plot_regimes`."""
    return 1.4 + 0.34 * table["study"].nunique()


def _seeds_text(n: pd.Series) -> str:
    """How many seeds: one number where it is the same everywhere, else the least and the most."""
    low, high = int(n.min()), int(n.max())
    return f"n = {low} {'seed' if low == 1 else 'seeds'}" if low == high else f"n = {low} to {high} seeds"


def plot_dev(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Gain over static text of the same study [points] by number of labelled dev rows, from `studies.dev_table`.

    Means over seeds, bars are 95% t-intervals over seeds; the axis is logarithmic.
    """
    ax = ax or plt.gca()
    ax.axhline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    arms = order(table)
    for i, arm in enumerate(arms):
        y = table[table["arm"] == arm].sort_values("dev_rows")
        x = y["dev_rows"] * 2 ** (0.12 * (i - (len(arms) - 1) / 2))  # side by side, so that no bar hides another
        ax.plot(x, 100 * y["mean"], label=arm_name(arm), **arm_style(arm))
        ax.vlines(x, 100 * y["low"], 100 * y["high"], color=arm_style(arm)["color"], linewidth=1)
    ax.set_xscale("log", base=2)
    sizes = sorted(table["dev_rows"].unique())
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set(xlabel="labelled dev rows", ylabel="gain over static [points]")
    title = f"mean and 95% interval,\n{_seeds_text(table['n'])}"
    style = {"frameon": False, "alignment": "left", "borderaxespad": 0}
    ax.legend(title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), **style)
    sns.despine(ax=ax)
    return ax


def _unit(rows: pd.DataFrame, metric: str) -> str:
    return ", ".join(sorted(rows.loc[rows["metric"] == metric, "unit"].unique()))


# ---- saving


def place(scale: str, study: str = DEFAULT_STUDY) -> str:
    """Folder under figures/ and tables/: none for the main study of the miniature, else <scale> or <scale>/<study>."""
    if (scale, study) == (DEFAULT_SCALE, DEFAULT_STUDY):
        return ""
    return scale if study == DEFAULT_STUDY else f"{scale}/{study}"


def save_figure(fig: Figure, name: str, reports_dir: str | Path, rows: pd.DataFrame, *, study: str = "") -> Path:
    """figures/[place/]name.pdf, .png and their source name.json; the same bytes for the same data. Returns the PDF.

    `study` names the folder of a figure of several studies; without it, rows of more than one are refused.
    """
    stem = _stem("figures", name, reports_dir, rows, study)
    _write_figure(fig, stem)
    _save_source(stem, reports_dir, rows)
    return stem.with_suffix(".pdf")


def _write_figure(fig: Figure, stem: Path) -> None:
    formats = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    with plt.rc_context({"pdf.fonttype": 42}):  # TrueType: text stays text, as journals ask
        contents = {suffix: _rendered(fig, suffix, metadata) for suffix, metadata in formats.items()}
    for suffix, content in contents.items():
        write_atomic(stem.with_suffix(f".{suffix}"), content)
    if "inline" in plt.get_backend():
        _show(fig, stem.with_suffix(".png"))


def _show(fig: Figure, picture: Path) -> None:
    """The picture just written instead of the figure, whose drawing for the notebook costs as much again."""
    from IPython.display import Image, display

    display(Image(picture, width=round(fig.get_figwidth() * fig.dpi)))
    plt.close(fig)


def save_theory(fig: Figure, name: str, reports_dir: str | Path, source: dict) -> Path:
    """figures/theory/name.pdf, .png and .json of a figure of closed forms, which shows no run; returns the PDF.

    source: what it was computed from; the .json holds it.
    """
    stem = resolve(reports_dir) / "figures" / "theory" / name
    _write_figure(fig, stem)
    write_atomic(stem.with_suffix(".json"), (json.dumps(source, indent=1) + "\n").encode())
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


def _stem(kind: str, name: str, reports_dir: str | Path, rows: pd.DataFrame, study: str = "") -> Path:
    scales, studies = set(rows["scale"]), {study} if study else set(rows["study"])
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


KIND_COLOR = {"true label": "#0072b2", "wrong label": "#d55e00", "scrambled words": "#e69f00"}
KIND_MARKER = {"true label": "o", "wrong label": "X", "scrambled words": "s"}


def plot_influence(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Actual against predicted change of the dev loss, a dot per text; on the dotted line both are equal.

    changes: columns predicted, actual [nats] and kind.
    """
    ax = ax or plt.gca()
    ends = [changes["predicted"].min(), changes["predicted"].max()]
    ax.plot(ends, ends, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    for kind, part in changes.groupby("kind", sort=False):
        style = {"color": KIND_COLOR[kind], "marker": KIND_MARKER[kind], "s": 18, "linewidth": 0, "alpha": 0.8}
        ax.scatter(part["predicted"], part["actual"], label=f"{kind} (n = {len(part)})", **style)
    ax.set(xlabel="predicted change of the dev loss [nats]", ylabel="actual change [nats]")
    ax.legend(frameon=False)
    sns.despine(ax=ax)
    return ax


def text_table(frame: pd.DataFrame):
    """Texts as a reader wants them in a notebook: whole, wrapped, left-aligned; HTML in them is shown, not obeyed."""
    cell = {"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top"}
    head = {"selector": "th", "props": [("text-align", "left")]}
    shown = frame.style.format(escape="html", precision=2).hide(axis="index")
    return shown.set_properties(**cell).set_table_styles([head])


# ---- collapse: ratio, diversity, mixing

LEVER_NAME = {"diversity": "effective subtopics\nper class", "quality": "synthetic labels\nthat are right"}
LEVEL_MARKERS = "vsoD^P*"  # from the poorest level to the richest, which is the darkest
MEASURE_STYLE = {
    "lesson_tail_coverage": {"color": "#d55e00", "marker": "o"},
    "lesson_distinct_2": {"color": "#e69f00", "marker": "s"},
    "lesson_label_purity": {"color": "#0072b2", "marker": "D"},
    "accuracy_tail": {"color": "#cc79a7", "marker": "v"},
    "accuracy": {"color": "#000000", "marker": "^"},
}
MIXING_STYLE = {  # arm: (name, colour, marker); plain recursion has the colour of its method
    "recursive-replace": ("replace", "#d55e00", "h"),
    "recursive-accumulate": ("accumulate", "#0072b2", "o"),
    "recursive-accumulate_subsample": ("accumulate, subsample", "#56b4e9", "s"),
    "recursive-fixed_real_25": ("25% real, the same", "#e69f00", "D"),
    "recursive-fresh_real_25": ("25% real, fresh", "#009e73", "^"),
    "recursive-golden": ("62% real, fresh", "#882255", "*"),
    "recursive-weak_labels": ("weak labels for rejected", "#7f7f7f", "X"),
}
THEORY_STYLES = (("#000000", "o"), ("#d55e00", "s"), ("#0072b2", "D"), ("#009e73", "^"), ("#cc79a7", "v"))


def plot_factorial(means: pd.DataFrame, *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Final accuracy against the real share, a panel per lever and a line per level of `studies.cell_means`.

    Points are means over seeds, bars 95% t-intervals over seeds; the richest level is darkest. At a share of 1 all
    lines meet in one cell. The panels share the limits of their vertical axis.
    """
    means = means.dropna(subset="mean")
    for (lever, part), ax in zip(means.groupby("lever"), axes, strict=True):
        _plot_levels(part, lever, ax)
    limits = np.array([ax.get_ylim() for ax in axes])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    axes[0].set_ylabel(METRIC_NAME["accuracy"])
    return axes


def _plot_levels(part: pd.DataFrame, lever: str, ax: Axes) -> None:
    levels = sorted(part["level"].unique())
    colors = plt.get_cmap("viridis")(np.linspace(0.8, 0, len(levels)))
    for i, level in enumerate(levels):
        name = f"{level:.0%}" if lever == "quality" else f"{level:.1f}"
        style = {"color": colors[i], "marker": LEVEL_MARKERS[i % len(LEVEL_MARKERS)]}
        dodge = 0.008 * (i - (len(levels) - 1) / 2)
        _plot_means(part[part["level"] == level], "real_share", dodge, name, style, ax)
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], names[::-1], title=LEVER_NAME[lever], loc="lower right", frameon=False)
    ax.set(xlabel="share of real rows", title=f"{lever}, {_seeds_text(part['n'])}")
    sns.despine(ax=ax)


def plot_which_moves_first(
    relative: pd.DataFrame, *, expected: np.ndarray | None = None, fallen: float | None = None, ax: Axes | None = None
) -> Axes:
    """Measures as multiples of their value at generation 1, a line each, from `studies.relative_to_first`.

    Args:
        expected: (G,) tail coverage that sampling alone would leave in generations 1..G, in the same unit; dashed.
        fallen:   a dotted line at 1 - fallen, below which a measure counts as fallen.

    Points are means over seeds, bars 95% t-intervals over seeds.
    """
    ax = ax or plt.gca()
    metrics = list(dict.fromkeys(relative["metric"]))
    for i, metric in enumerate(metrics):
        part, dodge = relative[relative["metric"] == metric], DODGE * (i - (len(metrics) - 1) / 2)
        _plot_means(part, "generation", dodge, METRIC_NAME[metric], MEASURE_STYLE[metric], ax)
    if expected is not None:
        style = {"color": MEASURE_STYLE["lesson_tail_coverage"]["color"], "linestyle": "--"}
        ax.plot(np.arange(1, len(expected) + 1), expected, label="rare subtopics, if only\nsampling lost them", **style)
    if fallen is not None:
        ax.axhline(1 - fallen, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    ax.set(xlabel="generation", ylabel="multiple of generation 1", ylim=(0, None))
    return _finish_generations(ax, relative["n"])


def plot_mixing(rows: pd.DataFrame, *, n_classes: int, ax: Axes | None = None) -> Axes:
    """Test accuracy per generation, a line per mixing regime of the recursion; dotted line: guessing.

    Points are means over seeds, bars 95% t-intervals over seeds. Arms that are no regime are left out.
    """
    ax = ax or plt.gca()
    summary = summarise(rows[rows["arm"].isin(MIXING_STYLE)], "accuracy").dropna(subset="mean")
    arms = [arm for arm in MIXING_STYLE if arm in set(summary["arm"])]
    ends = summary.sort_values("generation").groupby("arm")["mean"].last()
    for i, arm in enumerate(sorted(arms, key=lambda arm: -ends[arm])):  # names beside their lines' ends
        name, color, marker = MIXING_STYLE[arm]
        style, dodge = {"color": color, "marker": marker}, DODGE * (i - (len(arms) - 1) / 2)
        _plot_means(summary[summary["arm"] == arm].sort_values("generation"), "generation", dodge, name, style, ax)
    chance = f"guessing one of {n_classes}"
    ax.axhline(1 / n_classes, color="0.4", linewidth=0.9, linestyle=":", label=chance, zorder=0)
    ax.set(xlabel="generation", ylabel=METRIC_NAME["accuracy"], ylim=(1 / n_classes - 0.05, 1))
    return _finish_generations(ax, summary["n"])


INSIDE_NAME = {"density": "density of MLP units [1]", "effective_rank": "effective rank of hidden states [1]"}


def plot_inside(students: pd.DataFrame, *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Density and effective rank per generation, a panel each, from `representations.by_student`.

    A line per arm for rare texts (solid, means with 95% t-intervals over seeds) and for familiar ones (dashed, pale);
    dotted lines are the base Student.
    """
    arms = [arm for arm in students["arm"].unique() if arm not in ("random", "base")]
    base = students[students["arm"] == "base"]
    for (measure, name), ax in zip(INSIDE_NAME.items(), axes, strict=True):
        for group, color in {"head": "0.75", "tail": "0.4"}.items():
            ax.axhline(base[f"{measure}_{group}"].mean(), color=color, linestyle=":", label=f"base, {group}")
        for arm in arms:
            _plot_head_and_tail(students[students["arm"] == arm], measure, arm, ax)
        ax.set(xlabel="generation", ylabel=name)
        sns.despine(ax=ax)
    _finish_generations(axes[-1], students.groupby("arm")["seed"].nunique())
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def _plot_head_and_tail(part: pd.DataFrame, measure: str, arm: str, ax: Axes) -> None:
    style, grouped = arm_style(arm), part.groupby("generation")
    tail = np.array([mean_interval(values) for _, values in grouped[f"{measure}_tail"]])  # (G, mean, low, high)
    at = [generation for generation, _ in grouped]
    ax.plot(at, tail[:, 0], label=f"{arm_name(arm)}, tail", **style)
    ax.vlines(at, tail[:, 1], tail[:, 2], color=style["color"], linewidth=1)
    ax.plot(at, grouped[f"{measure}_head"].mean(), **style | {"linestyle": "--", "alpha": 0.5, "marker": ""})


def plot_theory(
    curves: dict[str, np.ndarray],
    draws: dict[str, np.ndarray],
    names: dict[str, str],
    *,
    x: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Closed forms as lines, and Monte Carlo means with two standard errors as points.

    Args:
        curves: {key: (G + 1,)} closed forms.
        draws:  {key: (R, G + 1)} simulated; a key without draws is a line alone.
        names:  {key: name in the legend}, which chooses what is drawn; at most as many as THEORY_STYLES.
        x:      (G + 1,) places on the axis; generations 0..G by default.
    """
    ax = ax or plt.gca()
    for (key, name), (color, marker) in zip(names.items(), THEORY_STYLES[: len(names)], strict=True):
        at = np.arange(len(curves[key])) if x is None else x
        style = {"color": color, "marker": marker, "markersize": 3.5, "markerfacecolor": "white"}
        if key in draws:
            mean, error = mean_and_error(draws[key])
            ax.errorbar(at, mean, 2 * error, elinewidth=1, linestyle="none", zorder=3, **style)
        shown = style if key in draws else {"color": color}
        ax.plot(at, curves[key], color=color)
        ax.plot([], [], label=name, **shown)  # the legend's own: line and point together
    if x is None:
        ax.set_xlabel("generation")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False)
    sns.despine(ax=ax)
    return ax


def _plot_means(part: pd.DataFrame, x: str, dodge: float, name: str, style: dict, ax: Axes) -> None:
    """One line of means with the intervals as bars, moved aside by `dodge` so that no bar hides another."""
    at = part[x] + dodge
    size = MARKER_SIZE.get(style["marker"], 4.5)
    ax.plot(at, part["mean"], label=name, markersize=size, markeredgewidth=0, **style)
    ax.vlines(at, part["low"], part["high"], color=style["color"], linewidth=1)


def _finish_generations(ax: Axes, n: pd.Series) -> Axes:
    """Whole generations, and a legend at the right that names the intervals."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"mean and 95% interval,\n{_seeds_text(n)}"
    style = {"frameon": False, "alignment": "left", "borderaxespad": 0}
    ax.legend(title=title, loc="center left", bbox_to_anchor=(1.01, 0.5), **style)
    sns.despine(ax=ax)
    return ax
