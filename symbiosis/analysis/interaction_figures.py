"""One function per figure of notebook 04: a table or arrays in, `ax` in and out, in the style of `figures`."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from symbiosis.analysis.figures import DIVERGING, THEORY_STYLES
from symbiosis.analysis.interaction import ALPHAS, BEYOND, arm, cell_of, entities_held
from symbiosis.analysis.statistics import mean_interval, paired_values
from symbiosis.analysis.tables import arm_name, summarise
from symbiosis.analysis.verdicts import MIN_SEEDS

ALPHA_STYLE = dict(zip((0.0, 0.5, 0.9, 1.0), THEORY_STYLES, strict=False))  # (colour, marker), as in theory's curves
ENTITIES_MARKER = {2: "o", 3: "^", 4: "s"}
SIMILARITY_STYLE = {  # metric: (name, colour, marker, line)
    "similarity_public": ("public, same prompt", "#56b4e9", "o", "-"),
    "similarity_private": ("private, same prompt", "#cc79a7", "s", "-"),
    "similarity_public_apart": ("public, other prompts", "#56b4e9", "o", ":"),
    "similarity_private_apart": ("private, other prompts", "#cc79a7", "s", ":"),
}
METRIC_NAME = {
    "loss_own": "loss on the own task",
    "loss_others": "loss on the others' tasks",
    "loss_public": "loss on public text",
}
DODGE = 0.06  # generations between neighbouring lines, so that no interval hides another


def plot_surface(
    surfaces: Mapping[str, np.ndarray], alphas: Sequence[float], betas: Sequence[float], *, axes: Sequence[Axes]
) -> Sequence[Axes]:
    """Relative efficiency over the grid, a panel per setting {title: (alphas, betas)}; one colour scale for all.

    A star marks the largest value, whose place the title gives; a circle marks alpha = beta = 0.5. Grey: no limit.
    """
    top = max(np.nanmax(values) for values in surfaces.values())
    for (title, values), ax in zip(surfaces.items(), axes, strict=True):
        mesh = ax.pcolormesh(alphas, betas, values.T, shading="nearest", cmap="viridis", vmin=0, vmax=top)
        i, j = np.unravel_index(np.nanargmax(values), values.shape)
        ax.plot(0.5, 0.5, "o", color="white", markersize=11, fillstyle="none", markeredgewidth=1.2)
        ax.plot(alphas[i], betas[j], "*", color="white", markeredgecolor="black", markersize=9, markeredgewidth=0.6)
        where = f"{values[i, j]:.3f} at ({alphas[i]:.1f}, {betas[j]:.1f})"
        ax.set(title=f"{title}\nbest {where}", xlabel="alpha, synthetic share", facecolor="0.8", aspect="equal")
        ax.set(xticks=alphas[::2], yticks=betas[::2])
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel("beta, private share\nof the real part")
    axes[0].figure.colorbar(mesh, ax=list(axes), label="relative efficiency", shrink=0.85)
    return axes


def loss_table(rows: pd.DataFrame, generation: int) -> pd.DataFrame:
    """Mean over the seeds of every entity's loss on every task and on public text: entities by tasks [nats per token].

    rows: of one arm, or of one run.
    """
    names = rows["metric"].str.extract(r"^loss_(?P<entity>\d+)_on_(?P<task>\w+)$")
    chosen = rows.assign(**names)[(rows["generation"] == generation) & names["entity"].notna()]
    return chosen.pivot_table(index="entity", columns="task", values="value", aggfunc="mean")


def plot_loss_matrices(rows: pd.DataFrame, generations: Sequence[int], *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Loss of every entity (lines) on every task (columns), a panel per generation; means over seeds, one colour scale.

    Framed: an entity's own task. rows: of one arm, or of one run.
    """
    matrices = [loss_table(rows, generation) for generation in generations]
    low, high = min(m.min(axis=None) for m in matrices), max(m.max(axis=None) for m in matrices)
    for matrix, generation, ax in zip(matrices, generations, axes, strict=True):
        style = {"annot": True, "fmt": ".2f", "cmap": "viridis_r", "vmin": low, "vmax": high, "annot_kws": {"size": 7}}
        sns.heatmap(matrix, ax=ax, cbar=False, linewidths=1, square=True, **style)
        _frame_own(matrix, ax)
        ax.set(title=f"generation {generation}", xlabel="task", ylabel="")
        ax.tick_params(length=0, labelleft=ax is axes[0], labelrotation=0)
    axes[0].set_ylabel("entity")
    label = f"loss [nats per token], {seeds_text(rows['seed'].nunique())}"
    axes[0].figure.colorbar(axes[-1].collections[0], ax=list(axes), label=label, shrink=0.8)
    return axes


