"""The benchmarks run, at a shape of seconds, and fill their tables; how fast anything is, no test says."""

import importlib.util
import re
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from symbiosis import params
from symbiosis.data.lesson import load_lesson
from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.models import loading, scoring
from symbiosis.settings import RunSettings, root
from symbiosis.store import stages

FOLDER = root() / "benchmarks"
FEW = {
    "generations": 2, "lesson_size": 8, "pool_size": 24, "hard_examples": 4, "test_size": 8, "dev_size": 4,
    "train_size": 4, "epochs": 1, "generator_epochs": 1, "max_new_tokens": 8,
}  # fmt: skip


def script(name: str):
    """A benchmark as a module of another name: `scoring` and `training` are the package's, too."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def scripts_on_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def test_the_labeller_table_by_hand():
    labeller = script("labeller")
    log_p = np.log([[0.1, 0.2, 0.3, 0.4]])  # of words a, b, c, d
    chosen = {"A": ("a", "c"), "B": ("b",)}
    np.testing.assert_allclose(np.exp(labeller.of_set(log_p, ["a", "b", "c", "d"], chosen)), [[2 / 3, 1 / 3]])
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.6, 0.4]])  # says A to all; less its mean, one of each
    labels = {"dev": np.array([0, 1, 0, 1]), "test": np.array([0, 1, 1, 1]), "drafts": np.array([0, 1, 0, 1])}
    labels["pool"] = np.array([0, 1, 0, 1])
    table = pd.DataFrame(labeller.table(dict.fromkeys(labels, np.log(p)), labels, ["A", "B"]))
    head = ["pool", "split", "calibration", "measure"]
    value = table.set_index(head)["value"]
    assert not table.duplicated(head).any() and set(table["pool"]) == {"whole", "without A", "without B"}
    assert value["whole", "dev", "none", "accuracy"] == 0.5 and value["whole", "dev", "none", "largest_share"] == 1
    assert value["whole", "dev", "written", "accuracy"] == value["whole", "dev", "pool", "accuracy"] == 1
    assert value["whole", "test", "written", "B said A"] == 1 and value["whole", "test", "written", "accuracy"] == 0.75
    lacks = value["without A"]  # all .6 to .4: their own mean makes them even, and the drafts' mean makes them B
    assert lacks["pool", "written", "accuracy"] == 1 and lacks["pool", "none", "accuracy"] == 0
    assert lacks["test", "pool", "accuracy"] == 0.25 and ("dev", "none", "accuracy") not in lacks.index
    assert set(table.loc[(table["pool"] == "without A") & (table["split"] == "pool"), "n"]) == {2}


def test_another_student_reads_the_lessons_of_finished_runs(tmp_path):
    readers, reports = script("readers"), str(tmp_path)
    tiny = {"scale": "smollm", "study": "of_a_test", "reports_dir": reports, "student_steps": 2, "generator_steps": 2}
    settings = RunSettings(method="static", **tiny | FEW | {"generations": 1, "lesson_size": 40, "dev_size": 8})
    runs.run(settings)
    for _ in range(2):  # again: its row is replaced
        readers.main(["probe", "--study", "of_a_test", "--reports", reports, "--folder", reports])
    (row,) = pd.read_csv(tmp_path / "readers.csv").to_dict("records")
    assert (row["arm"], row["seed"], row["reader"], row["n"]) == ("static", 0, "probe", 8)
    probe = settings.model_copy(update={"student": "probe"})
    task = load_task(probe)
    student = runs.initial_student(probe, task)
    student.learn(load_lesson(stages.run_folder(settings) / "lessons" / "gen-1.parquet"), seed=0)
    assert row["accuracy"] == student.evaluate(task.test)["correct"].mean()
    with pytest.raises(SystemExit):
        readers.main([])


def check(rows: list[dict], rate: str) -> pd.DataFrame:
    """Every row has a rate, every row with a peer a ratio that follows from two rates, and a goal stays beside it."""
    table = pd.DataFrame(rows)
    assert {"stage", "shape", "way", rate, "peer", "ratio", "goal", "n", "device", "versions"} <= set(table)
    assert (table[rate] > 0).all()
    n_compared = 0
    for _, part in table.groupby("stage"):
        rates = part[part["peer"] == ""].set_index("way")[rate]
        compared = part[part["peer"].isin(rates.index)]
        expected = rates[compared["way"]].to_numpy() / rates[compared["peer"]].to_numpy()
        np.testing.assert_allclose(compared["ratio"].astype(float), expected)
        n_compared += len(compared)
    assert n_compared
    return table


def test_a_users_tables_stay_beside_the_published_ones():
    default = re.search(r"^BENCHMARKS \?= (.+)", (root() / "Makefile").read_text(), flags=re.M)[1]
    assert default == script("common").FOLDER and default.startswith(f"{params.LOCAL}/")
    scripts = {path.stem: path.read_text() for path in FOLDER.glob("*.py")}
    called = re.findall(r"benchmarks/(\w+)\.py --folder \$\(BENCHMARKS\)", (root() / "Makefile").read_text())
    of_data = {"labeller", "readers"}  # these ask for data, or for runs
    scripts.pop("llama_writer")  # a part of `writers`, in another Python
    assert set(called) == set(scripts) - {"common"} - of_data
    for name, source in scripts.items():
        assert "/benchmarks/" not in source, name
        assert re.search(r"common\.arguments\(|default=common\.FOLDER", source) or name in of_data | {"common"}, name


def test_common_counts_two_operations_per_weight_and_keeps_the_rows_of_other_shapes(tmp_path):
    common = script("common")
    row = {"shape": "tiny", "way": "a", "device": "CPU, 1 thread", "clock": "", "versions": "", "rate": 1.0}
    for changes in ({}, {"shape": "large", "rate": 2.0}, {"rate": 3.0}):
        common.write(str(tmp_path / "t.csv"), [row | changes])
    table = pd.read_csv(tmp_path / "t.csv").set_index("shape")
    assert table["rate"].to_dict() == {"large": 2.0, "tiny": 3.0}
    model, _ = common.student("tiny")
    h, inner, layers, words = 64, 256, 2, 4096
    assert common.linear_flops(model) == 2 * (layers * (3 * h * h + h * h + 2 * h * inner) + words * h)


def test_training_compares_the_same_steps_and_both_precisions_learn_alike():
    benchmark = script("training")
    rows = benchmark.measure("tiny", n_texts=8, held_out=16, repeats=1, device="cpu", memory={})
    table = check(rows, "tokens_per_s")
    losses = table.dropna(subset="held_out_loss").set_index("way")["held_out_loss"]
    assert losses[benchmark.BF16] == pytest.approx(losses[benchmark.FP32], rel=0.01)
    assert losses[benchmark.BF16] != losses[benchmark.FP32]
    shares = table.loc[table["peer"] == "", "share_of_ceiling"]
    assert (shares > 0).all()  # below 1 at true shapes; not in the blink of a test


def test_scoring_ways_agree_on_the_losses_they_are_timed_on():
    benchmark, common = script("scoring"), script("common")
    table = check(benchmark.measure("tiny", n_texts=6, n_ranked=9, repeats=1, device="cpu", memory={}), "texts_per_s")
    orders = table.dropna(subset="rank_correlation").set_index("way")["rank_correlation"]
    assert set(orders.index) == set(benchmark.SAME_ORDER) and (orders > 0.9).all()
    assert table["ranked"].dropna().eq(9).all()
    model, tokenizer = common.student("tiny")
    rows = common.token_rows(tokenizer, 6, np.random.default_rng(0))
    losses = {name: score(model, tokenizer, rows, **how) for name, (score, how) in benchmark.WAYS.items()}
    for name in (benchmark.FIXED, benchmark.LOSS_FP32):
        np.testing.assert_allclose(losses[name], losses[benchmark.NAIVE], rtol=1e-4)
    np.testing.assert_allclose(losses[benchmark.LOSS_BF16], losses[benchmark.NAIVE], rtol=1e-2)
    ones = [len(words) == 1 for words in benchmark.LABELS]  # of which both read all
    ours, theirs = (losses[name][:, ones] for name in (benchmark.LABEL_FP32, benchmark.PLAIN_FP32))
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=1e-4)


def test_generation_refills_what_the_library_leaves_idle():
    benchmark = script("generation")
    case = benchmark.case("miniature", 12, 4, 8, "cpu")
    table = check(benchmark.table(case, "miniature", list(benchmark.WAYS), 1, {}), "tokens_per_s")
    wasted = table[table["peer"] == ""].set_index("way")["wasted_rows"]
    refill = wasted.index.str.startswith("refill")
    widest = [max(case.limits[i : i + 4]) - 1 for i in range(0, 12, 4)]  # the first tokens come with the prompts
    assert (wasted[refill] == 0).all()  # and by_refill asserts each text's length
    assert wasted[~refill].to_numpy() == pytest.approx(1 - (case.new - 12) / (4 * sum(widest)))


def test_writers_write_within_their_limits_and_who_is_not_here_says_so():
    writers = script("writers")
    case = writers.case("miniature", **writers.SHAPES["miniature"])
    for way in ("refill fp32", "generate fp32", "generate_batch fp32"):
        texts = writers.HERE[way][0](case, 1)
        assert [len(text) for text in texts] == case.limits.tolist(), way  # nothing ends a text but its limit
    rows = writers.measure("miniature", ["refill fp32", "llama.cpp F16", "vllm bf16"], threads=1, repeats=1)
    ours, llama, vllm = rows
    assert ours["refill_ratio"] == 1 and ours["tokens_per_s"] > 0 and ours["n"] == 1 and ours["left_out"] == ""
    assert ours["mean_tokens"] == pytest.approx(case.limits.mean())
    assert llama["tokens_per_s"] is vllm["tokens_per_s"] is None and "--llama-python" in llama["left_out"]
    assert vllm["left_out"]  # not installed, or more than one length
    few = [text[:4] for text in texts] + [[], *(text[:2] for text in texts[1:])]
    alone = [case.model(torch.tensor([p + t])).logits[0, len(p) - 1 : -1].log_softmax(-1).gather(
        1, torch.tensor(t)[:, None]).mean().item() if t else np.nan
        for p, t in zip(case.prompts * 2, few, strict=True)]  # fmt: skip
    np.testing.assert_allclose(writers.log_likelihoods(case, few), alone, rtol=1e-4)
    assert writers.without_end([[5, 9, 2], [7]], [9]) == [[5], [7]]


def test_influence_times_both_ways_from_the_same_weights():
    benchmark = script("influence")
    whole = benchmark.case("miniature", 4, 8)
    few = replace(whole, candidates=whole.candidates.select([0]))
    seconds = benchmark.measure(whole, few, repeats=1)
    assert set(seconds) == {"state_s", "direction_s", "two_passes_s", "retraining_s"} and min(seconds.values()) > 0
    weights = list(whole.student.lm.model.parameters())
    theta = [p.detach().clone() for p in weights]
    step = benchmark.influence.next_step(whole.student, whole.lesson, seed=benchmark.SEED)
    benchmark.retraining(few, step, theta)
    assert all(torch.equal(p, start) for p, start in zip(weights, theta, strict=True))


def test_embeddings_of_every_way_are_the_plain_loops(tmp_path):
    benchmark, common = script("embeddings"), script("common")
    benchmark.write_encoder("tiny", tmp_path)
    texts = common.texts(12, np.random.default_rng(0))
    rows = benchmark.measure("tiny", str(tmp_path), texts, repeats=1, device="cpu", memory={})
    table = check(rows, "texts_per_s").dropna(subset="distance").set_index("way")
    distance, others = table["distance"], table["distance_of_others"]
    assert distance[benchmark.FP32] < 1e-6 < distance[benchmark.BF16] < 1e-3  # the one rounds, the other does not
    assert (distance < others / 10).all()  # texts taken for one another would be as far apart as others


def test_self_bleu_and_vendi_are_the_peers_numbers():
    benchmark, common = script("diversity"), script("common")
    table = check(benchmark.measure(60, subset=2, repeats=1), "texts_per_s")
    compared = table.dropna(subset="difference")
    assert set(compared["peer"]) >= {"n x n kernel"} and (compared["difference"] < 1e-9).all()
    few = common.texts(benchmark.EQUAL_TEXTS, np.random.default_rng(common.SEED))
    assert 0.01 < benchmark.diversity.self_bleu(few) < 0.99  # a number that two ways could disagree on


def test_students_taught_in_one_program_end_where_they_end_alone():
    benchmark = script("many_students")
    table = pd.DataFrame(benchmark.measure(rows=24, repeats=1, students=(1, 3)))
    assert len(table) == 8 and (table["seconds"] > 0).all()
    assert (table["largest_difference"].dropna() < 1e-4).all() and table["largest_difference"].count() == 6
    alone = benchmark.one_after_the_other(3, 24, "cpu")()
    assert np.ptp(alone) > 0.01  # every Student has a lesson of its own
    assert (table.loc[table["way"] == benchmark.ONE, "ratio"] == 1).all()


def test_growth_measures_stages_and_finds_an_exponent_it_is_given(tmp_path, monkeypatch):
    growth, largest = script("growth"), {"find hard texts": 24, "train the Student": 8, "write": 8, "self-BLEU": 64}
    for stage in largest:  # two sizes, twice each, are the fewest that give an interval
        monkeypatch.setitem(growth.STAGES, stage, replace(growth.STAGES[stage], quotients=(2, 1)))
    on = growth.ground(tmp_path, 192, "cpu", FEW)
    table = pd.DataFrame(growth.measure(on, largest, repeats=2))
    assert table["stage"].tolist() == list(largest) and table["smallest"].tolist() == [12, 4, 4, 32]
    assert np.isfinite(table[["exponent", "low", "high", "seconds_at_largest"]].to_numpy()).all()
    for work in (growth.run_loop(on, 1, mixing="accumulate"), growth.interact(on, 2, 1)):
        assert min(work().values()) > 0  # every part that is told apart was called
    sizes = np.array([10, 20, 40, 80] * 3)
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=len(sizes)))
    slope, low, high = growth.exponent(sizes, 3 * sizes**1.5 * noise)
    assert low < 1.5 < high and high - low < 0.1 and slope == pytest.approx(1.5, abs=0.05)


def test_loop_measures_every_part_of_one_turn_and_counts_the_tokens_it_needs(tmp_path):
    loop, common = script("loop"), script("common")
    settings = loop.prepare(tmp_path, "tiny", "cpu", **FEW)
    watched = loop.run_stages(settings, last="teach-1")
    assert not (stages.run_folder(settings) / "record.json").exists()  # it ended there
    table = pd.DataFrame(loop.table(watched, settings, "tiny", {"student": 1e9, "generator": 1e9})).set_index("way")
    assert table.index.tolist() == [*loop.PARTS, loop.REST] and (table["stages"] == 4).all()
    assert (table[["seconds", "tokens", "share_of_ceiling"]] > 0).all(axis=None)
    assert table["of_all"].sum() == pytest.approx(1)
    assert table.loc[list(loop.PARTS), "peak_gb"].gt(0.1).all() == loop.CLEAR.exists()  # libraries alone hold more
    watch, rows = loop.Watch(torch.device("cpu"), {"scoring": (scoring, "text_losses")}), [[1, 9, 8, 7], [1, 6]]
    with watch.on():
        lm = loading.load(settings.student, device="cpu")
        scoring.text_losses(lm, rows, [1, 1], settings)
        scoring.token_losses(lm, rows, [1, 1], settings)
    model = lm.model
    trunk, head = (common.linear_flops(m) for m in (model.base_model, model.get_output_embeddings()))
    assert watch.rows[0]["tokens"] == 5  # the longest row's last one is not read, padding is not counted
    assert watch.rows[0]["student"] == 5 * trunk + 4 * head  # four tokens are predicted
    assert watch.flops["student"] == 4 * watch.rows[0]["student"]  # three times as much where it is differentiated


def test_equal_bits_compares_operations_of_fresh_processes(monkeypatch):
    equal_bits = script("equal_bits")
    settings = {"free": {}, "again": {}, "narrow": {"ATEN_CPU_CAPABILITY": "default"}}
    monkeypatch.setattr(equal_bits, "SETTINGS", settings)
    fresh = {name: equal_bits.measure(settings[name]) for name in ("free", "narrow")}
    loading.use_threads(1)
    here = {"digests": equal_bits.operations() | {"training": equal_bits.trained()[0]}}  # a third one: this
    answers = iter([fresh["free"], fresh["free"] | here, fresh["narrow"]])
    monkeypatch.setattr(equal_bits, "measure", lambda environment: next(answers))
    table = pd.DataFrame(equal_bits.rows(1)).set_index("setting")
    assert table.loc["again", "differs_from_first"] == ""
    assert table.loc["again", "digest"] == table.loc["free", "digest"]
    assert table.loc["narrow", "capability"] == "DEFAULT"
    if table.loc["free", "capability"] != "DEFAULT":
        assert {"softmax", "training"} <= set(table.loc["narrow", "differs_from_first"].split())
