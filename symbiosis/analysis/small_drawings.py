"""Figures of small studies: what each shows of reports/small_studies.csv, or, of two, of a few runs."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import figures, tables
from symbiosis.analysis.drawings import Drawn, Reports
from symbiosis.small_studies import (
    LEVER_TESTS,
    LEVERS,
    STUDIES,
    TABLE,
    TRUE_TAIL,
    lever_gains,
    read,
    share_gains,
    tail_forecast,
)
from symbiosis.small_studies.planted_error import PLANTED, ROUNDS
from symbiosis.store.results import rows_digest
from symbiosis.theory.consensus import spread
from symbiosis.theory.next_token import tail_mass
from symbiosis.theory.weak_labels import vote_accuracy

TAUGHT_AT = {300: 0.0, 3_000: 1.0, 10_000: 1.5}  # numbers of labels, and where they stand in the figure
STUDENTS = {  # of `sensitivity`, as a figure groups them
    "the base": {"base": "words, GPT-NeoX, 64 units"},
    "another tokenizer": {"bpe": "BPE of 600", "pieces": "BPE of 320"},
    "another size": {"small": "32 units", "large": "128 units"},
    "another architecture": {"llama": "Llama", "recurrent": "recurrent (Mamba)"},
}
WRITERS = {"world": "the world", "planned": "planned", "unplanned": "not planned"}  # of `composition`
COMPOSED = {"own": "own", "related": "nearest other\nsubtopic", "random": "any other\nsubtopic"}
METHODS = {"sft": "cross-entropy", "dpo": "a preference (DPO)", "policy": "a policy gradient", "replay": "with replay"}
LEVELS = {  # of `share_factorial`, as a figure groups them
    "trained by": {"sft": "cross-entropy", "dpo": "a preference (DPO)", "policy": "a policy gradient"},
    "architecture": {"neox": "GPT-NeoX", "llama": "Llama"},
    "tokenizer": {"words": "whole words", "bpe": "BPE of 600"},
    "size": {"32": "32 units", "128": "128 units"},
}

WRITTEN = {  # arms of `seeds_and_retrieval`, as a figure groups them
    "written, no pool text": {
        "symbiosis-write_asked": "from the label",
        "symbiosis-write_read": "from the label, then labelled",
        "symbiosis-seed_asked": "seed first",
        "symbiosis-seed_read": "seed first, then labelled",
    },
    "in the loop": {
        "symbiosis-own_explain": "hard texts explained",
        "symbiosis-own_retrieve": "texts like them retrieved",
    },
    "no writing": {"pseudo_label": "the pool, labelled"},
}
EDITED = {  # arms of `editing`: name and line
    "recursive-real_rows": ("real rows as they are", "--"),
    "recursive-edit": ("edited anew", "-"),
    "recursive-edit_again": ("edits edited again", "-"),
    "recursive-accumulate_subsample": ("own texts of all generations", "-"),
    "recursive-replace": ("own texts", "-"),
}
OF_POOLS = {  # arms of `pool_map`: name and line
    "surest_and_written": ("surest labels beside filtered writing", 0),
    "labels": ("labels of the pool", 2),
    "surest": ("its surest labels", 1),
    "weighted": ("labels, classes weighing alike", 3),
}
WITHOUT_POOL = {"real": "120 real rows", "written": "filtered writing", "seeded": "the same, subject first"}

Sourced = tuple[Figure, dict]  # a figure, and what it was drawn from


def source_of(rows: pd.DataFrame) -> dict:
    """What a figure was drawn from: the command, and the sha256 of its rows."""
    studies = sorted(set(rows["study"]))
    small = next(study for study in studies if study in STUDIES)
    made = {"from": f"reports/{TABLE}", "command": f"python -m symbiosis.small_studies {small}"}
    return made | {"study": studies, "rows": len(rows), "rows_sha256": rows_digest(rows)}


def beyond_language(reports: Reports) -> Sourced:
    """Coverage, tail mass and fidelity by generation of a language model, a mixture and VAEs that read themselves."""
    rows = read(reports.folder, "beyond_language")
    own = {"lesson_tail_coverage": "tail_coverage", "lesson_tail_mass": "tail_mass", "accuracy": "fidelity"}
    spoken = reports.rows(list(own), ["recursive-replace"], "mixing").query("generation > 0").replace({"metric": own})
    used = pd.concat([spoken, rows.replace({"metric": {"precision": "fidelity"}})])
    mass = used["metric"] == "tail_mass"
    used.loc[mass, "value"] /= TRUE_TAIL
    colors, fig_axes = figures.THEORY_STYLES, figures.new_figure(3, 2.9, sharey=True)
    names = {"tail_coverage": "rare modes, covered", "head_coverage": "frequent modes, covered"}
    names |= {"tail_mass": "tail mass, multiple of the true", "fidelity": "fidelity"}
    styles = {key: figures.line_style(names[key], *colors[i]) for key, i in zip(names, (1, 4, 3, 2), strict=True)}
    panels = {"recursive-replace": "language model", "mixture-cut": "Gaussian mixture", "vae-cut": "autoencoder"}
    seeds = figures.plot_panels(used, panels, styles, fig_axes[1], ("arm", "generation", "metric"))
    counted = rows[rows["arm"] == "counted"].groupby("generation")["value"].mean()
    for ax in fig_axes[1]:
        ax.plot(counted, color=colors[1][0], linestyle="--", label="rare modes, if only\nsampling lost them")
    fig_axes[1][0].set(ylabel="share, or multiple", ylim=(0, None))
    figures.add_legend(fig_axes[1], seeds, 3)
    return fig_axes[0], source_of(pd.concat([spoken, rows]))


def planted_error(reports: Reports) -> Sourced:
    """Who repeats a lie by round: the liar, and the three others; dotted where the closed form ends."""
    rows = read(reports.folder, "planted_error").query("generation <= 10")
    names = {
        "no_truth": "no true row",
        "truth": "as many true public rows",
        "truth_loud": "as many, it writes half of all",
    }
    names |= {"truth_vote": "as many, and they vote"}
    styles = {
        f"planted-{k}": figures.line_style(v, *figures.THEORY_STYLES[i]) for i, (k, v) in enumerate(names.items())
    }
    fig, axes = figures.new_figure(2, 2.9, sharey=True)
    panels = {"belief_liar": "the one that was told it", "belief_other": "the three others"}
    seeds = figures.plot_panels(rows, panels, styles, axes, ("metric", "generation", "arm"))
    for style, (voices, public, vote) in zip(styles.values(), PLANTED.values(), strict=True):
        for ax, belief in zip(axes, spread(voices, ROUNDS, public=public)[-1][:2] if not vote else (), strict=False):
            ax.axhline(belief, color=style["color"], linewidth=0.8, linestyle=":", zorder=0)
    for ax in axes:
        ax.set_xlabel("round")
    axes[0].set(ylabel="share of what it says on\nthe fact that is the lie", ylim=(0, 1.05))
    figures.add_legend(axes, seeds, 2)
    return fig, source_of(rows)


def curriculum(reports: Reports, study: str = "long") -> Drawn:
    """How much of a lesson is of rare subtopics, and how many of these it has, by generation."""
    names, arms = ("lesson_tail_mass", "lesson_tail_coverage"), ("real", "pseudo_label", "symbiosis", "symbiosis-best")
    used = reports.rows(names, arms, study)
    return figures.plot_metrics(used, names, 2.6), used


def held_share(reports: Reports) -> Drawn:
    """Accuracy by real share and held diversity, and the tail mass of the last lesson beside what theory foretells."""
    used = reports.rows(["accuracy", "lesson_tail_mass"], study="held")
    fig, (left, right) = figures.new_figure(2, 3.1)
    looks = {"free": "-", "full": "--", "low": ":"}
    colors = {"r000": figures.THEORY_STYLES[1], "r025": figures.THEORY_STYLES[4], "r050": figures.THEORY_STYLES[2]}
    styles = {
        f"recursive-{share}_{held}": figures.line_style(f"{int(share[1:])}% real, {held}", *color, dashes)
        for share, color in colors.items()
        for held, dashes in looks.items()
    }
    seeds = figures.plot_means(used[used["metric"] == "accuracy"], styles, left)
    left.set_ylabel(figures.METRIC_NAME["accuracy"])
    figures.say_zoom(left)
    forecast, shares = tail_forecast(used), np.linspace(0, 0.6, 61)
    generations, kept = int(used["generation"].max()), forecast["kept"].mean()
    curve = [tail_mass(generations, kept=kept, real_share=r)[-1] for r in shares]
    right.plot(shares, curve, color="0.4", label=f"closed form, {kept:.2f} kept a generation")
    points = forecast.assign(value=forecast["found"], what="found")
    figures.plot_means(
        points, {"found": figures.line_style("found", *figures.THEORY_STYLES[0], "")}, right, ("real_share", "what")
    )
    right.set(xlabel="share of real rows", ylabel="tail mass of the last\nlesson, multiple of the true", ylim=(0, 1.05))
    right.legend(loc="lower right")
    figures.add_legend([left], seeds, 3)
    return fig, used


def above_teacher(reports: Reports) -> Sourced:
    """Accuracy less the labeller's by labels; and of a kind of text by the labeller's own, beside votes of labels."""
    rows = read(reports.folder, "above_teacher")
    by_kind = rows[rows["metric"].str.startswith("accuracy_at_")]
    its = by_kind[by_kind["arm"] == "labeller"].groupby("metric")["value"].mean()
    taught = rows[(rows["arm"] != "labeller") & (rows["metric"] == "accuracy")]
    labeller = rows[(rows["arm"] == "labeller") & (rows["metric"] == "accuracy")].set_index("seed")["value"]
    parts = taught["variant"].str.extract(r"(?P<texts>[a-z]+)_(?P<kind>[a-z]+)_(?P<labels>\d+)")
    taught = taught.assign(
        line=taught["method"] + " " + parts["texts"] + " " + parts["kind"],
        thousands=parts["labels"].astype(float).map(TAUGHT_AT.__getitem__),
        value=100 * (taught["value"] - taught["seed"].map(labeller)),
    )
    look, fig_axes = figures.THEORY_STYLES, figures.new_figure(2, 3.3)
    names = {
        "words fresh hard": ("linear, hard labels", *look[0], "-"),
        "words fresh soft": ("linear, beliefs", *look[0], "--"),
        "student fresh hard": ("loop's, hard labels", *look[1], "-"),
        "student fresh soft": ("loop's, beliefs", *look[1], "--"),
        "words written hard": ("linear, written texts", *look[2], ""),
        "student written hard": ("loop's, written texts", *look[3], ""),
    }
    styles = {key: figures.line_style(*given) for key, given in names.items()}
    left, right = fig_axes[1]
    seeds = figures.plot_means(taught, styles, left, ("thousands", "line"))
    left.axhline(0, **figures.DOTTED)
    left.set_xticks(list(TAUGHT_AT.values()), [f"{n:,}" for n in TAUGHT_AT])
    left.set(xlabel="labels", ylabel="points above the labeller")
    for arm, (color, marker) in {"words-fresh_hard_10000": look[0], "student-fresh_hard_10000": look[1]}.items():
        own = by_kind[by_kind["arm"] == arm].assign(its=lambda part: part["metric"].map(its), arm="found")
        figures.plot_means(own, {"found": figures.line_style("", color, marker, "")}, right, ("its", "arm"))
    b = np.linspace(0, 1, 201)
    for votes, dashes in {1: "-", 3: "--", 15: ":"}.items():
        name = "memorised" if votes == 1 else f"a vote of {votes}"
        right.plot(b, vote_accuracy(b, votes), color="0.5", linestyle=dashes, label=name, zorder=0)
    right.set(
        xlabel="labeller right, by subtopic", ylabel="Student right, 10,000 labels", xlim=(0.2, 1), ylim=(0, 1.03)
    )
    right.legend(loc="lower right")
    figures.add_legend([left], seeds, 3)
    return fig_axes[0], source_of(rows)


def third_lever(reports: Reports) -> Sourced:
    """What each lever of a lesson is worth, in distribution and out of it in three ways."""
    rows = read(reports.folder, "third_lever")
    gains, (fig, (ax,)) = lever_gains(rows), figures.new_figure(height=3.2)
    looks = {
        name: figures.line_style(text, *figures.THEORY_STYLES[i], "")
        for i, (name, text) in enumerate(LEVER_TESTS.items())
    }
    seeds = figures.plot_means(gains, looks, ax, ("place", "metric"))
    ax.axhline(0, **figures.DOTTED)
    ax.set_xticks(range(len(LEVERS)), figures.narrow(LEVERS, 10))
    ax.set(xlabel="", ylabel="what it is worth [points]")
    figures.add_legend([ax], seeds, 4)
    return fig, source_of(rows)


def open_ended(reports: Reports) -> Sourced:
    """How Students of every method go on with held-out text, in four measures; dotted: the world itself."""
    rows = read(reports.folder, "open_ended")
    places = {arm: i for i, arm in enumerate(arm for arm in tables.order(rows) if arm != "world")}
    panels = {
        "continuation_loss": "loss of the truth\n[nats/token]",
        "on_topic": "stays with the subtopic",
        "mauve": "likeness to the truth\n(MAUVE)",
        "repetition": "repetition",
    }
    fig, axes = figures.new_figure(len(panels), 2.7)
    used, looks = rows.assign(place=rows["arm"].map(places)).dropna(subset="place"), figures.arm_styles(rows)
    looks = {arm: looks[arm] | {"linestyle": ""} for arm in places}
    seeds = figures.plot_panels(used, panels, looks, axes, ("metric", "place", "arm"))
    for ax, metric in zip(axes, panels, strict=True):
        true = rows[(rows["arm"] == "world") & (rows["metric"] == metric)]["value"].mean()
        ax.axhline(true, label="the world itself", **figures.DOTTED)
        ax.set(xlabel="", xticks=[])
        if metric != "continuation_loss":
            ax.set_ylim(0, None)
    figures.add_legend(axes, seeds, 3)
    return fig, source_of(rows)


def sensitivity(reports: Reports) -> Sourced:
    """What 75% real rows are worth to Students of every tokenizer, size and architecture."""
    rows = read(reports.folder, "sensitivity")
    names = {kind: (name, group) for group, some in STUDENTS.items() for kind, name in some.items()}
    shown = _mean_gains(rows).loc[list(names)]
    shown = shown.assign(name=[n for n, _ in names.values()], group=[g for _, g in names.values()])
    return _share_forest(shown, 2.6), source_of(rows)


def training_methods(reports: Reports) -> Sourced:
    """What 75% real rows are worth to one Student, trained in four ways."""
    rows = read(reports.folder, "training_methods")
    at = rows.groupby(["method", "variant"])["value"].mean().unstack()
    text = [f"{at.at[how, 'r000']:.2f} to {at.at[how, 'r075']:.2f}" for how in METHODS]
    shown = _mean_gains(rows).loc[list(METHODS)].assign(name=list(METHODS.values()), text=text)
    return _share_forest(shown, 1.7), source_of(rows)


def share_factorial(reports: Reports) -> Sourced:
    """What 75% real rows are worth at every level of four crossed factors; grey: the cells of a level."""
    rows = read(reports.folder, "share_factorial").assign(method=lambda part: part["method"].astype(str))
    at, gains = rows.groupby(["method", "variant"])["value"].mean().unstack(), _mean_gains(rows)
    names = {level: (name, group) for group, some in LEVELS.items() for level, name in some.items()}
    text = [f"{at.at[level, 'r000']:.2f} to {at.at[level, 'r075']:.2f}" for level in names]
    shown = gains.loc[list(names)].assign(
        name=[n for n, _ in names.values()], group=[g for _, g in names.values()], text=text
    )
    fig = _share_forest(shown, 3.2)
    (ax,) = fig.axes
    for level, y in zip(names, ax.get_yticks(), strict=True):
        cells = gains[[level in cell.split("_") and "_" in cell for cell in gains.index]]["mean"]
        ax.plot(cells, np.full(len(cells), y - 0.28), "|", color="0.55", markersize=4, zorder=0)
    ax.set_xlim(min(ax.get_xlim()[0], -0.25 * ax.get_xlim()[1]))  # room for the groups' names, left of 0
    return fig, source_of(rows)


def composition(reports: Reports) -> Sourced:
    """What dealing second sentences anew does to pairs of words, to a Student's continuation, and to its labels."""
    rows = read(reports.folder, "composition")
    panels = {
        "word_pairs": "pairs of words across\nsentences that differ",
        "continuation_loss": "loss of the true second\nsentence [nats/token]",
        "accuracy": "accuracy",
    }
    fig, axes = figures.new_figure(len(panels), 2.9)
    looks = zip(WRITERS.items(), (0, 2, 1), strict=True)
    styles = {key: figures.line_style(name, *figures.THEORY_STYLES[i]) for (key, name), i in looks}
    used = rows.assign(place=rows["variant"].map(list(COMPOSED).index))
    seeds = figures.plot_panels(used, panels, styles, axes, ("metric", "place", "method"))
    for ax in axes:
        ax.set_xticks(range(len(COMPOSED)), figures.narrow(COMPOSED.values(), 9))
        ax.set_xlabel("second sentence from" if ax is axes[1] else "")
    figures.add_legend(axes, seeds, 3)
    return fig, source_of(rows)


