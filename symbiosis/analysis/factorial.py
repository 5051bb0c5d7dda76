"""Does the share of real rows decide, or what the synthetic rows are like? Two crossed factors, and what falls first.

A layout is a long table with a line per cell and seed: lever, real_share, level, arm, seed, value. Its levels rise from
poor to rich, in the unit of the lever:

    diversity   effective subtopics per class, exp(H(p)) with p ~ share^subtopic_power; every label is right
    quality     share of right labels, 1 - label_noise; subtopics with their true shares

Where every row is real there is no synthetic row to have a level: that one cell stands at all levels of a layout.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from symbiosis.analysis.statistics import NO_SPREAD, holm, mean_interval, paired_difference, paired_values
from symbiosis.analysis.tables import by_seed, last_generation
from symbiosis.data.world import World
from symbiosis.measures.diversity import entropy
from symbiosis.store.results import ResultsError

LEVERS = ("diversity", "quality")
EFFECTS = ("real_share", "level", "interaction")
LEAST_SEEDS = 3  # two are left when the jackknife leaves one out, the fewest that tell effect from noise
MARGIN = 0.02  # accuracy that may be lost and still counts as no loss
FALLEN = 0.05  # share of its first value that a measure must have lost to count as fallen

# ---- the layout


def effective_subtopics(power: float) -> float:
    """Diversity of a writer of the miniature: how many equally frequent subtopics would be as varied as its own.

        exp(-sum_k p_k ln p_k),   p_k ~ share_k^power

    In [1, K] per class, K the number of subtopics: K at power 0, 1 for a large power (only the largest is left).

    Hill 1973, Ecology 54:427 (order 1).
    """
    shares = World.make(0).shares  # the same in every world
    p = (shares / shares.max()) ** power
    return float(np.exp(entropy(p / p.sum())))


def level_of(cell: Mapping[str, Any], lever: str) -> float | None:
    """Level of a cell's synthetic rows, None where it is not of this layout: the other lever has been moved too."""
    if lever not in LEVERS:
        raise ValueError(f"lever: {lever!r} is not one of {', '.join(LEVERS)}")
    if lever == "diversity":
        return effective_subtopics(cell["subtopic_power"]) if cell["label_noise"] == 0 else None
    return 1 - cell["label_noise"] if cell["subtopic_power"] == 1 else None


def read_factorial(
    rows: pd.DataFrame, cells: Mapping[str, Mapping[str, Any]], lever: str, metric: str = "accuracy"
) -> pd.DataFrame:
    """The layout of one lever, at the last generation that all of its cells reached.

    Args:
        rows:   the long table of the study, with `arm`.
        cells:  {arm: settings} with real_share, subtopic_power and label_noise, as `params.study_cells` gives them.
        lever:  one of LEVERS.
        metric: value, in its own unit.

    Columns as above; nan where a cell lacks a seed that another has. ResultsError where no cell was run.
    """
    of_arm = {arm: level_of(cell, lever) for arm, cell in cells.items()}
    of_arm = {arm: level for arm, level in of_arm.items() if level is not None}
    rows = rows[rows["arm"].isin(of_arm)]
    if rows.empty:
        raise ResultsError(f"results.csv: none of the cells of lever '{lever}' has been run")
    table = by_seed(rows, metric)
    final = table.xs(last_generation(rows), level="generation").reindex(list(of_arm))
    shares = {arm: cells[arm]["real_share"] for arm in of_arm}
    levels = sorted({level for arm, level in of_arm.items() if shares[arm] < 1})
    lines = [
        (lever, shares[arm], level, arm, seed, value)
        for arm, values in final.iterrows()
        for level in (levels if shares[arm] == 1 else [of_arm[arm]])
        for seed, value in values.items()
    ]
    layout = pd.DataFrame(lines, columns=["lever", "real_share", "level", "arm", "seed", "value"])
    return layout.sort_values(["real_share", "level", "seed"], ignore_index=True)


def missing_cells(layout: pd.DataFrame) -> list[str]:
    """The arms of a layout of which no seed has been run, sorted."""
    run = layout.groupby("arm")["value"].count()
    return sorted(run.index[run == 0])


def cell_means(layout: pd.DataFrame) -> pd.DataFrame:
    """A line per cell: lever, real_share, level, mean, low, high (95% over seeds; unit of the value), n seeds."""
    cells = layout.groupby(["lever", "real_share", "level"])["value"]
    lines = [(*cell, *mean_interval(values), values.count()) for cell, values in cells]
    return pd.DataFrame(lines, columns=["lever", "real_share", "level", "mean", "low", "high", "n"])


