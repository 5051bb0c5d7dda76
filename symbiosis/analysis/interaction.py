"""Numbers behind notebooks 04 and 09: tables of the experiment beside the linear theory and the published losses.

A cell of the experiment is a pair (entities, alpha): K entities, of whose training text the share alpha is synthetic.
The arm of two entities at alpha = 0.5 is `interaction-k2_alpha050`. Losses of entity k on task j, both counted from 1,
are named loss_<k>_on_<j>; `loss_own` and `loss_others` are their means over j = k and over j != k [nats per token].

The setting: Vu, Reeves and Wenger 2025, arXiv:2505.21677.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from symbiosis import params
from symbiosis.analysis.statistics import mean_interval
from symbiosis.analysis.tables import LAST, SeedValues, difference_table, last_generation, with_interval
from symbiosis.settings import resolve
from symbiosis.store.results import COLUMNS, NUMBERS, arm_of, read_or_empty, with_arm
from symbiosis.theory import many_models
from symbiosis.theory.designs import aligned_designs, ring_designs, subspace_designs
from symbiosis.theory.many_models import efficiency_surface, theory_change

METHOD, STUDY = "interaction", "interaction"
STUDIES = UNEQUAL, PLANTED, _ = "interaction_unequal", "interaction_planted", STUDY
ENTITIES, ALPHAS = (2, 3, 4), (0.0, 0.5, 1.0)
BEYOND = {  # arm: name; three entities at alpha = 0.5
    "interaction-k3_unequal": "entity 1 talks most",
    "interaction-k3_listener": "entity 1 only listens",
    "interaction-k3_symbiotic": "entity 1 is symbiotic",
}
OWN_AND_OTHERS = ("loss_own", "loss_others")
SIMILARITIES = ("similarity_public", "similarity_private")


def arm(entities: int, alpha: float) -> str:
    """The arm of a cell: `interaction-k2_alpha050` for two entities at alpha = 0.5."""
    return arm_of(METHOD, f"k{entities}_alpha{round(100 * alpha):03d}")


CELLS = {arm(*cell): cell for cell in itertools.product(ENTITIES, ALPHAS)}  # arm: (entities, alpha)
ALONE = {name: arm(k, 0.0) for name, (k, alpha) in CELLS.items() if alpha > 0}  # arm: its baseline
EQUALS = dict.fromkeys(BEYOND, arm(3, 0.5))


KINDS = {"equal": "an equal", "small": "half the width", "bpe": "pieces of words", "qwen2": "a Qwen2"}  # of UNEQUAL


def pair_arms(kinds: Iterable[str]) -> list[str]:
    """The arms of pairs, alone and half and half."""
    return [arm_of(METHOD, f"{kind}_alpha{alpha:03d}") for kind in kinds for alpha in (0, 50)]


def pair_gains(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """A metric's last value at alpha = 0.5 less that at 0, seed by seed: kind, metric, seed, value."""
    values, lines = SeedValues(rows), []
    for kind, metric in itertools.product(KINDS, metrics):
        alone, half = (values(arm, LAST, metric) for arm in pair_arms([kind]))
        lines += [(kind, metric, seed, value) for seed, value in (half - alone).dropna().items()]
    return pd.DataFrame(lines, columns=["kind", "metric", "seed", "value"])


def read_scales(reports_dir: str | Path) -> dict[str, pd.DataFrame]:
    """{scale: rows with `arm`} of all interaction runs in results.csv; empty where there is none, or no file."""
    rows = read_or_empty(resolve(reports_dir) / "results.csv", COLUMNS, NUMBERS)
    chosen = with_arm(rows[(rows["method"] == METHOD) & (rows["study"] == STUDY)])
    return {scale: part.reset_index(drop=True) for scale, part in chosen.groupby("scale")}


# ---- beside the linear theory
def efficiency_surfaces(shares: Sequence[float]) -> dict[str, np.ndarray]:
    """Relative efficiency over alpha by beta, {setting: (shares, shares)}, of three settings of four entities.

    Those of `ring_designs`, of `subspace_designs` (mean over twenty draws) and of `aligned_designs`, in this order.
    """
    random = [efficiency_surface(subspace_designs(draw), shares) for draw in range(100, 120)]
    return {
        "one direction each": efficiency_surface(ring_designs(), shares),
        "random subspaces": np.mean(random, axis=0),
        "aligned tasks": efficiency_surface(aligned_designs(), shares),
    }


