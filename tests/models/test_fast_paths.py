"""What bf16 scoring takes as short cuts gives the likelihoods of the long ways; fp32 keeps its numbers to the bit."""

import copy

import numpy as np
import pytest
import torch
from conftest import NEWS
from row_by_row import row_by_row

from symbiosis.models import devices, loading, scoring
from symbiosis.models.fast import cast_linears
from symbiosis.models.generation import generate
from symbiosis.models.sampling import Sampling
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

FP32 = RunSettings(max_length=32, generation_batch_size=3)
BF16 = FP32.model_copy(update={"precision": "bf16"})
TEXTS = [text for texts in NEWS.values() for text in texts]
LABELS = [[20], [30], [40, 41], [40, 41, 42], [50, 60, 70]]


@pytest.fixture(scope="module")
def both(neox_folder, qwen_folder):  # Qwen2's head is also its embedding
    lms = [loading.load(str(folder), device="cpu") for folder in (neox_folder, qwen_folder)]
    return [(lm, *Student(lm, ["World", "Sports"], FP32).written_rows(TEXTS, [1] * len(TEXTS))) for lm in lms]


# --- beginnings read once ------------------------------------------------------------------------------------------
def test_prompts_that_begin_alike_are_found():
    prompts = [[1, 2, 3, 4, 5, 6], [7, 8], [1, 2, 3, 4, 9], [1, 2, 3, 4, 5, 6], [1, 2, 5, 5, 5, 5]]
    assert scoring.beginnings(prompts) == [(4, [0, 3, 2]), (6, [4]), (2, [1])]