# ---- two factors and their interaction


def effects(layout: pd.DataFrame) -> pd.DataFrame:
    """How much of the variance between cells is due to the real share, to the level, and to their interplay.

        x[s, r, l] = seed s + A[r] + B[l] + AB[r, l] + noise,   P_k x: the part of x that belongs to effect k
        v_k     = mean over cells of <P_k x_s, P_k x_s'>, averaged over pairs of seeds s != s'
        share_k = v_k / (v_A + v_B + v_AB)
        F       = [S ||P_k mean_s x_s||^2 / df_k] / [sum_s ||P_k (x_s - mean x)||^2 / (df_k (S - 1))]

    Args:
        layout: of one lever. Only cells with synthetic rows (real_share below 1) are crossed, and only seeds that all
                of these have are used.

    A product of two different seeds has no noise in it on average, so v_k is the variance of the cells' true values,
    not of their estimates, and may come out a little below 0 where there is no effect. Shares sum to 1; their bounds
    are those of the jackknife over seeds, not cut to [0, 1].

    Columns effect, df, rms (sqrt v_k, 0 where v_k is below 0; unit of the value), share, low, high (95%), F, p, p_holm
    (over the three), n seeds. p is nan where seeds agree to rounding. ResultsError names cells that were not run;
    ValueError for fewer than two levels of a factor or fewer than LEAST_SEEDS seeds.

    Seeds as blocks, each effect against its own scatter over seeds: Fisher 1935, The Design of Experiments. Jackknife:
    Miller 1974, Biometrika 61:1. The noise-free share from products of seeds is this project's choice.
    """
    x = _crossed(layout)
    seeds, reals, levels = x.shape
    free = np.array([reals - 1, levels - 1, (reals - 1) * (levels - 1)])
    parts = _parts(x)
    v = _variances(parts)
    shares = [mean_interval(pseudo) for pseudo in _pseudo_values(parts).T]
    f, p = _f_tests(parts, free)
    table = pd.DataFrame(shares, columns=["share", "low", "high"])
    table.insert(0, "effect", EFFECTS)
    table.insert(1, "df", free)
    table.insert(2, "rms", np.sqrt(v.clip(0)))
    return table.assign(F=f, p=p, p_holm=holm(p), n=seeds)


def _crossed(layout: pd.DataFrame) -> np.ndarray:
    """(S, R, L) values of the cells with synthetic rows, of the seeds that all of these have."""
    crossed = layout[layout["real_share"] < 1]
    if missing := missing_cells(crossed):
        raise ResultsError(f"cells not run: {', '.join(missing)}; an effect needs all of them")
    table = crossed.pivot(index="seed", columns=["real_share", "level"], values="value")
    shape = crossed["real_share"].nunique(), crossed["level"].nunique()
    if min(shape) < 2 or table.shape[1] != shape[0] * shape[1]:
        raise ValueError(f"layout: {table.shape[1]} cells are not {shape[0]} shares crossed with {shape[1]} levels")
    table = table.dropna().sort_index(axis=1)
    if len(table) < LEAST_SEEDS:
        raise ValueError(f"layout: {len(table)} seeds have all cells; run at least {LEAST_SEEDS}")
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


def _pseudo_values(parts: np.ndarray) -> np.ndarray:
    """(S, 3) of the shares: S times that of all seeds less (S - 1) times that of all but one."""
    seeds = parts.shape[1]
    without = np.array([_shares(np.delete(parts, s, axis=1)) for s in range(seeds)])
    return seeds * _shares(parts) - (seeds - 1) * without


def _shares(parts: np.ndarray) -> np.ndarray:
    v = _variances(parts)
    return v / v.sum() if v.sum() > 0 else np.full(len(v), np.nan)