def trends(rows: pd.DataFrame) -> pd.DataFrame:
    """Change of the losses from generation 0 to the last, a row per cell and loss, beside what the theory expects.

    Columns metric, entities, alpha, and those of `difference_table` (nats per token), theory.
    """
    values = SeedValues(rows)
    pairs = {
        (metric, *cell): (values(arm, LAST, metric), values(arm, 0, metric))
        for (arm, cell), metric in itertools.product(CELLS.items(), OWN_AND_OTHERS)
    }
    table = difference_table(["metric", "entities", "alpha"], pairs)
    theory = [theory_change(row.entities, row.alpha, values.last)[row.metric] for row in table.itertuples()]
    return table.assign(theory=theory)


def rank_agreement(values: SeedValues, metric: str) -> pd.Series:
    """Spearman's correlation by seed, over the nine cells (K, alpha), of a loss's change and the theory's.

    Both changes are from generation 0 to the last; K in 2, 3, 4 and alpha in 0, 0.5, 1; ties get their mean rank. In
    [-1, 1]; a seed that lacks a cell has none. metric: 'loss_own' or 'loss_others'.
    """
    change = {arm: values(arm, LAST, metric) - values(arm, 0, metric) for arm in CELLS}
    change = pd.DataFrame(change).dropna()
    expected = [theory_change(*cell, max(values.last, 1))[metric] for cell in CELLS.values()]
    return pd.Series([spearmanr(row, expected)[0] for row in change.to_numpy()], index=change.index, dtype=float)


def beyond_baseline(values: SeedValues, arm: str, metric: str) -> pd.Series:
    """Cosine of outputs to the same prompt less that to different prompts, by seed, last generation."""
    return values(arm, LAST, metric) - values(arm, LAST, f"{metric}_different_prompts")


# ---- beside the published losses

# Before the first and after the last round, beta = 0.5, one run each, as a summary of the paper quotes them: token
# cross-entropy, and the mean cosine of two entities' answers ("about", of private prompts). Entity 1 has SciQ, entity 2
# GSM8K, the public corpus is BookCorpus. By model, entities and alpha.
PUBLISHED_NUMBERS = {
    ("OPT-350M", 2, 0.0): {"1_on_1": (3.3, 3.3), "2_on_2": (1.8, 1.7), "1_on_2": (3.1, 3.5), "2_on_1": (5.1, 5.1)},
    ("OPT-350M", 2, 0.5): {"1_on_1": (3.3, 3.3), "2_on_2": (1.8, 1.7), "1_on_2": (3.1, 1.8), "2_on_1": (5.1, 3.5)},
    ("Llama 3.2 1B", 2, 0.5): {
        "1_on_1": (2.8, 2.9), "2_on_2": (1.2, 1.3), "1_on_2": (2.0, 1.4), "2_on_1": (3.7, 3.0),
        "similarity_public": (0.50, 0.64), "similarity_private": (0.75, 0.9),
    },
    ("Llama 3.2 1B", 2, 1.0): {"1_on_1": (2.8, 3.0), "2_on_2": (1.2, 1.9), "1_on_2": (2.0, 1.8), "2_on_1": (3.7, 3.0)},
    ("OPT-350M", 3, 0.5): {"1_on_2": (3.1, 1.9)},
}  # fmt: skip


