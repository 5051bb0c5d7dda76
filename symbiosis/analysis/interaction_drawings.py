"""`drawings` of models that train on each other's outputs, and of their linear theory."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import figures
from symbiosis.analysis import interaction as interaction_tables
from symbiosis.analysis.drawings import Drawn, Reports
from symbiosis.analysis.tables import STYLES
from symbiosis.store.results import NotRun


def by_alpha(reports: Reports) -> Drawn:
    used = reports.rows(interaction_tables.OWN_AND_OTHERS, list(interaction_tables.CELLS))
    cells = pd.DataFrame(used["arm"].map(interaction_tables.CELLS).to_list(), used.index, ["entities", "alpha"])
    rows, panels = used.join(cells), {k: f"K = {k}" for k in sorted(cells["entities"].unique())}
    fig, axes = figures.new_figure(2 * len(panels), 4.4, len(panels), sharey="row")
    seeds = {}
    for metric, row in zip(interaction_tables.OWN_AND_OTHERS, axes.reshape(2, -1), strict=True):
        of_metric = rows[rows["metric"] == metric]
        seeds |= figures.plot_panels(of_metric, panels, _alpha_styles(), row, ("entities", "generation", "alpha"))
        row[0].set_ylabel(f"{figures.METRIC_NAME[metric]}\n[nats per token]")
    for ax, below in zip(*axes.reshape(2, -1), strict=True):
        ax.set_xlabel("")
        below.set_title("")
    figures.add_legend(axes, seeds, 3)
    return fig, used


def _alpha_styles() -> dict[float, dict]:
    looks = dict(zip((0.0, 0.5, 0.9, 1.0), figures.THEORY_STYLES, strict=False))  # as in theory's curves
    return {alpha: figures.line_style(f"alpha = {alpha:g}", *looks[alpha]) for alpha in interaction_tables.ALPHAS}


def similarity(reports: Reports) -> Drawn:
    titles = {interaction_tables.arm(2, alpha): f"K = 2, alpha = {alpha:g}" for alpha in interaction_tables.ALPHAS}
    used = reports.rows(list(STYLES["similarities"]), list(titles))
    return plot_similarity(used, {arm: title for arm, title in titles.items() if arm in set(used["arm"])}), used


def plot_similarity(rows: pd.DataFrame, panels: dict[str, str]) -> Figure:
    """`similarity` of any arms, {arm: title}."""
    fig, axes = figures.new_figure(len(panels), 2.9, sharey=True)
    styles = figures.styles_of("similarities")
    rows = rows[rows["metric"].isin(styles)]
    seeds = figures.plot_panels(rows, panels, styles, axes, ("arm", "generation", "metric"))
    axes[0].set_ylabel("cosine of answers")
    figures.say_zoom(axes[0])
    figures.add_legend(axes, seeds, 2)
    return fig


def matrices(reports: Reports) -> Drawn:
    used = _of_matrix(reports.rows(arms=[interaction_tables.arm(3, 0.5)]))
    return plot_losses(used), used


def _of_matrix(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["metric"].str.fullmatch(r"loss_\d+_on_\w+")]


def entity_by_task(losses: pd.Series) -> pd.DataFrame:
    """Values of the metrics loss_<entity>_on_<task> (the index) as a matrix: entities by tasks."""
    places = losses.index.str.removeprefix("loss_").str.split("_on_")
    return losses.set_axis(pd.MultiIndex.from_tuples(map(tuple, places), names=["entity", "task"])).unstack()


def plot_losses(rows: pd.DataFrame) -> Figure:
    """`matrices` of any arm or run."""
    rows, last = _of_matrix(rows), int(rows["generation"].max())
    means = rows.groupby(["generation", "metric"])["value"].mean()
    tables = {f"generation {g}": entity_by_task(means[g]) for g in sorted({0, (last + 1) // 2, last})}
    own = [table.apply(lambda column: column.index == column.name) for table in tables.values()]
    values = np.stack(list(tables.values()))
    style = {"cmap": "viridis_r", "vmin": np.nanmin(values), "vmax": np.nanmax(values), "fmt": ".2f"}
    label = f"loss [nats per token], {figures.seeds_text([rows['seed'].nunique()])}"
    return figures.plot_matrices(tables, own, label, **style)


def trends(reports: Reports) -> Drawn:
    used = reports.rows(interaction_tables.OWN_AND_OTHERS, list(interaction_tables.CELLS))
    trends = interaction_tables.trends(used)
    trends["cell"] = list(zip(trends["entities"], trends["alpha"], strict=True))
    alphas, markers = _alpha_styles(), {2: "o", 3: "^", 4: "s"}
    styles = {
        (k, alpha): figures.line_style(f"K = {k}, alpha = {alpha:g}", alphas[alpha]["color"], markers[k], "")
        for k, alpha in dict.fromkeys(trends["cell"])
    }
    fig, axes = figures.new_figure(2, 3.2)
    panels = {metric: figures.METRIC_NAME[metric] for metric in interaction_tables.OWN_AND_OTHERS}
    seeds = figures.plot_panels(trends, panels, styles, axes, ("metric", "theory", "cell"))
    for ax in axes:
        ax.axhline(0, **figures.DOTTED)
        ax.set_xlabel("linear theory: change of the squared error")
    axes[0].set_ylabel("language models: change\nof the loss [nats per token]")
    figures.add_legend(axes, seeds, 3)
    return fig, used


def beyond(reports: Reports) -> Drawn:
    equal, unequal = interaction_tables.arm(3, 0.5), interaction_tables.BEYOND
    used = _of_matrix(reports.rows(arms=[equal, *unequal]))
    if equal not in set(used["arm"]) or used["arm"].nunique() < 2:
        raise NotRun("No unequal entities have been run, or no three equal ones: no figure.")
    tested = interaction_tables.against(used, used["metric"].unique(), interaction_tables.EQUALS)
    parts = {unequal[arm]: part.set_index("metric") for arm, part in tested.groupby("arm")}
    parts = {name: parts[name] for name in unequal.values() if name in parts}
    means = {name: entity_by_task(part["mean"]) for name, part in parts.items()}
    sure = [entity_by_task((part["low"] > 0) | (part["high"] < 0)) for part in parts.values()]
    limit, n = tested["mean"].abs().max(), figures.seeds_text(tested["n"])
    style = {"cmap": figures.DIVERGING.reversed(), "vmin": -limit, "vmax": limit, "fmt": "+.2f"}
    return figures.plot_matrices(means, sure, f"difference of the loss\n[nats per token], {n}", **style), used


def draw_by_beta(reports: Reports) -> Drawn:
    arms = interaction_tables.BETAS
    used = reports.rows(interaction_tables.OWN_AND_OTHERS, list(arms.values()))
    if used["arm"].nunique() < len(arms):
        raise NotRun("Not all of beta = 0.25, 0.5 and 0.75 have been run: no figure.")
    fig, axes = figures.new_figure(2, 2.9)
    styles = zip(arms.items(), figures.THEORY_STYLES, strict=False)
    lines = {arm: figures.line_style(f"beta = {beta:g}", *style) for (beta, arm), style in styles}
    panels = {metric: figures.METRIC_NAME[metric] for metric in interaction_tables.OWN_AND_OTHERS}
    seeds = figures.plot_panels(used, panels, lines, axes, ("metric", "generation", "arm"))
    axes[0].set_ylabel("loss [nats per token]")
    figures.add_legend(axes, seeds, 3)
    return fig, used


# ---- theory
def whose_data(reports: Reports) -> tuple[Figure, dict]:
    tables = interaction_tables.data_share_tables()
    own = [table.apply(lambda column: column.index == column.name) for table in tables.values()]
    fig = figures.plot_matrices(tables, own, "share of the data set", cmap="viridis", vmin=0, vmax=0.5, fmt=".2f")
    for ax in fig.axes[:-1]:
        ax.set_xlabel("private data of, public")
    return fig, {"from": "symbiosis.theory.many_models", "settings": ["ring_designs"], "alpha, beta": [0.5, 0.5]}


def efficiency(reports: Reports) -> tuple[Figure, dict]:
    grid = np.arange(1, 10) / 10
    surfaces = interaction_tables.efficiency_surfaces(grid)
    source = {"from": "symbiosis.theory.many_models", "settings": list(surfaces), "alpha, beta": grid.tolist()}
    return figures.plot_surface(surfaces, grid), source
