"""Every published figure, by the name of its file, and how they are saved.

A figure is drawn from the long tables alone, and beside its file stands a source: the runs, the commits and the sha256
of the rows it shows. The same rows give the same bytes. The notebooks say how each is read.
"""

import contextlib
import html
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import claims, figures, hidden_states, lesson_measures, small_studies, studies, tables
from symbiosis.analysis import interaction as interaction_tables
from symbiosis.analysis.tables import STYLES, last_generation, means_over_seeds, order
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.measures.lessons import subtopic_shares
from symbiosis.params import LOCAL, PUBLISHED, study_cells, study_twins
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import (
    COLUMNS,
    NUMBERS,
    NotRun,
    read_records,
    read_studies,
    read_table,
    rows_digest,
    step_losses,
)
from symbiosis.theory.next_token import types_alive

DEFAULT_SCALE, DEFAULT_STUDY = "miniature", "main"
TRAINING_LOSSES = ("train_label_loss", "train_lm_loss")
LESSON_MEASURES = ("lesson_tail_coverage", "lesson_label_purity", "lesson_distinct_2")
LEVER_PANELS = (  # quality, diversity, complexity of lessons; what was not measured gets no panel
    "lesson_label_purity", "log_likelihood", "distinct_2", "vendi", "word_tail_mass", "word_new_mass",
    "mean_words", "base_lm_loss",
)  # fmt: skip
RECURSION_PANELS = ("lm_loss", "word_tail_mass", "mean_words", "distinct_2_1k", "vendi", "mauve")
LEVEL_MARKERS = "vsoD^P*"  # from the poorest level to the richest, which is the darkest


