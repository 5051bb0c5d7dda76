from collections import Counter

import pytest
import torch

from symbiosis import models, teaching
from symbiosis.generation import generate
from symbiosis.settings import RunSettings
from symbiosis.teaching import GenerationError, fresh_texts

SETTINGS = RunSettings(max_new_tokens=12, generation_batch_size=3, max_redraws=2)


@pytest.fixture(scope="module")
def generator(qwen_folder):
    return models.load(str(qwen_folder), device="cpu")


def test_same_seed_same_texts_in_the_order_of_the_prompts(generator):
    model, tokenizer = generator
    prompts = models.token_ids(tokenizer, ["Write.", "Write a longer one, please.", "x", "A text about the moon."])
    first, again, other = (generate(model, tokenizer, prompts, SETTINGS, seed=s) for s in (1, 1, 2))
    assert first == again != other and len(first) == 4


def test_generation_does_not_disturb_the_global_random_state(generator):
    model, tokenizer = generator
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    generate(model, tokenizer, [[5, 6]], SETTINGS, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_cold_sampling_equals_the_library_greedy_token_for_token(generator):
    model, tokenizer = generator
    prompts = models.token_ids(tokenizer, ["Write.", "A text about the moon."])
    texts = generate(model, tokenizer, prompts, SETTINGS.model_copy(update={"temperature": 1e-4}), seed=0)
    for prompt, text in zip(prompts, texts, strict=True):
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
        assert text == " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())


def drawing(*rounds):
    """A writer that answers with prepared rounds."""
    answers = iter(rounds)
    return lambda prompts, seed: list(next(answers))[: len(prompts)]


def test_empty_and_duplicate_texts_are_counted_and_drawn_again():
    counts = Counter()
    texts = fresh_texts(drawing(["a", "", "a", "b"], ["c", "d"]), [0, 1, 2, 3], SETTINGS, 0, counts)
    assert texts == ["a", "c", "d", "b"]
    assert counts == {"asked": 4, "empty": 1, "duplicate": 1, "redrawn": 2}


def test_a_writer_that_stays_silent_is_a_clear_stop():
    with pytest.raises(GenerationError, match=r"2 empty and 1 duplicate texts of 4 remain after max_redraws=2; raise"):
        fresh_texts(drawing(["a", "", "", "a"], ["", "", "a"], ["", "", "a"]), [0] * 4, SETTINGS, 0, Counter())


def test_duplicates_may_stay_but_empty_texts_may_not():
    counts = Counter()
    assert fresh_texts(drawing(["a", "a", ""], ["a"]), [0] * 3, SETTINGS, 0, counts, keep_duplicates=True) == ["a"] * 3
    assert counts["redrawn"] == 1 and counts["duplicate"] == 3  # one at first, two after the empty one was replaced


def test_generator_labels_and_explains_in_its_chat_template(generator):
    model, tokenizer = generator
    counts = Counter()
    texts = teaching.explain(model, tokenizer, ["A probe landed."] * 3, SETTINGS, seed=1, counts=counts)
    labels = teaching.label(model, tokenizer, texts, ["World", "Sports"], SETTINGS)
    assert len(set(texts)) == 3 and counts["asked"] == 3 and set(labels) <= {0, 1}
