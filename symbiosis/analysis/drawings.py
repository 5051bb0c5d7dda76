"""What a published figure shows of a scale's reports: the rows chosen, and the picture of them. `gallery` lists them.

A function takes `Reports` and returns the figure and the rows it shows; NotRun where they have not been made.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from symbiosis.analysis import figures, hidden_states, lesson_measures, studies
from symbiosis.analysis.tables import arm_name, means_over_seeds, order
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.params import LOCAL, study_cells, study_twins
from symbiosis.settings import resolve
from symbiosis.store.results import NotRun, read_records, read_studies, step_losses
from symbiosis.theory.next_token import types_alive

DEFAULT_SCALE, DEFAULT_STUDY = "miniature", "main"
TRAINING_LOSSES = ("train_label_loss", "train_lm_loss")
POOLS = {  # studies that cross choosing with what is done with the chosen texts
    "choice_and_writing": "300 texts, tails rare",
    "choice_and_writing_2000": "2,000 texts, tails rare",
    "choice_and_writing_plain_300": "300 texts, as the test",
    "choice_and_writing_plain": "2,000 texts, as the test",
}
REAL_LESSONS = {  # studies of one lesson on real weights
    "real_weights_lesson_missing": "120 rows, a pool that lacks a class, fine-tuned Student",
    "real_weights_imitate": "200 rows, 128 labelled ones, linear Student",
}
CHOICES = {"random": "random", "untaught": "hard for\nuntaught", "own": "hard for\ntaught"}  # which Student
DONE = {"label": "labelled", "write": "labelled, and others written", "explain": "labelled, and explained"}
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
        return some(rows[kept], f"What this figure shows was not run in the study '{study}': no figure.")

    def has(self, arms: Iterable[str], study: str = "") -> bool:
        """Whether any of these arms has rows in a study."""
        rows = self.by_study.get(study or self.study)
        return rows is not None and not set(arms).isdisjoint(rows["arm"])

    def lessons(self, study: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Measures of the lessons of one study and the band of real ones; NotRun where they have not been measured."""
        rows = lesson_measures.read(self.folder, self.scale, study)
        rows = some(rows, f"The lessons of the study '{study}' have not been measured at this scale: no figure.")
        return rows, lesson_measures.read_band(self.folder, self.scale, study)


Drawn = tuple[Figure, pd.DataFrame]  # a figure, and the rows it shows


def classes_of(rows: pd.DataFrame, reports_dir: str | Path) -> int | None:
    """How many classes the task of these runs has, as they were recorded; None where that is not one number."""
    said = set(read_records(reports_dir, rows["run_id"].unique())["classes"]) - {""}
    return int(said.pop()) if len(said) == 1 else None


def some(table: pd.DataFrame, otherwise: str) -> pd.DataFrame:
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


def training_steps(reports: Reports, arms: Sequence[str] = ("static", "symbiosis")) -> Drawn:
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


def lesson_levers(reports: Reports, panels: Sequence[str]) -> Drawn:
    lessons, band = reports.lessons(reports.study)
    both = pd.concat([reports.rows(panels), lessons], ignore_index=True)  # purity is measured in the run
    used = both[both["arm"].isin(figures.main_arms(reports.rows())) & both["metric"].isin(panels)]
    used = some(used, "No lesson of a main method has been measured: no figure.")
    return figures.plot_metrics(used, panels, 2.1, band), used


def ablation(reports: Reports) -> Drawn:
    reports.rows(study="ablation")  # NotRun where there are none
    rows, cells = studies.with_twins(reports.by_study, study_twins("ablation")), study_cells("ablation")
    effects = some(studies.ablation_effects(rows, cells), "No two cells of the ablation form a pair: no figure.")
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


def recursion_real_text(reports: Reports, panels: Sequence[str]) -> Drawn:
    lessons, band = reports.lessons("recursion_real")
    tested = reports.rows(["accuracy", "lm_loss"], study="recursion_real")
    used = pd.concat([tested, lessons[lessons["metric"].isin(panels)]])
    return figures.plot_metrics(used, panels, 2.1, band), used


