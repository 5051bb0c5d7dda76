"""Tables over seeds: means with intervals, paired differences, growth, the published numbers beside ours."""

from collections.abc import Mapping, Sequence

import pandas as pd

from symbiosis.analysis.statistics import PAIRED, holm, mean_interval, paired_row, wilson_interval
from symbiosis.store.results import ResultsError

# Accuracy in percent before any training and after the last generation, by arm: the results sheet of the Symbiosis
# paper (AG News, pythia-160m taught by Qwen2-0.5B-Instruct). One run, so no interval can be given.
PUBLISHED = {
    "real": (25.20, 84.00),
    "static": (23.60, 41.00),
    "recursive": (26.80, 26.80),
    "symbiosis": (19.20, 25.00),
}
PUBLISHED_BESIDE = ("miniature", "agnews_small", "paper")  # scales that ask what the paper asked


ARM_NAME = {  # in the order of every table and figure
    "real": "Real data",
    "pseudo_label": "Pseudo-labelled pool",
    "symbiosis": "Symbiosis",
    "symbiosis-best": "Symbiosis, best",
    "symbiosis-random": "Symbiosis, random feedback",
    "symbiosis-frozen": "Symbiosis, frozen Generator",
    "symbiosis-best_random": "Best, random feedback",
    "symbiosis-best_foreign": "Best, another Student's feedback",
    "symbiosis-best_influence": "Best, influence feedback",
    "symbiosis-fresh_filtered": "Filtered writing, no pool",
    "symbiosis-pool_and_write_25": "Pool labels 25% + filtered writing",
    "symbiosis-pool_and_write_50": "Pool labels 50% + filtered writing",
    "symbiosis-pool_and_write_75": "Pool labels 75% + filtered writing",
    "symbiosis-label_hard": "Hard texts, labelled",
    "static": "Static synthetic",
    "static-dev": "Static + dev labels",
    "static-attributes": "Static, attribute prompts",
    "recursive": "Recursive",
    "recursive-warm": "Recursive, warm start",
    "recursive-warm_t1": "Recursive, warm start, T = 1",
}


def arm_name(arm: str) -> str:
    """An arm as a figure or table names it; arms without a name of their own read as they are spelt."""
    return ARM_NAME.get(arm, arm.replace("_", " ").replace("-", ", ", 1).capitalize())


