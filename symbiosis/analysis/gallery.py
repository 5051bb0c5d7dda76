"""Every published figure, a function each: its name is the file's. And how they are saved.

Captions stand where a figure is explained, in notebooks 04 to 06. A figure is drawn from the long tables alone, and
beside its file stands a source: the runs, the commits and the sha256 of the rows it shows. The same rows give the same
bytes.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import claims, figures, hidden_states, studies
from symbiosis.analysis import interaction as interaction_tables
from symbiosis.analysis.lesson_measures import read, read_band
from symbiosis.analysis.tables import last_generation, paired_table
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.params import study_cells, study_twins
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import ResultsError, read_records, read_studies, rows_digest
from symbiosis.theory.next_token import types_alive

DEFAULT_SCALE, DEFAULT_STUDY = "miniature", "main"
SEVERAL = {  # figures of several studies, and the folder that is theirs
    "regime_map": "regimes", "dev_rows": "dev", "ablation_effects": "ablation",
}  # fmt: skip


class NotRun(ResultsError):
    """What a figure shows has not been run."""


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
        rows = self.by_study.get(study)
        if rows is None:
            raise NotRun(f"The study '{study}' has not been run at this scale: no figure.")
        kept = rows["metric"].isin(metrics or rows["metric"]) & rows["arm"].isin(arms or rows["arm"])
        return _some(rows[kept], f"What this figure shows was not run in the study '{study}': no figure.")

    def main_arms(self) -> list[str]:
        return figures.main_arms(self.rows())

    def lessons(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Measures of the lessons of one study and the band of real ones; NotRun where they have not been measured."""
        rows = read(self.folder, self.scale, study, missing_ok=True)
        rows = _some(rows, f"The lessons of the study '{study}' have not been measured at this scale: no figure.")
        return rows, read_band(self.folder, self.scale, study)

    def accuracy(self, used: pd.DataFrame, lines: dict | None = None) -> "Drawn":
        return figures.plot_accuracy(used, classes_of(used, self.folder), lines), used


Drawn = tuple[Figure, pd.DataFrame]  # a figure, and the rows it shows
Draw = Callable[[Reports], Drawn]


def classes_of(rows: pd.DataFrame, reports_dir: str | Path) -> int | None:
    """How many classes the task of these runs has, as they were recorded; None where that is not one number."""
    said = set(read_records(reports_dir, rows["run_id"].unique())["classes"]) - {""}
    return int(said.pop()) if len(said) == 1 else None


def _some(table: pd.DataFrame, otherwise: str) -> pd.DataFrame:
    if table.empty:
        raise NotRun(otherwise)
    return table


# ---- one study


def accuracy_comparison(reports: Reports) -> Drawn:
    """Do the methods differ in test accuracy?"""
    return reports.accuracy(reports.rows(["accuracy"], reports.main_arms()))


def accuracy_controls(reports: Reports) -> Drawn:
    """And the controls, which each change one thing of a method?"""
    controls = figures.control_arms(reports.rows())
    if not controls:
        raise NotRun("No control has been run in this study: no figure.")
    return reports.accuracy(reports.rows(["accuracy"], controls))


def loss_curves(reports: Reports) -> Drawn:
    """What does training show of it?"""
    used = reports.rows(figures.TRAINING_LOSSES, reports.main_arms())
    return figures.plot_metrics(used, figures.TRAINING_LOSSES, 2.7), used


def lesson_measures(reports: Reports) -> Drawn:
    """What were the Students taught?"""
    used = reports.rows(figures.LESSON_MEASURES, reports.main_arms())
    return figures.plot_metrics(used, figures.LESSON_MEASURES, 2.5), used


def lesson_levers(reports: Reports) -> Drawn:
    """Quality, diversity and complexity of the lessons."""
    lessons, band = reports.lessons(reports.study)
    both = pd.concat([reports.rows(figures.LEVER_PANELS), lessons], ignore_index=True)  # purity is measured in the run
    used = both[both["arm"].isin(reports.main_arms()) & both["metric"].isin(figures.LEVER_PANELS)]
    used = _some(used, "No lesson of a main method has been measured: no figure.")
    return figures.plot_metrics(used, figures.LEVER_PANELS, 2.1, band), used


