"""What bf16 scoring takes as short cuts gives the likelihoods of the long ways; fp32 keeps its numbers to the bit."""

import copy

import numpy as np
import pytest
import torch
from conftest import NEWS

from symbiosis.models import loading, scoring
from symbiosis.settings import RunSettings

FP32 = RunSettings(max_length=32, generation_batch_size=3)
BF16 = FP32.model_copy(update={"precision": "bf16"})
TEXTS = [text for texts in NEWS.values() for text in texts]
LABELS = [[20], [30], [40, 41], [40, 41, 42], [50, 60, 70]]


@pytest.fixture(scope="module", params=["neox_folder", "qwen_folder"])  # Qwen2's head is also its embedding
def loaded(request):
    model, tokenizer = loading.load(str(request.getfixturevalue(request.param)), device="cpu")
    rows, known = scoring.student_texts(tokenizer, TEXTS, ["Sports"] * len(TEXTS), 32)
    return model, tokenizer, rows, known


# --- weights cast once ---------------------------------------------------------------------------------------------
def test_weights_cast_once_give_autocasts_losses_to_the_bit(loaded):
    model, tokenizer, rows, known = loaded
    with torch.inference_mode():
        cast_per_batch = scoring.token_losses(model, tokenizer, rows, known, BF16)[0]
        cast_once = scoring.token_losses(scoring.lowered(model, "bf16"), tokenizer, rows, known, BF16)[0]
        full = scoring.token_losses(model, tokenizer, rows, known, FP32)[0]
    assert torch.equal(cast_once, cast_per_batch)
    assert not torch.equal(cast_once, full)  # and rounding would have been seen


def test_lowering_leaves_the_model_as_it_was(loaded):
    model, *_ = loaded
    before = {name: p.clone() for name, p in model.named_parameters()}
    low = scoring.lowered(model, "bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad and torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert low.get_output_embeddings().weight.dtype == torch.bfloat16
    assert low.get_input_embeddings().weight is model.get_input_embeddings().weight  # shared, not copied
    assert scoring.lowered(model, "fp32") is model


def test_text_losses_in_bf16_are_those_of_fp32_within_a_hundredth(loaded):
    model, tokenizer, rows, known = loaded
    low, full = (scoring.text_losses(model, tokenizer, rows, known, s) for s in (BF16, FP32))
    np.testing.assert_allclose(low, full, rtol=1e-2)  # bf16 keeps 8 bits: 0.4% of a logit
    assert not np.array_equal(low, full)


def test_fewer_tokens_before_the_head_change_no_bf16_loss(loaded, monkeypatch):
    model, tokenizer, rows, known = loaded
    at_once = scoring.text_losses(model, tokenizer, rows, known, BF16)
    monkeypatch.setattr(scoring, "CPU_HEAD_TOKENS", 7)
    np.testing.assert_allclose(scoring.text_losses(model, tokenizer, rows, known, BF16), at_once, rtol=1e-3)


def test_a_head_that_is_not_cast_gives_fp32_logits_of_the_lowered_hidden_states(loaded):
    model, *_ = loaded
    inputs = {"input_ids": torch.tensor([[5, 40, 50, 60, 70]])}
    low = scoring.lowered(model, "bf16", full_head=True)
    with torch.inference_mode(), loading.autocast(model, "bf16"):
        hidden, logits = low.base_model(**inputs).last_hidden_state, low(**inputs).logits
        rounded = scoring.lowered(model, "bf16")(**inputs).logits
    with torch.inference_mode():
        expected = model.get_output_embeddings()(hidden.float())
    assert logits.dtype == torch.float32 and torch.equal(logits, expected)
    assert rounded.dtype == torch.bfloat16 and not torch.equal(rounded.float(), expected)
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)  # the model's own head stays in its place


def test_large_logits_keep_the_order_of_label_words_under_bf16(loaded, monkeypatch):
    # as in a trained model: a head 20 times as large, whose logits bf16 alone would round by up to a 16th
    model, tokenizer, rows, _ = loaded
    model = copy.deepcopy(model)
    model.get_output_embeddings().weight.data *= 20
    full, low = (scoring.label_log_probs(model, tokenizer, rows, LABELS, s) for s in (FP32, BF16))
    original = scoring.lowered
    monkeypatch.setattr(scoring, "lowered", lambda model, precision, full_head: original(model, precision))
    cast = scoring.label_log_probs(model, tokenizer, rows, LABELS, BF16)
    assert np.abs(low - full).max() < np.abs(cast - full).max() / 1.5


# --- label words that share a pass ---------------------------------------------------------------------------------
def test_passes_by_hand():
    # (40, 41) lies on the way of no other lead but its own label's; () lies on the way of all
    apart = {(): [0, 1], (40,): [2], (40, 41): [3], (50, 60): [4]}
    assert scoring.label_passes(LABELS, shared=False) == apart
    assert scoring.label_passes(LABELS, shared=True) == {(40, 41): [0, 1, 2, 3], (50, 60): [4]}
    assert scoring.label_passes([[1], [2]], shared=True) == {(): [0, 1]}


def test_shared_passes_give_the_label_scores_of_separate_ones(loaded, monkeypatch):
    model, tokenizer, rows, _ = loaded
    apart = scoring.label_log_probs(model, tokenizer, rows, LABELS, FP32)
    original = scoring.label_passes
    monkeypatch.setattr(scoring, "label_passes", lambda labels, shared: original(labels, shared=True))
    together = scoring.label_log_probs(model, tokenizer, rows, LABELS, FP32)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert np.ptp(apart, axis=1).min() > 0.1  # labels differ by far more than that


def test_bf16_label_scores_are_those_of_fp32(loaded):
    model, tokenizer, rows, _ = loaded
    low, full = (scoring.label_log_probs(model, tokenizer, rows, LABELS, s) for s in (BF16, FP32))
    np.testing.assert_allclose(low, full, atol=0.05)
    np.testing.assert_allclose(np.exp(low).sum(1), 1)


def test_fp32_takes_a_pass_per_lead_and_no_lowered_weights(loaded, monkeypatch):
    # what was published was computed that way: a pass over other tokens may round otherwise
    model, tokenizer, rows, _ = loaded
    asked = []
    original = scoring.label_passes
    monkeypatch.setattr(
        scoring, "label_passes", lambda labels, shared: asked.append(shared) or original(labels, shared=shared)
    )
    for settings in (FP32, BF16):
        scoring.label_log_probs(model, tokenizer, rows, LABELS, settings)
    assert asked == [False, True]
