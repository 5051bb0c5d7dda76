"""The Generator: what it is asked and how it answers, fine-tuning, preferences, how far it moved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_helpers import LABELS, TEXTS, label_log_probs_one_by_one, with_

from symbiosis.data.lesson import Written
from symbiosis.models import loading
from symbiosis.models.chat import chat
from symbiosis.models.generator import Generator
from symbiosis.models.scoring import text_losses
from symbiosis.prompts import read_prompts
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(batch_size=3, max_length=32, max_new_tokens=12, generation_batch_size=3)


@pytest.fixture
def generator(qwen_folder):
    return Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS)


def test_label_scores_equal_one_row_at_a_time(generator):
    model, tokenizer = generator.lm
    prefixes = tokenizer([chat(tokenizer, read_prompts().label_turn(text, LABELS)) for text in TEXTS])["input_ids"]
    expected = label_log_probs_one_by_one(model, prefixes, loading.token_ids(tokenizer, LABELS))
    np.testing.assert_allclose(generator.label_log_probs(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(generator.label_probs(TEXTS), np.exp(expected), atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3  # texts differ, so the order was checked


def test_it_learns_the_answer_and_its_end_after_the_turn_it_is_asked_by(generator):
    _, tokenizer = generator.lm
    (row,), (given,) = generator.answered(["Write."], ["Shares fell."])
    assert tokenizer.decode(row[:given]) == chat(tokenizer, "Write.")
    assert tokenizer.decode(row[given:-1]) == "Shares fell." and row[-1] == tokenizer.eos_token_id
    texts = ["Shares fell as oil prices rose again. " * 3, Written("Shares fell.", cut=True)]
    for text, cut in zip(texts, generator.answered(["Write."] * 2, texts)[0], strict=True):  # here, or by its writer
        assert text.startswith(tokenizer.decode(cut[given:])) and tokenizer.eos_token_id not in cut[given:]


def test_its_answers_are_of_the_prompts_in_order_samples_side_by_side(generator):
    cold = with_(generator, temperature=1e-6)
    prompts = cold.write_turns([0, 2])
    assert "World" in prompts[0] and "Business" in prompts[1]
    one = [cold.answers([prompt], seed=0)[0] for prompt in prompts]
    assert cold.answers(prompts, seed=0, samples=2) == [text for text in one for _ in range(2)] and one[0] != one[1]


# --- plain texts that it goes on from ------------------------------------------------------------------------------
@pytest.fixture
def small_writer(generator, monkeypatch):
    """The Generator with words of several tokens for two classes, a completion for each question, and line ends."""
    words = {"label_words": {"World": ("World", "capital"), "Sports": ("final", "match")}}
    prompts = read_prompts("news_completion")
    own = type(prompts)(**prompts.model_dump() | words)
    monkeypatch.setattr(Generator, "prompts", own)
    return replace(generator, settings=SETTINGS.model_copy(update={"prompts": "news_completion"}))


def test_a_label_goes_on_from_the_text_and_its_words_are_summed(small_writer):
    model, tokenizer = small_writer.lm
    words = [" World", " capital", " final", " match", " Business", " Sci/Tech"]
    prefixes = [[0, *ids] for ids in loading.token_ids(tokenizer, [f"{text}\nTopic:" for text in TEXTS])]
    prefixes = [[tokenizer.eos_token_id, *row[1:]] for row in prefixes]  # this model begins its documents with its end
    by_word = np.exp(label_log_probs_one_by_one(model, prefixes, loading.token_ids(tokenizer, words)))
    expected = np.stack([by_word[:, :2].sum(1), by_word[:, 2:4].sum(1), by_word[:, 4], by_word[:, 5]], axis=1)
    np.testing.assert_allclose(small_writer.label_probs(TEXTS), expected, atol=1e-5)
    mean = expected.mean(0)
    odds = expected / mean
    calibrated = replace(small_writer, reference=np.log(mean)).label_probs(TEXTS)
    np.testing.assert_allclose(calibrated, odds / odds.sum(1, keepdims=True), atol=1e-5)


def test_a_text_goes_on_from_a_beginning_and_is_learned_there_with_its_end(small_writer):
    tokenizer = small_writer.lm.tokenizer
    turns = small_writer.write_turns([0, 1])
    (row, _), (given, _) = small_writer.answered(turns, ["Shares fell.", "The match."])
    assert tokenizer.decode(row[1:given]) == turns[0] == small_writer.read(turns[0])
    assert tokenizer.decode(row[given:]) == " Shares fell.\n\n" and row[0] == tokenizer.eos_token_id
    cut, _ = small_writer.answered(turns[:1], [Written("Shares fell.", cut=True)])
    assert tokenizer.decode(cut[0][given:]) == " Shares fell."
    texts = with_(small_writer, max_new_tokens=40).answers(turns * 8, seed=0)
    assert len(set(texts)) > 8 and not any("\n" in text for text in texts)
    assert small_writer.kl_to(small_writer.lm, n=4, seed=0) == 0


# --- what it learns -------------------------------------------------------------------------------------------------
def test_weighted_answers_of_weight_zero_teach_the_generator_nothing(generator):
    asked, answers = ["Write.", "Write more."], ["Shares fell.", "A probe landed on the moon."]
    learner = with_(generator, generator_epochs=8, generator_learning_rate=5e-3)
    losses = lambda: text_losses(learner.lm, *learner.answered(asked, answers), SETTINGS)  # noqa: E731
    before = losses()
    history = learner.fine_tune(asked, answers, seed=0, weights=np.array([1.0, 0.0]))
    after = losses()
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert after[0] < before[0] - 1 and after[1] > after[0] + 1


def test_adapters_train_few_weights_and_leave_a_plain_model(generator):
    pytest.importorskip("peft", reason="peft is an extra: pip install -e '.[train]'")
    model, _ = generator.lm
    names, head = set(model.state_dict()), model.get_output_embeddings().weight.detach().clone()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    changes = {"generator_epochs": 10, "generator_learning_rate": 2e-2, "generator_lora_rank": 4}
    learner = replace(generator, settings=SETTINGS.model_copy(update=changes))
    history = learner.fine_tune(["Write."] * 4, ["Shares fell."] * 4, seed=0)
    assert history[-1]["loss"] < history[0]["loss"] - 0.5
    assert set(model.state_dict()) == names and torch.equal(model.get_output_embeddings().weight, head)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all("proj" in name for name in changed)  # merged into the linear layers, nothing else moved
    assert all(p.requires_grad for p in model.parameters())


def test_the_generator_has_not_drifted_from_itself_and_has_after_learning(generator):
    learner = with_(generator, generator_learning_rate=1e-2, generator_epochs=5, max_new_tokens=12)
    assert learner.kl_to(generator.lm, n=8, seed=0) == 0
    learner.fine_tune(["Write."] * 8, ["Shares fell.", "A probe landed."] * 4, seed=0)
    assert learner.kl_to(generator.lm, n=8, seed=0) > 0.01


def test_the_preferred_of_two_answers_becomes_likelier_than_the_other(generator):
    learner = with_(generator, generator_learning_rate=3e-3, generator_epochs=6)
    asked, best, worst = ["Write."] * 4, ["A probe landed."] * 4, ["Shares fell."] * 4
    ahead = lambda: np.subtract(  # noqa: E731
        *(text_losses(learner.lm, *learner.answered(asked, texts), SETTINGS).mean() for texts in (worst, best))
    )
    before = ahead()
    history = learner.prefer(asked, best, worst, seed=0)
    assert history[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)  # before any step the two margins are equal
    assert history[-1]["preferred"] == 1 and history[-1]["loss"] < history[0]["loss"] - 0.05
    assert ahead() > before + 0.05
