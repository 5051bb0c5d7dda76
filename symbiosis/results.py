"""Read finished runs, keep the long table reports/results.csv, and make the tables people look at."""

import csv
import functools
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from symbiosis.errors import SymbiosisError
from symbiosis.files import write_atomic
from symbiosis.settings import resolve
from symbiosis.statistics import holm, mean_interval, paired_difference, paired_values, wilson_interval

COLUMNS = ("study", "method", "variant", "scale", "seed", "generation", "metric", "value", "unit", "n", "run_id")
NUMBERS = {"seed": int, "generation": int, "value": float, "n": int}
RUN_KEY = ["study", "method", "variant", "scale", "seed"]  # one run; it is replaced as a whole
SORT_BY = ["scale", "study", "method", "variant", "seed", "generation", "metric"]

RECORD_COLUMNS = (
    "run_id", "commit", "dirty", "device", "threads", "torch", "transformers", "wall_s", "peak_memory_gib",
)  # fmt: skip
RECORD_NUMBERS = {"threads": int, "wall_s": float, "peak_memory_gib": float}

UNREPORTED = "smoke"  # the notebooks' own defaults: too small to report
HOW_TO_MAKE = (
    "make it with `make reproduce`, or run notebooks/03_symbiosis_loop.ipynb with a file of params/ "
    "and then notebooks/06_analysis.ipynb"
)

# Accuracy in percent before any training and after the last generation, by arm: the results sheet of the Symbiosis
# paper (AG News, pythia-160m taught by Qwen2-0.5B-Instruct). One run, so no interval can be given.
PUBLISHED = {
    "real": (25.20, 84.00),
    "static": (23.60, 41.00),
    "recursive": (26.80, 26.80),
    "symbiosis": (19.20, 25.00),
}

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


class ResultsError(SymbiosisError):
    """Results that cannot be read or used, with the file and the remedy."""


def arm_of(method: str, variant: str) -> str:
    """The name of a method as it was set up: `method`, or `method-variant` where the variant is not the plain one."""
    return method if variant == "plain" else f"{method}-{variant}"


def arm_name(arm: str) -> str:
    """An arm as a figure or table names it; arms without a name of their own read as they are spelt."""
    return ARM_NAME.get(arm, arm.replace("_", " ").replace("-", ", ", 1).capitalize())


# ---- from runs to reports/results.csv and reports/records.csv


def read_rows(run_folder: str | Path) -> pd.DataFrame:
    """The long rows of one finished run."""
    return read_table(Path(run_folder) / "rows.csv", COLUMNS, NUMBERS)


def collect(reports_dir: str | Path, scale: str | None = None) -> list[str]:
    """Merge finished runs (of one scale) into results.csv and records.csv; returns the run_ids merged, sorted.

    A run found in reports/runs replaces the rows of the same study, method, variant, scale and seed; all others stay.
    Both files depend only on the runs and on what they held, so a repeat changes no byte. Scale 'smoke' never enters.
    """
    reports_dir = resolve(reports_dir)
    folders = [path.parent for path in sorted(reports_dir.glob(f"runs/{scale or '*'}/*/*/record.json"))]
    folders = [folder for folder in folders if folder.parts[-3] != UNREPORTED]
    if not folders:
        return []
    rows = pd.concat([read_rows(folder) for folder in folders], ignore_index=True)
    rows = rows[rows["scale"] != UNREPORTED]
    results = merge(read_or_empty(reports_dir / "results.csv", COLUMNS, NUMBERS), rows)
    records = _merge_records(reports_dir, [_read_record(folder) for folder in folders], set(results["run_id"]))
    write_atomic(reports_dir / "results.csv", csv_bytes(results, COLUMNS))
    write_atomic(reports_dir / "records.csv", csv_bytes(records, RECORD_COLUMNS))
    return sorted(set(rows["run_id"]))


def read_results(reports_dir: str | Path, scale: str, study: str = "main") -> pd.DataFrame:
    """Rows of reports/results.csv of one scale and study, with the column `arm`."""
    return read_long(resolve(reports_dir) / "results.csv", scale, study)


def read_long(path: Path, scale: str, study: str, how_to_make: str = HOW_TO_MAKE) -> pd.DataFrame:
    """Rows of one scale and study of a long table, with the column `arm`; ResultsError where there is none."""
    if not path.is_file():
        raise ResultsError(f"{path}: no such file; {how_to_make}")
    rows = read_table(path, COLUMNS, NUMBERS)
    chosen = rows[(rows["scale"] == scale) & (rows["study"] == study)].reset_index(drop=True)
    if chosen.empty:
        held = ", ".join(sorted({f"{s}/{t}" for s, t in zip(rows["scale"], rows["study"], strict=True)})) or "nothing"
        raise ResultsError(f"{path}: no rows of scale '{scale}' and study '{study}' (it holds {held}); {how_to_make}")
    return with_arm(chosen)


