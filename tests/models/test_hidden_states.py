import numpy as np
import pandas as pd
import pytest
import torch
from conftest import NEWS

from symbiosis.analysis.hidden_states import by_student, tail_gap, tail_gaps
from symbiosis.data.task import load_task
from symbiosis.loop import runs
from symbiosis.measures.density import MEASURES, density, effective_rank
from symbiosis.models import loading
from symbiosis.models.hidden_states import (
    RepresentationError,
    head_and_tail,
    hidden_states,
    probe,
    random_model,
    unit_density,
)
from symbiosis.models.loading import start_ids, token_ids
from symbiosis.settings import RunSettings, SettingsError, make_settings
from symbiosis.store import stages
from symbiosis.store.results import with_arm

SETTINGS = RunSettings(max_length=32, generation_batch_size=3)
TEXTS = [text for texts in NEWS.values() for text in texts] + ["Moon."]  # of very different lengths: much padding
RARE = np.arange(len(TEXTS)) % 3 == 0
FOLDERS = pytest.mark.parametrize("folder", ["neox_folder", "qwen_folder"])


@pytest.fixture(scope="module")
def student(neox_folder):
    return loading.load(str(neox_folder), device="cpu")


# --- effective rank ------------------------------------------------------------------------------------------------
def test_effective_rank_of_equal_spread_is_the_number_of_directions():
    plus_minus = np.concatenate([np.eye(5, 8), -np.eye(5, 8)])  # mean 0, five equal singular values
    assert effective_rank(plus_minus) == pytest.approx(5)
    assert effective_rank(np.eye(6, 9)) == pytest.approx(5)  # orthonormal rows: centring takes one direction


def test_effective_rank_by_hand():
    s = np.array([3.0, 1.0])  # p = (3/4, 1/4)
    x = np.concatenate([np.diag(s), -np.diag(s)])
    assert effective_rank(x) == pytest.approx(4 / 3**0.75)  # exp(-3/4 ln 3/4 - 1/4 ln 1/4)
    squares = s**2 / (s**2).sum()
    assert effective_rank(x) != pytest.approx(np.exp(-(squares * np.log(squares)).sum()), rel=0.1)  # not of s^2


def test_effective_rank_of_a_line_is_one():
    x = np.outer(np.arange(7.0), [1, -2, 3]) + np.array([5, 5, 0])  # away from the origin
    assert effective_rank(x) == pytest.approx(1)


def test_effective_rank_ignores_scale_shift_and_rotation():
    rng = np.random.default_rng(0)
    x, (q, _) = rng.normal(size=(20, 6)) * [1, 2, 3, 4, 5, 6], np.linalg.qr(rng.normal(size=(6, 6)))
    expected = effective_rank(x)
    assert 1 < expected < 6
    for same in (1e3 * x, x + 100 * rng.normal(size=6), x @ q):
        assert effective_rank(same) == pytest.approx(expected)
    assert effective_rank(x * [1, 1, 1, 1, 1, 10]) < 0.8 * expected  # one long direction is seen


def test_effective_rank_is_bounded_by_rows_and_columns():
    x = np.random.default_rng(1).normal(size=(40, 40))
    assert effective_rank(x[:5]) <= 4 and effective_rank(x[:, :3]) <= 3
    assert effective_rank(x[:20]) < effective_rank(x)  # grows with n: why groups must be equally large


def test_effective_rank_of_equal_rows_is_nan():
    assert np.isnan(effective_rank(np.full((4, 3), 0.1)))
    fp32 = (0.1 + np.random.default_rng(2).normal(size=(4, 3)) * 1e-9).astype(np.float32)
    assert np.isnan(effective_rank(fp32))


@pytest.mark.parametrize("shape", [(1, 5), (5,), (4, 0)])
def test_effective_rank_wants_a_matrix_of_two_rows(shape):
    with pytest.raises(ValueError, match="two rows"):
        effective_rank(np.ones(shape))


# --- density -------------------------------------------------------------------------------------------------------
def test_density_by_hand():
    one_hot, uniform, four_of_nine = np.eye(9)[2], np.full(9, -3.0), np.repeat([2.0, 0.0], [4, 5])
    np.testing.assert_allclose(density([one_hot, uniform, four_of_nine]), [0, 1, (2 - 1) / (3 - 1)], atol=1e-12)


def test_density_ignores_scale_sign_and_order_of_units_but_not_a_rotation():
    rng = np.random.default_rng(3)
    x = rng.normal(size=16)
    assert density(-1e4 * x) == pytest.approx(density(x)) == pytest.approx(density(rng.permutation(x)))
    q, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    assert density(np.eye(16)[0] @ q) > 0.5 > density(np.eye(16)[0])  # the axes matter


