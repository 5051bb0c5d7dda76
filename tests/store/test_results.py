"""Merging runs into the long table, reading it strictly, and the tables made from it."""

import json
import math
import resource
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from symbiosis.analysis import lesson_measures, tables
from symbiosis.errors import SymbiosisError
from symbiosis.store import results, stages
from symbiosis.store.folders import DiskError
from symbiosis.store.results import ResultsError
from symbiosis.store.stages import RunError

ARMS = {  # arm: (method, variant, accuracy at generation 0 and at the last)
    "real": ("real", "plain", 0.25, 0.91),
    "static": ("static", "plain", 0.25, 0.66),
    "recursive": ("recursive", "plain", 0.25, 0.25),
    "recursive-warm": ("recursive", "warm", 0.92, 0.72),
    "recursive-warm_t1": ("recursive", "warm_t1", 0.92, 0.76),
    "pseudo_label": ("pseudo_label", "plain", 0.25, 0.80),
    "symbiosis": ("symbiosis", "plain", 0.25, 0.75),
    "symbiosis-random": ("symbiosis", "random", 0.25, 0.74),
    "symbiosis-frozen": ("symbiosis", "frozen", 0.25, 0.73),
    "symbiosis-best": ("symbiosis", "best", 0.25, 0.78),
    "static-dev": ("static", "dev", 0.25, 0.69),
}
OTHER_METRICS = {  # metric: (unit, first generation, base value)
    "dev_accuracy": ("share", 0, 0.6),
    "label_loss": ("nats", 0, 0.9),
    "lm_loss": ("nats/token", 0, 3.1),
    "train_label_loss": ("nats", 1, 0.7),
    "train_lm_loss": ("nats/token", 1, 2.9),
    "lesson_distinct_2": ("share", 1, 0.41),
    "lesson_unique": ("share", 1, 0.99),
    "accuracy_tail": ("share", 0, 0.5),
    "lesson_label_purity": ("share", 1, 0.83),
    "lesson_tail_mass": ("share", 1, 0.3),
    "lesson_tail_coverage": ("share", 1, 0.92),
}
GENERATIONS = 3


def run_rows(arm, seed, scale="miniature", study="main"):
    """The long rows one run would leave, with made-up numbers: a saturating curve and noise from the seed."""
    method, variant, first, last = ARMS[arm]
    rng = np.random.default_rng([seed, list(ARMS).index(arm)])
    name = f"{results.arm_of(method, variant)}-s{seed}"
    head = {"study": study, "method": method, "variant": variant, "scale": scale, "seed": seed}
    tail = {"run_id": f"{scale}/{study}/{name}@{seed:08x}"}
    rows = []
    for g in range(GENERATIONS + 1):
        accuracy = last + (first - last) * 0.35**g + rng.normal(0, 0.02)
        rows.append({"generation": g, "metric": "accuracy", "value": accuracy, "unit": "share", "n": 1000})
        for metric, (unit, start, base) in OTHER_METRICS.items():
            if g >= start:
                value = base * (1 + 0.1 * (last - 0.5)) * 0.97**g + rng.normal(0, 0.01)
                rows.append({"generation": g, "metric": metric, "value": value, "unit": unit, "n": 300})
    return pd.DataFrame([head | row | tail for row in rows])[list(results.COLUMNS)]


def write_run(reports, rows, **record):
    """A finished run's folder as runs.py leaves it."""
    run_id = rows["run_id"].iloc[0]
    folder = reports / "runs" / run_id.split("@")[0]
    folder.mkdir(parents=True)
    rows.to_csv(folder / "rows.csv", index=False)
    versions = {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0"}
    record = {"run_id": run_id, "commit": "a" * 40, "dirty": False, "device": "cpu", "threads": 1, "wall_s": 41.7,
              "peak_memory_gib": 1.25, "versions": versions} | record  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))
    return folder


def write_reports(reports, seeds=range(5), arms=ARMS, scale="miniature"):
    for arm in arms:
        for seed in seeds:
            write_run(reports, run_rows(arm, seed, scale))
    results.collect(reports)
    return reports


def hand_rows(values, metric="accuracy", generation=1, n=100):
    """{arm: [value of seed 0, 1, ...]} as read rows."""
    return pd.DataFrame(
        {
            "arm": arm,
            "scale": "miniature",
            "seed": seed,
            "generation": generation,
            "metric": metric,
            "value": value,
            "n": n,
        }
        for arm, column in values.items()
        for seed, value in enumerate(column)
    )