def _f_tests(parts: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3,) F and p; nan where an effect does not scatter over seeds."""
    seeds, mean = parts.shape[1], parts.mean(axis=1, keepdims=True)
    effect = seeds * (mean[:, 0] ** 2).sum(axis=(1, 2)) / free
    error = ((parts - mean) ** 2).sum(axis=(1, 2, 3)) / (free * (seeds - 1))
    f = np.where(error > NO_SPREAD**2, effect / np.maximum(error, NO_SPREAD**2), np.nan)
    return f, stats.f.sf(f, free, free * (seeds - 1))


# ---- how rich is rich enough


def losses(layout: pd.DataFrame) -> pd.DataFrame:
    """Every cell with synthetic rows minus the cell of real rows only, seed by seed.

    Columns lever, real_share, level, n seeds both have, mean, low, high (95%), p, in the unit of the value; empty
    where the cell of real rows has not been run.
    """
    wide = layout.pivot_table(index=["real_share", "level"], columns="seed", values="value")
    if 1 not in wide.index.get_level_values("real_share"):
        return pd.DataFrame(columns=["lever", "real_share", "level", "n", "mean", "low", "high", "p"])
    lever, lines = layout["lever"].iloc[0], []
    for (real, level), values in wide.drop(1, level="real_share").iterrows():
        pair = values.to_dict(), wide.loc[(1, level)].to_dict()
        lines.append((lever, real, level, len(paired_values(*pair)), *paired_difference(*pair)))
    return pd.DataFrame(lines, columns=["lever", "real_share", "level", "n", "mean", "low", "high", "p"])


def smallest_diversity(losses: pd.DataFrame, margin: float = MARGIN) -> pd.DataFrame:
    """At each real share the lowest level that loses no more than the margin against real rows only.

        at_least: lowest level with high >= -margin   (all below it are shown to lose more)
        estimate: lowest level with mean >= -margin
        at_most:  lowest level with low  >= -margin   (shown not to lose more: non-inferiority)

    Args:
        losses: of `losses`; the levels are those of either lever.
        margin: what may be lost, at least 0, in the unit of the value.

    Columns real_share, at_least, estimate, at_most in the unit of the level, and mean, low, high of the estimate's
    level; nan where no level does: then more is needed than was tried (or, for the bounds, one seed has no interval).
    Levels between those tried are not judged, and the bounds are not corrected for the number of cells.
    """
    if not margin >= 0:
        raise ValueError(f"margin: {margin} is below 0")
    bounds = {"at_least": "high", "estimate": "mean", "at_most": "low"}
    lines = []
    for real, part in losses.groupby("real_share"):
        found = {name: part.loc[part[bound] >= -margin, "level"].min() for name, bound in bounds.items()}
        at = part[part["level"] == found["estimate"]][["mean", "low", "high"]]
        lines.append({"real_share": real, **found, **(at.iloc[0] if len(at) else {})})
    return pd.DataFrame(lines, columns=["real_share", *bounds, "mean", "low", "high"])


# ---- which measure moves first


def relative_to_first(rows: pd.DataFrame, arm: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Measures of one arm as multiples of their own value at generation 1, seed by seed, from generation 1 on.

        y[g, s] = x[g, s] / x[1, s]

    Columns metric, generation, mean, low, high (95% over seeds), n seeds; dimensionless, 1 at generation 1. A metric
    that was not taken has no line; a first value of 0 leaves the seed out.
    """
    lines = []
    chosen = rows[(rows["arm"] == arm) & (rows["generation"] >= 1)].dropna(subset="value")
    for metric in [m for m in metrics if m in set(chosen["metric"])]:
        table = by_seed(chosen, metric).xs(arm)
        ratio = table / table.loc[1].where(table.loc[1] != 0)
        lines += [(metric, g, *mean_interval(values), values.count()) for g, values in ratio.iterrows()]
    return pd.DataFrame(lines, columns=["metric", "generation", "mean", "low", "high", "n"])


def first_fall(relative: pd.DataFrame, fallen: float = FALLEN) -> pd.DataFrame:
    """For each measure the first generation at which its whole interval lies below 1 - fallen, and where it ends.

    Args:
        relative: of `relative_to_first`.
        fallen:   share of the first value lost, in [0, 1).

    Columns metric, first_fall (nan: never), end (mean at the last generation), low, high, n; in order of the fall.
    """
    if not 0 <= fallen < 1:
        raise ValueError(f"fallen: {fallen} is not in [0, 1)")
    last = relative.sort_values("generation").groupby("metric", sort=False).last().rename(columns={"mean": "end"})
    below = relative[relative["high"] < 1 - fallen].groupby("metric")["generation"].min()
    table = last.assign(first_fall=below.reindex(last.index)).reset_index()
    return table.sort_values(["first_fall", "end"], ignore_index=True)[
        ["metric", "first_fall", "end", "low", "high", "n"]
    ]