def test_density_of_noise_is_what_the_normal_law_says():
    noise = density(np.random.default_rng(4).normal(size=(50, 10_000)))
    expected = (100 * np.sqrt(2 / np.pi) - 1) / 99  # |x|_1 / |x|_2 = sqrt(d) E|z| to first order
    assert abs(noise.mean() - expected) < 1e-3 and noise.shape == (50,)


def test_density_of_silence_is_nan():
    assert np.isnan(density(np.zeros(4)))
    with pytest.raises(ValueError, match="two units"):
        density(np.ones((3, 1)))


# --- what a model computes -----------------------------------------------------------------------------------------
@FOLDERS
@pytest.mark.parametrize("layer", [0, 1, -1])
def test_hidden_states_equal_one_text_at_a_time(folder, layer, request):
    lm = loading.load(str(request.getfixturevalue(folder)), device="cpu")
    model, tokenizer = lm
    start = start_ids(tokenizer)
    expected = []
    for ids in token_ids(tokenizer, TEXTS):
        out = model(torch.tensor([start + ids]), output_hidden_states=True)  # no mask, no padding
        expected.append(out.hidden_states[layer][0, len(start) :].mean(dim=0).detach().numpy())
    found = hidden_states(lm, TEXTS, SETTINGS, layer=layer)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32 and found.std(axis=0).min() > 1e-4  # texts differ, so the order was checked


@FOLDERS
def test_unit_density_is_that_of_the_units_after_the_non_linearity(folder, request):
    lm = loading.load(str(request.getfixturevalue(folder)), device="cpu")
    model, tokenizer = lm
    mlp, start, expected = model.base_model.layers[-1].mlp, start_ids(tokenizer), []
    for ids in token_ids(tokenizer, TEXTS):
        entered = []
        hook = mlp.register_forward_pre_hook(lambda _, inputs, entered=entered: entered.append(inputs[0]))
        model(torch.tensor([start + ids]))
        hook.remove()
        x = entered[0][0, len(start) :]
        if folder == "neox_folder":
            units = torch.nn.functional.gelu(mlp.dense_h_to_4h(x))
        else:
            units = torch.nn.functional.silu(mlp.gate_proj(x)) * mlp.up_proj(x)
        expected.append(density(units.detach().numpy()).mean())
    found = unit_density(lm, TEXTS, SETTINGS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(found) > 1e-3


def test_looking_leaves_no_hook_behind(student):
    model, _tokenizer = student
    unit_density(student, TEXTS[:2], SETTINGS)
    assert not any(part._forward_pre_hooks for part in model.modules())
    with pytest.raises(ValueError, match="no tokens"):
        unit_density(student, ["", "Moon."], SETTINGS)
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_a_layer_that_is_not_there_is_named(student):
    with pytest.raises(RepresentationError, match=r"layers\[7\]"):
        unit_density(student, TEXTS, SETTINGS, layer=7)


def test_texts_are_cut_at_max_length(student):
    _model, tokenizer = student
    long = " ".join(TEXTS)
    cut = tokenizer.decode(token_ids(tokenizer, [long], 32)[0])
    same = hidden_states(student, [long, cut, long[:20]], SETTINGS)
    np.testing.assert_allclose(same[0], same[1], atol=1e-5)
    assert np.abs(same[0] - same[2]).max() > 1e-3


def test_random_model_has_the_shape_but_not_the_weights(student):
    model, _ = student
    state = torch.get_rng_state()
    fresh, again, other = random_model(model, 5), random_model(model, 5), random_model(model, 6)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's random numbers move
    shapes = [p.shape for p in model.parameters()]
    assert [p.shape for p in fresh.parameters()] == shapes and not fresh.training
    first = [m.get_input_embeddings().weight for m in (fresh, again, other, model)]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2]) and not torch.equal(first[0], first[3])


# --- head and tail -------------------------------------------------------------------------------------------------
def test_head_and_tail_are_equally_many_in_order():
    texts = list("abcdefg")
    tail = np.array([0, 1, 0, 0, 1, 1, 0], dtype=bool)
    assert head_and_tail(texts, tail) == (["a", "c", "d"], ["b", "e", "f"])
    with pytest.raises(ValueError, match="two at least"):
        head_and_tail(texts, np.arange(7) == 0)
    with pytest.raises(ValueError, match="shape"):
        head_and_tail(texts, tail[:-1])