def test_growth_is_the_last_generation_minus_the_first_seed_by_seed():
    start = hand_rows({"real": [0.2, 0.3, 0.1], "recursive": [0.9, 0.8, 0.7]}, generation=0)
    end = hand_rows({"real": [0.8, 0.9, 0.7], "recursive": [0.6, 0.6, 0.5]}, generation=2)
    table = tables.growth_table(pd.concat([start, end])).set_index("arm")
    assert table.loc["real", "mean"] == pytest.approx(0.6) and table.loc["real", "n"] == 3
    assert table.loc["recursive", "mean"] == pytest.approx((-0.3 - 0.2 - 0.2) / 3)
    assert table.loc["recursive", "low"] < table.loc["recursive", "high"] < 0


# ---- collecting


def test_collect_keeps_every_digit(tmp_path):
    rows = run_rows("real", 0)
    rows.loc[0, "value"], rows.loc[1, "value"] = 0.1 + 0.2, np.nextafter(1 / 3, 1)
    rows.loc[2, "value"] = math.nan
    write_run(tmp_path, rows)
    assert results.collect(tmp_path) == [rows["run_id"].iloc[0]]
    read = results.read_results(tmp_path, "miniature")
    expected = rows.sort_values(["generation", "metric"], ignore_index=True)
    pd.testing.assert_frame_equal(read.drop(columns="arm"), expected, check_exact=True)


def test_collect_twice_changes_no_byte(tmp_path):
    write_reports(tmp_path, seeds=[0, 1], arms=["real", "symbiosis"])
    files = [tmp_path / "results.csv", tmp_path / "records.csv"]
    before = [path.read_bytes() for path in files]
    results.collect(tmp_path)
    assert [path.read_bytes() for path in files] == before
    files[0].unlink()  # and from nothing
    results.collect(tmp_path)
    assert [path.read_bytes() for path in files] == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "records.csv", "results.csv", "runs"]


def test_a_run_replaces_its_own_rows_and_no_others(tmp_path):
    old = write_run(tmp_path, run_rows("static", 0))
    write_run(tmp_path, run_rows("static", 1))
    results.collect(tmp_path)
    for path in (old / "rows.csv", old / "record.json", old):
        path.unlink() if path.is_file() else path.rmdir()
    new = run_rows("static", 0).query("metric == 'accuracy'").assign(value=0.5, run_id="miniature/main/static-s0@beef")
    write_run(tmp_path, new)
    results.collect(tmp_path)
    rows = results.read_results(tmp_path, "miniature")
    assert set(rows[rows["seed"] == 0]["metric"]) == {"accuracy"}  # the old run's other metrics left with it
    assert set(rows[rows["seed"] == 0]["value"]) == {0.5}
    assert len(rows[rows["seed"] == 1]) == len(run_rows("static", 1))
    assert set(results.read_records(tmp_path)["run_id"]) == set(rows["run_id"])


def test_rows_stay_when_their_runs_are_gone(tmp_path):
    write_run(tmp_path / "elsewhere", run_rows("real", 3))
    results.collect(tmp_path / "elsewhere")
    for name in ("results.csv", "records.csv"):
        (tmp_path / name).write_bytes((tmp_path / "elsewhere" / name).read_bytes())
    write_run(tmp_path, run_rows("real", 4))
    assert len(results.collect(tmp_path)) == 1
    assert results.read_results(tmp_path, "miniature")["seed"].unique().tolist() == [3, 4]
    assert len(results.read_records(tmp_path)) == 2


def test_smoke_and_unfinished_runs_never_enter(tmp_path):
    write_run(tmp_path, run_rows("real", 0, scale="smoke"))
    assert results.collect(tmp_path) == results.collect(tmp_path, "smoke") == []
    assert not (tmp_path / "results.csv").exists()
    write_run(tmp_path, run_rows("real", 0))
    (write_run(tmp_path, run_rows("real", 1)) / "record.json").unlink()  # still running
    results.collect(tmp_path)
    rows = pd.read_csv(tmp_path / "results.csv")
    assert set(rows["scale"]) == {"miniature"} and set(rows["seed"]) == {0}


