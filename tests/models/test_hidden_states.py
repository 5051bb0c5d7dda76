"""Hidden states and densities of texts: padding and order change nothing, a probe is made of its parts."""

import numpy as np
import pytest
import torch
from conftest import NEWS
from row_by_row import row_by_row

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

SETTINGS = RunSettings(max_length=32, generation_batch_size=3)
TEXTS = [text for texts in NEWS.values() for text in texts] + ["Moon."]  # of very different lengths: much padding
RARE = np.arange(len(TEXTS)) % 3 == 0
FOLDERS = row_by_row("folder", ["neox_folder", "qwen_folder"])


@pytest.fixture(scope="module")
def student(neox_folder):
    return loading.load(str(neox_folder), device="cpu")


# --- what a model computes -----------------------------------------------------------------------------------------
@FOLDERS
def test_hidden_states_equal_one_text_at_a_time(folder, request):
    lm = loading.load(str(request.getfixturevalue(folder)), device="cpu")
    model, tokenizer = lm
    start = start_ids(tokenizer)
    rows = [torch.tensor([start + ids]) for ids in token_ids(tokenizer, TEXTS)]
    alone = [model(row, output_hidden_states=True).hidden_states for row in rows]  # no mask, no padding
    expected = [states[-1][0, len(start) :].mean(dim=0).detach().numpy() for states in alone]
    found = hidden_states(lm, TEXTS, SETTINGS)
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


def test_a_model_whose_units_are_not_found_is_named(student, monkeypatch):
    monkeypatch.setitem(student.model.base_model.layers[-1]._modules, "mlp", torch.nn.Identity())
    with pytest.raises(RepresentationError, match=r"no linear map in layers\[-1\]"):
        unit_density(student, TEXTS, SETTINGS)


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


def test_probing_needs_a_known_world():
    with pytest.raises(SettingsError, match="probe_hidden_states: need the known truth of task: miniature"):
        make_settings(probe_hidden_states=True, task="data/news")