def test_a_probe_is_made_of_its_parts(student):
    found = probe(student, TEXTS, RARE, SETTINGS)
    head, tail = head_and_tail(TEXTS, RARE)
    assert found["n"] == len(head) == len(tail) == 3
    assert found["density_tail"] == pytest.approx(unit_density(student, tail, SETTINGS).mean())
    assert found["effective_rank_head"] == pytest.approx(effective_rank(hidden_states(student, head, SETTINGS)))
    swapped = probe(student, head + tail, np.repeat([True, False], 3), SETTINGS)
    for name in MEASURES:
        assert swapped[f"{name}_tail"] == pytest.approx(found[f"{name}_head"], rel=1e-4)
        assert swapped[f"{name}_head"] != pytest.approx(found[f"{name}_head"], rel=1e-4)


def test_tail_gap_sees_only_what_the_tail_loses_more_than_the_head():
    assert tail_gap(0.25, 0.2, 0.5, 0.4) == pytest.approx(0)  # both halved
    assert tail_gap(8, 8, 20, 10) == pytest.approx(np.log(0.4 / 0.8))
    assert np.isnan(tail_gap(np.nan, 8, 20, 10))
    by_seed = [pd.Series(values, index=[3, 4]) for values in ([8, 5], [8, 10], [20, 5], [10, 10])]
    assert tail_gap(*by_seed).to_dict() == pytest.approx({3: np.log(0.5), 4: 0})


# --- runs ----------------------------------------------------------------------------------------------------------
TINY = {
    "generations": 2, "lesson_size": 24, "train_size": 48, "pool_size": 60, "dev_size": 16, "test_size": 40,
    "student_steps": 20, "scale": "tiny", "method": "recursive", "max_new_tokens": 8,
}  # fmt: skip


def test_a_run_that_probes_leaves_the_numbers_of_every_generation(tmp_path):
    arms = {"real": {"method": "real"}, "recursive-warm": {"variant": "warm", "recursive_start": "warm"}}
    settings = RunSettings(**TINY, reports_dir=str(tmp_path), study="hidden_states", probe_hidden_states=True)
    rows = pd.concat([with_arm(runs.run(settings.model_copy(update=arm))) for arm in arms.values()])
    table = by_student(rows)
    generations = table.groupby("arm")["generation"].apply(list).to_dict()
    assert generations == {"random": [0], "base": [0], "real": [1, 2], "recursive-warm": [0, 1, 2]}
    assert table["n"].nunique() == 1 and table["effective_rank_tail"].between(1, 64).all()
    random, base = (table.set_index("arm").loc[name, "density_head"] for name in ("random", "base"))
    assert random != pytest.approx(base, rel=1e-3)

    task = load_task(settings)
    last = loading.load(str(stages.run_folder(settings.model_copy(update=arms["real"])) / "state/student-2/model"))
    expected = probe(last, task.test["text"][:], task.world.in_tail(task.test["text"]), settings)
    assert table.query("arm == 'real' and generation == 2").iloc[0][list(expected)].to_dict() == pytest.approx(expected)

    gaps = tail_gaps(table)
    assert gaps["arm"].tolist() == ["recursive-warm"] * 2 and gaps["generation"].tolist() == [1, 2]
    at_two = table[table["generation"] == 2].set_index("arm")
    ends = [at_two.loc[arm, f"density_{end}"] for arm in ("recursive-warm", "real") for end in ("tail", "head")]
    assert gaps.loc[1, "density"] == tail_gap(*ends)


def test_by_student_is_empty_without_such_rows():
    rows = pd.DataFrame({"arm": ["real"], "seed": 1, "generation": 0, "metric": "accuracy", "value": 0.5, "n": 9})
    assert by_student(rows).empty and tail_gaps(by_student(rows)).empty


def test_tail_gaps_are_taken_seed_by_seed():
    values = {"density_head": 1.0, "density_tail": 1.0, "effective_rank_head": 2.0, "n": 5}
    tails = [("real", 3, 2.0), ("real", 4, 4.0), ("static", 3, 1.0), ("static", 4, 4.0), ("static", 5, 9.0)]
    rows = [{"arm": a, "seed": s, "generation": 1, "effective_rank_tail": t} | values for a, s, t in tails]
    gaps = tail_gaps(pd.DataFrame(rows))
    assert gaps["seed"].tolist() == [3, 4]  # seed 5 has no `real` to stand beside
    assert gaps["effective_rank"].tolist() == pytest.approx([np.log(0.5), 0])
    with pytest.raises(ValueError, match="tail_gaps: 8 texts per group here, 5 in the reference"):
        tail_gaps(pd.DataFrame([*rows, rows[2] | {"seed": 4, "n": 8}]))


def test_probing_needs_a_known_world():
    with pytest.raises(SettingsError, match="probe_hidden_states: need the known truth of task: miniature"):
        make_settings(probe_hidden_states=True, task="data/news")