@row_by_row("loaded", "both")
def test_a_beginning_read_once_gives_the_losses_and_the_gradient_of_the_long_way(loaded, monkeypatch):
    lm, *_ = loaded
    starts = [[40, 50, 60, 70, 80, 90], [41, 51, 61, 71, 81, 91]]
    rows = [[*starts[i % 2], 20 + i % 3, *range(30, 33 + i)] for i in range(7)]
    prompts, share = [7] * 7, torch.linspace(-1, 2, 7)

    def found(losses):
        lm.model.zero_grad()
        nll, row = losses(lm, rows, prompts, FP32)
        order = torch.argsort(row, stable=True)
        (nll * share[row]).sum().backward()
        return nll[order].detach(), row[order], [p.grad.clone() for p in lm.model.parameters()]

    long = found(scoring.token_losses)
    assert all(torch.equal(a, b) for a, b in zip(long[:2], found(scoring.answer_losses)[:2], strict=True))  # fp32: it
    monkeypatch.setattr(scoring, "resolved_precision", lambda precision, device: "bf16")
    read = []
    trunk = lm.model.get_decoder()

    def watch(module, args, kwargs) -> None:
        if kwargs.get("use_cache"):
            read.append(kwargs["input_ids"].numel())

    watched = trunk.register_forward_pre_hook(watch, with_kwargs=True)
    short = found(scoring.answer_losses)
    watched.remove()
    assert read == [1, 6, 4 * 9, 6, 3 * 8]  # a token to see the cache; each beginning once, then its answers, padded
    torch.testing.assert_close(short[0], long[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(short[1], long[1])
    for a, b in zip(short[2], long[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    means = np.bincount(long[1], long[0], 7) / np.bincount(long[1])
    np.testing.assert_allclose(scoring.mean_answer_losses(lm, rows, prompts, FP32), means, rtol=1e-4)
    lm.model.zero_grad(set_to_none=True)


# --- weights cast once ---------------------------------------------------------------------------------------------
@row_by_row("loaded", "both")
def test_weights_cast_once_give_autocasts_losses_to_the_bit(loaded):
    lm, rows, prompts = loaded
    with torch.inference_mode():
        cast_per_batch = scoring.token_losses(lm, rows, prompts, BF16)[0]
        cast_once = scoring.token_losses(lm._replace(model=cast_linears(lm.model, "bf16")), rows, prompts, BF16)[0]
        full = scoring.token_losses(lm, rows, prompts, FP32)[0]
    assert torch.equal(cast_once, cast_per_batch)
    assert not torch.equal(cast_once, full)  # and rounding would have been seen


@row_by_row("loaded", "both")
def test_casting_leaves_the_model_as_it_was(loaded):
    model = loaded[0].model
    before = {name: p.clone() for name, p in model.named_parameters()}
    low = cast_linears(model, "bf16")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad and torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert low.get_output_embeddings().weight.dtype == torch.bfloat16
    assert low.get_input_embeddings().weight is model.get_input_embeddings().weight  # shared, not copied
    assert cast_linears(model, "fp32") is model


@row_by_row("loaded", "both")
def test_text_losses_in_bf16_are_those_of_fp32_within_a_hundredth(loaded):
    lm, rows, prompts = loaded
    low, full = (scoring.text_losses(lm, rows, prompts, s) for s in (BF16, FP32))
    np.testing.assert_allclose(low, full, rtol=1e-2)  # bf16 keeps 8 bits: 0.4% of a logit
    assert not np.array_equal(low, full)
    np.testing.assert_allclose(scoring.mean_answer_losses(lm, rows, prompts, BF16), full, rtol=1e-2)


@row_by_row("loaded", "both")
def test_fewer_tokens_before_the_head_change_no_bf16_loss(loaded, monkeypatch):
    lm, rows, prompts = loaded
    at_once = scoring.text_losses(lm, rows, prompts, BF16)
    monkeypatch.setattr(scoring, "CPU_HEAD_TOKENS", 7)
    np.testing.assert_allclose(scoring.text_losses(lm, rows, prompts, BF16), at_once, rtol=1e-3)


@row_by_row("loaded", "both")
def test_a_head_that_is_not_cast_gives_fp32_logits_of_the_cast_hidden_states(loaded):
    model = loaded[0].model
    inputs = {"input_ids": torch.tensor([[5, 40, 50, 60, 70]])}
    low = cast_linears(model, "bf16", keep_head_fp32=True)
    with torch.inference_mode(), loading.autocast(model, "bf16"):
        hidden, logits = low.base_model(**inputs).last_hidden_state, low(**inputs).logits
        rounded = cast_linears(model, "bf16")(**inputs).logits
    with torch.inference_mode():
        expected = model.get_output_embeddings()(hidden.float())
    assert logits.dtype == torch.float32 and torch.equal(logits, expected)
    assert rounded.dtype == torch.bfloat16 and not torch.equal(rounded.float(), expected)
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)  # the model's own head stays in its place


@row_by_row("loaded", "both")
def test_large_logits_keep_the_order_of_label_words_under_bf16(loaded, monkeypatch):
    # as in a trained model: a head 20 times as large, whose logits bf16 alone would round by up to a 16th
    lm, rows, _ = loaded
    lm = copy.deepcopy(lm)
    lm.model.get_output_embeddings().weight.data *= 20
    full, low = (scoring.label_log_probs(lm, rows, LABELS, s) for s in (FP32, BF16))
    original = scoring.cast_linears
    monkeypatch.setattr(scoring, "cast_linears", lambda model, precision, keep_head_fp32: original(model, precision))
    cast = scoring.label_log_probs(lm, rows, LABELS, BF16)
    assert np.abs(low - full).max() < np.abs(cast - full).max() / 1.5


# --- label words that share a pass ---------------------------------------------------------------------------------
def test_passes_by_hand():
    # (40, 41) lies on the way of no other prefix but its own label's; () lies on the way of all
    apart = {(): [0, 1], (40,): [2], (40, 41): [3], (50, 60): [4]}
    assert scoring.shared_prefixes(LABELS, nested=False) == apart
    assert scoring.shared_prefixes(LABELS, nested=True) == {(40, 41): [0, 1, 2, 3], (50, 60): [4]}
    assert scoring.shared_prefixes([[1], [2]], nested=True) == {(): [0, 1]}


@row_by_row("loaded", "both")
def test_shared_passes_give_the_label_scores_of_separate_ones(loaded, monkeypatch):
    lm, rows, _ = loaded
    apart = scoring.label_log_probs(lm, rows, LABELS, FP32)
    original = scoring.shared_prefixes
    monkeypatch.setattr(scoring, "shared_prefixes", lambda labels, nested: original(labels, nested=True))
    together = scoring.label_log_probs(lm, rows, LABELS, FP32)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert np.ptp(apart, axis=1).min() > 0.1  # labels differ by far more than that


@row_by_row("loaded", "both")
def test_texts_read_once_for_all_labels_give_the_scores_of_separate_passes(loaded, monkeypatch):
    lm, rows, _ = loaded
    words = [[20], [30, 31], [40, 41, 42], [50, 60, 70], [51, 61, 71]]  # four passes, each with a beginning of its own
    apart, read = scoring.label_log_probs(lm, rows, words, FP32), []
    monkeypatch.setattr(scoring, "resolved_precision", lambda precision, device: "bf16")  # the way; products stay fp32
    hook = lm.model.register_forward_pre_hook(
        lambda model, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    together = scoring.label_log_probs(lm, rows, words, FP32)
    hook.remove()
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert np.ptp(apart, axis=1).min() > 0.1  # labels differ by far more than that
    lengths = [len(row) for row in rows]
    padded = sum(len(b) * max(lengths[i] for i in b) for b in loading.batches_by_length(lengths, 3))
    assert sum(read) == padded + len(rows) * (1 + 2 + 2 + 2)  # every text once, and what each pass adds to it


@row_by_row("loaded", "both")
def test_a_model_without_a_cache_reads_its_texts_for_every_pass(loaded, monkeypatch):
    lm, rows, _ = loaded
    expected, forward = scoring.label_log_probs(lm, rows, LABELS, BF16), type(lm.model).forward

    def forgetful(self, *args, **given):
        output = forward(self, *args, **given)
        output.past_key_values = None
        return output

    monkeypatch.setattr(type(lm.model), "forward", forgetful)
    np.testing.assert_allclose(scoring.label_log_probs(lm, rows, LABELS, BF16), expected, atol=0.05)


@row_by_row("loaded", "both")
def test_bf16_label_scores_are_those_of_fp32(loaded):
    lm, rows, _ = loaded
    low, full = (scoring.label_log_probs(lm, rows, LABELS, s) for s in (BF16, FP32))
    np.testing.assert_allclose(low, full, atol=0.05)
    np.testing.assert_allclose(np.exp(low).sum(1), 1)


@row_by_row("loaded", "both")
def test_fp32_takes_a_pass_per_prefix_and_no_cast_weights(loaded, monkeypatch):
    # what was published was computed that way: a pass over other tokens may round otherwise
    lm, rows, _ = loaded
    asked = []
    original = scoring.shared_prefixes
    monkeypatch.setattr(
        scoring, "shared_prefixes", lambda labels, nested: asked.append(nested) or original(labels, nested=nested)
    )
    for settings in (FP32, BF16):
        scoring.label_log_probs(lm, rows, LABELS, settings)
    assert asked == [False, True]


# --- precision: auto -----------------------------------------------------------------------------------------------
@row_by_row("native", [True, False])
@row_by_row("loaded", "both")
def test_auto_gives_the_numbers_of_what_it_comes_to(loaded, monkeypatch, native):
    """In every place that reads `precision`: losses, label words, what is trained, what is written."""
    monkeypatch.setattr(devices, "bf16_is_native", lambda device: native)
    lm, rows, prompts = loaded
    auto, same = FP32.model_copy(update={"precision": "auto"}), BF16 if native else FP32

    def numbers(settings):
        yield scoring.text_losses(lm, rows, prompts, settings)
        yield scoring.label_log_probs(lm, rows, LABELS, settings)
        yield scoring.token_losses(lm, rows, prompts, settings)[0].detach().numpy()  # with a gradient
        yield generate(lm, rows, Sampling.of(settings.model_copy(update={"generation_engine": "refill"})), seed=0)

    for one, other in zip(numbers(auto), numbers(same), strict=True):
        assert np.array_equal(one, other)