@dataclass(frozen=True)
class Reports:
    """What the reports hold of one scale, in long tables with `arm`; `study` is the one that `rows` are of."""

    folder: str | Path
    scale: str = DEFAULT_SCALE
    study: str = DEFAULT_STUDY

    @cached_property
    def by_study(self) -> dict[str, pd.DataFrame]:
        """{study: rows} of results.csv."""
        return read_studies(self.folder, self.scale)

    def rows(self, metrics: Sequence[str] = (), arms: Sequence[str] = (), study: str = "") -> pd.DataFrame:
        """Rows of one study, of these metrics and arms (all where none is named); NotRun where there are none."""
        study = study or self.study
        if study not in self.by_study:
            raise NotRun(f"The study '{study}' has not been run at this scale: no figure.")
        rows = self.by_study[study]
        kept = rows["metric"].isin(metrics or rows["metric"]) & rows["arm"].isin(arms or rows["arm"])
        return _some(rows[kept], f"What this figure shows was not run in the study '{study}': no figure.")

    def lessons(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Measures of the lessons of one study and the band of real ones; NotRun where they have not been measured."""
        rows = lesson_measures.read(self.folder, self.scale, study)
        rows = _some(rows, f"The lessons of the study '{study}' have not been measured at this scale: no figure.")
        return rows, lesson_measures.read_band(self.folder, self.scale, study)


Drawn = tuple[Figure, pd.DataFrame]  # a figure, and the rows it shows


def classes_of(rows: pd.DataFrame, reports_dir: str | Path) -> int | None:
    """How many classes the task of these runs has, as they were recorded; None where that is not one number."""
    said = set(read_records(reports_dir, rows["run_id"].unique())["classes"]) - {""}
    return int(said.pop()) if len(said) == 1 else None


def _some(table: pd.DataFrame, otherwise: str) -> pd.DataFrame:
    if table.empty:
        raise NotRun(otherwise)
    return table


# ---- one study


def accuracy(reports: Reports, arms: str | Sequence[str] = "main", study: str = "", styles: str = "") -> Drawn:
    """Test accuracy of the `main` arms of a study, of its other ones, the `controls`, or of those named."""
    if arms in ("main", "controls"):
        rows = reports.rows(study=study)
        main = figures.main_arms(rows)
        arms = main if arms == "main" else [arm for arm in order(rows) if arm not in main]
        if not arms:
            raise NotRun("No control has been run in this study: no figure.")
    used = reports.rows(["accuracy"], arms, study)
    chosen = figures.styles_of(styles) if styles else None
    return figures.plot_accuracy(used, classes_of(used, reports.folder), chosen), used


def metrics(reports: Reports, names: Sequence[str], height: float) -> Drawn:
    """A panel per metric of the main arms."""
    used = reports.rows(names, figures.main_arms(reports.rows()))
    return figures.plot_metrics(used, names, height), used


def loss_by_step(reports: Reports, arms: Sequence[str] = ("static", "symbiosis")) -> Drawn:
    """Training losses of every step, which only runs themselves keep; NotRun where those of the rows are not here."""
    used = reports.rows(TRAINING_LOSSES, arms)
    places = [resolve(place) / "runs" for place in (reports.folder, LOCAL)]
    names = [run_id.partition("@")[0] for run_id in sorted(set(used["run_id"]))]
    folders = next(([place / name for name in names] for place in places if (place / names[0] / "state").is_dir()), [])
    if not folders or not all((folder / "state").is_dir() for folder in folders):
        raise NotRun("The runs of these rows are not here, and no table holds their steps: no figure.")
    steps = step_losses(folders).rename(columns=lambda name: f"train_{name}" if name.endswith("_loss") else name)
    means = steps.groupby(["run_id", "generation"])[list(TRAINING_LOSSES)].mean()
    reported = used.pivot(index=["run_id", "generation"], columns="metric", values="value")[list(TRAINING_LOSSES)]
    if not (means.index.equals(reported.index) and np.allclose(means, reported, rtol=1e-9)):
        raise NotRun("The runs here are not those of these rows, though they have their names: no figure.")
    return figures.loss_by_step(folders), used


def lesson_levers(reports: Reports) -> Drawn:
    lessons, band = reports.lessons(reports.study)
    both = pd.concat([reports.rows(LEVER_PANELS), lessons], ignore_index=True)  # purity is measured in the run
    used = both[both["arm"].isin(figures.main_arms(reports.rows())) & both["metric"].isin(LEVER_PANELS)]
    used = _some(used, "No lesson of a main method has been measured: no figure.")
    return figures.plot_metrics(used, LEVER_PANELS, 2.1, band), used


def ablation_effects(reports: Reports) -> Drawn:
    reports.rows(study="ablation")  # NotRun where there are none
    rows, cells = studies.with_twins(reports.by_study, study_twins("ablation")), study_cells("ablation")
    effects = _some(studies.ablation_effects(rows, cells), "No two cells of the ablation form a pair: no figure.")
    return figures.plot_ablation(effects), rows[(rows["metric"] == "accuracy") & rows["arm"].isin(cells)]


def which_moves_first(reports: Reports) -> Drawn:
    arm, styles = "recursive-replace", figures.styles_of("measures")
    used = reports.rows(list(styles), [arm], "mixing")
    fig, (ax,) = figures.new_figure(height=3.0)
    seeds = figures.plot_means(studies.relative_to_first(used, arm, styles), styles, ax, ("generation", "metric"))
    alone = {"label": "rare subtopics, if only\nsampling lost them", "linestyle": "--"}
    expected = sampling_alone(used)
    ax.plot(range(1, len(expected) + 1), expected, color=styles["lesson_tail_coverage"]["color"], **alone)
    ax.axhline(1 - studies.FALLEN, **figures.DOTTED)
    ax.set(ylabel="multiple of generation 1", ylim=(0, None))
    figures.add_legend([ax], seeds)
    return fig, used


def sampling_alone(rows: pd.DataFrame) -> np.ndarray:
    """(G,) tail coverage that sampling would leave in generations 1..G if each lesson were drawn from the one before.

    As a multiple of generation 1; empty where no coverage was measured.
    """
    lesson = rows.loc[rows["metric"] == "lesson_tail_coverage", "n"]
    if lesson.empty:
        return np.empty(0)
    world = World.make(0)  # the shares are those of every seed's world
    tail = np.isin(np.arange(len(world.shares)), world.tail)
    per_class = int(lesson.min()) // len(LABEL_NAMES)
    alive = types_alive(world.shares, int(rows["generation"].max()), tokens=per_class, types=tail)[1:]
    return alive / alive[0]


def ratio_or_diversity(reports: Reports) -> Drawn:
    used = reports.rows(["accuracy"], study="ratio_or_diversity")
    titles = {"diversity": "effective subtopics\nper class", "quality": "synthetic labels\nthat are right"}
    fig, axes = figures.new_figure(2, 3.2, sharey=True)
    for (lever, title), ax in zip(titles.items(), axes, strict=True):
        layout = studies.read_factorial(used, study_cells("ratio_or_diversity"), lever)
        means = means_over_seeds(layout, ["real_share", "level"])
        levels = sorted(means["level"].unique())
        colors = plt.get_cmap("viridis")(np.linspace(0.8, 0, len(levels)))
        names = [f"{level:.0%}" if lever == "quality" else f"{level:.1f}" for level in levels]
        looks = zip(names, colors, LEVEL_MARKERS, strict=False)
        styles = {level: figures.line_style(*look) for level, look in zip(levels, looks, strict=True)}
        figures.plot_means(means, styles, ax, ("real_share", "level"))
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], labels[::-1], title=title, loc="lower right")
        ax.set(title=f"{lever}, {figures.seeds_text(means['n'])}", xlabel="share of real rows")
    axes[0].set_ylabel(figures.METRIC_NAME["accuracy"])
    figures.say_zoom(axes[0])
    return fig, used


def recursion_real_text(reports: Reports) -> Drawn:
    lessons, band = reports.lessons("recursion_5")
    losses = reports.rows(["lm_loss"], study="recursion_5")
    used = pd.concat([losses, lessons[lessons["metric"].isin(RECURSION_PANELS)]])
    return figures.plot_metrics(used, RECURSION_PANELS, 2.1, band), used


def inside_students(reports: Reports) -> Drawn:
    rows = reports.rows(study="hidden_states")
    used = rows[rows["metric"].str.removeprefix(hidden_states.RANDOM).isin(hidden_states.COLUMNS)]
    used = _some(used, "No Student of the study 'hidden_states' was looked into: no figure.")
    return plot_hidden_states(hidden_states.by_student(used)), used


def plot_hidden_states(students: pd.DataFrame) -> Figure:
    """`inside_students` of any Students in a table of `hidden_states.by_student`."""
    names = {"density": "density of MLP units", "effective_rank": "effective rank\nof hidden states"}
    groups = {"tail": "rare subtopics", "head": "frequent subtopics"}
    fig, axes = figures.new_figure(4, 4.6, 2, sharey="row")
    for (measure, name), row in zip(names.items(), axes.reshape(2, 2), strict=True):
        row[0].set_ylabel(name)
        for (group, title), ax in zip(groups.items(), row, strict=True):
            values = students.assign(value=students[f"{measure}_{group}"])
            styles = figures.arm_styles(values[~values["arm"].isin(["random", "base"])])
            seeds = figures.plot_means(values, styles, ax)
            base = values.loc[values["arm"] == "base", "value"].mean()
            ax.axhline(base, label="before any training", **figures.DOTTED)
            ax.set_title(title if measure == "density" else "")
    figures.add_legend(axes, seeds, 3)
    return fig


# ---- several studies


def regime_map(reports: Reports) -> Drawn:
    table = studies.lead_table(reports.by_study, studies.REGIMES, [studies.BEST], studies.RIVALS)
    if table["study"].nunique() < 2:
        raise NotRun("The best symbiosis has been run in fewer than two worlds: no figure.")
    return figures.plot_regimes(table, studies.REGIMES), studies.used_rows(reports.by_study, table)


def dev_rows(reports: Reports) -> Drawn:
    table = studies.lead_table(reports.by_study, studies.DEV_STUDIES, studies.DEV_ARMS, ["static"])
    if table["study"].nunique() < 2:
        raise NotRun("Fewer than two numbers of dev rows have been run: no figure.")
    points, sizes = table[["mean", "low", "high"]] * 100, table["study"].map(studies.DEV_STUDIES)
    points = table.assign(**points, doublings=np.log2(sizes))
    fig, (ax,) = figures.new_figure(height=2.6)
    seeds = figures.plot_means(points, figures.arm_styles(table), ax, ("doublings", "arm"))
    ax.axhline(0, **figures.DOTTED)
    ax.set_xticks(np.log2(sorted(sizes.unique())), sorted(sizes.unique()))
    ax.set(xlabel="labelled dev rows", ylabel="gain over static [points]")
    figures.add_legend([ax], seeds)
    return fig, studies.used_rows(reports.by_study, table)


# ---- models that train on each other's outputs


def interaction_alpha(reports: Reports) -> Drawn:
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


def interaction_similarity(reports: Reports) -> Drawn:
    titles = {interaction_tables.arm(2, alpha): f"K = 2, alpha = {alpha:g}" for alpha in interaction_tables.ALPHAS}
    used = reports.rows(list(STYLES["similarities"]), list(titles))
    return plot_similarity(used, {arm: title for arm, title in titles.items() if arm in set(used["arm"])}), used


def plot_similarity(rows: pd.DataFrame, panels: dict[str, str]) -> Figure:
    """`interaction_similarity` of any arms, {arm: title}."""
    fig, axes = figures.new_figure(len(panels), 2.9, sharey=True)
    styles = figures.styles_of("similarities")
    rows = rows[rows["metric"].isin(styles)]
    seeds = figures.plot_panels(rows, panels, styles, axes, ("arm", "generation", "metric"))
    axes[0].set_ylabel("cosine of answers")
    figures.say_zoom(axes[0])
    figures.add_legend(axes, seeds, 2)
    return fig


def interaction_matrices(reports: Reports) -> Drawn:
    used = _losses(reports.rows(arms=[interaction_tables.arm(3, 0.5)]))
    return plot_losses(used), used


def _losses(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["metric"].str.fullmatch(r"loss_\d+_on_\w+")]


def entity_by_task(losses: pd.Series) -> pd.DataFrame:
    """Values of the metrics loss_<entity>_on_<task> (the index) as a matrix: entities by tasks."""
    places = losses.index.str.removeprefix("loss_").str.split("_on_")
    return losses.set_axis(pd.MultiIndex.from_tuples(map(tuple, places), names=["entity", "task"])).unstack()


def plot_losses(rows: pd.DataFrame) -> Figure:
    """`interaction_matrices` of any arm or run."""
    rows, last = _losses(rows), int(rows["generation"].max())
    means = rows.groupby(["generation", "metric"])["value"].mean()
    tables = {f"generation {g}": entity_by_task(means[g]) for g in sorted({0, (last + 1) // 2, last})}
    own = [table.apply(lambda column: column.index == column.name) for table in tables.values()]
    values = np.stack(list(tables.values()))
    style = {"cmap": "viridis_r", "vmin": np.nanmin(values), "vmax": np.nanmax(values), "fmt": ".2f"}
    label = f"loss [nats per token], {figures.seeds_text([rows['seed'].nunique()])}"
    return figures.plot_matrices(tables, own, label, **style)


def interaction_trends(reports: Reports) -> Drawn:
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


def interaction_beyond(reports: Reports) -> Drawn:
    equal, unequal = interaction_tables.arm(3, 0.5), interaction_tables.BEYOND
    used = _losses(reports.rows(arms=[equal, *unequal]))
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


def interaction_beta(reports: Reports) -> Drawn:
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


def relative_efficiency(reports: Reports) -> tuple[Figure, dict]:
    grid = np.arange(1, 10) / 10
    surfaces = interaction_tables.efficiency_surfaces(grid)
    source = {"from": "symbiosis.theory.many_models", "settings": list(surfaces), "alpha, beta": grid.tolist()}
    return figures.plot_surface(surfaces, grid), source


# ---- the figures


class Published(NamedTuple):
    """What a figure asks, what draws it with which options, and the folder of one that shows several studies."""

    question: str
    draw: Callable[..., tuple[Figure, pd.DataFrame | dict]]
    options: Mapping[str, Any] = {}
    folder: str = ""


NAMED_WORLD = {
    "arms": ("real", *studies.RIVALS, studies.BEST, "symbiosis-best_foreign", "symbiosis-label_hard_300"),
    "study": claims.REGIME_STUDY,
}
MIXING = {"arms": tuple(STYLES["mixing"]), "study": "mixing", "styles": "mixing"}
METHODS = {
    "accuracy_comparison": Published("Do the methods differ in test accuracy?", accuracy),
    "accuracy_controls": Published("And the controls, which each change one thing?", accuracy, {"arms": "controls"}),
    "loss_curves": Published("What does training show of it?", metrics, {"names": TRAINING_LOSSES, "height": 2.7}),
    "lesson_measures": Published("What were the Students taught?", metrics, {"names": LESSON_MEASURES, "height": 2.5}),
    "lesson_levers": Published("Quality, diversity and complexity of the lessons.", lesson_levers),
    "ablation_effects": Published("Which part of the loop matters?", ablation_effects, folder="ablation"),
    "regime_map": Published("Where does symbiosis overtake its rivals?", regime_map, folder="regimes"),
    "accuracy_named": Published("The world that was named before its seeds were run.", accuracy, NAMED_WORLD),
    "accuracy_long": Published("Does it last?", accuracy, {"study": "long"}),
    "curriculum": Published("What does the loop teach when?", small_studies.draw_curriculum),
    "dev_rows": Published("Are dev labels better taught or asked?", dev_rows, folder="dev"),
    "which_moves_first": Published("What does a recursion lose first, and what by sampling alone?", which_moves_first),
    "ratio_or_diversity": Published(
        "The share of real rows, and the diversity or quality of others.", ratio_or_diversity
    ),
    "mixing_regimes": Published("Which way of mixing keeps a recursion alive?", accuracy, MIXING),
    "recursion_real_text": Published("Five generations of recursion on real text.", recursion_real_text),
    "hidden_states_of_students": Published("Do rare patterns lose their dense representation?", inside_students),
}
OF_RUNS = {"loss_by_step": Published("And step by step, where lessons change?", loss_by_step)}  # where runs are kept
INTERACTION = {
    "interaction_alpha": Published("What do models learn from one another?", interaction_alpha),
    "interaction_similarity": Published("Do they become alike?", interaction_similarity),
    "interaction_matrices": Published("Whose task does who learn? Three entities, alpha = 0.5.", interaction_matrices),
    "interaction_trends": Published("Do the trends follow the linear theory?", interaction_trends),
    "interaction_beyond": Published("And if the entities are not equal?", interaction_beyond),
    "interaction_beta": Published("How many of the real rows should be private? Two entities.", interaction_beta),
}
THEORY = {
    "relative_efficiency": Published("Which mixture is best? Theory alone.", relative_efficiency),
    "whose_data": Published("Whose data is in whose mean? Theory alone.", whose_data),
}
SMALL = {
    "beyond_language": Published(
        "What does a recursion lose where the model speaks no language?", small_studies.draw_beyond_language
    ),
    "planted_error": Published("Who repeats a lie that one was told?", small_studies.draw_planted_error),
}
AWAITED = {  # its rows are not published yet; then one of METHODS
    "held_share": Published("The share of real rows or diversity, under recursion?", small_studies.draw_held)
}
FIGURES = METHODS | OF_RUNS | INTERACTION | THEORY | SMALL | AWAITED


def draw(name: str, reports: Reports, **options: Any) -> tuple[Figure, pd.DataFrame | dict]:
    """A figure of FIGURES and the rows it shows, or the source of one that is theory alone; NotRun where none are."""
    return FIGURES[name].draw(reports, **FIGURES[name].options | options)


# ---- in a notebook


@contextlib.contextmanager
def section(title: str = "", *, named: str = "") -> Iterator[None]:
    """A part about runs: where they have not been made, it ends with a line that says so, of what is `named`."""
    if title:
        print(title)
    try:
        yield
    except NotRun as reason:
        print(f"{named}: {reason}" if named else reason)


def show(name: str, reports: Reports | None = None) -> None:
    """A figure in a notebook; NotRun where there is none."""
    draw(name, reports)
    plt.show()


def show_table(table: pd.DataFrame) -> None:
    """A table of numbers in a notebook: three decimals, p to two digits, a dash for what is not known."""
    from IPython.display import display

    p_values = {name: "{:.2g}" for name in ("p", "p_holm") if name in table}
    shown = table.style.format(p_values, precision=3, na_rep="-")
    numbered = table.index.name is None and pd.api.types.is_integer_dtype(table.index)
    display(shown.hide() if numbered else shown)


def paired(rows: pd.DataFrame, *baselines: str) -> pd.DataFrame:
    """`tables.paired_table` of accuracy; NotRun where no arm stands beside a baseline."""
    table = tables.paired_table(rows, baselines=baselines)
    return _some(table, f"No arm was run beside {' or '.join(baselines)}: nothing to compare.")


def show_folded(title: str, text: str) -> None:
    """Plain text in a notebook that opens where its title is clicked."""
    from IPython.display import HTML, display

    display(HTML(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"))


def plot_subtopics(texts: Sequence[str], world: World | None) -> Figure:
    """Share of texts of every subtopic, class by class; the tail in vermilion. NotRun where no world tells them."""
    if world is None:
        raise NotRun("The truth behind these texts is not known: no figure.")
    shares = subtopic_shares(texts, world)
    fig, (ax,) = figures.new_figure(height=0.17 * len(shares) + 0.6)
    tail, head = "#d55e00", "#0072b2"
    ax.barh(shares["class"] + ": " + shares["subtopic"], shares["share"], color=np.where(shares["tail"], tail, head))
    ax.set(xlabel="share of the texts")
    ax.invert_yaxis()
    return fig


def interacting(reports_dir: str | Path) -> list[Reports]:
    """Every scale that has runs of models that train on each other's outputs; a line where none has."""
    scales = interaction_tables.read_scales(reports_dir)
    if not scales:
        print("results.csv holds no run of models that train on each other's outputs.")
    return [Reports(reports_dir, scale, interaction_tables.STUDY) for scale in scales]


# ---- saving


def save(name: str, reports: Reports, into: str | Path = "") -> tuple[Path, pd.DataFrame | dict]:
    """[folder/]name.pdf, .png and their source name.json; returns the PDF and what it was drawn from.

    into: folder of the figures; `figures` of the reports where none is named. The same bytes for the same data. NotRun
    where there is nothing to draw.
    """
    fig, used = draw(name, reports)
    of_theory = isinstance(used, dict)
    source = used if of_theory else source_of(used, reports.folder)
    place = Path("theory") if of_theory else _place(used, FIGURES[name].folder)
    stem = (resolve(into) if into else resolve(reports.folder) / "figures") / place / name
    with plt.rc_context({"pdf.fonttype": 42}):  # TrueType: text stays text, as journals ask
        for suffix, metadata in {"pdf": {"CreationDate": None}, "png": {"Software": None}}.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=suffix, metadata=metadata)
            write_atomic(stem.with_suffix(f".{suffix}"), buffer.getvalue())
    plt.close(fig)
    _write_source(stem, source)
    return stem.with_suffix(".pdf"), used