def _frame_own(matrix: pd.DataFrame, ax: Axes) -> None:
    for y, entity in enumerate(matrix.index):
        if entity in matrix.columns:
            place = (list(matrix.columns).index(entity), y)
            ax.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor="black", linewidth=1.6, clip_on=False))


def plot_alpha(rows: pd.DataFrame, metrics: Sequence[str], *, axes: np.ndarray) -> np.ndarray:
    """Losses by generation, a line per alpha: axes (metrics, values of K that were run); bars 95% t-intervals.

    Panels of one metric share their vertical axis. A cell that was not run has no line.
    """
    chosen = rows[rows["arm"].map(cell_of).notna()]
    for metric, line in zip(metrics, axes, strict=True):
        summary = summarise(chosen, metric)
        for entities, ax in zip(entities_held(rows), line, strict=True):
            for i, alpha in enumerate(ALPHAS):
                color, marker = ALPHA_STYLE[alpha]
                part = summary[summary["arm"] == arm(entities, alpha)]
                style = {"color": color, "marker": marker, "label": f"alpha = {alpha:g}"}
                _plot_means(part, "generation", DODGE * (i - 1), style, ax)
            ax.set_title(f"K = {entities}" if metric == metrics[0] else "")
            ax.set_xlabel("generation" if metric == metrics[-1] else "")
        _share_y(line, f"{METRIC_NAME[metric]}\n[nats per token]")
    _legend_below(axes[0][0], len(ALPHAS), interval_text(summary["n"]))
    return axes


