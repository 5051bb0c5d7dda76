"""The benchmarks run, at a shape of seconds, and fill their tables; how fast anything is, no test says."""

import importlib.util
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from symbiosis.data.lesson import load_lesson
from symbiosis.models import loading, scoring
from symbiosis.settings import root
from symbiosis.store import stages

FOLDER = root() / "benchmarks"


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


def test_training_compares_the_same_steps_and_both_precisions_learn_alike():
    benchmark = script("training")
    rows = benchmark.measure("tiny", n_texts=8, held_out=16, repeats=1, device="cpu", memory={})
    table = check(rows, "tokens_per_s")
    losses = table.dropna(subset="held_out_loss").set_index("way")["held_out_loss"]
    assert losses[benchmark.BF16] == pytest.approx(losses[benchmark.FP32], rel=0.01)
    assert losses[benchmark.BF16] != losses[benchmark.FP32]
    shares = table.loc[table["peer"] == "", "share_of_ceiling"]
    assert (shares > 0).all()  # below 1 at true shapes; not in the blink of a test


def test_trainers_rows_are_padded_and_only_texts_are_learned():
    benchmark, common = script("training"), script("common")
    _, tokenizer = common.student("tiny")
    batch = benchmark.collate(tokenizer, 6)([{"input_ids": [9, 8, 7]}, {"input_ids": [5]}])
    assert batch["labels"].tolist() == [[9, 8, 7, -100, -100, -100], [5, -100, -100, -100, -100, -100]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]
    assert benchmark.collate(tokenizer, None)([{"input_ids": [9, 8, 7]}])["input_ids"].shape == (1, 3)


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


def test_texts_have_the_lengths_of_news():
    common = script("common")
    size = common.lengths(100_000, np.random.default_rng(0))
    # AG News under GPT-NeoX's tokenizer: mean 53.8, median 52, p95 80, p99 119, max 248
    assert np.percentile(size, [50, 95, 99]) == pytest.approx([52, 80, 119], rel=0.03)
    assert size.mean() == pytest.approx(53.8, rel=0.03) and size.max() <= 248
    _, tokenizer = common.student("tiny")
    rng = np.random.default_rng(1)
    rows = common.token_rows(tokenizer, 200, rng)
    assert max(map(len, rows)) <= 128 and np.median([len(r) for r in rows]) == pytest.approx(52, abs=4)


def test_a_table_keeps_the_rows_of_other_shapes(tmp_path, capsys):
    common = script("common")
    row = {"shape": "tiny", "way": "a", "device": "CPU, 1 thread", "clock": "", "versions": "", "rate": 1.0}
    for changes in ({}, {"shape": "large", "rate": 2.0}, {"rate": 3.0}):
        common.write(str(tmp_path / "t.csv"), [row | changes])
    table = pd.read_csv(tmp_path / "t.csv").set_index("shape")
    assert table["rate"].to_dict() == {"large": 2.0, "tiny": 3.0}
    assert "versions" not in capsys.readouterr().out


def test_linear_flops_are_two_per_weight_of_every_product():
    common = script("common")
    model, _ = common.student("tiny")
    h, inner, layers, words = 64, 256, 2, 4096
    assert common.linear_flops(model) == 2 * (layers * (3 * h * h + h * h + 2 * h * inner) + words * h)


FEW = {
    "generations": 2, "lesson_size": 8, "pool_size": 24, "hard_examples": 4, "test_size": 8, "dev_size": 4,
    "train_size": 4, "epochs": 1, "generator_epochs": 1, "max_new_tokens": 8,
}  # fmt: skip


def test_growth_finds_an_exponent_it_is_given():
    benchmark = script("growth")
    sizes = np.array([10, 20, 40, 80] * 3)
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=len(sizes)))
    slope, low, high = benchmark.exponent(sizes, 3 * sizes**1.5 * noise)
    assert low < 1.5 < high and high - low < 0.1 and slope == pytest.approx(1.5, abs=0.05)