def inside_students(reports: Reports) -> Drawn:
    rows = reports.rows(study="hidden_states")
    used = rows[rows["metric"].str.removeprefix(hidden_states.RANDOM).isin(hidden_states.COLUMNS)]
    students = hidden_states.by_student(
        some(used, "No Student of the study 'hidden_states' was looked into: no figure.")
    )
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
    return fig, used


# ---- several studies
def regime_map(reports: Reports) -> Drawn:
    table = studies.lead_table(reports.by_study, studies.REGIMES, [studies.BEST], studies.RIVALS)
    if table["study"].nunique() < 2:
        raise NotRun("The best symbiosis has been run in fewer than two worlds: no figure.")
    return plot_regimes(table, studies.REGIMES), studies.used_rows(reports.by_study, table)


def plot_regimes(table: pd.DataFrame, worlds: Mapping[str, tuple[str, str]]) -> Figure:
    """The map of `studies.lead_table` over worlds: a row per world, a column per rival, the mean difference in points.

    Blue is a lead, vermilion a deficit, white none. A bold number in a frame: the 95% t-interval over seeds excludes 0.
    A hatched cell was not run. worlds: {study: (name, group)}, as `studies.REGIMES`.
    """
    rows, rivals = [study for study in worlds if study in set(table["study"])], table["rival"].unique()
    means, low, high = (
        table.pivot(index="study", columns="rival", values=column).reindex(index=rows, columns=rivals)
        for column in ("mean", "low", "high")
    )
    limit = float(np.clip(100 * means.abs().max(axis=None), 2, 15))  # small differences stay pale, one large hides none
    fig, (ax,) = figures.new_figure(height=1.4 + 0.34 * len(rows))
    digits = 0 if figures.is_column() else 1
    texts = means.map(lambda mean: f"{100 * mean:+.{digits}f}".replace("-", "−"))
    style = {"cmap": figures.DIVERGING, "vmin": -limit, "vmax": limit, "annot": texts, "fmt": "", "linewidths": 3}
    figures.plot_matrix(100 * means, ax, (low > 0) | (high < 0), **style)
    hatched = {"facecolor": "none", "edgecolor": "0.8", "hatch": "////", "linewidth": 0, "zorder": 0}
    ax.add_patch(Rectangle((0, 0), len(rivals), len(rows), **hatched))
    seeds = [figures.seeds_text(table.loc[table["study"] == study, "n"]) for study in rows]
    names = [f"{worlds[study][0]}\n{n}" for study, n in zip(rows, seeds, strict=True)]
    ax.set_yticks(np.arange(len(rows)) + 0.5, names, fontsize=7)
    heads = [textwrap.fill(arm_name(arm), 18 if figures.is_column() else 14) for arm in rivals]
    ax.set_xticks(np.arange(len(rivals)) + 0.5, heads, fontsize=7)
    ax.xaxis.tick_top()
    ax.tick_params(axis="x", labelrotation=90 if figures.is_column() else 0)
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    groups = [worlds[study][1] for study in rows]
    for group in dict.fromkeys(groups):  # upright at the left, a line between groups
        first, size = groups.index(group), groups.count(group)
        place = {"xytext": (-88, 0), "textcoords": "offset points", "xycoords": ax.get_yaxis_transform()}
        name = textwrap.fill(group, 9 if size < 2 else 20)
        upright = {"rotation": 90, "ha": "center", "va": "center", "weight": "bold", "fontsize": 7.5}
        ax.annotate(name, (0, first + size / 2), **place, **upright)
        if first:
            ax.axhline(first, color="black", linewidth=1.5)
    place = {"location": "bottom", "shrink": 1.0 if figures.is_column() else 0.5, "aspect": 40, "pad": 0.03}
    extend = "both" if 100 * means.abs().max(axis=None) > limit else "neither"
    bar = fig.colorbar(ax.collections[0], ax=ax, extend=extend, **place)
    framed = "framed: 95% interval excludes 0"
    bar.set_label(f"lead over the rival [points of accuracy]{'; ' if not figures.is_column() else chr(10)}{framed}")
    bar.outline.set_visible(False)
    return fig


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