def by_seed(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric as a table: index (arm, generation), a column per seed; nan where not measured."""
    chosen = rows[rows["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(rows["metric"].unique()))
        raise ResultsError(f"results.csv: no rows of metric '{metric}'; it holds {known}")
    if chosen.duplicated(["arm", "generation", "seed"]).any():
        raise ResultsError(f"rows of metric '{metric}' come from more than one scale or study; choose one of each")
    return chosen.pivot(index=["arm", "generation"], columns="seed", values="value")


def summarise(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over seeds per arm and generation: columns arm, generation, mean, low, high (95%), n seeds."""
    table = by_seed(rows, metric)
    bounds = [mean_interval(values) for values in table.to_numpy()]
    summary = pd.DataFrame(bounds, index=table.index, columns=["mean", "low", "high"])
    return summary.assign(n=table.notna().sum(axis=1)).reset_index()


def readable(summary: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """A summary as people read it: a line per arm, a column per generation, 'mean [low, high]' in each cell."""
    cells = [with_interval(*bounds, digits) for bounds in summary[["mean", "low", "high"]].to_numpy()]
    return summary.assign(cell=cells).pivot(index="arm", columns="generation", values="cell").reindex(order(summary))


def with_interval(mean: float, low: float, high: float, digits: int = 3) -> str:
    """'mean [low, high]'; only the mean where there is no interval, a dash where there is no mean."""
    if pd.isna(mean):
        return "-"
    return f"{mean:.{digits}f}" + ("" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def markdown_final(worlds: Mapping[str, pd.DataFrame], digits: int = 3) -> str:
    """Last generation's accuracy of every arm, 'mean [low, high]', a column per world; a dash where it was not run."""
    columns = {}
    for name, rows in worlds.items():
        final = summarise(rows, "accuracy").query("generation == generation.max()").set_index("arm")
        bounds = final[["mean", "low", "high"]].to_numpy()
        columns[name] = pd.Series([with_interval(*b, digits) for b in bounds], index=final.index)
    arms = order(pd.concat(list(worlds.values()))[["arm"]])
    return _as_markdown(pd.DataFrame(columns).reindex(arms).fillna("-"), "method")


def markdown_by_seed(rows: pd.DataFrame, digits: int = 3) -> str:
    """Final accuracy of every single run with its Wilson interval, for scales of too few seeds: arms by seeds."""
    single = run_table(rows)
    cells = [with_interval(*bounds, digits) for bounds in single[["value", "low", "high"]].to_numpy()]
    table = single.assign(cell=cells).pivot(index="arm", columns="seed", values="cell").reindex(order(rows)).fillna("-")
    return _as_markdown(table, "seed")


def _as_markdown(table: pd.DataFrame, corner: str) -> str:
    lines = [[arm_name(arm), *cells] for arm, cells in zip(table.index, table.to_numpy(), strict=True)]
    head = [corner, *map(str, table.columns)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def order(table: pd.DataFrame) -> list[str]:
    """The arms of a table in the one order of every table and figure: named arms first, then by name."""
    known = list(ARM_NAME)
    return sorted(table["arm"].unique(), key=lambda arm: (known.index(arm) if arm in known else len(known), arm))


def paired_table(
    rows: pd.DataFrame,
    metric: str = "accuracy",
    generation: int | None = None,
    baselines: Sequence[str] = ("static", "recursive"),
) -> pd.DataFrame:
    """Every arm against every baseline, seed by seed, at one generation (default: the last).

    Columns arm, baseline, difference (arm - baseline), low, high (95%), p, p_holm, n (seeds both have). The family of
    Holm's correction is this whole table; two baselines are compared once.
    """
    generation = last_generation(rows) if generation is None else generation
    values = by_seed(rows, metric).xs(generation, level="generation")
    lines, baselines = [], [baseline for baseline in baselines if baseline in values.index]
    for i, baseline in enumerate(baselines):
        for arm in order(rows):
            if arm in values.index and arm not in (baseline, *baselines[:i]):
                lines.append((arm, baseline, *paired_row(values.loc[arm], values.loc[baseline])))
    return _differences(lines, ["arm", "baseline"])


def growth_table(rows: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Every arm's last generation against its own generation 0, seed by seed: did it grow or fall?

    Columns arm, difference (last - generation 0), low, high (95%), p, p_holm (over the table), n.
    """
    values = by_seed(rows, metric)
    first, last = (values.xs(g, level="generation") for g in (0, last_generation(rows)))
    arms = [arm for arm in order(rows) if arm in first.index and arm in last.index]
    return _differences([(arm, *paired_row(last.loc[arm], first.loc[arm])) for arm in arms], ["arm"])


def _differences(lines: list[tuple], names: Sequence[str]) -> pd.DataFrame:
    """Names and PAIRED as a table, with Holm's correction over all of it."""
    table = pd.DataFrame(lines, columns=[*names, *PAIRED]).rename(columns={"mean": "difference"})
    table["p_holm"] = holm(table["p"])
    return table[[*names, "difference", "low", "high", "p", "p_holm", "n"]]


def last_generation(rows: pd.DataFrame) -> int:
    """The last generation every arm reached."""
    return int(rows.groupby("arm")["generation"].max().min())


def runs_overview(rows: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """How the runs of each arm were made: seeds, generations, mean wall time, largest memory, devices, commits."""
    runs = rows.groupby("run_id").agg(arm=("arm", "first"), seed=("seed", "first"), generations=("generation", "max"))
    joined = runs.join(records.set_index("run_id")).assign(commit=lambda t: t["commit"].str[:10])
    arms = joined.groupby("arm")

    def listed(column: str) -> pd.Series:
        return arms[column].agg(lambda values: ", ".join(map(str, sorted(set(values.dropna()) - {""}))))

    table = {name: listed(name) for name in ("seed", "generations", "device", "hardware", "commit", "dirty")}
    sizes = {"wall_s_mean": arms["wall_s"].mean(), "peak_memory_gib_max": arms["peak_memory_gib"].max()}
    return pd.DataFrame(table | sizes).loc[order(rows)]


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
    published = PUBLISHED if set(rows["scale"]) <= set(PUBLISHED_BESIDE) else {}
    summary = summarise(rows, "accuracy").set_index("arm")
    table = pd.DataFrame({"arm": order(pd.DataFrame({"arm": [*summary.index, *published]}))}).set_index("arm")
    for name, generation in (("initial", 0), ("final", last_generation(rows))):
        at = summary[summary["generation"] == generation]
        table[name] = 100 * at["mean"]
        table[f"{name}_low"], table[f"{name}_high"] = 100 * at["low"], 100 * at["high"]
    table["n"] = at["n"].reindex(table.index, fill_value=0)
    columns = ["published_initial", "published_final"] if published else []
    return table.join(pd.DataFrame.from_dict(published, orient="index", columns=columns)).reset_index()


def readable_final(table: pd.DataFrame) -> pd.DataFrame:
    """`final_accuracy` as it stands in the paper: names, one decimal, intervals in brackets."""
    columns = {"Arm": [arm_name(arm) for arm in table["arm"]], "Seeds": table["n"].astype(str)}
    for when in ("initial", "final"):
        bounds = table[[when, f"{when}_low", f"{when}_high"]].to_numpy()
        columns[f"{when.capitalize()}, ours (%)"] = [with_interval(*b, digits=1) for b in bounds]
    for when in ("initial", "final") if "published_final" in table else ():
        values = table[f"published_{when}"]
        columns[f"{when.capitalize()}, published (%)"] = ["-" if pd.isna(v) else f"{v:.2f}" for v in values]
    return pd.DataFrame(columns)