def seeds_and_editing(reports: Reports) -> Drawn:
    """Accuracy of what is written, seed first or not, explained or retrieved; by generation, of edited real rows."""
    ways = {arm: (name, group) for group, some in WRITTEN.items() for arm, name in some.items()}
    written = reports.rows(["accuracy"], list(ways), "seeds_and_retrieval")
    edited = reports.rows(["accuracy"], list(EDITED), "editing")
    fig, (left, right) = figures.new_figure(2, 3.2)
    last = written[written["generation"] == written["generation"].max()]
    means = figures.means_over_seeds(last, ["arm"]).set_index("arm")
    shown = [arm for arm in ways if arm in means.index]
    names, groups = zip(*map(ways.__getitem__, shown), strict=True)
    look = figures.line_style("", *figures.THEORY_STYLES[0], "")
    figures.plot_forest(means.loc[shown].assign(name=names, group=groups), [look] * len(shown), left)
    left.set_xlabel(f"test accuracy, {figures.seeds_text(means['n'])}")
    figures.say_zoom(left, "x")
    looks = dict(zip(EDITED, figures.THEORY_STYLES, strict=True))
    styles = {arm: figures.line_style(name, *looks[arm], dashes) for arm, (name, dashes) in EDITED.items()}
    seeds = figures.plot_means(edited, styles, right)
    right.set_ylabel(figures.METRIC_NAME["accuracy"])
    figures.say_zoom(right)
    figures.add_legend([right], seeds, 2)
    return fig, pd.concat([written, edited])


