"""The training loop of the models pre-trained here."""

import numpy as np
import pytest
import torch

from symbiosis.data.world import World
from symbiosis.models.loading import document_rows
from symbiosis.pretrain import miniature, recipe
from symbiosis.pretrain.miniature import word_tokenizer


def test_learning_rate_rises_then_falls_to_nothing():
    rates = [recipe.schedule(step, 100, 0.05) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 3 <= peak <= 6
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[0] < 0.2 and rates[-1] == pytest.approx(0.01)


def test_a_batch_by_hand():
    tokenizer = word_tokenizer(World.make(0), "student")
    pad = tokenizer.pad_token_id
    ids, targets = recipe.padded_batch(tokenizer, [[5, 6, 7, 8], [9, 4]])
    assert ids.tolist() == [[5, 6, 7, 8], [9, 4, pad, pad]]
    assert targets.tolist() == [[5, 6, 7, 8], [9, 4, -100, -100]]


def test_padding_is_not_learned():
    # The same rows with and without extra padding must give the same weights.
    world = World.make(0)
    tokenizer = word_tokenizer(world, "student")
    texts = world.sample(4, np.random.default_rng(0))["text"].tolist()
    ids, targets = recipe.padded_batch(tokenizer, document_rows(tokenizer, texts))
    padded = [torch.nn.functional.pad(a, (0, 5), value=v) for a, v in ((ids, tokenizer.pad_token_id), (targets, -100))]
    weights = []
    for batch in ((ids, targets), padded):
        torch.manual_seed(0)
        model = recipe.new_model("student", tokenizer, miniature.SIZES["student"])
        recipe.train(model, [batch], miniature.RECIPES["student"], desc="test")
        weights.append(model.get_output_embeddings().weight.detach())
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)