def ablation_effects(reports: Reports) -> Drawn:
    """Which part of the loop matters?"""
    reports.rows(study="ablation")  # NotRun where there are none
    rows, cells = studies.with_twins(reports.by_study, study_twins("ablation")), study_cells("ablation")
    effects = _some(studies.ablation_effects(rows, cells), "No two cells of the ablation form a pair: no figure.")
    return figures.plot_ablation(effects), rows[(rows["metric"] == "accuracy") & rows["arm"].isin(cells)]


def accuracy_named(reports: Reports) -> Drawn:
    """The world that was named before its seeds were run."""
    arms = ["real", *studies.RIVALS, studies.BEST, "symbiosis-best_foreign"]
    return reports.accuracy(reports.rows(["accuracy"], arms, claims.REGIME_STUDY))


def accuracy_long(reports: Reports) -> Drawn:
    """Does it last?"""
    return reports.accuracy(reports.rows(["accuracy"], figures.main_arms(reports.rows(study="long")), "long"))


def mixing_regimes(reports: Reports) -> Drawn:
    """Which way of mixing holds the recursion?"""
    used = reports.rows(["accuracy"], list(figures.MIXING_STYLE), "mixing")
    return reports.accuracy(used, figures.named_lines(figures.MIXING_STYLE))


def which_moves_first(reports: Reports) -> Drawn:
    """What does a recursion lose first, and what would sampling alone lose?"""
    arm, metrics = "recursive-replace", list(figures.MEASURE_STYLE)
    used = reports.rows(metrics, [arm], "mixing")
    relative = studies.relative_to_first(used, arm, metrics)
    lines = {m: figures.line_style(figures.METRIC_NAME[m], *style) for m, style in figures.MEASURE_STYLE.items()}
    fig, (ax,) = figures.new_figure(height=3.0)
    seeds = figures.plot_means(relative, lines, ax, ("generation", "metric"))
    expected, color = sampling_alone(used), lines["lesson_tail_coverage"]["color"]
    name = "rare subtopics, if only\nsampling lost them"
    ax.plot(range(1, len(expected) + 1), expected, label=name, color=color, linestyle="--")
    ax.axhline(1 - studies.FALLEN, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
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
    """The share of real rows crossed with diversity (left) and quality (right) of the others."""
    used = reports.rows(["accuracy"], study="ratio_or_diversity")
    titles = {"diversity": "effective subtopics\nper class", "quality": "synthetic labels\nthat are right"}
    fig, axes = figures.new_figure(2, 3.2, sharey=True)
    for (lever, title), ax in zip(titles.items(), axes, strict=True):
        means = studies.cell_means(studies.read_factorial(used, study_cells("ratio_or_diversity"), lever))
        levels = sorted(means["level"].unique())
        colors = plt.get_cmap("viridis")(np.linspace(0.8, 0, len(levels)))
        names = [f"{level:.0%}" if lever == "quality" else f"{level:.1f}" for level in levels]
        styles = zip(names, colors, figures.LEVEL_MARKERS, strict=False)
        lines = {level: figures.line_style(*style) for level, style in zip(levels, styles, strict=True)}
        figures.plot_means(means, lines, ax, ("real_share", "level"))
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], labels[::-1], title=title, loc="lower right")
        ax.set(title=f"{lever}, {figures.seeds_text(means['n'])}", xlabel="share of real rows")
    axes[0].set_ylabel(figures.METRIC_NAME["accuracy"])
    return fig, used


def recursion_real_text(reports: Reports) -> Drawn:
    """Five generations of recursion on real text."""
    lessons, band = reports.lessons("recursion_5")
    panels = list(figures.RECURSION_PANELS)
    used = pd.concat([reports.rows(panels[:1], study="recursion_5"), lessons[lessons["metric"].isin(panels)]])
    fig = figures.plot_metrics(used, panels, 2.1, band)
    for ax in fig.axes:
        ax.set_ylim(0, None)
    return fig, used


def hidden_states_of_students(reports: Reports) -> Drawn:
    """Do rare patterns lose their dense representation?"""
    rows = reports.rows(study="hidden_states")
    used = rows[rows["metric"].str.removeprefix(hidden_states.RANDOM).isin(hidden_states.COLUMNS)]
    used = _some(used, "No Student of the study 'hidden_states' was looked into: no figure.")
    return plot_hidden_states(hidden_states.by_student(used)), used


