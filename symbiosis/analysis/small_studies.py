"""Studies that take seconds, or are read off lessons that runs left: rows of reports/small_studies.csv.

`python -m symbiosis.analysis.small_studies [FOLDER ...]` writes it again in two minutes; each FOLDER holds `runs`, from
whose lessons novel modes are counted. What the file says of other studies stays. Columns are those of results.csv.

    beyond_language   a Gaussian mixture and VAEs that train on their own samples, with the shares of the miniature
    planted_error     a false fact among entities that read one another
    novel_modes       does a Generator come to write what its initial self hardly gave?

The other studies of the file teach Students and are made by `student_studies` and, on real text, `real_ratio`;
`small_drawings` draws all of them.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.world import LABEL_NAMES, World, zipf
from symbiosis.measures.lessons import subtopic_counts
from symbiosis.params import PUBLISHED
from symbiosis.settings import arm_of, resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import COLUMNS, SORT_BY, NotRun, csv_bytes, select
from symbiosis.theory.consensus import ROWS, simulate_spread
from symbiosis.theory.mixtures import POINTS, Source, simulate_mixture
from symbiosis.theory.next_token import tail_mass, types_alive

SCALE, TABLE = "small_studies", "small_studies.csv"
OWN = ("beyond_language", "planted_error", "novel_modes")
OF_STUDENTS = (
    "above_teacher", "open_ended", "third_lever", "sensitivity", "training_methods", "share_factorial", "composition",
)  # fmt: skip
MADE_BY = dict.fromkeys(OWN, "small_studies") | dict.fromkeys(OF_STUDENTS, "student_studies")
MADE_BY["real_ratio"] = "real_ratio"
STUDIES = tuple(MADE_BY)
UNITS = {  # all others are shares
    "continuation_loss": "nats/token", "words": "words/text", "weights": "weights", "mauve": "1",
}  # fmt: skip
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


# ---- what figures show, seed by seed


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


def lever_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What more of every lever is worth, seed by seed: lever, its place, seed, metric, value [points]."""
    at, lines = rows.set_index(["arm", "metric", "seed"])["value"].sort_index(), []
    for place, (lever, (more, less)) in enumerate(LEVERS.items()):
        for metric in LEVER_TESTS:
            gain = 100 * (at[more, metric] - at[less, metric])
            lines += [(lever, place, seed, metric, value) for seed, value in gain.items()]
    return pd.DataFrame(lines, columns=["lever", "place", "seed", "metric", "value"])


def share_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What real rows are worth to each kind of Student, seed by seed: kind, seed, value [points]."""
    at = rows[rows["metric"] == "accuracy"].pivot(index=["method", "seed"], columns="variant", values="value")
    return (100 * (at["r075"] - at["r000"])).rename("value").rename_axis(["kind", "seed"]).reset_index()


# ---- the file


def publish(rows: pd.DataFrame, place: str = PUBLISHED) -> None:
    """The rows in the table of that place, the published one, instead of those of the same seeds of their arms."""
    before = select(place, TABLE)
    rows = pd.concat([before.loc[~before["run_id"].isin(rows["run_id"]), list(COLUMNS)], rows], ignore_index=True)
    write_atomic(resolve(place) / TABLE, csv_bytes(rows.sort_values(SORT_BY, kind="stable"), COLUMNS))


if __name__ == "__main__":
    publish(make(sys.argv[1:]))