def studies(reports_dir: str | Path, scale: str) -> list[str]:
    """The studies of one scale that results.csv holds, sorted; none where there is no such file."""
    return list(read_studies(reports_dir, scale))


def read_studies(reports_dir: str | Path, scale: str) -> dict[str, pd.DataFrame]:
    """{study: rows with `arm`} of all that results.csv holds of one scale; empty where there is no such file."""
    rows = read_or_empty(resolve(reports_dir) / "results.csv", COLUMNS, NUMBERS)
    of_scale = with_arm(rows[rows["scale"] == scale])
    return {study: part.reset_index(drop=True) for study, part in of_scale.groupby("study")}


def with_arm(rows: pd.DataFrame) -> pd.DataFrame:
    """The long table with its column `arm`."""
    return rows.assign(arm=[arm_of(m, v) for m, v in zip(rows["method"], rows["variant"], strict=True)])


def read_records(reports_dir: str | Path, run_ids: Sequence[str] | None = None) -> pd.DataFrame:
    """reports/records.csv: one line per run with where and how it was made; only `run_ids` where given."""
    records = read_or_empty(resolve(reports_dir) / "records.csv", RECORD_COLUMNS, RECORD_NUMBERS)
    return records if run_ids is None else records[records["run_id"].isin(set(run_ids))].reset_index(drop=True)


def csv_bytes(rows: pd.DataFrame, columns: Sequence[str]) -> bytes:
    """The table as CSV. A float is written as its shortest text that reads back as the same float."""
    return rows[list(columns)].to_csv(index=False, lineterminator="\n").encode()


def rows_digest(rows: pd.DataFrame) -> str:
    """sha256 of rows of results.csv in its own order and spelling: whoever holds the rows can check it."""
    return hashlib.sha256(csv_bytes(rows.sort_values(SORT_BY), COLUMNS)).hexdigest()


def merge(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    twice = new.groupby(RUN_KEY)["run_id"].nunique()
    if (twice > 1).any():
        ids = sorted(new.set_index(RUN_KEY).loc[[twice.idxmax()], "run_id"].unique())
        raise ResultsError(f"runs {' and '.join(ids)} are the same method, variant and seed; move one out of runs/")
    replaced = set(new[RUN_KEY].itertuples(index=False, name=None))
    kept = [key not in replaced for key in old[RUN_KEY].itertuples(index=False, name=None)]
    return pd.concat([old[kept], new], ignore_index=True).sort_values(SORT_BY, kind="stable", ignore_index=True)


def _merge_records(reports_dir: Path, new: list[dict], run_ids: set[str]) -> pd.DataFrame:
    """One record for each run that has rows; a run that was replaced takes its record along."""
    old = read_records(reports_dir)
    new = pd.DataFrame(new, columns=list(RECORD_COLUMNS))
    both = pd.concat([old[~old["run_id"].isin(new["run_id"])].astype(object), new], ignore_index=True)
    return both[both["run_id"].isin(run_ids)].sort_values("run_id", ignore_index=True)


def _read_record(folder: Path) -> dict:
    path = folder / "record.json"
    try:
        record = json.loads(path.read_text())
        flat = {**record, **record["versions"]}
        return {name: "" if flat[name] is None else str(flat[name]) for name in RECORD_COLUMNS}
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}: not valid JSON ({error}); delete the run's folder and run it again") from None
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{path}: no {error}; delete the run's folder and run it again") from None


def read_or_empty(path: Path, columns: Sequence[str], numbers: dict) -> pd.DataFrame:
    return read_table(path, columns, numbers) if path.is_file() else pd.DataFrame(columns=list(columns))


def read_table(path: Path, columns: Sequence[str], numbers: dict) -> pd.DataFrame:
    """A CSV of ours, strictly: just these columns, whole lines, numbers that are numbers (empty: not measured)."""
    if not path.is_file():
        raise ResultsError(
            f"{path}: no such file, though the run is marked finished; delete its folder and run it again"
        )
    return _parsed(path, path.read_text(), tuple(columns), tuple(numbers.items())).copy()


@functools.lru_cache(maxsize=4)  # one notebook asks for the long table dozens of times
def _parsed(path: Path, text: str, columns: tuple[str, ...], numbers: tuple[tuple[str, type], ...]) -> pd.DataFrame:
    header, *lines = list(csv.reader(io.StringIO(text))) or [[]]
    wrong = [f"column '{name}' is missing" for name in columns if name not in header]
    wrong += [f"column '{name}' is not known" for name in header if name not in columns]
    wrong += [
        f"line {i} has {len(x)} fields, not {len(header)}" for i, x in enumerate(lines, 2) if len(x) != len(header)
    ]
    if wrong:
        raise ResultsError(f"{path}: {wrong[0]}; restore the file from git or delete it and collect the runs again")
    found = dict(zip(header, zip(*lines, strict=True) if lines else [()] * len(header), strict=True))
    numeric = {name: _numbers(path, name, found[name], kind) for name, kind in numbers}
    texts = {name: pd.Series(found[name], dtype=str) for name in columns if name not in numeric}
    return pd.DataFrame({name: numeric.get(name, texts.get(name)) for name in columns})


