"""The benchmarks run, at a shape of seconds, and fill their tables; how fast anything is, no test says."""

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest

from symbiosis.settings import root

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
    assert shares.between(0, 1, inclusive="neither").all()


def test_trainers_rows_are_padded_and_only_texts_are_learned():
    benchmark, common = script("training"), script("common")
    _, tokenizer = common.student("tiny")
    batch = benchmark.collate(tokenizer, 6)([{"input_ids": [9, 8, 7]}, {"input_ids": [5]}])
    assert batch["labels"].tolist() == [[9, 8, 7, -100, -100, -100], [5, -100, -100, -100, -100, -100]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]
    assert benchmark.collate(tokenizer, None)([{"input_ids": [9, 8, 7]}])["input_ids"].shape == (1, 3)


def test_scoring_ways_agree_on_the_losses_they_are_timed_on():
    benchmark, common = script("scoring"), script("common")
    table = check(benchmark.measure("tiny", n_texts=6, repeats=1, device="cpu", memory={}), "texts_per_s")
    orders = table.dropna(subset="rank_correlation").set_index("way")["rank_correlation"]
    assert set(orders.index) == set(benchmark.SAME_ORDER) and (orders > 0.9).all()
    model, tokenizer = common.student("tiny")
    rows = common.token_rows(tokenizer, 6, np.random.default_rng(0))
    losses = {name: score(model, tokenizer, rows, **how) for name, (score, how) in benchmark.WAYS.items()}
    for name in (benchmark.FIXED, benchmark.LOSS_FP32):
        np.testing.assert_allclose(losses[name], losses[benchmark.NAIVE], rtol=1e-4)
    np.testing.assert_allclose(losses[benchmark.LOSS_BF16], losses[benchmark.NAIVE], rtol=1e-2)


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


def test_growth_finds_an_exponent_it_is_given():
    benchmark = script("growth")
    sizes = np.array([10, 20, 40, 80] * 3)
    noise = np.exp(0.01 * np.random.default_rng(0).normal(size=len(sizes)))
    slope, low, high = benchmark.exponent(sizes, 3 * sizes**1.5 * noise)
    assert low < 1.5 < high and high - low < 0.1 and slope == pytest.approx(1.5, abs=0.05)


def test_growth_measures_every_stage():
    rows = script("growth").measure("tiny", largest=dict.fromkeys(script("growth").STAGES, 64), repeats=1, device="cpu")
    table = pd.DataFrame(rows)
    assert table["stage"].tolist() == ["scoring", "training", "self-BLEU"] and (table["smallest"] == 8).all()
    assert np.isfinite(table[["exponent", "low", "high"]].to_numpy()).all()
