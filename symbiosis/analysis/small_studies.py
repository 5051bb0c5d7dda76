"""Studies that take seconds, or are read off lessons that runs left: rows of reports/small_studies.csv, and figures.

`python -m symbiosis.analysis.small_studies [FOLDER ...]` writes it again in two minutes; each FOLDER holds `runs`, from
whose lessons novel modes are counted. What the file says of other studies stays. Columns are those of results.csv.

    beyond_language   a Gaussian mixture and VAEs that train on their own samples, with the shares of the miniature
    planted_error     a false fact among entities that read one another
    novel_modes       does a Generator come to write what its initial self hardly gave?

The other studies of the file teach Students, and are made by `student_studies`; their figures are drawn here, too.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import figures, tables
from symbiosis.data.lesson import load_lesson
from symbiosis.data.world import LABEL_NAMES, World, zipf
from symbiosis.measures.lessons import subtopic_counts
from symbiosis.params import PUBLISHED
from symbiosis.settings import arm_of, resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import COLUMNS, SORT_BY, NotRun, csv_bytes, rows_digest, select
from symbiosis.theory.consensus import ROWS, simulate_spread, spread
from symbiosis.theory.mixtures import POINTS, Source, simulate_mixture
from symbiosis.theory.next_token import tail_mass, types_alive
from symbiosis.theory.weak_labels import vote_accuracy

SCALE, TABLE = "small_studies", "small_studies.csv"
OF_STUDENTS = (
    "above_teacher",
    "open_ended",
    "third_lever",
    "sensitivity",
    "training_methods",
)  # made by `student_studies`
STUDIES = ("beyond_language", "planted_error", "novel_modes", *OF_STUDENTS)
UNITS = {"continuation_loss": "nats/token", "words": "words/text", "weights": "weights"}  # all others are shares
SEEDS = range(301, 321)
GENERATIONS, ROUNDS = 10, 40
CHAINS = {"plain": {}, "cut": {"kept": 0.9}, "cut_real_25": {"kept": 0.9, "real_share": 0.25}}
EQUAL, LOUD = (1 / 4,) * 4, (1 / 2, 1 / 6, 1 / 6, 1 / 6)
PLANTED = {  # voices of the entities, the liar's first; true public rows per false private one; whether they vote
    "no_truth": (EQUAL, 0.0, False),
    "truth": (EQUAL, 1.0, False),
    "truth_loud": (LOUD, 1.0, False),
    "truth_vote": (EQUAL, 1.0, True),
}
HELD_SHARES = {"recursive-r000_free": 0.0, "recursive-r025_free": 0.25, "recursive-r050_free": 0.5}
TRUE_TAIL = 1 - zipf(6)[:2].sum()  # tail mass of the miniature's truth
RARE = 0.01  # share of its texts that an initial self gives to a mode at most, for it to be novel
TAUGHT_AT = {300: 0.0, 3_000: 1.0, 10_000: 1.5}  # numbers of labels, and where they stand in the figure
LEVERS = {  # what is more of it, against what
    "diversity\n(even - narrow)": ("diversity-even", "diversity-narrow"),
    "quality\n(all - 60% right)": ("quality-right", "quality-wrong"),
    "length\n(4 - 1 sentences)": ("complexity-long", "complexity-short"),
    "depth\n(2 - 0 clauses)": ("complexity-deep", "complexity"),
    "loss\n(hard - easy)": ("complexity-hard", "complexity-easy"),
}
LEVER_TESTS = {
    "accuracy": "like the lesson",
    "accuracy_words": "new entities",
    "accuracy_templates": "new templates",
    "accuracy_mix": "another mix",
}
STUDENTS = {  # of `sensitivity`, as a figure groups them
    "the base": {"base": "words, GPT-NeoX, 64 units"},
    "another tokenizer": {"bpe": "BPE of 600", "pieces": "BPE of 320"},
    "another size": {"small": "32 units", "large": "128 units"},
    "another architecture": {"llama": "Llama", "recurrent": "recurrent (Mamba)"},
}
TWINS = {"plain": ("main", "frozen"), "teach_mixture": ("teach", "fresh")}  # variant: study, its frozen twin


def make(folders: Sequence[str | Path] = (), seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """All rows: of the seeds, and of the novel modes in the lessons below the folders."""
    seeds = list(seeds)
    return pd.concat([beyond_language(seeds), planted_error(seeds), novel_modes(folders)], ignore_index=True)


def table(study: str, lines: Iterable[tuple]) -> pd.DataFrame:
    """Long rows of (method, variant, seed, generation, metric, value, n)."""
    columns = ["method", "variant", "seed", "generation", "metric", "value", "n"]
    rows = pd.DataFrame(list(lines), columns=columns).assign(study=study, scale=SCALE)
    rows["unit"] = rows["metric"].map(UNITS).fillna("share")
    arms = [arm_of(method, variant) for method, variant in zip(rows["method"], rows["variant"], strict=True)]
    rows["run_id"] = [f"{SCALE}/{study}/{arm}-s{seed}" for arm, seed in zip(arms, rows["seed"], strict=True)]
    return rows.round({"value": 6})[list(COLUMNS)]


def beyond_language(seeds: Sequence[int]) -> pd.DataFrame:
    """Measures of generations 1..G of both models, three chains each, and what counting alone would leave."""
    from symbiosis.models.vae import simulate_vae  # torch: not for who reads the table

    shares, k = np.tile(zipf(6), len(LABEL_NAMES)) / len(LABEL_NAMES), len(zipf(6)) * len(LABEL_NAMES)
    tail, lines = np.arange(k) % 6 >= 2, []
    sources = [Source.make(shares, tail, np.random.default_rng([seed, 1])) for seed in seeds]
    counted = types_alive(shares, GENERATIONS + 1, tokens=POINTS, types=tail)[2:] / tail.sum()
    vaes = simulate_vae(sources, GENERATIONS, CHAINS, seed=seeds[0])
    for i, (variant, chain) in enumerate(CHAINS.items()):
        drawn = [np.random.default_rng([seed, 2 + i]) for seed in seeds]
        mixtures = [simulate_mixture(s, GENERATIONS, rng=rng, **chain) for s, rng in zip(sources, drawn, strict=True)]
        both = {"mixture": mixtures, "vae": vaes[variant]}
        lines += [
            (method, variant, seed, t, metric, value, POINTS)
            for method, chains in both.items()
            for seed, found in zip(seeds, chains, strict=True)
            for t, measured in enumerate(found, 1)
            for metric, value in measured.items()
        ]
    lines += [("counted", "plain", s, t, "tail_coverage", v, POINTS) for s in seeds for t, v in enumerate(counted, 1)]
    return table("beyond_language", lines)


def planted_error(seeds: Sequence[int]) -> pd.DataFrame:
    """The share of written rows about a fact that repeat the lie, and who believes it, by round; where theory ends."""
    lines = []
    for i, (variant, (voices, public, vote)) in enumerate(PLANTED.items()):
        for seed in seeds:
            rng = np.random.default_rng([seed, 10 + i])
            found = simulate_spread(voices, ROUNDS, public=public, vote=vote, rng=rng)
            for t in [*range(11), ROUNDS]:
                told = {"repeated": found["share"][t], "liar": found["belief"][t, 0], "other": found["belief"][t, 1:]}
                told["other"] = np.nanmean(told["other"]) if np.isfinite(told["other"]).any() else np.nan
                lines += [("planted", variant, seed, t, f"belief_{name}", v, ROWS) for name, v in told.items()]
            if not vote:
                end = voices[0] / (voices[0] + public)  # `spread` at beta = 0.5
                lines.append(("closed_form", variant, seed, ROUNDS, "belief_repeated", end, ROWS))
    return table("planted_error", lines).dropna(subset="value")


def novel_modes(folders: Sequence[str | Path]) -> pd.DataFrame:
    """The share of the last generation's texts in modes, subtopics of a class, that were rare in the initial self.

    What is rare is counted in texts that the frozen twin wrote from the label alone in the generations before the last;
    its texts of the last one are fresh, so that chance alone moves nothing. `novel_mass`: of texts written from the
    label alone; `novel_mass_lesson`: of the whole lesson, explanations of pool texts among it.
    """
    lines = []
    for variant, (study, twin) in TWINS.items():
        taught, frozen = (_lessons(folders, study, arm_of("symbiosis", name)) for name in (variant, twin))
        for seed in sorted(taught.keys() & frozen.keys()):
            world, (*before, last) = World.make(seed), frozen[seed]
            given = subtopic_counts([text for part in before for text in _written(part)], world)
            rare = given <= RARE * given.sum()
            truth = np.tile(world.shares, len(LABEL_NAMES)) / len(LABEL_NAMES)
            also = {"rare_modes": rare.mean(), "novel_mass_of_truth": truth[rare].sum()}
            for name, lesson, more in ((variant, taught[seed][-1], {}), (twin, last, also)):
                texts = {"novel_mass": _written(lesson), "novel_mass_lesson": lesson["text"].tolist()}
                counts = {metric: subtopic_counts(some, world) for metric, some in texts.items()}
                values = {metric: n[rare].sum() / max(n.sum(), 1) for metric, n in counts.items()} | more
                lines += [("symbiosis", name, seed, len(before) + 1, m, v, len(lesson)) for m, v in values.items()]
    return table("novel_modes", lines)


def _lessons(folders: Sequence[str | Path], study: str, arm: str) -> dict[int, list[pd.DataFrame]]:
    """{seed: the lessons of generations 1..G} of an arm's finished runs."""
    runs = [p.parent for f in folders for p in Path(f).glob(f"runs/miniature/{study}/{arm}-s[0-9]*/record.json")]
    paths = {int(run.name.rpartition("-s")[2]): sorted(run.glob("lessons/gen-*.parquet")) for run in runs}
    return {seed: [load_lesson(path).to_pandas() for path in some] for seed, some in paths.items()}