def choice_and_writing(reports: Reports) -> Drawn:
    """Final accuracy by how pool texts are chosen and what is done with them, less labels of random ones, by pool."""
    by_study = {study: rows for study, rows in reports.by_study.items() if study in POOLS}
    if not by_study:
        raise NotRun("No choice was crossed with what is done with it: no figure.")
    arms = [f"symbiosis-{choice}_{done}" for choice in CHOICES for done in DONE]
    used = pd.concat([reports.rows(["accuracy"], arms, study) for study in POOLS if study in by_study])
    last = used[used["generation"] == used.groupby("study")["generation"].transform("max")]
    least = last[last["variant"] == "random_label"].set_index(["study", "seed"])["value"]
    less = least.reindex(pd.MultiIndex.from_frame(last[["study", "seed"]])).to_numpy()
    parts = last["variant"].str.split("_", expand=True)
    drawn = last.assign(place=parts[0].map(list(CHOICES).index), done=parts[1], value=100 * (last["value"] - less))
    drawn = drawn.dropna(subset="value")
    styles = {done: figures.line_style(name, *figures.THEORY_STYLES[i]) for i, (done, name) in enumerate(DONE.items())}
    panels = {study: name for study, name in POOLS.items() if study in by_study}
    beside = min(len(panels), 2 if figures.is_column() else len(panels))
    fig, axes = figures.new_figure(len(panels), 2.8 + (beside < len(panels)), beside, sharey=True)
    seeds = figures.plot_panels(drawn, panels, styles, axes, ("study", "place", "done"))
    for ax in axes:
        ax.axhline(0, **figures.DOTTED)
        ax.set_xticks(range(len(CHOICES)), list(CHOICES.values()))
        ax.set_xlabel("")
    axes[0].set_ylabel("accuracy less that of labels\nof random texts [points]")
    figures.add_legend(axes, seeds, 3)
    return fig, used


def label_ladder(reports: Reports) -> Drawn:
    table = studies.ladder(reports.by_study)
    styles = figures.styles_of("ladder")
    table = table[table["arm"].isin(styles)]
    places = {labels: i for i, labels in enumerate(sorted(set(table.get("labels", ()))))}
    if len(places) < 2:
        raise NotRun("Fewer than two budgets of labels have been spent: no figure.")
    fig, (ax,) = figures.new_figure(height=2.9)
    seeds = figures.plot_means(table.assign(budget=table["labels"].map(places)), styles, ax, ("budget", "arm"))
    ax.set_xticks(list(places.values()), list(places))
    ax.set(xlabel="labelled rows", ylabel="test accuracy")
    figures.add_legend([ax], seeds)
    return fig, studies.used_rows(reports.by_study, table.rename(columns={"arm": "line", "arm_there": "arm"}))


def real_lessons(reports: Reports) -> Drawn:
    """Test accuracy after one lesson on real weights, study by study, in the order of styles.yaml."""
    styles = {tuple(key.split("/")): style for key, style in figures.styles_of("real_lessons").items()}
    used = pd.concat([reports.rows(["accuracy"], [a for s, a in styles if s == name], name) for name in REAL_LESSONS])
    after = used[used["generation"] == used["generation"].max()]
    means = means_over_seeds(after, ["study", "arm"]).set_index(["study", "arm"]).loc[list(styles)].reset_index()
    fig, (ax,) = figures.new_figure(height=0.9 + (0.3 if figures.is_column() else 0.22) * len(means))
    groups = means["study"].map(REAL_LESSONS)
    groups = groups.str.partition(",")[0] if figures.is_column() else groups
    names = {"group": groups, "name": figures.narrow([style["label"] for style in styles.values()], 22)}
    figures.plot_forest(means.assign(**names, text="n = " + means["n"].astype(str)), list(styles.values()), ax)
    ax.set_xlabel(figures.narrow(["test accuracy after the lesson, mean and 95% interval"], 32)[0])
    figures.say_zoom(ax, "x")
    return fig, used
