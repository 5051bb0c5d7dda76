"""`drawings` of models that train on each other's outputs, and of their linear theory."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import logit

from symbiosis.analysis import figures
from symbiosis.analysis import interaction as interaction_tables
from symbiosis.analysis.drawings import Drawn, Reports
from symbiosis.analysis.tables import STYLES
from symbiosis.store.results import NotRun
from symbiosis.theory.consensus import spread


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
        below.set(title="", xlabel="round")
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
    for ax in axes:
        ax.set_xlabel("round")
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
    tables = {f"round {g}": entity_by_task(means[g]) for g in sorted({0, (last + 1) // 2, last})}
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
        ax.locator_params(axis="x", nbins=5)
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
    for ax in axes:
        ax.set_xlabel("round")
    axes[0].set_ylabel("loss [nats per token]")
    figures.add_legend(axes, seeds, 3)
    return fig, used


# ---- unlike entities, a planted error, hidden states
def unequal(reports: Reports) -> Drawn:
    """What either of two entities gains of the other's task by reading it: alpha 0.5 less 0, by who the second is."""
    kinds, metrics = interaction_tables.KINDS, ("word_loss_1_on_2", "word_loss_2_on_1")
    used = reports.rows(metrics, interaction_tables.pair_arms(kinds), interaction_tables.UNEQUAL)
    gains = interaction_tables.pair_gains(used, metrics)
    fig, (ax,) = figures.new_figure(height=2.7)
    names = ("the first, reading the second", "the second, reading the first")
    looks = {
        m: figures.line_style(n, *figures.THEORY_STYLES[i], "")
        for i, (m, n) in enumerate(zip(metrics, names, strict=True))
    }
    gains["place"] = gains["kind"].map(list(kinds).index)
    seeds = figures.plot_means(gains, looks, ax, ("place", "metric"))
    ax.axhline(0, **figures.DOTTED)
    ax.set_xticks(range(len(kinds)), figures.narrow(kinds.values(), 9))
    ax.set(xlabel="the second entity", ylabel="loss on the other's task, alpha\n0.5 less 0 [nats per word]")
    figures.add_legend([ax], seeds, 2)
    return fig, used


def planted(reports: Reports) -> Drawn:
    """Log-odds of a lie by round, of the one told it and the two others; dotted: where counting rows would put it."""
    panels = {"log_odds_1": "the one that was told it", "log_odds_others": "the two others"}
    arms = {
        f"interaction-{public}_alpha{alpha}": (public, alpha)
        for public in ("silent", "truthful")
        for alpha in ("000", "050", "100")
    }
    used = reports.rows([*panels, "told_false_1", "told_false_others"], list(arms), interaction_tables.PLANTED)
    looks = {"000": figures.THEORY_STYLES[0], "050": figures.THEORY_STYLES[1], "100": figures.THEORY_STYLES[2]}
    styles = {
        arm: figures.line_style(
            f"{public}, alpha {int(alpha) / 100:g}", *looks[alpha], "-" if public == "silent" else "--"
        )
        for arm, (public, alpha) in arms.items()
    }
    fig, axes = figures.new_figure(3, 3.0)
    axes[1].sharey(axes[0])
    seeds = figures.plot_panels(used, panels, styles, axes[:2], ("metric", "generation", "arm"))
    counted = logit(spread([1 / 3] * 3, used["generation"].max(), public=1.0))  # alpha = beta = 0.5
    axes[0].plot(counted[:, 0], color=looks["050"][0], linestyle=":", label="truthful, alpha 0.5, counted", zorder=0)
    heard = range(1, len(counted))  # before, the others know nothing false
    axes[1].plot(heard, counted[1:, 1], color=looks["050"][0], linestyle=":", zorder=0)
    told = {"told_false_1": (0, "the one told"), "told_false_others": (1, "the two others")}
    last = used[used["metric"].isin(told) & (used["generation"] == used["generation"].max())]
    last = last.assign(place=last["metric"].map(lambda metric: told[metric][0]), value=100 * last["value"])
    figures.plot_means(
        last, {arm: style | {"linestyle": ""} for arm, style in styles.items()}, axes[2], ("place", "arm")
    )
    axes[2].set_xticks([0, 1], figures.narrow([name for _, name in told.values()], 8))
    axes[2].set(xlabel="", xlim=(-0.5, 1.5), ylabel="texts that tell it, last round [%]", title="and what they write")
    for ax in axes[:2]:
        ax.axhline(0, **figures.DOTTED)
        ax.set_xlabel("round")
    axes[0].set_ylabel("log-odds of the false version [nats]")
    figures.add_legend(axes[:2], seeds, 4)
    return fig, used


def alike_inside(reports: Reports) -> Drawn:
    """CKA of two entities' hidden states of private held-out texts by round, of every pair and of three equals."""
    pairs = reports.rows(
        ["cka_private"], interaction_tables.pair_arms(interaction_tables.KINDS), interaction_tables.UNEQUAL
    )
    three = reports.rows(["cka_private"], study=interaction_tables.PLANTED).query("variant.str.startswith('silent')")
    used = pd.concat([pairs, three])
    parts = used["variant"].str.extract(r"(?P<pair>\w+)_alpha(?P<alpha>\d+)")
    panels = interaction_tables.KINDS | {"silent": "three equals"}
    fig, axes = figures.new_figure(len(panels), 2.5, sharey=True)
    drawn = used.assign(pair=parts["pair"], alpha=parts["alpha"].astype(float) / 100)
    seeds = figures.plot_panels(drawn, panels, _alpha_styles(), axes, ("pair", "generation", "alpha"))
    axes[0].set_ylabel("alike inside (CKA,\n1: the same)")
    for ax, title in zip(axes, figures.narrow(panels.values(), 9), strict=True):
        ax.set(xlabel="round", title=title)
    figures.add_legend(axes, seeds, 3)
    return fig, used


# ---- theory
def whose_data(reports: Reports) -> tuple[Figure, dict]:
    tables = interaction_tables.data_share_tables()
    own = [table.apply(lambda column: column.index == column.name) for table in tables.values()]
    fig = figures.plot_matrices(tables, own, "share of the data set", cmap="viridis", vmin=0, vmax=0.5, fmt=".2f")
    for ax in fig.axes[:-1]:
        ax.set_xlabel("private data of each, public data")
    return fig, {"from": "symbiosis.theory.many_models", "settings": ["ring_designs"], "alpha, beta": [0.5, 0.5]}


def efficiency(reports: Reports) -> tuple[Figure, dict]:
    grid = np.arange(1, 10) / 10
    surfaces = interaction_tables.efficiency_surfaces(grid)
    source = {"from": "symbiosis.theory.many_models", "settings": list(surfaces), "alpha, beta": grid.tolist()}
    return figures.plot_surface(surfaces, grid), source