def plot_hidden_states(students: pd.DataFrame) -> Figure:
    """`hidden_states_of_students` of any Students in a table of `hidden_states.by_student`."""
    names = {"density": "density of MLP units", "effective_rank": "effective rank of hidden states"}
    fig, axes = figures.new_figure(2, 3.2)
    for (measure, name), ax in zip(names.items(), axes, strict=True):
        for group, color in (("tail", "0.4"), ("head", "0.75")):
            values = students.assign(value=students[f"{measure}_{group}"])
            base = values.loc[values["arm"] == "base", "value"].mean()
            ax.axhline(base, color=color, linestyle=":", label=f"base, {group}")
            lines = figures.arm_lines(values[~values["arm"].isin(["random", "base"])])
            lines = {arm: style | {"label": f"{style['label']}, {group}"} for arm, style in lines.items()}
            if group == "tail":
                seeds = figures.plot_means(values, lines, ax)
                continue
            for arm, style in lines.items():
                means = values[values["arm"] == arm].groupby("generation")["value"].mean()
                ax.plot(means, color=style["color"], linestyle="--", alpha=0.5)
        ax.set_ylabel(name)
    figures.add_legend(axes[1:], seeds)
    return fig


# ---- several studies


def regime_map(reports: Reports) -> Drawn:
    """Where does symbiosis overtake its rivals?"""
    table = studies.regime_table(reports.by_study, studies.POOL_FREE_ARMS)
    if table["study"].nunique() < 2:
        raise NotRun("The best symbiosis has been run in fewer than two worlds: no figure.")
    used = studies.used_rows(reports.by_study, table, [studies.BEST, *table["rival"].unique()])
    return figures.plot_regimes(table, studies.REGIMES), used


def dev_rows(reports: Reports) -> Drawn:
    """Are dev labels better taught or asked?"""
    table = studies.dev_table(reports.by_study, studies.POOL_FREE_ARMS)
    if table["study"].nunique() < 2:
        raise NotRun("Fewer than two numbers of dev rows have been run: no figure.")
    points = table[["mean", "low", "high"]] * 100
    fig, (ax,) = figures.new_figure(height=2.6)
    seeds = figures.plot_means(
        table.assign(**points, doublings=np.log2(table["dev_rows"])), figures.arm_lines(table), ax, ("doublings", "arm")
    )
    ax.axhline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
    sizes = sorted(table["dev_rows"].unique())
    ax.set_xticks(np.log2(sizes), sizes)
    ax.set(xlabel="labelled dev rows", ylabel="gain over static [points]")
    figures.add_legend([ax], seeds)
    return fig, studies.used_rows(reports.by_study, table, ["static", *studies.DEV_ARMS])


# ---- models that train on each other's outputs


def interaction_alpha(reports: Reports) -> Drawn:
    """What do models learn from one another?"""
    used = _cells(reports)
    cells = pd.DataFrame(used["arm"].map(interaction_tables.cell_of).to_list(), used.index, ["entities", "alpha"])
    rows, held = used.join(cells), interaction_tables.entities_held(used)
    fig, axes = figures.new_figure(2 * len(held), 4.4, len(held), sharey="row")
    seeds = {}
    for metric, line in zip(interaction_tables.OWN_AND_OTHERS, axes.reshape(2, -1), strict=True):
        panels = {entities: f"K = {entities}" for entities in held}
        of_metric = rows[rows["metric"] == metric]
        seeds |= figures.plot_panels(of_metric, panels, _alpha_lines(), line, ("entities", "generation", "alpha"))
        line[0].set_ylabel(f"{figures.METRIC_NAME[metric]}\n[nats per token]")
    for ax, below in zip(*axes.reshape(2, -1), strict=True):
        ax.set_xlabel("")
        below.set_title("")
    figures.add_legend(axes, seeds, 3)
    return fig, used


def _cells(reports: Reports) -> pd.DataFrame:
    rows = reports.rows(interaction_tables.OWN_AND_OTHERS)
    return _some(
        rows[rows["arm"].map(interaction_tables.cell_of).notna()], "No cell of K by alpha has been run: no figure."
    )