def plot_similarity(rows: pd.DataFrame, arms: Sequence[str], *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Cosine between answers of different entities by generation, a panel per arm; bars are 95% t-intervals over seeds.

    Solid: to the same prompt. Dotted: to different prompts, which is how alike any two answers are.
    """
    for one, ax in zip(arms, axes, strict=True):
        of_arm = rows[rows["arm"] == one]
        for i, (metric, (name, color, marker, line)) in enumerate(SIMILARITY_STYLE.items()):
            part = summarise(of_arm, metric)
            style = {"color": color, "marker": marker, "linestyle": line, "label": name}
            style["markerfacecolor"] = "white" if line == ":" else color
            _plot_means(part, "generation", DODGE * (i - 1.5), style, ax)
        cell = cell_of(one)
        ax.set(title=f"K = {cell[0]}, alpha = {cell[1]:g}" if cell else arm_name(one), xlabel="generation")
    _share_y(axes, "cosine of answers")
    _legend_below(axes[0], 2, interval_text(part["n"]))
    return axes


def plot_trends(trends: pd.DataFrame, *, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Change of the loss against what the linear counterpart expects, a panel per loss of `interaction.trends`.

    Colours are alpha, shapes K; points are means over seeds, bars 95% t-intervals over seeds.
    """
    for (metric, part), ax in zip(trends.groupby("metric"), axes, strict=True):
        for row in part.itertuples():
            color, _ = ALPHA_STYLE[row.alpha]
            style = {"color": color, "marker": ENTITIES_MARKER[row.entities], "linestyle": "none"}
            name = f"K = {row.entities}, alpha = {row.alpha:g}"
            bars = None if row.n < MIN_SEEDS else [[row.mean - row.low], [row.high - row.mean]]
            ax.errorbar(row.theory, row.mean, bars, markersize=5, elinewidth=1, label=name, **style)
        ax.axhline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
        ax.set(title=METRIC_NAME[metric], xlabel="linear theory: change of the squared error")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        sns.despine(ax=ax)
    axes[0].set_ylabel("language models: change\nof the loss [nats per token]")
    _legend_below(axes[0], 3, interval_text(trends["n"]))
    return axes


def plot_differences(
    rows: pd.DataFrame, arms: Sequence[str], baseline: str, generation: int, *, axes: Sequence[Axes]
) -> Sequence[Axes]:
    """Loss of every entity on every task, arm - baseline seed by seed, a panel per arm; blue is a lower loss.

    A bold number in a frame: the 95% t-interval over seeds excludes 0.
    """
    tables = {one: matrix_differences(rows, one, baseline, generation) for one in arms}
    largest = max(table["mean"].abs().max() for table in tables.values())
    for (one, table), ax in zip(tables.items(), axes, strict=True):
        style = {"cmap": DIVERGING.reversed(), "vmin": -largest, "vmax": largest, "cbar": False, "linewidths": 1}
        sns.heatmap(table["mean"].unstack(), ax=ax, square=True, **style)
        _write_differences(table, ax)
        ax.set(title=BEYOND.get(one, arm_name(one)), xlabel="task", ylabel="")
        ax.tick_params(length=0, labelleft=ax is axes[0], labelrotation=0)
    axes[0].set_ylabel("entity")
    label = f"difference of the loss\n[nats per token], {seeds_text(*table['n'])}"
    axes[0].figure.colorbar(axes[-1].collections[0], ax=list(axes), label=label, shrink=0.8)
    return axes


def matrix_differences(rows: pd.DataFrame, arm: str, baseline: str, generation: int) -> pd.DataFrame:
    """Arm - baseline of every loss_<k>_on_<j>, seed by seed: index (entity, task), columns mean, low, high (95%), n."""
    at = rows[(rows["generation"] == generation) & rows["metric"].str.fullmatch(r"loss_\d+_on_\w+")]
    at = at[at["arm"].isin([arm, baseline])]
    found = {}
    for metric, part in at.groupby("metric"):
        by_arm = {name: p.set_index("seed")["value"].to_dict() for name, p in part.groupby("arm")}
        d = paired_values(by_arm.get(arm, {}), by_arm.get(baseline, {}))
        found[re.fullmatch(r"loss_(\d+)_on_(\w+)", metric).groups()] = (*mean_interval(d), len(d))
    table = pd.DataFrame.from_dict(found, orient="index", columns=["mean", "low", "high", "n"])
    table.index = pd.MultiIndex.from_tuples(table.index, names=["entity", "task"])
    return table


def _write_differences(table: pd.DataFrame, ax: Axes) -> None:
    means = table["mean"].unstack()
    for (entity, task), row in table.iterrows():
        x, y = means.columns.get_loc(task), means.index.get_loc(entity)
        shown = row["low"] > 0 or row["high"] < 0
        weight = "bold" if shown else "normal"
        ax.text(x + 0.5, y + 0.5, f"{row['mean']:+.2f}", ha="center", va="center", fontsize=7, weight=weight)
        if shown:
            ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="black", linewidth=1.2, clip_on=False))


# ---- parts


def seeds_text(*n: int) -> str:
    """How many seeds: one number where it is the same everywhere, else the least and the most."""
    low, high = int(min(n)), int(max(n))
    return f"n = {low} {'seed' if low == 1 else 'seeds'}" if low == high else f"n = {low} to {high} seeds"


def interval_text(n: pd.Series) -> str:
    """What points and bars are, for a legend; the interval of two seeds is wider than any figure and not drawn."""
    bars = "mean and 95% interval" if n.max() >= MIN_SEEDS else "mean, too few seeds for an interval"
    return f"{bars}, {seeds_text(*n)}"


def _plot_means(part: pd.DataFrame, x: str, dodge: float, style: dict, ax: Axes) -> None:
    """A line of means with the intervals as bars, moved aside by `dodge`; nothing where nothing was measured."""
    part = part.dropna(subset="mean").sort_values(x)
    if part.empty:
        return
    bars = None if part["n"].max() < MIN_SEEDS else (part["mean"] - part["low"], part["high"] - part["mean"])
    ax.errorbar(part[x] + dodge, part["mean"], bars, markersize=4, elinewidth=1, **style)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    sns.despine(ax=ax)


def _share_y(axes: Sequence[Axes], label: str) -> None:
    limits = np.array([ax.get_ylim() for ax in axes if ax.has_data()])
    for ax in axes:
        ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        ax.tick_params(labelleft=ax is axes[0])
    axes[0].set_ylabel(label)


def _legend_below(ax: Axes, columns: int, title: str) -> None:
    entries = {}
    for one in ax.figure.axes:  # a panel may lack a line
        handles, names = one.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    style = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    ax.figure.legend(entries.values(), entries, title=title, **style)
