"""Small models with the true architectures and their own tokenizers, laid out as local folders like hub copies."""

import gc
import json
import os

import pytest

NEWS = {
    "World": ["Leaders met in the capital to sign a peace treaty.", "Voters chose a new president on Sunday."],
    "Sports": ["The striker scored twice in the final match.", "Her serve won the tennis title in three sets."],
    "Business": ["Shares fell as oil prices rose again.", "The bank reported a record quarterly profit."],
    "Sci/Tech": ["A probe landed on the far side of the moon.", "The chip maker showed a faster processor."],
}
QWEN_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_configure():
    """A reader's own scales and methods turn no test red, nor does a GPU: shown to the tests only by who sets this."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    from symbiosis import params

    params.PLACES = ("params",)


def pytest_collection_finish():
    """What is imported by now stays: no collection, as benchmarks ask for before they time, walks through it again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_bars(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def bpe(specials):
    """A byte-level BPE tokenizer of the few words above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([t for texts in NEWS.values() for t in texts], trainer)
    return tokenizer


def write_folder(folder, model, tokenizer, config):
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def style():
    """The project's look, without a window; every picture is closed behind the test."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from symbiosis.analysis import figures

    figures.use_style()
    yield
    pyplot.close("all")


@pytest.fixture(scope="session")
def neox_folder(tmp_path_factory):
    """Like pythia: GPT-NeoX, one special token for start and end, no pad token."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    tokenizer = bpe(["<|endoftext|>"])
    size = {
        "vocab_size": 400,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**size, max_position_embeddings=256, bos_token_id=0, eos_token_id=0))
    config = {
        "tokenizer_class": "GPTNeoXTokenizer",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    return write_folder(tmp_path_factory.mktemp("models") / "neox", model, tokenizer, config)


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory):
    """Like Qwen2-Instruct: chat template, its turn's end as end token, no start token; weights stored as bf16."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    tokenizer = bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    size = {
        "vocab_size": 400,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**size, max_position_embeddings=512, bos_token_id=0, eos_token_id=2))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": QWEN_CHAT,
    }
    return write_folder(tmp_path_factory.mktemp("models") / "qwen", model.to(torch.bfloat16), tokenizer, config)