def _alpha_lines() -> dict[float, dict]:
    styles = dict(zip((0.0, 0.5, 0.9, 1.0), figures.THEORY_STYLES, strict=False))  # as in theory's curves
    return {alpha: figures.line_style(f"alpha = {alpha:g}", *styles[alpha]) for alpha in interaction_tables.ALPHAS}


def interaction_similarity(reports: Reports) -> Drawn:
    """Do they become alike?"""
    arms = [interaction_tables.arm(2, alpha) for alpha in interaction_tables.ALPHAS]
    used = reports.rows(list(figures.SIMILARITY_STYLE), arms)
    titles = [f"K = 2, alpha = {alpha:g}" for alpha in interaction_tables.ALPHAS]
    return plot_similarity(used, {a: t for a, t in zip(arms, titles, strict=True) if a in set(used["arm"])}), used


def plot_similarity(rows: pd.DataFrame, panels: dict[str, str]) -> Figure:
    """`interaction_similarity` of any arms, {arm: title}."""
    fig, axes = figures.new_figure(len(panels), 2.9, sharey=True)
    rows = rows[rows["metric"].isin(figures.SIMILARITY_STYLE)]
    lines = figures.named_lines(figures.SIMILARITY_STYLE)
    seeds = figures.plot_panels(rows, panels, lines, axes, ("arm", "generation", "metric"))
    axes[0].set_ylabel("cosine of answers")
    figures.add_legend(axes, seeds, 2)
    return fig


def interaction_matrices(reports: Reports) -> Drawn:
    """Whose task does who learn? Three entities at alpha = 0.5."""
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
    """Do the trends follow the linear theory?"""
    used = _cells(reports)
    trends = interaction_tables.trends(used)
    trends["cell"] = list(zip(trends["entities"], trends["alpha"], strict=True))
    alphas, markers = _alpha_lines(), {2: "o", 3: "^", 4: "s"}
    lines = {
        (k, alpha): figures.line_style(f"K = {k}, alpha = {alpha:g}", alphas[alpha]["color"], markers[k], "")
        for k, alpha in dict.fromkeys(trends["cell"])
    }
    fig, axes = figures.new_figure(2, 3.2)
    panels = {metric: figures.METRIC_NAME[metric] for metric in interaction_tables.OWN_AND_OTHERS}
    seeds = figures.plot_panels(trends, panels, lines, axes, ("metric", "theory", "cell"))
    for ax in axes:
        ax.axhline(0, color="0.4", linewidth=0.9, linestyle=":", zorder=0)
        ax.set_xlabel("linear theory: change of the squared error")
    axes[0].set_ylabel("language models: change\nof the loss [nats per token]")
    figures.add_legend(axes, seeds, 3)
    return fig, used


def interaction_beyond(reports: Reports) -> Drawn:
    """And if the entities are not equal?"""
    equal, unequal = interaction_tables.arm(3, 0.5), interaction_tables.BEYOND
    used = _losses(reports.rows(arms=[equal, *unequal]))
    if equal not in set(used["arm"]) or used["arm"].nunique() < 2:
        raise NotRun("No unequal entities have been run, or no three equal ones: no figure.")
    tested = {metric: paired_table(used, metric, baselines=(equal,)) for metric in used["metric"].unique()}
    tested = pd.concat(tested, names=["metric", None]).reset_index("metric")
    parts = {arm: part.set_index("metric") for arm, part in tested.groupby("arm")}
    tables = {name: parts[arm] for arm, name in unequal.items() if arm in parts}
    means = {name: entity_by_task(part["difference"]) for name, part in tables.items()}
    sure = [entity_by_task((part["low"] > 0) | (part["high"] < 0)) for part in tables.values()]
    limit, n = tested["difference"].abs().max(), figures.seeds_text(tested["n"])
    style = {"cmap": figures.DIVERGING.reversed(), "vmin": -limit, "vmax": limit, "fmt": "+.2f"}
    return figures.plot_matrices(means, sure, f"difference of the loss\n[nats per token], {n}", **style), used


