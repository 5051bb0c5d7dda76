"""The kinds of picture, a function each: tables in, an `ax` or a figure out. `gallery` says which are published.

A line is a mean over seeds with 95% t-intervals as bars. Fewer than MIN_SEEDS seeds have no interval that says
anything: they are drawn as thin lines, each seed by itself. More than MAX_LINES lines are a dot plot of their ends.
An axis of shares that leaves 0 out says where it begins.
"""

import itertools
import math
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from symbiosis.analysis.statistics import MIN_SEEDS
from symbiosis.analysis.tables import STYLES, arm_name, last_generation, means_over_seeds, order, p_text
from symbiosis.store.results import ResultsError, step_losses
from symbiosis.theory.checks import mean_and_error

METRIC_NAME = STYLES["metrics"]
THEORY_STYLES = (("#000000", "o"), ("#d55e00", "s"), ("#0072b2", "D"), ("#009e73", "^"), ("#cc79a7", "v"))
SPARE_MARKERS = "pd8H"  # of arms without a style of their own
MARKER_SIZE = {"*": 7.5, "P": 6.0, "X": 5.5, "D": 4.0}  # in points, so that all shapes look equally large
# Vermilion below zero, blue above, as red and green are told apart by few in print.
DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#d55e00", "#f8dcc8", "#ffffff", "#c4dff0", "#0072b2"])
AXIS_NAME = {"vendi": "effective texts", "mauve": "1 is like real text"}  # where the unit is 1; else the unit

DODGE, MOST_DODGE = 0.05, 0.7  # of the step between values of x: between neighbouring lines, and in all
MAX_LINES = 7  # of a panel; more arms are shown by their final values, each beside its name
DOTTED = {"color": "0.4", "linewidth": 0.9, "linestyle": ":", "zorder": 0}  # what lines are read against
NEAR_CHANCE = 0.2  # accuracy further above guessing leaves the line of guessing out of the figure


# ---- style
def use_style(width: str = "text") -> None:
    """seaborn 'ticks' in the one font that comes with matplotlib, at sizes for print: the same anywhere.

    width: of every figure from now on, a key of `widths` in styles.yaml, column [3.3 inch] or text [7 inch]. No type is
    under 7 pt at either, if the figure is printed at its own size.
    """
    colors = plt.cycler(color=[color for color, _ in THEORY_STYLES])
    sizes = {"figure.figsize": (STYLES["widths"][width], 2.9)}
    if width == "column":
        sizes |= {key: 7 for key in STYLES["page"] if key.endswith("size")}
    sns.set_theme(style="ticks", font="DejaVu Sans", rc=STYLES["page"] | sizes | {"axes.prop_cycle": colors})


def is_column() -> bool:
    """Whether figures are as wide as a column of print."""
    return plt.rcParams["figure.figsize"][0] < STYLES["widths"]["text"]


def narrow(names: Iterable[str], letters: int) -> list[str]:
    """Names that stand side by side; in a column, in lines of at most so many letters, if words allow."""
    return [textwrap.fill(name, letters, break_long_words=False) if is_column() else name for name in names]


