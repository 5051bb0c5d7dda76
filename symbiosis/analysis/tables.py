"""Tables over seeds: values by seed, means with intervals, paired differences, the published numbers beside ours."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from symbiosis.analysis.statistics import PAIRED, holm, mean_interval, paired_row, wilson_interval
from symbiosis.store.results import ResultsError
from symbiosis.yaml_files import read_yaml

STYLES = read_yaml(Path(__file__).with_name("styles.yaml"))
LAST = -1  # generations below 0 count from the end, as indices do

# Accuracy in percent before any training and after the last generation, by arm: the results sheet of the Symbiosis
# paper (AG News, pythia-160m taught by Qwen2-0.5B-Instruct). One run, so no interval can be given.
PUBLISHED_ACCURACY = {
    "real": (25.20, 84.00),
    "static": (23.60, 41.00),
    "recursive": (26.80, 26.80),
    "symbiosis": (19.20, 25.00),
}
PUBLISHED_BESIDE = ("miniature", "agnews_small", "paper")  # scales that ask what the paper asked


def arm_name(arm: str) -> str:
    """An arm as a figure or table names it; arms without a name of their own read as they are spelt."""
    spelt = arm.replace("_", " ").replace("-", ", ", 1).capitalize()
    return STYLES["arms"].get(arm, {"name": spelt})["name"]


def order(table: pd.DataFrame) -> list[str]:
    """The arms of a table in the one order of every table and figure: named arms first, then by name."""
    known = list(STYLES["arms"])
    return sorted(table["arm"].unique(), key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def last_generation(rows: pd.DataFrame) -> int:
    """The last generation every arm reached; 0 where there is no arm."""
    return int(rows.groupby("arm")["generation"].max().min()) if len(rows) else 0


# ---- values by seed
def check_single(rows: pd.DataFrame, by: Sequence[str]) -> None:
    """ResultsError where a seed has two values of one combination of the columns `by`."""
    if rows.duplicated([*by, "seed"]).any():
        raise ResultsError("rows come from more than one scale, study or metric; choose one of each")


class SeedValues:
    """Numbers of one scale and study, a value per seed; `missing` names what was asked for and is not there."""

    def __init__(self, rows: pd.DataFrame):
        cell = ["arm", "generation", "metric"]
        check_single(rows, cell)
        self.rows, self.missing, self.last = rows, [], last_generation(rows)
        self.by_cell = dict(list(rows.dropna(subset="value").set_index("seed").groupby(cell)["value"]))

    def __call__(self, arm: str, generation: int = LAST, metric: str = "accuracy") -> pd.Series:
        """Values by seed, nan-free; empty where the arm was not run or the metric not measured."""
        generation = self.last + 1 + generation if generation < 0 else generation
        if (arm, generation, metric) not in self.by_cell:
            self.missing.append(f"{arm_name(arm)} (no {metric})" if arm in set(self.rows["arm"]) else arm_name(arm))
            return pd.Series(dtype=float, index=pd.Index([], dtype="int64", name="seed"), name="value")
        return self.by_cell[arm, generation, metric]


def difference_table(names: Sequence[str], pairs: Mapping[tuple, tuple[pd.Series, pd.Series]]) -> pd.DataFrame:
    """A line per pair (a, b) of values by seed, {its names: (a, b)}: a - b over the seeds both have.

    Columns: the names, n seeds, mean, low, high (95% t-interval), p, and p_holm over the whole table. A pair without a
    common seed has no line.
    """
    tests = [(*key, *paired_row(a, b)) for key, (a, b) in pairs.items()]
    table = pd.DataFrame(tests, columns=[*names, *PAIRED])
    table = table[table["n"] > 0].reset_index(drop=True)
    return table.assign(p_holm=holm(table["p"]))


def paired_table(rows: pd.DataFrame, baselines: Sequence[str] = ("static", "recursive")) -> pd.DataFrame:
    """`difference_table` of the last accuracy of every arm and every baseline; two baselines are compared once."""
    values, arms = SeedValues(rows), order(rows)
    pairs = {
        (arm, baseline): (values(arm), values(baseline))
        for i, baseline in enumerate(baselines)
        for arm in arms
        if arm not in (baseline, *baselines[:i])
    }
    return difference_table(["arm", "baseline"], pairs)


def growth_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`difference_table` of every arm's last accuracy and its own at generation 0: did it grow or fall?"""
    values = SeedValues(rows)
    return difference_table(["arm"], {(arm,): (values(arm), values(arm, 0)) for arm in order(rows)})


