"""What several runs or several worlds say together: single factors, regimes, dev labels, long runs.

Every estimate is a mean over seeds with its 95% t-interval; the difference of two arms is taken seed by seed at the
last generation that every arm of the study reached. Holm's correction covers each table as a whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from symbiosis.analysis.statistics import holm, paired_difference, paired_values
from symbiosis.analysis.tables import by_seed, last_generation, order
from symbiosis.params import study_twins
from symbiosis.settings import RunSettings

DEFAULTS = {name: field.default for name, field in RunSettings.model_fields.items()}
BEST = "symbiosis-best"
FIRST_REPORTED_SEED = 11  # those below were looked at while methods were chosen

REFERENCE = {  # factor of the ablation: the level all others are held against
    "feedback": "random",
    "generator_update": "none",
    "candidates": 1,
    "soft_labels": False,
    "max_similarity": 1.0,
    "skip_hardest_share": 0.0,
}
NAMES = {"method", "variant", "study", "scale", "seed"}  # say which run it is, not what is done in it
PART_OF = {  # settings that mean nothing at the reference level of their factor, so they may change along with it
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
BLIND = ("static", "symbiosis-fresh_filtered")  # see neither pool nor dev

DEV_STUDIES = {"dev_16": 16, "dev_64": 64, "main": 128, "dev_256": 256}  # study: labelled dev rows
DEV_ARMS = ("static-dev", "symbiosis-best_influence")

TESTED = ("n", "mean", "low", "high", "p")  # seeds both have, mean difference, 95% interval, two-sided p


def overview(rows_by_study: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A line per study: how many arms, its seeds, how many of them are tuning seeds, its last generation."""
    lines = []
    for study, rows in rows_by_study.items():
        seeds = sorted(rows["seed"].unique())
        tuning = sum(seed < FIRST_REPORTED_SEED for seed in seeds)
        lines.append((study, rows["arm"].nunique(), ", ".join(map(str, seeds)), tuning, last_generation(rows)))
    return pd.DataFrame(lines, columns=["study", "arms", "seeds", "tuning_seeds", "generations"])