def new_figure(panels: int = 1, height: float = 2.9, columns: int = 0, **shared) -> tuple[Figure, np.ndarray]:
    """A figure of the width of `use_style` and its axes (panels,), side by side or in lines of `columns`.

    height: of the whole figure at text width [inch]; in a column, half as many panels stand side by side, and all of
    them where they share an axis. shared: sharex, sharey of `plt.subplots`.
    """
    columns = columns or panels
    lines = -(-panels // columns)
    if is_column() and not shared:
        columns = -(-columns // 2)
    grown = -(-panels // columns) / lines
    size = {"figsize": (plt.rcParams["figure.figsize"][0], height * (1 + 0.8 * (grown - 1))), "squeeze": False}
    fig, axes = plt.subplots(-(-panels // columns), columns, layout="constrained", **size, **shared)
    for ax in axes.flat[panels:]:
        ax.set_axis_off()
    return fig, axes.flat[:panels]


def say_zoom(ax: Axes, axis: str = "y") -> None:
    """An axis of shares begins at 0 where that costs a quarter of it at most; else its label says where it begins."""
    low, high = getattr(ax, f"get_{axis}lim")()
    step = 0.05 if high - low > 0.1 else 0.01
    low = 0.0 if low < high / 4 else math.floor(low / step) * step
    getattr(ax, f"set_{axis}lim")(low, min(high, 1.02))
    if low > 0:
        name = getattr(ax, f"get_{axis}label")()
        between = "\n" if axis == "x" and is_column() else " "
        getattr(ax, f"set_{axis}label")(f"{name}{between}(axis from {low:.2f})")


def line_style(name: str, color: str, marker: str, dashes: str = "-") -> dict:
    """A line as matplotlib draws it; dashed and dotted ones have open markers, no dashes ('') leaves points alone."""
    style = {"label": name, "color": color, "marker": marker, "linestyle": dashes}
    style["markersize"] = MARKER_SIZE.get(marker, 4.5)
    return style | ({"markeredgewidth": 0} if dashes in "-" else {"markerfacecolor": "white", "markeredgewidth": 0.9})


def styles_of(section: str) -> dict[str, dict]:
    """{key: line} of a section of styles.yaml, in its order."""
    found = {}
    for key, style in STYLES[section].items():
        dashes = "--" if style.get("dashed") else ":" if style.get("dotted") else "-"
        found[key] = line_style(style.get("name") or METRIC_NAME[key], style["color"], style["marker"], dashes)
    return found


def arm_styles(rows: pd.DataFrame) -> dict[str, dict]:
    """{arm: line} of all arms of a table, in order; one without a style is a control in the colour of its method."""
    known = styles_of("arms")

    def spare(arm: str) -> dict:
        color = known.get(arm.split("-")[0], {"color": "#7f7f7f"})["color"]
        return line_style(arm_name(arm), color, SPARE_MARKERS[zlib.crc32(arm.encode()) % len(SPARE_MARKERS)], "--")

    return {arm: known.get(arm) or spare(arm) for arm in order(rows)}


def main_arms(rows: pd.DataFrame) -> list[str]:
    """The arms of a table that the main figures show, or all where it has none of them; the others are controls."""
    arms = order(rows)
    return [arm for arm in arms if STYLES["arms"].get(arm, {}).get("main")] or arms


# ---- means over seeds
def plot_means(
    rows: pd.DataFrame, styles: Mapping[str, dict], ax: Axes, by: tuple[str, str] = ("generation", "arm")
) -> dict[str, list[int]]:
    """A line per key of `styles`: means over seeds with 95% t-intervals as bars, or single seeds where they are few.

    Args:
        rows:   a value per seed (columns value, seed), or a table of means (columns mean, low, high, n).
        styles: {value of the second column of `by`: style}, in the order of drawing; what has no rows is left out.
        by:     columns of x and of the lines. Lines stand a little aside, so that no bar hides another.

    Returns {name of each line drawn: its numbers of seeds}, for `add_legend`.
    """
    x, hue = by
    means = rows if "mean" in rows else means_over_seeds(rows, by)
    steps = np.diff(np.unique(means[x].astype(float)))
    dodge = min(DODGE, MOST_DODGE / max(len(styles), 1)) * steps.min(initial=1.0)
    drawn = {}
    for i, (value, style) in enumerate(styles.items()):
        part = means[means[hue] == value].dropna(subset="mean").sort_values(x)
        if part.empty:
            continue
        aside = dodge * (i - (len(styles) - 1) / 2)
        enough = part[part["n"] >= MIN_SEEDS]
        ax.vlines(enough[x] + aside, enough["low"], enough["high"], color=style["color"], linewidth=1)
        ax.plot(part[x] + aside, part["mean"], **style)
        if "seed" in rows and 1 < part["n"].max() < MIN_SEEDS:
            for _, seed in rows[rows[hue] == value].sort_values(x).groupby("seed"):
                ax.plot(seed[x] + aside, seed["value"], color=style["color"], linewidth=0.6, alpha=0.6)
        drawn[style["label"]] = list(part["n"])
    if x == "generation":
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x.replace("_", " "))
    return drawn


def plot_panels(
    rows: pd.DataFrame, panels: Mapping[str, str], styles: Mapping[str, dict], axes: Sequence[Axes], by: Sequence[str]
) -> dict[str, list[int]]:
    """`plot_means` in a panel per value of the first column of `by`, {value: title}; the others are x and the lines."""
    drawn = {}
    for (value, title), ax in zip(panels.items(), axes, strict=True):
        for name, n in plot_means(rows[rows[by[0]] == value], styles, ax, tuple(by[1:])).items():
            drawn[name] = drawn.get(name, []) + n
        ax.set_title(narrow([title], 20)[0])
    return drawn


def seeds_text(n: Sequence[int]) -> str:
    """How many seeds: one number where it is the same everywhere, else the least and the most."""
    low, high = int(min(n)), int(max(n))
    return f"n = {low} {'seed' if low == 1 else 'seeds'}" if low == high else f"n = {low} to {high} seeds"


def add_legend(axes: Sequence[Axes], seeds: Mapping[str, Sequence[int]], columns: int = 0) -> None:
    """What lines and bars are, and of how many seeds: right of the panel in the order of the lines' ends, or below all.

    Args:
        seeds:   of `plot_means`; what else has a label comes last.
        columns: of a legend below all panels; 0: at the right of the last one.
    """
    entries = {}
    for ax in axes:  # a panel may lack a line
        entries |= {name: handle for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    bars = "mean and 95% interval" if max(map(max, seeds.values())) >= MIN_SEEDS else "mean, no interval"
    seeds = {name: seeds_text(n) for name, n in seeds.items()}
    most = max(seeds.values(), key=list(seeds.values()).count)
    names = {name: f"{name} ({n.rpartition(' ')[0]})" for name, n in seeds.items() if n != most}
    title = f"{bars},\n{most}" + (" unless noted" if names else "")
    if is_column():
        longest = max(len(names.get(name, name)) for name in entries)
        columns = min(columns or 2, 2 if longest <= 25 else 1)
    legends, place = axes[0].figure, {"loc": "outside lower center", "ncols": columns}
    if columns:
        title = title.replace("\n", " ")
        legends.set_figheight(legends.get_figheight() + (0.14 * -(-len(entries) // columns) if is_column() else 0))
    else:
        ends = sorted(seeds, key=lambda name: -entries[name].get_ydata()[-1])
        entries = {name: entries[name] for name in [*ends, *(name for name in entries if name not in seeds)]}
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5), "alignment": "left", "borderaxespad": 0}
        legends = axes[-1]
    legends.legend(entries.values(), [names.get(name, name) for name in entries], title=title, **place)


def plot_accuracy(rows: pd.DataFrame, classes: int | None, styles: Mapping[str, dict] | None = None) -> Figure:
    """Test accuracy per generation, a line per arm; dotted: guessing one of `classes` (None: not known, no line).

    More than MAX_LINES arms are shown by their last generation alone, the best on top.
    """
    rows = rows[rows["metric"] == "accuracy"]
    styles = styles or arm_styles(rows)
    if len(styles) > MAX_LINES:
        fig, (ax,) = new_figure(height=0.75 + 0.19 * len(styles))
        plot_final(rows, styles, ax)
        _mark_chance(classes, ax, "x")
        say_zoom(ax, "x")
        return fig
    fig, (ax,) = new_figure(height=3.0)
    seeds = plot_means(rows, styles, ax)
    _mark_chance(classes, ax)
    ax.set_ylabel(METRIC_NAME["accuracy"])
    say_zoom(ax)
    add_legend([ax], seeds)
    return fig


def plot_final(rows: pd.DataFrame, styles: Mapping[str, dict], ax: Axes) -> None:
    """Forest plot of one metric at the last generation that all arms reached, a line per arm, the highest on top."""
    last, metric = last_generation(rows), rows["metric"].iloc[0]
    ends = means_over_seeds(rows[rows["generation"] == last], ["generation", "arm"]).dropna(subset="mean")
    ends = ends.sort_values("mean", ascending=False)
    usual = ends["n"].mode()[0]
    noted = ["" if n == usual else f"n = {n}" for n in ends["n"]]
    shown = [styles[arm] for arm in ends["arm"]]
    plot_forest(ends.assign(name=[style["label"] for style in shown], text=noted), shown, ax)
    unless = " unless noted" if any(noted) else ""
    name = f"{METRIC_NAME.get(metric, metric)}, generation {last},{chr(10) if is_column() else ' '}"
    ax.set_xlabel(f"{name}{seeds_text([usual])}{unless}")


def _mark_chance(classes: int | None, ax: Axes, axis: str = "y") -> None:
    """A dotted line at guessing, named in the legend, or its number alone where the data lie far above.

    On the x axis of a forest plot, which has no legend, it is named below.
    """
    if classes is None:
        return
    name, chance = f"guessing one of {classes}", 1 / classes
    near = getattr(ax, f"get_{axis}lim")()[0] < chance + NEAR_CHANCE
    if near:
        (ax.axhline if axis == "y" else ax.axvline)(chance, label=name, **DOTTED)
    if axis == "x":
        ax.set_xlabel(f"{ax.get_xlabel()}\n{'dotted: ' if near else ''}{name}{'' if near else f' is {chance:.2g}'}")
    elif not near:
        ax.plot([], [], " ", label=f"{name} is {chance:.2g}")


def plot_metrics(rows: pd.DataFrame, metrics: Sequence[str], height: float, band: pd.DataFrame | None = None) -> Figure:
    """A panel per metric, three in a line of `height` [inch], the unit on its axis, one legend below them all.

    band: `lesson_measures.read_band`; what lessons of real text have is shaded. A metric that was not measured, as
    what needs a known true distribution outside of the miniature, has no panel.
    """
    measured = set(rows.loc[rows["value"].notna(), "metric"])
    metrics = [metric for metric in metrics if metric in measured]
    columns = min(len(metrics), 3)
    fig, axes = new_figure(len(metrics), height * -(-len(metrics) // columns) + 0.5, columns)
    titles = {metric: METRIC_NAME.get(metric, metric) for metric in metrics}
    seeds = plot_panels(rows, titles, arm_styles(rows), axes, ("metric", "generation", "arm"))
    for metric, ax in zip(metrics, axes, strict=True):
        unit = ", ".join(sorted(rows.loc[rows["metric"] == metric, "unit"].unique()))
        ax.set_ylabel(AXIS_NAME.get(metric, unit))
        if band is not None and metric in band.index:
            ax.axhspan(*band.loc[metric, ["low", "high"]], color="0.88", zorder=0, label="lessons of real text, 95%")
        if unit == "share":
            say_zoom(ax)
    add_legend(axes, seeds, 4)
    return fig


def loss_by_step(run_folders: Sequence[str | Path]) -> Figure:
    """Training losses of the Student by step, a panel per loss, where means over generations would hide a spike.

    A thick line is an arm's mean over its runs, a thin one a run; dotted: the next lesson, with its generation above.
    Published for symbiosis and static as Figure 2 of the Symbiosis paper. ResultsError where arms differ in steps.
    """
    losses = step_losses(run_folders)
    borders = losses.groupby(["run_id", "generation"])["step"].max().unstack()
    if len(borders.drop_duplicates()) > 1:
        other = borders.drop_duplicates().index[:2]
        raise ResultsError(f"{' and '.join(other)}: their generations are not of equally many steps; draw them apart")
    ends = [0, *borders.iloc[0]]
    fig, axes = new_figure(2, 2.9)
    for name, unit, ax in zip(("label_loss", "lm_loss"), ("nats, log scale", "nats/token"), axes, strict=True):
        for arm, style in arm_styles(losses).items():
            by_run = losses[losses["arm"] == arm].pivot(index="step", columns="run_id", values=name)
            ax.plot(by_run, color=style["color"], linewidth=0.5, alpha=0.35)
            label = f"{style['label']} (n = {by_run.shape[1]})"
            ax.plot(by_run.mean(axis=1), color=style["color"], linewidth=1.2, label=label)
        for border in ends[1:-1]:
            ax.axvline(border + 0.5, **DOTTED)
        for generation, (begin, end) in enumerate(itertools.pairwise(ends), 1):
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom", "fontsize": 7}
            name_of = "generation 1" if generation == 1 else str(generation)
            ax.annotate(name_of, ((begin + end + 1) / 2, 1.0), color="0.4", **place)
        ax.set(xlabel="training step", ylabel=f"{METRIC_NAME[f'train_{name}']} [{unit}]")
    axes[0].set_yscale("log")  # it falls by two orders, and its rise at a border is small
    axes[0].legend()
    return fig


# ---- forest plots
def plot_forest(table: pd.DataFrame, styles: Sequence[dict], ax: Axes) -> None:
    """A line per row of the table, from top to bottom: mean, interval, and a text at the right.

    Args:
        table:  columns name, mean, low, high, n; also text, and group, whose names stand above their lines.
        styles: of each row; the interval of fewer than MIN_SEEDS seeds is not drawn.
    """
    groups = table["group"] if "group" in table else [None] * len(table)
    ticks, y, last = [], 0.0, None
    right = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 7.5}
    for row, group, style in zip(table.itertuples(), groups, styles, strict=True):
        if group != last:
            y -= 0.3
            ax.annotate(group, (0.01, y), weight="bold", **right)
            y, last = y - 1, group
        if len(ticks) % 2 == 0:  # every other line on grey: the eye finds its way from the name to the number
            ax.axhspan(y - 0.5, y + 0.5, color="0.95", linewidth=0, zorder=-1)
        if row.n >= MIN_SEEDS:
            ax.hlines(y, row.low, row.high, color=style["color"], linewidth=1.3)
        ax.plot(row.mean, y, **style)
        ax.annotate(getattr(row, "text", ""), (1.01, y), **right)
        ticks.append(y)
        y -= 1
    ax.set_yticks(ticks, table["name"])
    ax.set_ylim(y + 0.4, 0.6)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def plot_paired(table: pd.DataFrame) -> Figure:
    """Forest plot of `paired_table`, a panel per baseline: difference, 95% t-interval over seeds, Holm-adjusted p."""
    arms, parts = order(table), dict(list(table.groupby("baseline", sort=False)))
    fig, axes = new_figure(len(parts), 0.75 + 0.17 * max(len(arms), 4))
    for (baseline, part), ax in zip(parts.items(), axes, strict=True):
        part = part.set_index("arm").reindex(arms).reset_index()  # all arms in every panel, which share their names
        _plot_differences(part.assign(name=part["arm"].map(arm_name)), list(arm_styles(part).values()), ax)
        if baseline in arms:
            point = (0, ax.get_yticks()[arms.index(baseline)])
            ax.annotate("baseline", point, (3, 0), textcoords="offset points", va="center", color="0.4")
        ax.set_title(f"against {arm_name(baseline)}")
        ax.tick_params(labelleft=ax is axes[0])
    return fig


def plot_ablation(effects: pd.DataFrame) -> Figure:
    """Forest plot of `studies.ablation_effects`: a group per factor, a line per level, Holm's p at the right.

    Points are mean differences from the reference level over the pairs of cells, bars 95% t-intervals over seeds.
    """
    switches = {"True": "on", "False": "off"}
    spaced = effects.astype({"level": str}).replace({"level": switches, "reference": switches})
    spaced = spaced.replace({"level": "_", "factor": "_"}, " ", regex=True)
    pairs = spaced["pairs"].map(lambda n: f" ({n} pair)" if n == 1 else f" ({n} pairs)")
    table = spaced.assign(name=spaced["level"] + pairs, group=spaced["factor"] + ", against " + spaced["reference"])
    fig, (ax,) = new_figure(height=0.75 + 0.17 * (len(table) + 1.3 * table["group"].nunique()))
    _plot_differences(table, [styles_of("arms")["symbiosis"]] * len(table), ax)
    return fig


def _plot_differences(table: pd.DataFrame, styles: Sequence[dict], ax: Axes) -> None:
    plot_forest(table.assign(text=table["p_holm"].map(lambda p: p_text(p, ""))), styles, ax)
    ax.annotate("Holm's p", (1.01, 1.0), xycoords="axes fraction", va="bottom", fontsize=7)
    ax.axvline(0, **DOTTED)
    ax.set_xlabel(f"difference in accuracy, {seeds_text(table['n'].dropna())}")


# ---- matrices
def plot_matrix(values: pd.DataFrame, ax: Axes, framed: pd.DataFrame | None = None, **style) -> None:
    """A cell per value, nan left out; cells of `framed` have a frame and a bold number. `style` is `sns.heatmap`'s."""
    sns.heatmap(values, ax=ax, mask=values.isna(), cbar=False, annot_kws={"size": 7}, **style)
    ax.tick_params(length=0, labelrotation=0)
    if framed is None:
        return
    for text in ax.texts:
        x, y = (int(place) for place in text.get_position())
        if framed.iat[y, x]:
            text.set_weight("bold")
            ax.add_patch(Rectangle((x + 0.04, y + 0.04), 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.2))


def plot_matrices(panels: Mapping[str, pd.DataFrame], framed: Sequence[pd.DataFrame], label: str, **style) -> Figure:
    """Matrices of entities by tasks, {title: values}, side by side on one colour scale with its label at the right."""
    lines, columns = next(iter(panels.values())).shape
    fig, axes = _matrix_axes(len(panels), lines / columns)
    for (title, values), frame, ax in zip(panels.items(), framed, axes, strict=True):
        plot_matrix(values, ax, frame, annot=True, square=True, linewidths=1, **style)
        ax.set(title=title, xlabel="task", ylabel="entity" if ax is axes[0] else "")
        ax.tick_params(labelleft=ax is axes[0] or is_column())
    fig.colorbar(axes[0].collections[0], ax=list(axes), label=label, shrink=0.8)
    return fig


def _matrix_axes(panels: int, aspect: float) -> tuple[Figure, np.ndarray]:
    """Axes for matrices `aspect` times as high as wide, with 0.8 inch for their texts; in a column, stacked."""
    beside = 1 if is_column() else panels
    height = 0.8 + (plt.rcParams["figure.figsize"][0] - 1.3) / beside * aspect
    return new_figure(panels, height * panels / beside, beside)


def plot_surface(surfaces: Mapping[str, np.ndarray], shares: Sequence[float]) -> Figure:
    """Relative efficiency over the grid, a panel per setting {title: (alphas, betas)}; one colour scale for all.

    A star marks the largest value, whose place the title gives; a circle marks alpha = beta = 0.5. Grey: no limit.
    """
    fig, axes = _matrix_axes(len(surfaces), 1.0)
    top, middle = max(np.nanmax(values) for values in surfaces.values()), np.interp(0.5, shares, range(len(shares)))
    names = [f"{share:.1f}" for share in shares]
    for (title, values), ax in zip(surfaces.items(), axes, strict=True):
        plot_matrix(pd.DataFrame(values.T, names, names), ax, cmap="viridis", vmin=0, vmax=top, square=True)
        ax.invert_yaxis()
        i, j = np.unravel_index(np.nanargmax(values), values.shape)
        ax.plot(middle + 0.5, middle + 0.5, "o", color="white", markersize=11, fillstyle="none", markeredgewidth=1.2)
        ax.plot(i + 0.5, j + 0.5, "*", color="white", markeredgecolor="black", markersize=9, markeredgewidth=0.6)
        where = f"{values[i, j]:.3f} at ({names[i]}, {names[j]})"
        ax.set(title=f"{title}\nbest {where}", xlabel="alpha, synthetic share", facecolor="0.8")
        ticks = np.arange(0, len(shares), 2)
        ax.set_xticks(ticks + 0.5, names[::2])
        ax.set_yticks(ticks + 0.5, names[::2])
        ax.tick_params(labelleft=ax is axes[0] or is_column())
    if is_column():
        fig.supylabel("beta, private share of the real part", size=plt.rcParams["axes.labelsize"])
    else:
        axes[0].set_ylabel("beta, private share\nof the real part")
    fig.colorbar(axes[0].collections[0], ax=list(axes), label="relative efficiency", shrink=0.85)
    return fig


# ---- theory, texts
def plot_theory(
    curves: Mapping[str, np.ndarray],
    draws: Mapping[str, np.ndarray],
    names: Mapping[str, str],
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
        places = np.arange(len(curves[key])) if x is None else x
        style = {"color": color, "marker": marker, "markersize": 3.5, "markerfacecolor": "white"}
        if key in draws:
            mean, error = mean_and_error(draws[key])
            ax.errorbar(places, mean, 2 * error, elinewidth=1, linestyle="none", zorder=3, **style)
        shown = style if key in draws else {"color": color}
        ax.plot(places, curves[key], color=color)
        ax.plot([], [], label=name, **shown)  # the legend's own: line and point together
    if x is None:
        ax.set_xlabel("generation")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    return ax


def plot_influence(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Actual against predicted change of the dev loss, a dot per text; on the dotted line both are equal.

    changes: columns predicted, actual [nats] and kind.
    """
    ax = ax or plt.gca()
    styles, ends = styles_of("texts"), [changes["predicted"].min(), changes["predicted"].max()]
    ax.plot(ends, ends, **DOTTED)
    for kind, part in changes.groupby("kind", sort=False):
        style = styles[kind] | {"label": f"{kind} (n = {len(part)})", "linestyle": ""}
        ax.plot(part["predicted"], part["actual"], alpha=0.8, **style)
    ax.set(xlabel="predicted change of the dev loss [nats]", ylabel="actual change [nats]")
    ax.legend()
    return ax


def text_table(frame: pd.DataFrame):
    """Texts as a reader wants them in a notebook: whole, wrapped, left-aligned; HTML in them is shown, not obeyed."""
    cell = {"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top", "padding": "2px 8px"}
    head = {"selector": "th", "props": [("text-align", "left")]}
    shown = frame.style.format(escape="html", precision=2).hide(axis="index")
    return shown.set_properties(**cell).set_table_styles([head])
