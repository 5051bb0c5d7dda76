"""What several runs or worlds say together: single factors, regimes, dev labels, long runs, two crossed factors.

Every estimate is a mean over seeds with its 95% t-interval; the difference of two arms is taken seed by seed at the
last generation that every arm of the study reached. Holm's correction covers each table as a whole.

The layout of two crossed factors is a long table with a line per cell and seed: lever, real_share, level, arm, seed,
value. Its levels rise from poor to rich, in the unit of the lever:

    diversity   effective subtopics per class, exp(H(p)) with p ~ share^subtopic_power; every label is right
    quality     share of right labels, 1 - label_noise; subtopics with their true shares

Where every row is real there is no synthetic row to have a level: that one cell stands at all levels of a layout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from symbiosis.analysis.statistics import MARGIN, mean_interval
from symbiosis.analysis.tables import SeedValues, difference_table, last_generation, means_over_seeds, order
from symbiosis.data.world import World
from symbiosis.measures.diversity import entropy
from symbiosis.settings import RunSettings
from symbiosis.store.results import NotRun, ResultsError

DEFAULTS = {name: field.default for name, field in RunSettings.model_fields.items()}
BEST = "symbiosis-best"
FIRST_REPORTED_SEED = 11  # those below were looked at while methods were chosen

REFERENCE = {  # factor of the ablation: the level all others are compared with
    "feedback": "random",
    "generator_update": "none",
    "candidates": 1,
    "soft_labels": False,
    "max_similarity": 1.0,
    "skip_hardest_share": 0.0,
}
ID_KEYS = {"method", "variant", "study", "scale", "seed"}  # say which run it is, not what is done in it
TUNED_WITH = {  # settings that mean nothing at the reference level of their factor, so they may change along with it
    "generator_update": {
        "update_temperature", "dpo_beta", "generator_epochs", "generator_learning_rate", "generator_lora_rank",
    },
}  # fmt: skip

POOL, SKEW, LABELLER = "pool size", "pool lacks", "labeller"
REGIMES = {  # study: (label for people, group), in the order of the figure
    "pool_25": ("25 texts", POOL),
    "pool_100": ("100 texts", POOL),
    "pool_300": ("300 texts", POOL),
    "main": ("2000 texts", POOL),
    "rare_tail_300": ("90% of rare, 300", SKEW),
    "rare_tail": ("90% of rare, 2000", SKEW),
    "no_tail": ("all rare, 2000", SKEW),
    "no_class": ("one class, 2000", SKEW),
    "labeller_weak": ("weaker", LABELLER),
    "labeller_strong": ("stronger", LABELLER),
}
RIVALS = (
    "static", "pseudo_label", "symbiosis-best_random", "symbiosis-label_hard", "symbiosis-fresh_filtered",
    "symbiosis-pool_and_write_50",
)  # fmt: skip
POOL_FREE_ARMS = ("static", "symbiosis-fresh_filtered")  # see neither pool nor dev: the same for any of them

DEV_STUDIES = {"dev_16": 16, "dev_64": 64, "main": 128, "dev_256": 256}  # study: labelled dev rows
DEV_ARMS = ("static-dev", "symbiosis-best_influence")
LADDER = {"ladder_0": 0, "ladder_16": 16, "ladder_32": 32, "ladder_128": 128, "teach": 128, "ladder_512": 512}  # labels
WITHOUT_ROWS = {  # arms that are given no label: what the same lesson is called where labelled rows stand in it
    "static": "static-rows",
    "symbiosis-fresh_filtered": "symbiosis-filtered_and_rows",
    "symbiosis-attributes_filtered": "symbiosis-attributes_and_rows",
}

EFFECTS = ("real_share", "level", "interaction")
LEAST_SEEDS = 3  # two are left when the jackknife leaves one out, the fewest that tell effect from noise
FALLEN = 0.05  # share of its first value that a measure must have lost to count as fallen


def overview(rows_by_study: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A line per study: how many arms, its seeds, how many of them are tuning seeds, its last generation."""
    summary = []
    for study, rows in rows_by_study.items():
        seeds = sorted(rows["seed"].unique())
        tuning = sum(seed < FIRST_REPORTED_SEED for seed in seeds)
        summary.append((study, rows["arm"].nunique(), ", ".join(map(str, seeds)), tuning, last_generation(rows)))
    return pd.DataFrame(summary, columns=["study", "arms", "seeds", "tuning_seeds", "generations"])