def save_tables(reports: Reports) -> dict[Path, pd.DataFrame]:
    """All of `tables.TABLES` that can be made of the main study and of the named world: {.tex: rows it shows}."""
    written = {}
    for study, name in itertools.product((DEFAULT_STUDY, claims.REGIME_STUDY), tables.TABLES):
        if study not in reports.by_study or (study != DEFAULT_STUDY and name not in tables.PAIRED_TESTS):
            continue
        table = tables.table(name, reports.by_study, study)
        if len(table.numbers):
            path = save_table(table.numbers, name, reports.folder, table.rows, readable=table.readable)
            written[path] = table.rows
    return written


def save_table(
    numbers: pd.DataFrame, name: str, reports_dir: str | Path, rows: pd.DataFrame, *, readable: pd.DataFrame
) -> Path:
    """tables/[folder/]name.csv (all digits), .md and .tex (`readable`), .json (its source); returns the .tex."""
    folder = "worlds" if rows["study"].nunique() > 1 else ""
    stem = resolve(reports_dir) / "tables" / _place(rows, folder) / name
    for suffix, text in tables.Table(numbers, readable, rows).formats().items():
        write_atomic(stem.with_suffix(f".{suffix}"), text.encode())
    _write_source(stem, source_of(rows, reports_dir))
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