def used_rows(rows_by_study: Mapping[str, pd.DataFrame], table: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """The accuracy rows behind a `regime_table` or `dev_table`: of its studies, and of the arms given."""
    rows = pd.concat([rows_by_study[study] for study in table["study"].unique()], ignore_index=True)
    return rows[rows["arm"].isin(arms) & (rows["metric"] == "accuracy")]


# ---- one factor at a time


def with_twins(rows_by_study: Mapping[str, pd.DataFrame], study: str = "ablation") -> pd.DataFrame:
    """The rows of a study, `arm` included, and those of cells that another study ran under another name."""
    parts = [rows_by_study[study]]
    for arm, twin in study_twins(study).items():
        if arm not in set(parts[0]["arm"]) and twin["study"] in rows_by_study:
            rows = rows_by_study[twin["study"]]
            parts.append(rows[rows["arm"] == twin["arm"]].assign(arm=arm))
    return pd.concat(parts, ignore_index=True)


def ablation_effects(
    rows: pd.DataFrame, cells: Mapping[str, Mapping[str, Any]], metric: str = "accuracy"
) -> pd.DataFrame:
    """What each level of each factor is worth, everything else being equal.

        d_s = mean over pairs (x[with level, s] - x[with reference, s]),   estimate: mean of d_s over seeds s

    Args:
        rows:   the long table of the ablation, with `arm`.
        cells:  {arm: settings}; what a cell does not name has the default of RunSettings.
        metric: x, taken at the last generation every cell reached.

    A pair is two cells that differ in this factor alone (and in what only tunes it, PART_OF). A seed counts where all
    cells of all pairs have it, so that every seed averages over the same cells. Cells that were not run form no pair,
    a level without a pair has no line.

    Columns factor, level, reference, pairs, n seeds, mean, low, high (95%), p, p_holm (over the table), in the unit of
    the metric.
    """
    final = _final(rows, metric)
    run = {arm: {**DEFAULTS, **cell} for arm, cell in cells.items() if arm in final.index}
    found = []
    for factor, reference in REFERENCE.items():
        for level in dict.fromkeys(cell[factor] for cell in run.values() if cell[factor] != reference):
            if pairs := _pairs(run, factor, level):
                tested = _tested(*(final.loc[list(side)].mean(skipna=False) for side in zip(*pairs, strict=True)))
                found.append((factor, str(level), str(reference), len(pairs), *tested))
    return _with_holm(found, ["factor", "level", "reference", "pairs"])


def _pairs(cells: dict[str, dict], factor: str, level: Any) -> list[tuple[str, str]]:
    """(arm with the level, arm with the reference) of cells that are the same but for the factor."""
    ignored = NAMES | {factor} | PART_OF.get(factor, set())

    def rest(cell: dict) -> tuple:
        return tuple((name, value) for name, value in sorted(cell.items()) if name not in ignored)

    references = [(arm, rest(cell)) for arm, cell in cells.items() if cell[factor] == REFERENCE[factor]]
    levels = [(arm, rest(cell)) for arm, cell in cells.items() if cell[factor] == level]
    return [(a, b) for a, of_a in levels for b, of_b in references if of_a == of_b]


# ---- one arm against its rivals, world by world


def regime_table(
    rows_by_study: Mapping[str, pd.DataFrame], arm: str = BEST, rivals: Sequence[str] = RIVALS, metric: str = "accuracy"
) -> pd.DataFrame:
    """The arm minus each rival in every world, seed by seed at the last generation.

    Args:
        rows_by_study: {study: rows with `arm`}, as `results.read_studies` gives it; those of REGIMES are read.
                       Arms that see no pool (BLIND) are taken from `main` where a world of its Generator lacks them.
        arm, rivals:   what is held against what; a pair that a study has not run has no line.

    Columns study (in the order of REGIMES), rival, n seeds both have, mean, low, high (95%), p, p_holm
    (over the table), in the unit of the metric. One seed gives a mean without interval or p.
    """
    found = []
    for study in REGIMES:
        if study in rows_by_study:
            found += [(study, *line[1:]) for line in _leads(_of_study(rows_by_study, study), [arm], rivals, metric)]
    return _with_holm(found, ["study", "rival"])


def dev_table(
    rows_by_study: Mapping[str, pd.DataFrame],
    arms: Sequence[str] = DEV_ARMS,
    baseline: str = "static",
    metric: str = "accuracy",
) -> pd.DataFrame:
    """What labelled dev rows buy: each arm minus the baseline of the same study, by number of dev rows.

    Args:
        rows_by_study: {study: rows with `arm`}; only those of DEV_STUDIES are read.

    Columns study, dev_rows, arm, n seeds both have, mean, low, high (95%), p, p_holm (over the table), in the unit of
    the metric. What was not run has no line.
    """
    found = []
    for study, dev_rows in DEV_STUDIES.items():
        if study in rows_by_study:
            lines = _leads(_of_study(rows_by_study, study), arms, [baseline], metric)
            found += [(study, dev_rows, arm, *tested) for arm, _, *tested in lines]
    return _with_holm(found, ["study", "dev_rows", "arm"])


def _of_study(rows_by_study: Mapping[str, pd.DataFrame], study: str) -> pd.DataFrame:
    """Rows of a study; arms that see neither pool nor dev are the same in all worlds of one Generator: main's."""
    rows = rows_by_study[study]
    if "main" not in rows_by_study or REGIMES.get(study, ("", ""))[1] == LABELLER:
        return rows
    main = rows_by_study["main"]
    return pd.concat([rows, main[main["arm"].isin(set(BLIND) - set(rows["arm"]))]], ignore_index=True)


def _leads(rows: pd.DataFrame, arms: Sequence[str], rivals: Sequence[str], metric: str) -> list[tuple]:
    """(arm, rival, n, mean, low, high, p) of every pair that has a seed in common."""
    final = _final(rows, metric)
    pairs = [(a, b) for a in arms for b in rivals if a != b and {a, b} <= set(final.index)]
    lines = [(a, b, *_tested(final.loc[a], final.loc[b])) for a, b in pairs]
    return [line for line in lines if line[2]]


# ---- long runs

TO_THE_END, OVER_TEACHER = "last generation - generation {}", "Student - Generator at generation 0"


def beyond_teacher(rows: pd.DataFrame, since: int = 3) -> pd.DataFrame:
    """Does an arm still move after generation `since`, and does its Student end above the teacher's own labels?

        accuracy(last) - accuracy(since)   and   accuracy(last) - generator_accuracy(0), of the same run

    Args:
        rows:  the long table of a study, with `arm`.
        since: generation the change is counted from; must come before the last.

    Columns arm, comparison, n seeds, mean, low, high (95%), p, p_holm (over the table); shares of test rows. An arm
    without a Generator has no line of the second kind.
    """
    last = last_generation(rows)
    if not 0 <= since < last:
        raise ValueError(f"since: {since} is not before the last generation, {last}")
    accuracy, end = _at(rows, "accuracy", since), _at(rows, "accuracy", last)
    kinds = {TO_THE_END.format(since): accuracy, OVER_TEACHER: _at(rows, "generator_accuracy", 0)}
    found = [
        (arm, kind, *_tested(end.loc[arm], start.loc[arm]))
        for kind, start in kinds.items()
        for arm in order(rows)
        if arm in end.index and arm in start.index
    ]
    return _with_holm([line for line in found if line[2]], ["arm", "comparison"])


# ---- shared


def _final(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return _at(rows, metric, last_generation(rows))


def _at(rows: pd.DataFrame, metric: str, generation: int) -> pd.DataFrame:
    """(arms, seeds) values of one metric at one generation; no line where it was never measured."""
    chosen = rows[(rows["metric"] == metric) & (rows["generation"] == generation)].dropna(subset="value")
    return by_seed(chosen, metric).droplevel("generation") if len(chosen) else pd.DataFrame()


def _tested(a: pd.Series, b: pd.Series) -> tuple[int, float, float, float, float]:
    """TESTED of a - b over the seeds (the index) that have both."""
    a, b = a.to_dict(), b.to_dict()
    mean, low, high, p = paired_difference(a, b)
    return len(paired_values(a, b)), mean, low, high, p


def _with_holm(found: list[tuple], names: Sequence[str]) -> pd.DataFrame:
    table = pd.DataFrame(found, columns=[*names, *TESTED])
    return table.assign(p_holm=holm(table["p"].astype(float)))