def _mean_gains(rows: pd.DataFrame) -> pd.DataFrame:
    return figures.means_over_seeds(share_gains(rows), ["kind"]).set_index("kind")


def _share_forest(shown: pd.DataFrame, height: float) -> Figure:
    fig, (ax,) = figures.new_figure(height=height)
    figures.plot_forest(shown, [figures.line_style("", *figures.THEORY_STYLES[0], "")] * len(shown), ax)
    ax.axvline(0, **figures.DOTTED)
    label = f"75% real rows less none, points of accuracy, {figures.seeds_text(shown['n'])}"
    ax.set_xlabel(figures.narrow([label], 32)[0])
    return fig


def real_ratio(reports: Reports) -> Sourced:
    """Accuracy by the share of real rows, where the written ones lie close together, anyhow, or far apart."""
    rows = read(reports.folder, "real_ratio")
    parts = rows["variant"].str.extract(r"(?P<kind>\w+)_r(?P<share>\d+)$")
    used = rows.assign(kind=parts["kind"], share=parts["share"].astype(float))
    names = {"wide": "far apart", "drawn": "anyhow", "narrow": "near one another"}
    looks = {k: figures.line_style(name, *figures.THEORY_STYLES[i]) for i, (k, name) in enumerate(names.items())}
    panels = {
        "accuracy": "test accuracy",
        "semantic_dispersion": "mean cosine distance\nwithin a class",
        "read_as_label": "share read\nas their label",
    }
    fig, axes = figures.new_figure(len(panels), 2.7)
    seeds = figures.plot_panels(used, panels, looks, axes, ("metric", "share", "kind"))
    for ax in axes:
        ax.set(xlabel="real rows [%]", xticks=sorted(set(used["share"])))
    figures.add_legend(axes, seeds, 3)
    return fig, source_of(rows)