def beside_published(scales: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """'initial to final' by entities, alpha and number, a column per model: the published ones, then ours by scale.

    Ours are means over seeds, with the change and its 95% t-interval; a dash marks what was not run or not published.
    """
    cells = {
        (entities, alpha, _in_words(name), f"{model}, published"): _published(name, first, last)
        for (model, entities, alpha), numbers in PUBLISHED_NUMBERS.items()
        for name, (first, last) in numbers.items()
    }
    asked = {(k, alpha, name): None for (_, k, alpha), numbers in PUBLISHED_NUMBERS.items() for name in numbers}
    for (scale, rows), (entities, alpha, name) in itertools.product(scales.items(), asked):
        values, metric = SeedValues(rows), name if name in SIMILARITIES else f"loss_{name}"
        first, last = (values(arm(entities, alpha), g, metric) for g in (0, LAST))
        if len(last):
            change = with_interval(*mean_interval(last - first), 2)
            key = entities, alpha, _in_words(name), f"ours, {scale}"
            cells[key] = f"{first.mean():.2f} to {last.mean():.2f}, change {change}"
    table = pd.Series(cells, dtype=object).rename_axis(["entities", "alpha", "number", "model"])
    return table.unstack().reindex(columns=table.index.unique("model")).fillna("-")


def _published(name: str, first: float, last: float) -> str:
    digits = 2 if name in SIMILARITIES else 1
    return f"{first:.{digits}f} to {last:.{digits}f}"


def _in_words(name: str) -> str:
    if name in SIMILARITIES:
        return f"cosine, {name.removeprefix('similarity_')} prompts"
    return "loss, entity {} on task {}".format(*name.split("_on_"))


def readable_alpha(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Last generation of the cells, 'mean [low, high]' over seeds: a line per metric and K, a column per alpha."""
    values = SeedValues(rows)
    cells = {
        (metric, *cell): with_interval(*mean_interval(values(arm, LAST, metric)))
        for metric, (arm, cell) in itertools.product(metrics, CELLS.items())
    }
    table = pd.Series(cells, dtype=object).rename_axis(["metric", "entities", "alpha"]).unstack()
    return table[table.ne("-").any(axis=1)]


def against(rows: pd.DataFrame, metrics: Sequence[str], baselines: Mapping[str, str]) -> pd.DataFrame:
    """Arms against baselines, {arm: its baseline} as ALONE or EQUALS, at the last generation.

    Columns metric, arm, and those of `difference_table`.
    """
    values = SeedValues(rows[rows["arm"].isin([*baselines, *baselines.values()])])
    pairs = {
        (metric, arm): (values(arm, LAST, metric), values(baseline, LAST, metric))
        for metric, (arm, baseline) in itertools.product(metrics, baselines.items())
    }
    return difference_table(["metric", "arm"], pairs)


def similarity_changes(rows: pd.DataFrame) -> pd.DataFrame:
    """Change of the cosines from generation 0 to the last, 'mean [low, high]' over seeds: a line per cell and kind.

    Columns `same prompt` and `other prompts`, the baseline, and `beyond the baseline`, their difference seed by seed.
    """
    values, lines = SeedValues(rows), {}
    for (arm, cell), kind in itertools.product(CELLS.items(), SIMILARITIES):
        both = (kind, f"{kind}_different_prompts")
        same, other = (values(arm, LAST, metric) - values(arm, 0, metric) for metric in both)
        changes = {"same prompt": same, "other prompts": other, "beyond the baseline": same - other}
        if len(same):
            lines[*cell, kind] = {name: with_interval(*mean_interval(x)) for name, x in changes.items()}
    return pd.DataFrame(lines).T.rename_axis(["entities", "alpha", "metric"])


# ---- the share of private rows, and whose data is in whose mean

BETAS = {0.25: "interaction-k2_beta025", 0.5: "interaction-k2_alpha050", 0.75: "interaction-k2_beta075"}  # alpha 0.5


def by_beta(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Last generation by beta, a line per metric: the means, and beta = 0.75 less 0.25 seed by seed.

    Columns 0.25, 0.5, 0.75, difference, low, high (95% t-interval over seeds), n; and `theory`, that difference of the
    linear counterpart's squared error.
    """
    last, lines = last_generation(rows), {}
    errors = {beta: theory_change(2, 0.5, last, beta) for beta in BETAS}  # round 0 is the same for all
    for metric in metrics:
        chosen = rows[(rows["metric"] == metric) & (rows["generation"] == last)]
        values = {beta: chosen[chosen["arm"] == arm].set_index("seed")["value"] for beta, arm in BETAS.items()}
        difference = (values[0.75] - values[0.25]).dropna()
        low_high = dict(zip(("difference", "low", "high"), mean_interval(difference), strict=True))
        theory = errors[0.75].get(metric, np.nan) - errors[0.25].get(metric, np.nan)
        means = {beta: of_beta.mean() for beta, of_beta in values.items()}
        lines[metric] = {**means, **low_high, "n": len(difference), "theory": theory}
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("metric")


def data_share_tables() -> dict[str, pd.DataFrame]:
    """Whose data is in whose mean, entities by data sets, at alpha = beta = 0.5: {round: shares} of `ring_designs`."""
    designs = ring_designs()
    first, one = many_models.first_fit(designs, 0.5, np.ones(2)), many_models.one_round(designs, 0.5, 0.5)
    moments = {"round 0": first, "round 1": many_models.trajectory(first, one)[1]}
    moments["limit"] = many_models.fixed_point(first, one)
    entities = list("1234")
    shares = {name: many_models.data_shares(each, designs) for name, each in moments.items()}
    return {name: pd.DataFrame(each, entities, [*entities, "public"]) for name, each in shares.items()}


# ---- the scan of mixtures: for how many settings of the linear theory is (0.5, 0.5) the best?

SCANNED = {  # kind of setting: its designs by number (entities, or the seed of the draw) and rows
    "one direction each": (ring_designs, (2, 4, 8)),
    "random subspaces": (subspace_designs, (0, 1, 2)),
    "aligned tasks": (aligned_designs, (2, 4, 8)),
}
PRIVATE_ROWS = 20


def scan_mixtures(every: int = 1) -> pd.DataFrame:
    """The best mixture of each setting on the grid alpha, beta = 0.1..0.9, a row per setting.

    A private row count of PRIVATE_ROWS, a quarter to 4 times as many public rows, an eighth to 4 times as many
    synthetic ones. Columns kind, number (of entities; of random subspaces the seed), public, synthetic, alpha and beta
    (the best), efficiency (there, and the largest) and half (at 0.5, 0.5). every: of the settings take every n-th.
    """
    grid, lines = np.arange(1, 10) / 10, []
    numbers = [(kind, number) for kind, (_, of_kind) in SCANNED.items() for number in of_kind]
    sizes = itertools.product(PRIVATE_ROWS * 2.0 ** np.arange(-2, 3), PRIVATE_ROWS * 2.0 ** np.arange(-3, 3))
    for (kind, number), (public, synthetic) in list(itertools.product(numbers, sizes))[::every]:
        values = efficiency_surface(SCANNED[kind][0](number, PRIVATE_ROWS, public, synthetic), grid)
        i, j = np.unravel_index(np.nanargmax(values), values.shape)
        lines.append((kind, number, public, synthetic, grid[i], grid[j], values[i, j], values[4, 4]))
    columns = ["kind", "number", "public", "synthetic", "alpha", "beta", "efficiency", "half"]
    return pd.DataFrame(lines, columns=columns).round(6)


def read_scan(reports_dir: str | Path) -> pd.DataFrame:
    """mixtures.csv: what `python -m symbiosis.analysis.interaction` wrote (one minute); published, if not here."""
    places = (resolve(place) / "mixtures.csv" for place in (reports_dir, params.PUBLISHED))
    return pd.read_csv(next((path for path in places if path.is_file()), "mixtures.csv"))


def scan_rows(scan: pd.DataFrame) -> pd.DataFrame:
    """The scan as a study that claims read: settings in place of seeds; 1 where the best is at (0.5, 0.5), or near."""
    marked = _marked(scan)[["best", "near"]].astype(float).rename_axis("seed").reset_index()
    rows = marked.melt("seed", var_name="metric").replace({"best": "half_is_best", "near": "half_is_near"})
    return rows.assign(arm="mixtures", generation=0)


def scan_summary(scan: pd.DataFrame) -> pd.DataFrame:
    """By kind of setting and in all: how often half and half is best, or one step of the grid off, and its price.

    Columns settings, best (at 0.5, 0.5), near (within one step of it), alpha and beta (medians of the best), lost and
    worst (median and largest share of the best efficiency that is lost at 0.5, 0.5).
    """
    marked = _marked(scan)
    counted = {"settings": ("best", "size"), "best": ("best", "sum"), "near": ("near", "sum")}
    typical = {name: (name, "median") for name in ("alpha", "beta", "lost")} | {"worst": ("lost", "max")}
    parts = [marked.assign(kind="all"), marked]
    return pd.concat([part.groupby("kind", sort=False).agg(**counted, **typical) for part in parts])


def _marked(scan: pd.DataFrame) -> pd.DataFrame:
    off = np.maximum((scan["alpha"] - 0.5).abs(), (scan["beta"] - 0.5).abs())
    return scan.assign(best=off < 0.05, near=off < 0.15, lost=1 - scan["half"] / scan["efficiency"])


if __name__ == "__main__":
    scan_mixtures().to_csv(resolve(params.PUBLISHED) / "mixtures.csv", index=False, lineterminator="\n")