def _numbers(path: Path, name: str, texts: Sequence[str], kind: type) -> pd.Series:
    values = []
    for line, text in enumerate(texts, start=2):
        try:
            values.append(float("nan") if kind is float and text == "" else kind(text))
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ResultsError(f"{path}: line {line}, column '{name}': {text!r} is not {what}") from None
    return pd.Series(values, dtype="int64" if kind is int else "float64")


# ---- tables


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
    table = by_seed(rows, metric)
    generation = last_generation(rows) if generation is None else generation
    found = table.xs(generation, level="generation").T.to_dict()  # {arm: {seed: value}}
    compared = []
    for i, baseline in enumerate(b for b in baselines if b in found):
        others = [arm for arm in order(rows) if arm in found and arm not in (baseline, *baselines[:i])]
        compared += [_compare(found, arm, baseline) for arm in others]
    columns = ["arm", "baseline", "difference", "low", "high", "p", "n"]
    result = pd.DataFrame(compared, columns=columns)
    result.insert(6, "p_holm", holm(result["p"]))
    return result


def growth_table(rows: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """Every arm's last generation against its own generation 0, seed by seed: did it grow or fall?

    Columns arm, difference (last - generation 0), low, high (95%), p, p_holm (over the table), n.
    """
    table, last = by_seed(rows, metric), last_generation(rows)
    ends = {g: table.xs(g, level="generation").T.to_dict() for g in (0, last)}
    arms = [arm for arm in order(rows) if arm in ends[0] and arm in ends[last]]
    grown = [(arm, *paired_difference(ends[last][arm], ends[0][arm])) for arm in arms]
    result = pd.DataFrame(grown, columns=["arm", "difference", "low", "high", "p"])
    seeds = [len(paired_values(ends[last][arm], ends[0][arm])) for arm in arms]
    return result.assign(p_holm=holm(result["p"]), n=seeds)


def _compare(found: dict[str, dict[int, float]], arm: str, baseline: str) -> tuple:
    pair = found[arm], found[baseline]
    return arm, baseline, *paired_difference(*pair), len(paired_values(*pair))


def last_generation(rows: pd.DataFrame) -> int:
    """The last generation every arm reached."""
    return int(rows.groupby("arm")["generation"].max().min())


def runs_overview(rows: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """How the runs of each arm were made: seeds, generations, mean wall time, largest memory, devices, commits."""
    runs = rows.groupby("run_id").agg(arm=("arm", "first"), seed=("seed", "first"), generations=("generation", "max"))
    joined = runs.join(records.set_index("run_id")).assign(commit=lambda t: t["commit"].str[:10])
    arms = joined.groupby("arm")

    def listed(column: str) -> pd.Series:
        return arms[column].agg(lambda values: ", ".join(map(str, sorted(set(values.dropna())))))

    table = {name: listed(name) for name in ("seed", "generations", "device", "commit", "dirty")}
    sizes = {"wall_s_mean": arms["wall_s"].mean(), "peak_memory_gib_max": arms["peak_memory_gib"].max()}
    return pd.DataFrame(table | sizes).loc[order(rows)]


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
    where no run of ours exists.
    """
    summary = summarise(rows, "accuracy").set_index("arm")
    table = pd.DataFrame({"arm": order(pd.DataFrame({"arm": [*summary.index, *PUBLISHED]}))}).set_index("arm")
    for name, generation in (("initial", 0), ("final", last_generation(rows))):
        at = summary[summary["generation"] == generation]
        table[name] = 100 * at["mean"]
        table[f"{name}_low"], table[f"{name}_high"] = 100 * at["low"], 100 * at["high"]
    table["n"] = at["n"].reindex(table.index, fill_value=0)
    published = pd.DataFrame.from_dict(PUBLISHED, orient="index", columns=["published_initial", "published_final"])
    return table.join(published).reset_index()


def readable_final(table: pd.DataFrame) -> pd.DataFrame:
    """`final_accuracy` as it stands in the paper: names, one decimal, intervals in brackets."""
    columns = {"Arm": [arm_name(arm) for arm in table["arm"]], "Seeds": table["n"].astype(str)}
    for when in ("initial", "final"):
        bounds = table[[when, f"{when}_low", f"{when}_high"]].to_numpy()
        columns[f"{when.capitalize()}, ours (%)"] = [with_interval(*b, digits=1) for b in bounds]
    for when in ("initial", "final"):
        values = table[f"published_{when}"]
        columns[f"{when.capitalize()}, published (%)"] = ["-" if pd.isna(v) else f"{v:.2f}" for v in values]
    return pd.DataFrame(columns)