def interaction_beta(reports: Reports) -> Drawn:
    """How many of the real rows should be private? Two entities at alpha = 0.5."""
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
    """Whose data is in whose mean? Theory alone."""
    tables = interaction_tables.data_share_tables()
    own = [table.apply(lambda column: column.index == column.name) for table in tables.values()]
    fig = figures.plot_matrices(tables, own, "share of the data set", cmap="viridis", vmin=0, vmax=0.5, fmt=".2f")
    for ax in fig.axes[:-1]:
        ax.set_xlabel("private data of, public")
    return fig, {"from": "symbiosis.theory.many_models", "settings": ["ring_designs"], "alpha, beta": [0.5, 0.5]}


def relative_efficiency(reports: Reports) -> tuple[Figure, dict]:
    """Which mixture is best? Theory alone."""
    grid = np.arange(1, 10) / 10
    surfaces = interaction_tables.efficiency_surfaces(grid)
    source = {"from": "symbiosis.theory.many_models", "settings": list(surfaces), "alpha, beta": grid.tolist()}
    return figures.plot_surface(surfaces, grid), source


METHODS = (
    accuracy_comparison, accuracy_controls, loss_curves, lesson_measures, lesson_levers, ablation_effects, regime_map,
    accuracy_named, accuracy_long, dev_rows, which_moves_first, ratio_or_diversity, mixing_regimes,
    recursion_real_text, hidden_states_of_students,
)  # fmt: skip
INTERACTION = (
    interaction_alpha, interaction_similarity, interaction_matrices, interaction_trends, interaction_beyond,
    interaction_beta,
)  # fmt: skip
THEORY = (relative_efficiency, whose_data)


# ---- showing and saving


def show(draw: Draw, reports: Reports) -> None:
    """A figure in a notebook, or a sentence that says why there is none."""
    try:
        draw(reports)
    except NotRun as reason:
        print(reason)
    plt.show()


def save(draw: Draw, reports: Reports) -> tuple[Path, pd.DataFrame | dict]:
    """figures/[folder/]name.pdf, .png and their source name.json; returns the PDF and what it was drawn from.

    The same bytes for the same data. NotRun where there is nothing to draw.
    """
    fig, used = draw(reports)
    name = draw.__name__
    if isinstance(used, dict):
        stem, source = resolve(reports.folder) / "figures" / "theory" / name, used
    else:
        stem, source = (
            _stem("figures", name, reports.folder, used, SEVERAL.get(name, "")),
            source_of(used, reports.folder),
        )
    with plt.rc_context({"pdf.fonttype": 42}):  # TrueType: text stays text, as journals ask
        for suffix, metadata in {"pdf": {"CreationDate": None}, "png": {"Software": None}}.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=suffix, metadata=metadata)
            write_atomic(stem.with_suffix(f".{suffix}"), buffer.getvalue())
    plt.close(fig)
    _write_source(stem, source)
    return stem.with_suffix(".pdf"), used


def save_table(
    table: pd.DataFrame, name: str, reports_dir: str | Path, rows: pd.DataFrame, *, readable: pd.DataFrame | None = None
) -> Path:
    """tables/[folder/]name.csv (all digits), .tex (booktabs; `readable` where given), name.json; returns the .tex."""
    stem = _stem("tables", name, reports_dir, rows)
    write_atomic(stem.with_suffix(".csv"), table.to_csv(index=False, lineterminator="\n").encode())
    shown = (table if readable is None else readable).style.hide(axis="index")
    shown = shown.format(escape="latex").format_index(escape="latex", axis="columns")
    write_atomic(stem.with_suffix(".tex"), shown.to_latex(hrules=True).encode())
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


def _stem(kind: str, name: str, reports_dir: str | Path, rows: pd.DataFrame, study: str = "") -> Path:
    """reports/<kind>/name for the main study of the miniature, else in <scale>/ (main study) or <scale>/<study>/."""
    found = sorted({(scale, study or of) for scale, of in zip(rows["scale"], rows["study"], strict=True)})
    if len(found) != 1:
        raise ValueError(f"{name}: rows of {' and '.join(map('/'.join, found))}; save one scale and study at a time")
    scale, study = found[0]
    folder = scale if study == DEFAULT_STUDY else f"{scale}/{study}"
    return resolve(reports_dir) / kind / ("" if found[0] == (DEFAULT_SCALE, DEFAULT_STUDY) else folder) / name


def _write_source(stem: Path, source: dict) -> None:
    write_atomic(stem.with_suffix(".json"), (json.dumps(source, indent=1) + "\n").encode())