def test_collect_of_one_scale_leaves_the_others(tmp_path):
    write_run(tmp_path, run_rows("real", 0))
    write_run(tmp_path, run_rows("real", 0, scale="agnews_small"))
    assert results.collect(tmp_path, "agnews_small") == [run_rows("real", 0, "agnews_small")["run_id"].iloc[0]]
    assert set(pd.read_csv(tmp_path / "results.csv")["scale"]) == {"agnews_small"}
    results.collect(tmp_path)
    assert set(pd.read_csv(tmp_path / "results.csv")["scale"]) == {"agnews_small", "miniature"}


def test_records_say_how_each_run_was_made(tmp_path):
    write_run(tmp_path, run_rows("real", 0), dirty=True, peak_memory_gib=None)
    results.collect(tmp_path)
    (record,) = results.read_records(tmp_path).to_dict("records")
    assert (record["commit"], record["dirty"], record["torch"]) == ("a" * 40, "True", "2.13.0")
    assert (record["threads"], record["wall_s"]) == (1, 41.7) and math.isnan(record["peak_memory_gib"])


def test_a_table_without_a_later_column_is_read_and_written_with_it(tmp_path):
    write_run(tmp_path / "old", run_rows("real", 0))
    results.collect(tmp_path / "old")
    assert "cpu_s" not in (tmp_path / "old" / "records.csv").read_text()
    for seed, cpu_s in ((0, {}), (1, {"cpu_s": 40.5})):
        write_run(tmp_path, run_rows("real", seed), **cpu_s)
    results.collect(tmp_path)
    path = tmp_path / "records.csv"
    whole = path.read_bytes()
    records = pd.read_csv(path, dtype=str, keep_default_na=False)
    records.iloc[:1].drop(columns="cpu_s").to_csv(path, index=False)
    (old,) = results.read_records(tmp_path).to_dict("records")
    assert math.isnan(old["cpu_s"]) and old["wall_s"] == 41.7
    results.collect(tmp_path)
    assert (
        path.read_bytes() == whole and b"cpu_s" in whole and results.read_records(tmp_path)["cpu_s"].tolist()[1] == 40.5
    )


def test_studies_of_a_scale_are_listed_and_read_apart(tmp_path):
    assert results.read_studies(tmp_path, "miniature") == {}  # no file yet
    for study, scale in (("main", "miniature"), ("long", "miniature"), ("main", "agnews_small")):
        write_run(tmp_path, run_rows("real", 0, scale, study))
    results.collect(tmp_path)
    assert results.read_studies(tmp_path, "paper") == {}
    by_study = results.read_studies(tmp_path, "miniature")
    assert list(by_study) == ["long", "main"]
    for study, rows in by_study.items():
        pd.testing.assert_frame_equal(rows, results.read_results(tmp_path, "miniature", study))


# ---- what is refused, and how


MALFORMED = [
    ("metric,value", "metric,valu", "results.csv: column 'value' is missing"),
    ("run_id\n", "run_id,colour\n", "results.csv: column 'colour' is not known"),
    (",0,0,accuracy,", ",0,zero,accuracy,", "results.csv: line 2, column 'generation': 'zero' is not a whole number"),
    ("share,1000", "share,many", "column 'n': 'many' is not a whole number"),
    ("share,1000", "share,-1", "column 'n': '-1' is not a whole number, 0 or more"),
    ("share,1000", f"share,{2**63}", "column 'n': '9223372036854775808' is not a whole number"),
    ("main,real,plain", "main,real", "results.csv: line 2 has 10 fields, not 11"),
    (
        "main,real,plain",
        '"main,real,plain' + "x" * 200_000,
        r"results\.csv: (field larger than field limit|line 2 has 1 fields)",
    ),
]


def test_a_malformed_table_is_refused_by_file_and_column(tmp_path):
    path = write_reports(tmp_path, seeds=[0], arms=["real"]) / "results.csv"
    whole = path.read_text()
    for old, new, says in MALFORMED:
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(ResultsError, match=says):
            results.read_results(tmp_path, "miniature")


def test_a_missing_table_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ResultsError, match=r"results.csv: no such file; make it with `make reproduce`"):
        results.read_results(tmp_path, "miniature")


def test_a_scale_without_rows_says_what_there_is(tmp_path):
    write_reports(tmp_path, seeds=[0], arms=["real"])
    with pytest.raises(ResultsError, match=r"no rows of scale 'paper' and study 'main' \(it holds miniature/main\)"):
        results.read_results(tmp_path, "paper")