def used_rows(rows_by_study: Mapping[str, pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """The accuracy rows behind a table of several studies: of its `arm`s and, where it has them, their `rival`s."""
    rows = pd.concat([rows_by_study[study] for study in table["study"].unique()], ignore_index=True)
    return rows[rows["arm"].isin({*table["arm"], *table.get("rival", ())}) & (rows["metric"] == "accuracy")]


# ---- one factor at a time
def with_twins(rows_by_study: Mapping[str, pd.DataFrame], twins: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The rows of the ablation, `arm` included, and those of cells that another study ran under another name.

    twins: {arm of this study: its `study` and `arm` there}, of the same settings; read only where this study has none.
    """
    tables = [rows_by_study["ablation"]]
    for arm, twin in twins.items():
        if arm not in set(tables[0]["arm"]) and twin["study"] in rows_by_study:
            rows = rows_by_study[twin["study"]]
            tables.append(rows[rows["arm"] == twin["arm"]].assign(arm=arm))
    return pd.concat(tables, ignore_index=True)


def ablation_effects(rows: pd.DataFrame, cells: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What each level of each factor is worth in accuracy, everything else being equal.

        d_s = mean over pairs (x[with level, s] - x[with reference, s]),   estimate: mean of d_s over seeds s

    Args:
        rows:   the long table of the ablation, with `arm`.
        cells:  {arm: settings}; what a cell does not name has the default of RunSettings.

    A pair is two cells that differ in this factor alone (and in what only tunes it, TUNED_WITH). A seed counts where
    all cells of all pairs have it, so that every seed averages over the same cells. Cells that were not run form no
    pair, a level without a pair has no line. Columns factor, level, reference, pairs, and those of `difference_table`.
    """
    values, run = SeedValues(rows), set(rows["arm"])
    cells = {arm: {**DEFAULTS, **cell} for arm, cell in cells.items() if arm in run}

    def mean(arms: Sequence[str]) -> pd.Series:
        return pd.concat([values(arm) for arm in arms], axis=1).mean(axis=1, skipna=False)

    compared = {}
    for factor, reference in REFERENCE.items():
        for level in dict.fromkeys(cell[factor] for cell in cells.values() if cell[factor] != reference):
            if pairs := _pairs(cells, factor, level):
                sides = tuple(map(mean, zip(*pairs, strict=True)))
                compared[factor, str(level), str(reference), len(pairs)] = sides
    return difference_table(["factor", "level", "reference", "pairs"], compared)


def _pairs(cells: dict[str, dict], factor: str, level: Any) -> list[tuple[str, str]]:
    """(arm with the level, arm with the reference) of cells that are the same but for the factor."""
    ignored = ID_KEYS | {factor} | TUNED_WITH.get(factor, set())
    rest = {arm: {name: x for name, x in cell.items() if name not in ignored} for arm, cell in cells.items()}
    at = {
        chosen: [arm for arm, cell in cells.items() if cell[factor] == chosen] for chosen in (level, REFERENCE[factor])
    }
    return [(a, b) for a in at[level] for b in at[REFERENCE[factor]] if rest[a] == rest[b]]


# ---- arms against their rivals, study by study
def lead_table(
    rows_by_study: Mapping[str, pd.DataFrame], studies: Sequence[str], arms: Sequence[str], rivals: Sequence[str]
) -> pd.DataFrame:
    """The final accuracy of arms minus that of each rival in several studies, seed by seed.

    Args:
        rows_by_study: {study: rows with `arm`}, as `results.read_studies` gives it.
        studies:       those to read, in the order of the table: REGIMES for the best arm against RIVALS, DEV_STUDIES
                       for DEV_ARMS against static.

    A study with main's Generator takes the rows of POOL_FREE_ARMS it lacks from `main`. Columns study, arm, rival, and
    those of `difference_table`. A pair that was not run has no line.
    """
    compared = {}
    for study in (study for study in studies if study in rows_by_study):
        rows = _with_pool_free(rows_by_study, study)
        values, run = SeedValues(rows), set(rows["arm"])
        for arm, rival in ((a, b) for a in arms for b in rivals if a != b and {a, b} <= run):
            compared[study, arm, rival] = values(arm), values(rival)
    return difference_table(["study", "arm", "rival"], compared)


def _with_pool_free(rows_by_study: Mapping[str, pd.DataFrame], study: str) -> pd.DataFrame:
    rows, main = rows_by_study[study], rows_by_study.get("main")
    if main is None or REGIMES.get(study, ("", ""))[1] == LABELLER:
        return rows
    return pd.concat([rows, main[main["arm"].isin(set(POOL_FREE_ARMS) - set(rows["arm"]))]], ignore_index=True)


def ladder(rows_by_study: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What one budget of labels is worth, spent in one way after another: final accuracy, mean and 95% t-interval.

    Columns study, labels, arm, arm_there (its name in that study: `arm` is the same lesson at every budget, whatever
    the number of rows in it), mean, low, high, n. A line per study of LADDER that was run, and arm.
    """
    found = []
    for study in (study for study in LADDER if study in rows_by_study):
        rows = rows_by_study[study].query("metric == 'accuracy'")
        means = means_over_seeds(rows[rows["generation"] == last_generation(rows)], ["arm"])
        found.append(means.rename(columns={"arm": "arm_there"}).assign(study=study, labels=LADDER[study]))
    if not found:
        return pd.DataFrame(columns=["study", "labels", "arm", "arm_there"])
    table = pd.concat(found, ignore_index=True)
    table["arm"] = table["arm_there"].str.removesuffix("_256").replace(WITHOUT_ROWS)
    table.loc[table["arm_there"].isin(list(WITHOUT_ROWS)), "labels"] = 0  # whatever stands beside them in their study
    return table.drop_duplicates(["labels", "arm"])


def beyond_teacher(rows: pd.DataFrame, since: int = 3) -> pd.DataFrame:
    """Does an arm still move after generation `since`, more than real data do, and does it end above its teacher?

        accuracy(last) - accuracy(since),   the same less that of `real`,   accuracy(last) - generator_accuracy(0)

    rows: the long table of a study, with `arm`. Columns arm, comparison, and those of `difference_table`. An arm
    without a Generator has no line of the third kind.
    """
    values, compared = SeedValues(rows), {}
    if since >= values.last:
        raise ResultsError(f"since: {since} is not before the last generation, {values.last}")
    for arm in order(rows):
        compared[arm, f"last generation - generation {since}"] = values(arm), values(arm, since)
        if arm != "real":
            growth, of_real = (values(one) - values(one, since) for one in (arm, "real"))
            compared[arm, f"growth since generation {since} - that of real data"] = growth, of_real
        compared[arm, "Student - Generator at generation 0"] = values(arm), values(arm, 0, "generator_accuracy")
    return difference_table(["arm", "comparison"], compared)


# ---- two crossed factors
def effective_subtopics(power: float) -> float:
    """Diversity of a writer of the miniature: how many equally frequent subtopics would be as varied as its own.

        exp(-sum_k p_k ln p_k),   p_k ~ share_k^power

    In [1, K] per class: K, the number of subtopics, at power 0; 1 for a large one. Hill 1973, Ecology 54:427 (order 1).
    """
    shares = World.make(0).shares  # the same in every world
    p = (shares / shares.max()) ** power
    return float(np.exp(entropy(p / p.sum())))


def level_of(cell: Mapping[str, Any], lever: str) -> float | None:
    """Level of a cell's synthetic rows, None where it is not of this layout: the other lever has been moved too."""
    if lever == "diversity":
        return effective_subtopics(cell["subtopic_power"]) if cell["label_noise"] == 0 else None
    return 1 - cell["label_noise"] if cell["subtopic_power"] == 1 else None


def read_factorial(rows: pd.DataFrame, cells: Mapping[str, Mapping[str, Any]], lever: str) -> pd.DataFrame:
    """The layout of one lever, in accuracy at the last generation that all of its cells reached.

    Args:
        rows:   the long table of the study, with `arm`.
        cells:  {arm: settings} with real_share, subtopic_power and label_noise.
        lever:  'diversity' or 'quality'.

    Columns as above; nan where a cell lacks a seed that another has. ResultsError where no cell was run.
    """
    level = {arm: level_of(cell, lever) for arm, cell in cells.items()}
    arms = [arm for arm in cells if level[arm] is not None]
    rows = rows[rows["arm"].isin(arms)]
    if rows.empty:
        raise NotRun(f"results.csv: none of the cells of lever '{lever}' has been run")
    values, shares = SeedValues(rows), {arm: cells[arm]["real_share"] for arm in arms}
    levels = sorted({level[arm] for arm in arms if shares[arm] < 1})
    final = pd.DataFrame({arm: values(arm) for arm in arms}).T  # arms by seeds
    layout = final.rename_axis("arm").reset_index().melt("arm", var_name="seed")
    layout["lever"], layout["real_share"] = lever, layout["arm"].map(shares)
    layout["level"] = [levels if shares[arm] == 1 else [level[arm]] for arm in layout["arm"]]
    layout = layout.explode("level").astype({"level": float, "seed": int})
    layout = layout[["lever", "real_share", "level", "arm", "seed", "value"]]
    return layout.sort_values(["real_share", "level", "seed"], ignore_index=True)


def missing_cells(layout: pd.DataFrame) -> list[str]:
    """The arms of a layout of which no seed has been run, sorted."""
    run = layout.groupby("arm")["value"].count()
    return sorted(run.index[run == 0])


def factorial_effects(layout: pd.DataFrame) -> pd.DataFrame:
    """How much of the variance between cells is due to the real share, to the level, and to their interplay.

        x[s, r, l] = seed s + A[r] + B[l] + AB[r, l] + noise,   P_k x: the part of x that belongs to effect k
        v_k     = mean over cells of <P_k x_s, P_k x_s'>, averaged over pairs of seeds s != s'
        share_k = v_k / (v_A + v_B + v_AB)

    layout: of one lever. Only cells with synthetic rows (real_share below 1) are crossed, and only seeds that all of
    these have are used.

    A product of two different seeds has no noise in it on average, so v_k is the variance of the cells' true values and
    may come out a little below 0 where there is no effect. Shares sum to 1; their bounds are those of the jackknife
    over seeds, not cut to [0, 1]. An F test of so few seeds would have to take their scatter in all cells for alike.

    Columns effect, rms (sqrt v_k, 0 where v_k is below 0; unit of the value), share, low, high (95%), n seeds.
    ResultsError names cells that were not run, or says that there are fewer than two levels of a factor or fewer than
    LEAST_SEEDS seeds.

    Miller 1974, Biometrika 61:1 (jackknife). The noise-free share from products of seeds is this project's choice.
    """
    x = _crossed(layout)
    seeds, parts = len(x), _parts(x)
    without = np.array([_shares(np.delete(parts, s, axis=1)) for s in range(seeds)])
    pseudo_values = seeds * _shares(parts) - (seeds - 1) * without
    table = pd.DataFrame(map(mean_interval, pseudo_values.T), columns=["share", "low", "high"])
    table.insert(0, "effect", EFFECTS)
    table.insert(1, "rms", np.sqrt(_variances(parts).clip(0)))
    return table.assign(n=seeds)


def _crossed(layout: pd.DataFrame) -> np.ndarray:
    """(S, R, L) values of the cells with synthetic rows, of the seeds that all of these have."""
    crossed = layout[layout["real_share"] < 1]
    if missing := missing_cells(crossed):
        raise NotRun(f"cells not run: {', '.join(missing)}; an effect needs all of them")
    table = crossed.pivot(index="seed", columns=["real_share", "level"], values="value").dropna().sort_index(axis=1)
    shape = crossed["real_share"].nunique(), crossed["level"].nunique()
    if min(shape) < 2 or table.shape[1] != shape[0] * shape[1]:
        raise ResultsError(f"layout: {table.shape[1]} cells are not {shape[0]} shares crossed with {shape[1]} levels")
    if len(table) < LEAST_SEEDS:
        raise NotRun(f"layout: {len(table)} seeds have all cells; run at least {LEAST_SEEDS}")
    return table.to_numpy().reshape(-1, *shape)


def _parts(x: np.ndarray) -> np.ndarray:
    """(3, S, R, L) orthogonal parts of each seed's table, in the order of EFFECTS; with its mean they add up to it."""
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    real, level = centred.mean(axis=2, keepdims=True), centred.mean(axis=1, keepdims=True)
    return np.stack([np.broadcast_to(real, x.shape), np.broadcast_to(level, x.shape), centred - real - level])


def _variances(parts: np.ndarray) -> np.ndarray:
    """(3,) v_k: products of different seeds are all products less those of a seed with itself."""
    seeds, cells = parts.shape[1], parts[0, 0].size
    all_pairs, own = (parts.sum(axis=1) ** 2).sum(axis=(1, 2)), (parts**2).sum(axis=(1, 2, 3))
    return (all_pairs - own) / (seeds * (seeds - 1) * cells)


def _shares(parts: np.ndarray) -> np.ndarray:
    v = _variances(parts)
    return v / v.sum() if v.sum() > 0 else np.full(len(v), np.nan)


def smallest_diversity(layout: pd.DataFrame, margin: float = MARGIN) -> pd.DataFrame:
    """At each real share the lowest level that loses no more than the margin against real rows only, seed by seed.

        at_least: lowest level with high >= -margin   (all below it are shown to lose more)
        estimate: lowest level with mean >= -margin
        at_most:  lowest level with low  >= -margin   (shown not to lose more: non-inferiority)

    layout: of one lever; margin: what may be lost, in the unit of the value. Columns real_share, at_least, estimate,
    at_most in the unit of the level, and mean, low, high of the loss at the estimate; nan where no level does: then
    more is needed than was tried (or, for the bounds, one seed has no interval). Levels between those tried are not
    judged, and the bounds are not corrected for the number of cells.
    """
    cells = dict(list(layout.set_index("seed").groupby(["real_share", "level"])["value"]))
    crossed = [(real, level) for real, level in cells if real < 1 and (1, level) in cells]
    pairs = {(real, level): (cells[real, level], cells[1, level]) for real, level in crossed}
    losses = difference_table(["real_share", "level"], pairs)
    bounds = {"at_least": "high", "estimate": "mean", "at_most": "low"}
    smallest = []
    for real, of_share in losses.groupby("real_share"):
        levels = {name: of_share.loc[of_share[bound] >= -margin, "level"].min() for name, bound in bounds.items()}
        estimate = of_share[of_share["level"] == levels["estimate"]][["mean", "low", "high"]]
        smallest.append({"real_share": real, **levels, **(estimate.iloc[0] if len(estimate) else {})})
    return pd.DataFrame(smallest, columns=["real_share", *bounds, "mean", "low", "high"])


# ---- which measure moves first
def relative_to_first(rows: pd.DataFrame, arm: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Measures of one arm as multiples of their own value at generation 1, seed by seed, from generation 1 on.

        y[g, s] = x[g, s] / x[1, s]

    Columns metric, generation, mean, low, high (95% over seeds), n seeds; dimensionless, 1 at generation 1. A metric
    that was not taken has no line; a first value of 0 leaves the seed out.
    """
    chosen = rows[(rows["arm"] == arm) & (rows["generation"] >= 1) & rows["metric"].isin(metrics)]
    chosen = chosen.dropna(subset="value")
    first = chosen[(chosen["generation"] == 1) & (chosen["value"] != 0)].set_index(["metric", "seed"])["value"]
    ratio = chosen.join(first.rename("first"), ["metric", "seed"], how="inner")
    return means_over_seeds(ratio.assign(value=ratio["value"] / ratio["first"]), ["metric", "generation"])


def first_fall(relative: pd.DataFrame) -> pd.DataFrame:
    """For each measure the first generation at which its whole interval lies below 1 - FALLEN, and where it ends.

    relative: of `relative_to_first`. Columns metric, first_fall (nan: never), end (mean at the last generation), low,
    high, n; in order of the fall.
    """
    last = relative.sort_values("generation").groupby("metric", sort=False).last().rename(columns={"mean": "end"})
    below = relative[relative["high"] < 1 - FALLEN].groupby("metric")["generation"].min()
    table = last.assign(first_fall=below).reset_index().sort_values(["first_fall", "end"], ignore_index=True)
    return table[["metric", "first_fall", "end", "low", "high", "n"]]