def _written(lesson: pd.DataFrame) -> list[str]:
    return lesson.loc[lesson["prompt_kind"] == "write", "text"].tolist()


def read(reports_dir: str | Path, study: str) -> pd.DataFrame:
    """Rows of one study with `arm`; NotRun where there are none."""
    rows = select(reports_dir, TABLE, study=study)
    if rows.empty:
        raise NotRun(f"{TABLE} holds nothing of the study '{study}': no figure.")
    return rows


def by_study(reports_dir: str | Path) -> dict[str, pd.DataFrame]:
    """{study: rows with `arm`}, as claims read them."""
    return {str(study): rows for study, rows in select(reports_dir, TABLE).groupby("study")}


# ---- figures


def source_of(rows: pd.DataFrame) -> dict:
    """What a figure was drawn from: the command, and the sha256 of its rows."""
    studies = sorted(set(rows["study"]))
    module = "student_studies" if set(studies) <= set(OF_STUDENTS) else "small_studies"
    made = {"from": f"reports/{TABLE}", "command": f"python -m symbiosis.analysis.{module}"}
    return made | {"study": studies, "rows": len(rows), "rows_sha256": rows_digest(rows)}


def draw_beyond_language(reports) -> tuple[Figure, dict]:
    """Coverage, tail mass and fidelity by generation of a language model, a mixture and VAEs that read themselves."""
    rows = read(reports.folder, "beyond_language")
    own = {"lesson_tail_coverage": "tail_coverage", "lesson_tail_mass": "tail_mass", "accuracy": "fidelity"}
    spoken = reports.rows(list(own), ["recursive-replace"], "mixing").query("generation > 0").replace({"metric": own})
    used = pd.concat([spoken, rows.replace({"metric": {"precision": "fidelity"}})])
    mass = used["metric"] == "tail_mass"
    used.loc[mass, "value"] /= TRUE_TAIL
    colors, fig_axes = figures.THEORY_STYLES, figures.new_figure(3, 2.9, sharey=True)
    names = {"tail_coverage": "rare modes, covered", "head_coverage": "frequent modes, covered"}
    names |= {"tail_mass": "tail mass, of the true", "fidelity": "fidelity"}
    styles = {key: figures.line_style(names[key], *colors[i]) for key, i in zip(names, (1, 4, 3, 2), strict=True)}
    panels = {"recursive-replace": "language model", "mixture-cut": "Gaussian mixture", "vae-cut": "autoencoder"}
    seeds = figures.plot_panels(used, panels, styles, fig_axes[1], ("arm", "generation", "metric"))
    counted = rows[rows["arm"] == "counted"].groupby("generation")["value"].mean()
    for ax in fig_axes[1]:
        ax.plot(counted, color=colors[1][0], linestyle="--", label="rare modes, if only\nsampling lost them")
    fig_axes[1][0].set(ylabel="share, or multiple", ylim=(0, None))
    figures.add_legend(fig_axes[1], seeds, 3)
    return fig_axes[0], source_of(pd.concat([spoken, rows]))