def _place(rows: pd.DataFrame, folder: str = "") -> Path:
    """Nothing for the main study of the miniature, else <scale> (main study), <scale>/<study> or <scale>/<folder>."""
    shown = sorted({(scale, folder or study) for scale, study in zip(rows["scale"], rows["study"], strict=True)})
    if len(shown) != 1:
        raise ValueError(f"rows of {' and '.join(map('/'.join, shown))}; save one scale and study at a time")
    scale, study = shown[0]
    if study != DEFAULT_STUDY:
        return Path(scale, study)
    return Path("" if scale == DEFAULT_SCALE else scale)


def _write_source(stem: Path, source: dict) -> None:
    write_atomic(stem.with_suffix(".json"), (json.dumps(source, indent=1) + "\n").encode())


def main(width: str, reports_dir: str = PUBLISHED) -> None:
    """Every figure that reports have rows for, in another width, into a folder of its own: nothing is replaced."""
    figures.use_style(width)
    into, scales = (
        f"{LOCAL}/figures_{width}",
        set(read_table(resolve(reports_dir) / "results.csv", COLUMNS, NUMBERS)["scale"]),
    )
    for scale, name in itertools.product(sorted(scales), FIGURES):
        study = interaction_tables.STUDY if name in INTERACTION else DEFAULT_STUDY
        with contextlib.suppress(NotRun):
            print(save(name, Reports(reports_dir, scale, study), into)[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