def pool_map(reports: Reports) -> Sourced:
    """Accuracy by the size of a pool and what it lacks: its labels, alone or beside writing, and what needs no pool."""
    rows = read(reports.folder, "pool_map")
    used = rows.join(rows["variant"].str.extract(r"(?P<lacks>[a-z]+)_(?P<size>\d+)$"))
    sizes = sorted(used["size"].dropna().unique(), key=int)
    used["place"] = used["size"].map({size: i for i, size in enumerate(sizes)})
    panels = {"plain": "the pool is as the test", "rare": "a class is 3% of the pool", "missing": "a class is missing"}
    looks = {arm: figures.line_style(name, *figures.THEORY_STYLES[i]) for arm, (name, i) in OF_POOLS.items()}
    fig, axes = figures.new_figure(3, 3.1, sharey=True)
    seeds = figures.plot_panels(used.dropna(subset="size"), panels, looks, axes, ("lacks", "place", "method"))
    levels = used[used["size"].isna()].groupby("method")["value"].mean()
    for ax in axes:
        for (arm, name), dashes in zip(WITHOUT_POOL.items(), ("--", ":", "-."), strict=True):
            ax.axhline(levels[arm], color="0.4", linewidth=0.9, linestyle=dashes, zorder=0, label=name)
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set_xlabel("texts in the pool")
    axes[0].set_ylabel("test accuracy")
    figures.say_zoom(axes[0])
    figures.add_legend(axes, seeds, 3)
    return fig, source_of(rows)