def draw_planted_error(reports) -> tuple[Figure, dict]:
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


def tail_forecast(rows: pd.DataFrame) -> pd.DataFrame:
    """Tail mass of the last lessons of `held`, and what `tail_mass` foretells, in units of the truth's.

    kept is the root over the generations in the same seed's recursion without real rows. A row per seed and real share.
    """
    last, lines = rows["generation"].max(), []
    found = rows.query("metric == 'lesson_tail_mass' and generation == @last").pivot(index="seed", columns="arm")[
        "value"
    ]
    found = found / TRUE_TAIL
    for arm, share in HELD_SHARES.items():
        for seed, value in found.get(arm, pd.Series(dtype=float)).dropna().items():
            kept = found.at[seed, "recursive-r000_free"] ** (1 / last)
            foretold = tail_mass(last, kept=min(kept, 1.0), real_share=share)[-1]
            lines.append((seed, share, kept, foretold, value))
    return pd.DataFrame(lines, columns=["seed", "real_share", "kept", "foretold", "found"]).dropna()


def draw_curriculum(reports) -> tuple[Figure, pd.DataFrame]:
    """How much of a lesson is of rare subtopics, and how many of these it has, by generation."""
    names, arms = ("lesson_tail_mass", "lesson_tail_coverage"), ("real", "pseudo_label", "symbiosis", "symbiosis-best")
    used = reports.rows(names, arms, "long")
    return figures.plot_metrics(used, names, 2.6), used


