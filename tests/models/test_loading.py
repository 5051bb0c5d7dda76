import ctypes
import json
import os
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from row_by_row import row_by_row

from symbiosis.data.lesson import Written
from symbiosis.models import fast, loading
from symbiosis.models.fast import malloc_without_trim
from symbiosis.models.loading import LanguageModel, ModelError


def test_weights_are_fp32_whatever_was_stored_and_batches_are_padded_by_hand(qwen_folder, neox_folder):
    assert json.loads((qwen_folder / "config.json").read_text())["dtype"] == "bfloat16"  # the test could fail
    model, _ = loading.load(str(qwen_folder), device="cpu")
    assert {p.dtype for p in model.parameters()} == {torch.float32}

    model, tokenizer = loading.load(str(neox_folder), device="cpu")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.generation_config.pad_token_id

    _, tokenizer = loading.load(str(neox_folder), device="cpu")
    batch = loading.pad(tokenizer, [[5, 6, 7], [8]], left=True, device="cpu")
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]

    batches = loading.batches_by_length([3, 9, 1, 5], 2)
    assert [b.tolist() for b in batches] == [[1, 3], [0, 2]]
    assert sorted(np.concatenate(batches)) == [0, 1, 2, 3]


def test_generic_tokenizer_of_a_qwen2_folder_survives_loading(qwen_folder, tmp_path):
    # AutoTokenizer rebuilds any Qwen2 checkpoint's tokenizer as byte-level BPE; a word-level one came back empty.
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1, "<unk>": 2, "moon": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")
    model, _ = loading.load(str(qwen_folder), device="cpu")
    LanguageModel(model, fast).save(tmp_path / "words")
    assert AutoTokenizer.from_pretrained(tmp_path / "words")("moon")["input_ids"] != [3]
    assert loading.load(str(tmp_path / "words"), device="cpu")[1]("moon")["input_ids"] == [3]


def test_documents_begin_and_end_and_a_cut_one_goes_on(neox_folder):
    _, tokenizer = loading.load(str(neox_folder), device="cpu")
    whole, cut = loading.token_ids(tokenizer, ["moon", "the far side of the moon"])
    end, texts, n = tokenizer.eos_token_id, ["moon", "the far side of the moon"], len(whole)
    assert loading.document_rows(tokenizer, texts) == [[end, *whole, end], [end, *cut, end]]
    assert loading.document_rows(tokenizer, texts, n) == [[end, *whole, end], [end, *cut[:n]]]
    assert loading.document_rows(tokenizer, [Written("moon", cut=True), ""]) == [[end, *whole], [end, end]]


def test_saved_model_gives_the_same_logits(neox_folder, tmp_path):
    model, tokenizer = loading.load(str(neox_folder), device="cpu")
    LanguageModel(model, tokenizer).save(tmp_path / "copy")
    again, _ = loading.load(str(tmp_path / "copy"), device="cpu")
    ids = torch.arange(20)[None]
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]  # no temporary folder is left


def test_failed_save_leaves_what_was_there(neox_folder, tmp_path, monkeypatch):
    model, tokenizer = loading.load(str(neox_folder), device="cpu")
    LanguageModel(model, tokenizer).save(tmp_path / "kept")
    before = (tmp_path / "kept" / "model.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tokenizer), "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        LanguageModel(model, tokenizer).save(tmp_path / "kept")
    assert (tmp_path / "kept" / "model.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_folder_with_only_a_pickle_is_refused(neox_folder, tmp_path):
    folder = tmp_path / "pickled"
    shutil.copytree(neox_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pickled: no \.safetensors file; convert it"):
        loading.load(str(folder))


@row_by_row("name, message", [
    ("./nowhere", "no such folder"),
    ("just-a-name", "not a hub id of the form owner/name"),
    ("someone/unpinned", "no pinned revision; name the commit in student_revision"),
])  # fmt: skip
def test_models_that_cannot_be_meant_are_named(name, message):
    with pytest.raises(ModelError, match=message):
        loading.load(name)


def test_unreachable_hub_says_how_to_use_a_local_copy(tmp_path):
    # The hub's address is read when its client is imported, so a fresh process meets the dead one.
    import os
    import subprocess
    import sys

    code = """import time; time.sleep = lambda seconds: None  # the client waits between its retries
from symbiosis.models import loading
try:
    loading.load("EleutherAI/pythia-160m")
except loading.ModelError as error:
    print(error)"""
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=240)
    assert "EleutherAI/pythia-160m: could not be fetched" in done.stdout, done.stderr[-2000:]
    assert f"hf download EleutherAI/pythia-160m --revision {loading.REVISIONS['EleutherAI/pythia-160m']}" in done.stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to keep freed memory")
def test_freed_memory_is_kept_inside_and_given_back_at_the_end():
    resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # noqa: E731
    size = 200 * 2**20
    ctypes.CDLL(None).malloc_trim(0)  # what earlier tests freed and this process holds would be taken first
    with malloc_without_trim():
        begun = resident()
        torch.ones(size, dtype=torch.uint8)
        kept = resident() - begun
    assert kept > 0.9 * size
    assert resident() - begun < 0.1 * size


def test_kept_memory_ends_with_an_error_too_and_is_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(fast.ctypes, "CDLL", lambda name: pytest.fail("no glibc here"))
    with pytest.raises(ZeroDivisionError), malloc_without_trim():
        1 / 0  # noqa: B018
