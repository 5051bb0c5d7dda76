"""Studies that need no batch of runs: toy models, Students taught here, lessons and Students that runs left.

A study is a function in the module of its name, from a seed, and the folders that hold the `runs` it reads, to the rows
of that seed. `python -m symbiosis.small_studies STUDY FIRST LAST [FOLDER ...]` puts the rows of the seeds FIRST to LAST
into reports/small_studies.csv, in place of older ones; `... all SEEDS` makes what of SECONDS the local table lacks
(`make studies`). The columns are those of results.csv.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from symbiosis import params
from symbiosis.data.world import zipf
from symbiosis.settings import arm_of, resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import COLUMNS, SORT_BY, NotRun, csv_bytes, select
from symbiosis.theory.next_token import tail_mass
from symbiosis.yaml_files import read_params

SCALE, TABLE = "small_studies", "small_studies.csv"
FIRST_SEEDS = {  # of the published rows
    "beyond_language": 301, "planted_error": 301, "novel_modes": 11, "above_teacher": 401, "open_ended": 401,
    "third_lever": 401, "sensitivity": 401, "training_methods": 431, "share_factorial": 451, "composition": 411,
    "real_ratio": 221, "pool_map": 246,
}  # fmt: skip
STUDIES = tuple(FIRST_SEEDS)
SECONDS = {  # CPU of a seed, about, of what `make studies` makes
    "training_methods": 30, "share_factorial": 200, "composition": 30, "above_teacher": 120, "third_lever": 30,
    "sensitivity": 120, "open_ended": 5,
}  # fmt: skip
UNITS = {  # all others are shares
    "continuation_loss": "nats/token", "words": "words/text", "weights": "weights", "mauve": "1",
}  # fmt: skip
HELD_SHARES = {"recursive-r000_free": 0.0, "recursive-r025_free": 0.25, "recursive-r050_free": 0.5}
TRUE_TAIL = 1 - zipf(6)[:2].sum()  # tail mass of the miniature's truth
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


def table(study: str, lines: Iterable[tuple]) -> pd.DataFrame:
    """Long rows of (method, variant, seed, generation, metric, value, n)."""
    columns = ["method", "variant", "seed", "generation", "metric", "value", "n"]
    rows = pd.DataFrame(list(lines), columns=columns).assign(study=study, scale=SCALE)
    rows["unit"] = rows["metric"].map(UNITS).fillna("share")
    arms = [arm_of(method, variant) for method, variant in zip(rows["method"], rows["variant"], strict=True)]
    rows["run_id"] = [f"{SCALE}/{study}/{arm}-s{seed}" for arm, seed in zip(arms, rows["seed"], strict=True)]
    return rows.round({"value": 6})[list(COLUMNS)]


def read(reports_dir: str | Path, study: str) -> pd.DataFrame:
    """Rows of one study with `arm`; NotRun where there are none."""
    rows = select(reports_dir, TABLE, study=study)
    if rows.empty:
        raise NotRun(f"{TABLE} holds nothing of the study '{study}': no figure.")
    return rows


def by_study(reports_dir: str | Path) -> dict[str, pd.DataFrame]:
    """{study: rows with `arm`}, as claims read them."""
    return {str(study): rows for study, rows in select(reports_dir, TABLE).groupby("study")}


def publish(rows: pd.DataFrame, place: str = params.PUBLISHED) -> None:
    """The rows in the table of that place, the published one, instead of those of the same seeds of their arms."""
    before = select(place, TABLE)
    rows = pd.concat([before.loc[~before["run_id"].isin(rows["run_id"]), list(COLUMNS)], rows], ignore_index=True)
    write_atomic(resolve(place) / TABLE, csv_bytes(rows.sort_values(SORT_BY, kind="stable"), COLUMNS))


def left(seeds: int) -> list[tuple[str, int]]:
    """(study, seed) of what the local table lacks: the first `seeds` of each; of `open_ended` those of the runs."""
    rows = select(params.LOCAL, TABLE)
    there = {*zip(rows["study"], rows["seed"].astype(int), strict=True)}
    of_runs = read_params("profiles/scales.yaml")["miniature"]["first_seed"]
    firsts = FIRST_SEEDS | {"open_ended": of_runs}
    return [pair for study in SECONDS for k in range(seeds) if (pair := (study, firsts[study] + k)) not in there]


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