def draw_held(reports) -> tuple[Figure, pd.DataFrame]:
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


def draw_above_teacher(reports) -> tuple[Figure, dict]:
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


def lever_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What more of every lever is worth, seed by seed: lever, its place, seed, metric, value [points]."""
    at, lines = rows.set_index(["arm", "metric", "seed"])["value"].sort_index(), []
    for place, (lever, (more, less)) in enumerate(LEVERS.items()):
        for metric in LEVER_TESTS:
            gain = 100 * (at[more, metric] - at[less, metric])
            lines += [(lever, place, seed, metric, value) for seed, value in gain.items()]
    return pd.DataFrame(lines, columns=["lever", "place", "seed", "metric", "value"])


def draw_third_lever(reports) -> tuple[Figure, dict]:
    """What each lever of a lesson is worth, in distribution and out of it in three ways."""
    rows = read(reports.folder, "third_lever")
    gains, (fig, (ax,)) = lever_gains(rows), figures.new_figure(height=3.2)
    looks = {
        name: figures.line_style(text, *figures.THEORY_STYLES[i], "")
        for i, (name, text) in enumerate(LEVER_TESTS.items())
    }
    seeds = figures.plot_means(gains, looks, ax, ("place", "metric"))
    ax.axhline(0, **figures.DOTTED)
    ax.set_xticks(range(len(LEVERS)), list(LEVERS))
    ax.set(xlabel="", ylabel="what it is worth [points]")
    figures.add_legend([ax], seeds)
    return fig, source_of(rows)


def draw_open_ended(reports) -> tuple[Figure, dict]:
    """Loss of the true continuation, staying with the subtopic, and repetition, by method; dotted: the world itself."""
    rows = read(reports.folder, "open_ended")
    places = {arm: i for i, arm in enumerate(arm for arm in tables.order(rows) if arm != "world")}
    panels = {
        "continuation_loss": "loss of the truth\n[nats/token]",
        "on_topic": "stays with the subtopic",
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
    figures.add_legend(axes, seeds, 3)
    return fig, source_of(rows)


def share_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What real rows are worth to each kind of Student, seed by seed: kind, seed, value [points]."""
    at = rows[rows["metric"] == "accuracy"].pivot(index=["method", "seed"], columns="variant", values="value")
    return (100 * (at["r075"] - at["r000"])).rename("value").rename_axis(["kind", "seed"]).reset_index()


def draw_sensitivity(reports) -> tuple[Figure, dict]:
    """What 75% real rows are worth to Students of every tokenizer, size and architecture."""
    rows, (fig, (ax,)) = read(reports.folder, "sensitivity"), figures.new_figure(height=2.6)
    means = figures.means_over_seeds(share_gains(rows), ["kind"]).set_index("kind")
    names = {kind: (name, group) for group, some in STUDENTS.items() for kind, name in some.items()}
    shown = means.loc[list(names)].assign(name=[n for n, _ in names.values()], group=[g for _, g in names.values()])
    look = figures.line_style("", *figures.THEORY_STYLES[0], "")
    figures.plot_forest(shown, [look] * len(shown), ax)
    ax.axvline(0, **figures.DOTTED)
    ax.set_xlabel(f"75% real rows less none, points of accuracy, {figures.seeds_text(means['n'])}")
    return fig, source_of(rows)


def publish(rows: pd.DataFrame) -> None:
    """The rows in the published table, in place of those of the same seeds of their arms."""
    before = select(PUBLISHED, TABLE)
    rows = pd.concat([before.loc[~before["run_id"].isin(rows["run_id"]), list(COLUMNS)], rows], ignore_index=True)
    write_atomic(resolve(PUBLISHED) / TABLE, csv_bytes(rows.sort_values(SORT_BY, kind="stable"), COLUMNS))


if __name__ == "__main__":
    publish(make(sys.argv[1:]))