def test_growth_measures_stages_alone(tmp_path, monkeypatch):
    growth, largest = script("growth"), {"find hard texts": 100, "train the Student": 8, "write": 8, "self-BLEU": 64}
    for stage in largest:  # two sizes, twice each, are the fewest that give an interval
        monkeypatch.setitem(growth.STAGES, stage, replace(growth.STAGES[stage], quotients=(2, 1)))
    table = pd.DataFrame(growth.measure(growth.ground(tmp_path, 100, "cpu", FEW), largest, repeats=2))
    assert table["stage"].tolist() == list(largest) and table["smallest"].tolist() == [50, 4, 4, 32]
    assert np.isfinite(table[["exponent", "low", "high", "seconds_at_largest"]].to_numpy()).all()


def test_growth_runs_whole_turns_and_tells_parts_apart(tmp_path):
    growth = script("growth")
    on = growth.ground(tmp_path, 192, "cpu", FEW)
    for work, stage in (
        (growth.run_loop(on, 1, mixing="accumulate"), "teach-1"),
        (growth.interact(on, 2, 1), "compare-1"),
    ):
        began = time.process_time()
        parts = work()
        assert min(parts.values()) > 0 and sum(parts.values()) < time.process_time() - began
        assert len(list(tmp_path.rglob(stage))) == 1  # the last stage that belongs to it, and it is whole


def test_growth_of_some_stages_leaves_the_others_in_the_table(tmp_path, monkeypatch, capsys):
    growth, known = (
        script("growth"),
        {"part": "", "shape": "tiny", "device": "CPU, 1 thread", "clock": "", "versions": ""},
    )
    path = str(tmp_path / growth.TABLE)
    script("common").write(path, [known | {"stage": s, "exponent": 1.25} for s in ("write", "self-BLEU")])
    monkeypatch.setattr(growth, "ground", lambda *sizes: None)
    monkeypatch.setattr(growth, "measure", lambda *_, **__: [known | {"stage": "self-BLEU", "exponent": 0.5}])
    monkeypatch.setattr(sys, "argv", ["growth.py", "--stages", "self-BLEU", "--folder", str(tmp_path)])
    growth.main()
    table = pd.read_csv(path)
    assert dict(zip(table["stage"], table["exponent"], strict=True)) == {"write": 1.25, "self-BLEU": 0.5}


def test_growth_knows_the_sizes_of_every_stage():
    growth = script("growth")
    assert list(growth.LARGEST) == list(growth.STAGES)
    for last, stage in zip(growth.LARGEST.values(), growth.STAGES.values(), strict=True):
        assert last % stage.quotients[0] == 0 and len(stage.quotients) > 2


def test_every_part_of_one_turn_is_measured(tmp_path):
    loop = script("loop")
    settings = loop.prepare(tmp_path, "tiny", "cpu", **FEW)
    watched = loop.run_stages(settings, last="teach-1")
    assert not (stages.run_folder(settings) / "record.json").exists()  # it ended there
    table = pd.DataFrame(loop.table(watched, settings, "tiny", {"student": 1e9, "generator": 1e9})).set_index("way")
    assert table.index.tolist() == [*loop.PARTS, loop.REST] and (table["stages"] == 4).all()
    assert (table[["seconds", "tokens", "share_of_ceiling"]] > 0).all(axis=None)
    assert table["of_all"].sum() == pytest.approx(1)
    assert table.loc[list(loop.PARTS), "peak_gb"].gt(0.1).all() == loop.CLEAR.exists()  # libraries alone hold more


def test_the_next_stage_alone_continues_the_run(tmp_path):
    loop = script("loop")
    settings = loop.prepare(tmp_path, "tiny", "cpu", **FEW)
    for name, part in (("student-0", "evaluate"), ("lesson-1", "write")):
        watched = loop.run_stages(settings, alone=True)
        assert {row["stage"] for row in watched} == {name} and part in {row["way"] for row in watched}
    lesson = load_lesson(stages.run_folder(settings) / "lessons" / "gen-1.parquet")
    assert np.mean([len(text.split()) for text in lesson["text"]]) > 7  # nearly every text goes on to max_new_tokens


def test_tokens_and_arithmetic_are_those_that_a_part_needs(tmp_path):
    loop, common = script("loop"), script("common")
    settings = loop.prepare(tmp_path, "tiny", "cpu", **FEW)
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