# ---- means over seeds
def means_over_seeds(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A line per combination of the columns `by`: these, mean, low, high (95% over seeds; unit of the value), n."""
    check_single(rows, by)
    cells = rows.groupby(list(by))["value"]
    means = [(*cell, *mean_interval(values), values.count()) for cell, values in cells]
    return pd.DataFrame(means, columns=[*by, "mean", "low", "high", "n"])


def summarise(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """`means_over_seeds` of one metric, per arm and generation."""
    chosen = rows[rows["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(rows["metric"].unique()))
        raise ResultsError(f"results.csv: no rows of metric '{metric}'; it has {known}")
    return means_over_seeds(chosen, ["arm", "generation"])


def with_interval(mean: float, low: float, high: float, digits: int = 3) -> str:
    """'mean [low, high]'; only the mean where there is no interval, a dash where there is no mean."""
    if pd.isna(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def p_text(p: float, unknown: str = "-") -> str:
    """A p as people read it: three decimals, '< 0.001' below them, `unknown` where nothing was tested."""
    return unknown if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def intervals(table: pd.DataFrame, digits: int = 3, columns: Sequence[str] = ("mean", "low", "high")) -> pd.Series:
    """`with_interval` of every line of a table."""
    cells = [with_interval(*bounds, digits) for bounds in table[list(columns)].to_numpy()]
    return pd.Series(cells, table.index, dtype=object)


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """A summary as people read it: a line per arm, a column per generation, 'mean [low, high]' in each cell."""
    table = summary.assign(cell=intervals(summary)).pivot(index="arm", columns="generation", values="cell")
    return table.reindex(order(summary))


# ---- the tables of docs/results.md, of the paper, of notebook 06: as people read them, in every format
class Table(NamedTuple):
    """Numbers with all digits, the same as people read them, and the rows of results.csv behind them."""

    numbers: pd.DataFrame
    readable: pd.DataFrame
    rows: pd.DataFrame

    def markdown(self) -> str:
        return markdown_table([*map(str, self.readable.columns)], self.readable.to_numpy().tolist())

    def formats(self) -> dict[str, str]:
        """{suffix: text}: csv of the numbers, md and tex (booktabs) of what is read."""
        style = self.readable.style.hide(axis="index").format(escape="latex")
        numeric = [column.str.match(r"[-<\d]").all() for _, column in self.readable.items()]
        sides = "".join("r" if right else "l" for right in numeric)
        return {
            "csv": self.numbers.to_csv(index=False, lineterminator="\n"),
            "md": self.markdown(),
            "tex": style.format_index(escape="latex", axis="columns").to_latex(hrules=True, column_format=sides),
        }


WORLDS = {  # by scale: the studies that are columns of its main table; without any, it has a column per seed
    "miniature": {"pool as the test": "main", "pool rarely shows it": "rare_tail"},
    "agnews_small": {},
}
PAIRED_TESTS = {  # file: the arms that all others are compared with
    "paired": ("static", "recursive"),
    "paired_controls": ("pseudo_label", "symbiosis-random", "symbiosis-frozen"),
    "paired_best": ("symbiosis-best",),
}
TABLES = ("final_accuracy", "main_table", *PAIRED_TESTS)


def table(name: str, by_study: Mapping[str, pd.DataFrame], study: str = "main") -> Table:
    """One of TABLES, of a scale's {study: rows}; its rows are empty where nothing can be said."""
    rows = by_study[study][by_study[study]["metric"] == "accuracy"]
    if name == "final_accuracy":
        numbers = final_accuracy(rows)
        return Table(numbers, readable_final(numbers), rows)
    if name in PAIRED_TESTS:
        numbers = paired_table(rows, baselines=PAIRED_TESTS[name])
        used = rows[rows["arm"].isin({*numbers["arm"], *numbers["baseline"]})]
        return Table(numbers, readable_paired(numbers), used)
    named = {column: by_study[of] for column, of in WORLDS.get(rows["scale"].iloc[0], {}).items() if of in by_study}
    if not named:
        single = run_table(rows)
        return Table(single, by_seed(single), rows)
    means = {column: summarise(of, "accuracy").query("generation == generation.max()") for column, of in named.items()}
    final = pd.concat([mean.assign(world=column) for column, mean in means.items()])
    used = pd.concat([of[of["metric"] == "accuracy"] for of in named.values()])
    return Table(final[["world", "arm", "mean", "low", "high", "n"]], by_world(final), used)


def by_world(final: pd.DataFrame) -> pd.DataFrame:
    """Last generation's accuracy of every arm, 'mean [low, high]', a column per world; a dash where it was not run."""
    cells = final.assign(cell=intervals(final.reset_index(drop=True)).to_numpy())
    worlds = list(final["world"].unique())
    return _by_arm(cells.pivot(index="arm", columns="world", values="cell")[worlds], "method")


def by_seed(single: pd.DataFrame) -> pd.DataFrame:
    """Final accuracy of every single run with its Wilson interval, for scales of too few seeds: arms by seeds."""
    cells = single.assign(cell=intervals(single, columns=("value", "low", "high")))
    return _by_arm(cells.pivot(index="arm", columns="seed", values="cell"), "seed")


def _by_arm(cells: pd.DataFrame, corner: str) -> pd.DataFrame:
    cells = cells.reindex(order(cells.reset_index())).fillna("-").rename(columns=str).rename_axis(columns=None)
    return cells.rename(index=arm_name).rename_axis(corner).reset_index()


def readable_paired(table: pd.DataFrame) -> pd.DataFrame:
    """`paired_table` as people read it: differences in points of accuracy with 95% t-intervals over seeds."""
    points = table[["mean", "low", "high"]] * 100
    columns = {"Arm": table["arm"].map(arm_name), "Against": table["baseline"].map(arm_name)}
    columns |= {"Seeds": table["n"].astype(str), "Difference (points)": intervals(points, 1)}
    return pd.DataFrame(columns | {"p": table["p"].map(p_text), "p (Holm)": table["p_holm"].map(p_text)})


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in [head, ["---"] * len(head), *lines])