def cut(path):
    record(products=stages.products(path.parent))(path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def said_twice(path):
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")


def value(text):
    def change(path):
        head, first, *others = path.read_text().splitlines()
        fields = first.split(",")
        fields[results.COLUMNS.index("value")] = text
        path.write_text("\n".join([head, ",".join(fields), *others]) + "\n")

    return change


def bytes_of(content):
    return lambda path: path.write_bytes(content)


def record(**changes):
    def change(path):
        path = path.with_name("record.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def of_another_run(path):
    path.write_text(path.read_text().replace("real-s0@", "real-s1@"))


def whole_record(content):
    return lambda path: path.with_name("record.json").write_text(content)


HARM = [
    (cut, "real-s0: rows.csv not as the run wrote it; restore the file from a copy, or delete record.json"),
    (said_twice, "rows.csv: line 43 says again what a line before it says"),
    (value("inf"), "rows.csv: line 2, column 'value': 'inf' is not a finite number"),
    (value("-1e400"), "'-1e400' is not a finite number"),
    (value("nan"), "'nan' is not a finite number"),
    (value("1_0"), "'1_0' is not a finite number"),
    (value("\u0661"), "is not a finite number"),
    (bytes_of(b""), "rows.csv: column 'study' is missing"),
    (
        bytes_of(",".join(results.COLUMNS).encode()),
        "rows.csv: holds rows of nothing, not of miniature/main/real-s0@",
    ),
    (bytes_of(b"\xff\xfe"), "rows.csv: not UTF-8"),
    (of_another_run, r"rows.csv: holds rows of miniature/main/real-s1@\w+, not of miniature/main/real-s0@"),
    (lambda path: path.unlink(), "rows.csv: no such file, though the run is marked finished"),
]


def test_rows_that_are_not_as_the_run_wrote_them_are_not_merged(tmp_path):
    write_run(tmp_path, run_rows("static", 0))
    for harm, says in HARM:
        bad = write_run(tmp_path, run_rows("real", 0))
        harm(bad / "rows.csv")
        for collect in (results.collect, lesson_measures.collect):
            with pytest.raises(SymbiosisError, match=says) as told:
                collect(tmp_path)
            assert "\n" not in str(told.value) and len(str(told.value)) < len(str(bad)) + 250
        shutil.rmtree(bad)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "runs"]


OTHER_RECORDS = [
    (whole_record("{"), "record.json: not valid JSON"),
    (whole_record("[" * 9000), "record.json: not valid JSON"),
    (whole_record("[]"), "record.json: holds no run_id; delete this file and run again"),
    (whole_record("null"), "record.json: holds no run_id"),
    (whole_record("{}"), "record.json: holds no run_id"),
    (record(versions=None), "record.json: no "),
    (record(products=[1]), "record.json: its `products` are no names and values"),
    (whole_record('{"run_id": "miniature/main/real-s0@00000000", "dirty": false, "versions": {}}'), "no 'commit'"),
]


def test_a_record_of_another_shape_is_one_sentence(tmp_path):
    for harm, says in OTHER_RECORDS:
        folder = write_run(tmp_path, run_rows("real", 0))
        harm(folder / "rows.csv")
        with pytest.raises(SymbiosisError, match=says) as told:
            results.collect(tmp_path)
        assert "\n" not in str(told.value) and len(str(told.value)) < len(str(folder)) + 250
        shutil.rmtree(folder)


def test_lessons_may_be_gone_but_not_changed(tmp_path):
    folder = write_run(tmp_path, run_rows("real", 0))
    (folder / "lessons").mkdir()
    (folder / "lessons" / "gen-1.parquet").write_text("a lesson")
    record(products=stages.products(folder))(folder / "rows.csv")
    (folder / "lessons" / "gen-1.parquet").write_text("another")
    with pytest.raises(RunError, match=r"lessons/gen-1.parquet not as the run wrote it"):
        results.collect(tmp_path)
    (folder / "lessons" / "gen-1.parquet").unlink()
    assert len(results.collect(tmp_path)) == 1


def test_two_processes_that_merge_at_once_lose_no_row(tmp_path):
    for scale in ("ta", "tb"):
        for seed in range(3):
            write_run(tmp_path, run_rows("real", seed, scale))
    code = f"""
import sys, time
from symbiosis.store import results
merge = results.merge_rows
results.merge_rows = lambda *tables: (time.sleep(1), merge(*tables))[1]  # between reading and writing
print("ready", flush=True), sys.stdin.readline()
results.collect({str(tmp_path)!r}, sys.argv[1])
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([sys.executable, "-c", code, scale], **pipes) for scale in ("ta", "tb")]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("\n"), process.stdin.flush()
    assert [process.wait(120) for process in both] == [0, 0]
    rows = pd.read_csv(tmp_path / "results.csv")
    assert set(zip(rows["scale"], rows["seed"], strict=True)) == {(s, i) for s in ("ta", "tb") for i in range(3)}
    assert len(results.read_records(tmp_path)) == 6


def test_what_the_disk_refuses_leaves_the_tables_as_they_were(tmp_path):
    write_run(tmp_path, run_rows("real", 0))
    results.collect(tmp_path)
    before = (tmp_path / "results.csv").read_bytes()
    for seed in range(1, 9):
        write_run(tmp_path, run_rows("real", seed))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"cannot be written .*File too large.*; free some space, or see that you"):
            results.collect(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "results.csv").read_bytes() == before and not list(tmp_path.rglob("*.part"))
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", "/proc/nowhere"):
        with pytest.raises(DiskError, match="cannot be written"):
            results.collect(place)


def test_one_run_in_two_folders_is_refused(tmp_path):
    write_run(tmp_path, run_rows("real", 0))
    copy = run_rows("real", 0).assign(run_id="miniature/main/copy@1")
    write_run(tmp_path, copy)
    with pytest.raises(ResultsError, match="are the same method, variant and seed"):
        results.collect(tmp_path)


def test_seeds_of_two_studies_are_not_averaged():
    rows = hand_rows({"real": [0.5]})
    with pytest.raises(ResultsError, match="more than one scale, study or metric"):
        tables.summarise(pd.concat([rows, rows]), "accuracy")
    with pytest.raises(ResultsError, match="no rows of metric 'acuracy'; it has accuracy"):
        tables.summarise(rows, "acuracy")


# ---- tables


def test_arm_is_method_and_variant():
    assert results.arm_of("symbiosis", "plain") == "symbiosis"
    assert results.arm_of("symbiosis", "random") == "symbiosis-random"
    assert tables.arm_name("symbiosis-random") == "Symbiosis, random feedback"
    assert tables.arm_name("symbiosis-best_foreign") == "Best, another Student's feedback"
    assert tables.arm_name("symbiosis-some_new") == "Symbiosis, some new"


def test_summary_by_hand_with_intervals_from_three_seeds_on_and_numbers_in_a_row_as_one():
    (row,) = tables.summarise(hand_rows({"real": [0.1, 0.2, 0.3]}), "accuracy").to_dict("records")
    assert (row["arm"], row["generation"], row["n"]) == ("real", 1, 3)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((0.2, 0.2 - half, 0.2 + half), abs=1e-6)

    for values, shown in (([0.5], "0.500"), ([0.4, 0.6], "0.500"), ([0.4, 0.5, 0.6], "0.500 [0.252, 0.748]")):
        assert tables.readable(tables.summarise(hand_rows({"real": values}), "accuracy")).loc["real", 1] == shown

    assert tables.spans([11]) == "11" and tables.spans([1, 2]) == "1, 2"
    assert tables.spans([1, 2, 3, 4, 7]) == "1 to 4, 7" and tables.spans([]) == ""


def test_paired_differences_use_the_common_seeds_and_test_nothing_where_these_are_too_few():
    rows = hand_rows({"static": [0.5, 0.6, 0.7, 0.9], "symbiosis": [0.6, 0.8, 1.0], "recursive": [0.5, 0.5, 0.5]})
    table = tables.paired_table(rows).set_index(["arm", "baseline"])
    row = table.loc["symbiosis", "static"]  # d = .1 .2 .3: t = 2 * sqrt 3, p = 1 - sqrt(12 / 14)
    assert (row["mean"], row["p"], row["n"]) == pytest.approx((0.2, 1 - math.sqrt(12 / 14), 3))

    table = tables.paired_table(hand_rows({"static": [0.5], "symbiosis": [0.7]}))
    assert table["mean"].tolist() == pytest.approx([0.2])
    assert table[["low", "high", "p", "p_holm"]].isna().all(axis=None)

    table = tables.paired_table(hand_rows({"real": [0.5, 0.6], "symbiosis": [0.7, 0.8]}))
    assert table.empty and list(table) == ["arm", "baseline", "n", "mean", "low", "high", "p", "p_holm"]


def test_holm_covers_the_whole_table_and_each_pair_counts_once():
    rng = np.random.default_rng(1)
    means = {"real": 0.9, "static": 0.6, "recursive": 0.25, "symbiosis": 0.7}
    rows = hand_rows({arm: mean + rng.normal(0, 0.05, 5) for arm, mean in means.items()})
    table = tables.paired_table(rows)
    pairs = list(zip(table["arm"], table["baseline"], strict=True))
    assert pairs == [("real", "static"), ("symbiosis", "static"), ("recursive", "static"),
                     ("real", "recursive"), ("symbiosis", "recursive")]  # fmt: skip
    smallest = table["p"].idxmin()
    assert table.loc[smallest, "p_holm"] == pytest.approx(5 * table.loc[smallest, "p"])
    assert (table["p_holm"] >= table["p"]).all()


def test_final_accuracy_stands_beside_the_published_numbers():
    first = hand_rows({"real": [0.2, 0.25, 0.3], "recursive-warm": [0.9, 0.9]}, generation=0)
    last = hand_rows({"real": [0.8, 0.9, 1.0], "recursive-warm": [0.7, 0.7]}, generation=1)
    table = tables.final_accuracy(pd.concat([first, last])).set_index("arm")
    assert table.loc["real", ["initial", "final", "n"]].tolist() == pytest.approx([25, 90, 3])
    assert table.loc["real", ["published_initial", "published_final"]].tolist() == [25.20, 84.00]
    assert math.isnan(table.loc["recursive-warm", "published_final"])
    assert table.loc["symbiosis", "published_final"] == 25.00 and table.loc["symbiosis", "n"] == 0  # published, not run
    text = tables.readable_final(table.reset_index()).set_index("Arm")
    assert text.loc["Symbiosis"].tolist() == ["0", "-", "-", "19.20", "25.00"]
    assert text["Final, ours (%)"][["Real data", "Recursive, warm start"]].tolist() == ["90.0 [65.2, 114.8]", "70.0"]
    own = tables.final_accuracy(pd.concat([first, last]).assign(scale="tickets"))
    assert own["arm"].tolist() == ["real", "recursive-warm"] and "published_final" not in own
    assert list(tables.readable_final(own)) == ["Arm", "Seeds", "Initial, ours (%)", "Final, ours (%)"]


def test_run_table_gives_the_interval_of_the_test_rows_at_the_last_generation_every_arm_reached():
    table = tables.run_table(hand_rows({"static": [0.5], "real": [0.0]}, n=4))
    assert table["arm"].tolist() == ["real", "static"]
    assert table.loc[1, ["low", "high"]].tolist() == pytest.approx([0.150036, 0.849964], abs=1e-5)

    rows = pd.concat(
        [hand_rows({"real": [0.5], "static": [0.5]}, generation=1), hand_rows({"real": [0.5]}, generation=2)]
    )
    assert tables.last_generation(rows) == 1


def test_final_accuracy_of_two_worlds_side_by_side(monkeypatch):
    def world(arms):
        of_seeds = [(arm, seed, value) for arm, values in arms.items() for seed, value in enumerate(values)]
        lines = [("accuracy", arm, seed, g, value - (1 - g)) for arm, seed, value in of_seeds for g in (0, 1)]
        return pd.DataFrame(lines, columns=["metric", "arm", "seed", "generation", "value"]).assign(scale="s")

    by_study = {"main": world({"static": [0.5, 0.6, 0.7], "real": [0.9, 0.9]}), "rare_tail": world({"real": [0.8]})}
    monkeypatch.setattr(tables, "WORLDS", {"s": {"a": "main", "b": "rare_tail"}})
    lines = tables.table("main_table", by_study).formats()["md"].splitlines()
    assert lines[0] == "| method | a | b |" and lines[2] == "| Real data | 0.900 | 0.800 |"
    assert lines[3] == "| Static synthetic | 0.600 [0.352, 0.848] | - |"  # t(.975, 2) * sd / sqrt(3) = 4.3027 * .057735


def test_pairs_of_different_processors_are_named():
    rows = hand_rows({"static": [0.5, 0.6], "real": [0.9, 0.9]}).assign(run_id=list("abcd"))
    records = pd.DataFrame({"run_id": list("abcd"), "hardware": ["Xeon", "", "Xeon", "EPYC"]})
    said = tables.mixed_processors(rows, records)
    assert said == "Seeds 1: arms ran on different processors (EPYC; not recorded), which alone may move a digit."
    assert tables.mixed_processors(rows, records.assign(hardware="")) == ""
