"""Studies that take seconds, or are read off lessons that runs left: reports/small_studies.csv, and their figures.

`python -m symbiosis.analysis.small_studies [FOLDER ...]` writes it again in two minutes; each FOLDER holds `runs`, from
whose lessons novel modes are counted. Without one what the file says of these stays. Columns are those of results.csv.

    beyond_language   a Gaussian mixture and VAEs that train on their own samples, with the shares of the miniature
    planted_error     a false fact among entities that read one another
    novel_modes       does a Generator come to write what its initial self hardly gave?
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from symbiosis.data.lesson import load_lesson
from symbiosis.data.world import LABEL_NAMES, World, zipf
from symbiosis.measures.lessons import subtopic_counts, subtopic_tail
from symbiosis.params import PUBLISHED
from symbiosis.settings import arm_of, resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import COLUMNS, SORT_BY, NotRun, csv_bytes, select
from symbiosis.theory.consensus import ROWS, last_share, simulate_spread
from symbiosis.theory.mixtures import POINTS, Source, simulate_mixture
from symbiosis.theory.next_token import types_alive

SCALE, TABLE = "small_studies", "small_studies.csv"
SEEDS = range(301, 321)
GENERATIONS, ROUNDS = 10, 40
CHAINS = {"plain": {}, "cut": {"kept": 0.9}, "cut_real_25": {"kept": 0.9, "real_share": 0.25}}
ENTITIES = 4
EQUAL, LOUD = (0.25,) * ENTITIES, (0.5, *(1 / 6,) * (ENTITIES - 1))
PLANTED = {  # voices of the entities, the liar's first; true public rows per false private one; whether they vote
    "no_truth": (EQUAL, 0.0, False),
    "truth": (EQUAL, 1.0, False),
    "truth_loud": (LOUD, 1.0, False),
    "truth_vote": (EQUAL, 1.0, True),
}
RARE = 0.01  # share of its texts that an initial self gives to a mode at most, for it to be novel
TWINS = {"plain": ("main", "frozen"), "teach_mixture": ("teach", "fresh")}  # variant: study, its frozen twin


def make(folders: Iterable[Path] = (), seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """All rows: of the seeds, and of the novel modes in the lessons below the folders."""
    seeds = list(seeds)
    return pd.concat([beyond_language(seeds), planted_error(seeds), novel_modes(folders)], ignore_index=True)


def table(study: str, lines: Iterable[tuple]) -> pd.DataFrame:
    """Long rows of (method, variant, seed, generation, metric, value, n)."""
    columns = ["method", "variant", "seed", "generation", "metric", "value", "n"]
    rows = pd.DataFrame(list(lines), columns=columns).assign(study=study, scale=SCALE, unit="share")
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
                end = last_share(voices, public=public)
                lines.append(("closed_form", variant, seed, ROUNDS, "belief_repeated", end, ROWS))
    return table("planted_error", lines).dropna(subset="value")


def novel_modes(folders: Iterable[Path]) -> pd.DataFrame:
    """The share of the last generation's texts in modes, subtopics of a class, that were rare in the initial self.

    What is rare is counted in texts that the frozen twin wrote from the label alone in the generations before the last;
    its texts of the last one are fresh, so that chance alone moves nothing. `novel_mass`: of texts written from the
    label alone; `novel_mass_lesson`: of the whole lesson, explanations of pool texts among it.
    """
    lines, nothing = [], {}
    for variant, (study, twin) in TWINS.items():
        runs = {path.name: path for f in folders for path in Path(f).glob(f"runs/miniature/{study}/symbiosis*-s*")}
        found = {v: _lessons(runs, v) for v in (variant, twin)}
        for seed in sorted(found[variant].keys() & found[twin].keys()):
            world, (*before, last) = World.make(seed), found[twin][seed]
            given = subtopic_counts([text for part in before for text in _written(part)], world)
            rare = given <= RARE * given.sum()
            shown = {variant: found[variant][seed][-1], twin: last}
            truth = np.tile(world.shares, len(LABEL_NAMES)) / len(LABEL_NAMES)
            nothing = {"rare_modes": rare.mean(), "rare_modes_in_tail": rare[subtopic_tail(world)].mean()}
            nothing |= {"novel_mass_of_truth": truth[rare].sum()}
            for name, lesson in shown.items():
                values = {"novel_mass": _mass(_written(lesson), rare, world)}
                values |= {"novel_mass_lesson": _mass(lesson["text"], rare, world)}
                values |= nothing if name == twin else {}
                lines += [("symbiosis", name, seed, len(before) + 1, m, v, len(lesson)) for m, v in values.items()]
    return table("novel_modes", lines)


def _lessons(runs: Mapping[str, Path], variant: str) -> dict[int, list[pd.DataFrame]]:
    """{seed: the lessons of generations 1..G} of an arm, of finished runs."""
    stem = f"{arm_of('symbiosis', variant)}-s"
    own = {int(name[len(stem) :]): path for name, path in runs.items() if name.rpartition("s")[0] + "s" == stem}
    paths = {
        seed: sorted((p / "lessons").glob("gen-*.parquet")) for seed, p in own.items() if (p / "record.json").exists()
    }
    return {seed: [load_lesson(path).to_pandas() for path in some] for seed, some in paths.items()}


def _written(lesson: pd.DataFrame) -> list[str]:
    return lesson.loc[lesson["prompt_kind"] == "write", "text"].tolist()


def _mass(texts: Iterable[str], rare: np.ndarray, world: World) -> float:
    counts = subtopic_counts(list(texts), world)
    return float(counts[rare].sum() / max(counts.sum(), 1))


def read(reports_dir: str | Path, study: str) -> pd.DataFrame:
    """Rows of one study with `arm`; NotRun where there are none."""
    rows = select(reports_dir, TABLE, study=study)
    if rows.empty:
        raise NotRun(f"{TABLE} holds nothing of the study '{study}': no figure.")
    return rows


def by_study(reports_dir: str | Path) -> dict[str, pd.DataFrame]:
    """{study: rows with `arm`}, as claims read them."""
    return {str(study): rows for study, rows in select(reports_dir, TABLE).groupby("study")}


def main(folders: Sequence[str]) -> None:
    path, rows = resolve(PUBLISHED) / TABLE, make(map(Path, folders))
    if not folders:
        before = select(PUBLISHED, TABLE, study="novel_modes")
        rows = pd.concat([rows, before[list(COLUMNS)]], ignore_index=True)
    write_atomic(path, csv_bytes(rows.sort_values(SORT_BY, kind="stable"), COLUMNS))


if __name__ == "__main__":
    main(sys.argv[1:])