def runs_overview(rows: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """How the runs of each arm were made: seeds, generations, mean wall time, largest memory, devices, commits."""
    runs = rows.groupby("run_id").agg(arm=("arm", "first"), seed=("seed", "first"), generations=("generation", "max"))
    joined = runs.join(records.set_index("run_id")).assign(commit=lambda t: t["commit"].str[:10])
    arms = joined.groupby("arm")

    def listed(column: str) -> pd.Series:
        return arms[column].agg(lambda values: ", ".join(map(str, sorted(set(values.dropna()) - {""}))))

    table = {"seeds": arms["seed"].agg(lambda seeds: spans(sorted(seeds)))}
    table |= {name: listed(name) for name in ("generations", "device", "hardware", "commit", "dirty")}
    sizes = {"wall_s_mean": arms["wall_s"].mean(), "peak_memory_gib_max": arms["peak_memory_gib"].max()}
    return pd.DataFrame(table | sizes).loc[order(rows)]


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers in order, those in a row as one: '1 to 4, 7'."""
    steps = pd.Series(numbers)
    rows = [list(part) for _, part in steps.groupby(steps.to_numpy() - np.arange(len(steps)))]
    return ", ".join(f"{part[0]} to {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in rows)


def mixed_processors(rows: pd.DataFrame, records: pd.DataFrame) -> str:
    """A sentence about seeds whose arms, compared in pairs, were run on different processors; '' elsewhere."""
    runs = rows.drop_duplicates("run_id").merge(records[["run_id", "hardware"]], on="run_id")
    kinds = runs.groupby("seed")["hardware"].agg(set)
    mixed = kinds[kinds.map(len) > 1]
    names = "; ".join(sorted(name or "not recorded" for name in set().union(*mixed)))
    seeds = ", ".join(map(str, mixed.index))
    return f"Seeds {seeds}: arms ran on different processors ({names}), which alone may move a digit." if seeds else ""


def run_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Final accuracy of every single run with the Wilson interval of its test rows (their draw alone)."""
    final = rows[(rows["metric"] == "accuracy") & (rows["generation"] == last_generation(rows))]
    final = final.set_index("arm").loc[order(final)].reset_index().dropna(subset="value")
    bounds = [wilson_interval(share, n) for share, n in zip(final["value"], final["n"], strict=True)]
    low, high = zip(*bounds, strict=True)
    return final[["arm", "seed", "value", "n"]].assign(low=low, high=high)


def final_accuracy(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy before any training and after the last generation, in percent, the published numbers beside ours.

    Columns arm, then initial, initial_low, initial_high and the same for final (mean and 95% t-interval over seeds), n
    seeds, published_initial, published_final (nan where the paper has no such arm). A published arm stays in the table
    where no run of ours exists. Scales of a reader's own have neither these arms nor these columns.
    """
    published = PUBLISHED_ACCURACY if set(rows["scale"]) <= set(PUBLISHED_BESIDE) else {}
    summary = summarise(rows, "accuracy").set_index("arm")
    table = pd.DataFrame({"arm": order(pd.DataFrame({"arm": [*summary.index, *published]}))}).set_index("arm")
    for name, generation in (("initial", 0), ("final", last_generation(rows))):
        ours = summary[summary["generation"] == generation]
        table[name] = 100 * ours["mean"]
        table[f"{name}_low"], table[f"{name}_high"] = 100 * ours["low"], 100 * ours["high"]
    table["n"] = ours["n"].reindex(table.index, fill_value=0)
    columns = ["published_initial", "published_final"] if published else []
    return table.join(pd.DataFrame.from_dict(published, orient="index", columns=columns)).reset_index()


def readable_final(table: pd.DataFrame) -> pd.DataFrame:
    """`final_accuracy` as it stands in the paper: names, one decimal, intervals in brackets."""
    columns = {"Arm": table["arm"].map(arm_name), "Seeds": table["n"].astype(str)}
    for when in ("initial", "final"):
        columns[f"{when.capitalize()}, ours (%)"] = intervals(table, 1, (when, f"{when}_low", f"{when}_high"))
    for when in ("initial", "final") if "published_final" in table else ():
        published = table[f"published_{when}"].map("{:.2f}".format, na_action="ignore").fillna("-")
        columns[f"{when.capitalize()}, published (%)"] = published
    return pd.DataFrame(columns)
