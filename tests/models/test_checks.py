"""Whatever is loaded has its own model's numbers, or is refused in one sentence before work begins."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import bpe, write_folder
from model_helpers import LABELS, log_p
from row_by_row import row_by_row
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from symbiosis.errors import SymbiosisError
from symbiosis.loop import runs
from symbiosis.models import loading, scoring
from symbiosis.models.checks import ModelError, check_positions, check_sizes, library_errors
from symbiosis.models.generator import Generator
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_length=16, max_new_tokens=8, generation_batch_size=3)
ROWS, GIVEN = [[0, 40, 50, 60, 70, 80, 33], [0, 90, 41], [0, 7, 8, 9]], [3, 1, 2]

# --- architectures -------------------------------------------------------------------------------------------------
ENDS = {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
SHORT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
LONG = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
WIDE = LONG | {"intermediate_size": 64}
GROUPED = WIDE | {"num_key_value_heads": 2}
HEADS = GROUPED | {"head_dim": 8}
ARCHITECTURES = {
    "gpt_neox": WIDE,
    "gpt2": SHORT,
    "opt": LONG | {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False},  # as opt-350m projects
    "llama": GROUPED,
    "qwen2": GROUPED | {"tie_word_embeddings": True},
    "qwen3": HEADS,
    "mistral": GROUPED | {"sliding_window": 4},
    "gemma2": HEADS | {"query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0},
    "gemma3_text": HEADS | {"final_logit_softcapping": 2.0},
    "phi": WIDE,  # its head has a bias
    "gptj": SHORT | {"rotary_dim": 4},
    "granite": GROUPED | {"logits_scaling": 8.0, "embedding_multiplier": 3.0},
    "cohere": GROUPED | {"logit_scale": 0.25},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "qwen2_moe": GROUPED | {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
}
NOT_CAUSAL = {
    "bert": (WIDE, "transformers warns of it .*is_decoder=True"),
    "bart": ({"d_model": 32, "encoder_layers": 2, "decoder_layers": 2}, "gives other likelihoods beside a longer text"),
    "rwkv": (
        {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 64},
        "gives other likelihoods beside a longer text",  # it reads padding as text
    ),
}


def folder_of(architecture, sizes, folder):
    """A model with large random weights, which make every operation on its logits show."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **ENDS, **sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.2)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"}
    folder.mkdir()
    return str(write_folder(folder, model, bpe(["<|endoftext|>"]), config))


@row_by_row("architecture", ARCHITECTURES)
def test_losses_and_labels_are_those_of_the_models_own_forward(architecture, tmp_path):
    lm = loading.load(folder_of(architecture, ARCHITECTURES[architecture], tmp_path / "model"), device="cpu")
    expected = [log_p(lm.model, row) for row in ROWS]
    means = [
        -np.mean([p[j - 1, row[j]] for j in range(g, len(row))])
        for p, row, g in zip(expected, ROWS, GIVEN, strict=True)
    ]
    np.testing.assert_allclose(scoring.text_losses(lm, ROWS, GIVEN, SETTINGS), means, atol=1e-4)
    odds = [p[-1, 5] - p[-1, 9] for p in expected]
    found = scoring.label_log_probs(lm, ROWS, [[5], [9]], SETTINGS)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], odds, atol=1e-4)
    nll, _ = scoring.token_losses(lm, ROWS, GIVEN, SETTINGS)
    nll.sum().backward()
    assert lm.model.get_output_embeddings().weight.grad.abs().sum() > 0
    if architecture in ("gemma2", "gemma3_text", "granite", "cohere"):  # and the head alone would have been seen
        hidden = lm.model.base_model(torch.tensor(ROWS[:1])).last_hidden_state
        alone = lm.model.get_output_embeddings()(hidden).log_softmax(-1)[0].detach().numpy()
        assert np.abs(alone - expected[0]).max() > 0.1


@row_by_row("architecture, scale", {"gpt_neox": 1, "granite": 1 / 8, "cohere": 0.25, "gemma2": None}.items())
def test_what_a_head_is_multiplied_by_is_found_or_refused(architecture, scale, tmp_path):
    lm = loading.load(folder_of(architecture, ARCHITECTURES[architecture], tmp_path / "model"), device="cpu")
    if scale is None:
        with pytest.raises(ModelError, match="Gemma2ForCausalLM bends its logits, so that feedback 'gradient_norm'"):
            loading.logit_scale(lm)
    else:
        assert loading.logit_scale(lm) == (1 if scale == 1 else pytest.approx(scale, rel=1e-5))  # no number moves


@row_by_row("architecture", NOT_CAUSAL)
def test_what_reads_the_whole_text_or_its_padding_is_refused(architecture, tmp_path):
    sizes, message = NOT_CAUSAL[architecture]
    folder = folder_of(architecture, sizes, tmp_path / "model")
    for _ in range(2):  # a warning that transformers gives once is heard twice
        with pytest.raises(ModelError, match=message):
            loading.load(folder, device="cpu")


def test_a_bidirectional_model_that_says_nothing_of_it_is_refused(tmp_path):
    folder = folder_of("gemma3_text", ARCHITECTURES["gemma3_text"], tmp_path / "model")
    edit("config.json", use_bidirectional_attention=True)(Path(folder))
    with pytest.raises(ModelError, match="where the text goes on: it is not causal"):
        loading.load(folder, device="cpu")


# --- damaged folders -----------------------------------------------------------------------------------------------
def edit(name, **values):
    def change(folder):
        path = folder / name
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))

    return change


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def weights(change):
    def rewrite(folder):
        path = folder / "model.safetensors"
        save_file({k: v.contiguous() for k, v in change(load_file(path)).items()}, path, metadata={"format": "pt"})

    return rewrite


def of(part, change):
    """The weights with `change` made to the first whose name holds `part`."""

    def changed(stored):
        name = next(name for name in stored if part in name)
        return stored | {name: change(stored[name])}

    return weights(changed)


def number(value):
    return lambda w: w.index_fill(0, torch.tensor([1]), value)


NORM, MLP = "model.layers.1.input_layernorm.weight", "mlp.down_proj.weight"
DAMAGE = {  # of a Llama folder with a tied head
    "configuration": {
        "no layer": (edit("config.json", num_hidden_layers=0), "num_hidden_layers is 0"),
        "a million layers": (
            edit("config.json", num_hidden_layers=10**6),
            r"num_hidden_layers is 1000000 .* for 20 tensors",
        ),
        "a layer more": (edit("config.json", num_hidden_layers=3), r"9 weights .* are missing \(model\.layers\.2\."),
        "a layer fewer": (
            edit("config.json", num_hidden_layers=1),
            r"weights of a LlamaForCausalLM have no place in it",
        ),
        "a vocabulary of 10 GB": (edit("config.json", vocab_size=10**8), r"asks for 3,200,\d+,\d+ weights"),
        "wide blocks": (edit("config.json", intermediate_size=10**9), "asks for .* weights"),
        "a small vocabulary": (edit("config.json", vocab_size=300), r"have another shape \(model\.embed_tokens"),
        "another model": (
            edit("config.json", model_type="qwen2"),
            r"missing \(model\.layers\.0\.self_attn\.k_proj\.bias",
        ),
        "a classifier": (
            edit("config.json", architectures=["Qwen2ForSequenceClassification"]),
            "Qwen2ForSequenceClassification in config.json is no causal language model",
        ),
        "an encoder with a decoder": (edit("config.json", is_encoder_decoder=True), "no causal language model"),
        "gptq": (
            edit("config.json", quantization_config={"quant_method": "gptq"}),
            "quantization_config in config.json",
        ),
        "other files": (edit("config.json", transformers_weights="../x"), "transformers_weights in config.json"),
        "dropout of 5": (edit("config.json", attention_dropout=5.0), "attention_dropout in config.json is 5.0"),
        "rope below 1": (
            edit("config.json", rope_parameters={"rope_type": "linear", "factor": 0.1}),
            "transformers warns of it .*factor",
        ),
        "no dictionary": (text("config.json", "[]"), "could not be loaded"),
        "nested": (text("config.json", '{"a":' * 5000 + "1" + "}" * 5000), r"could not be loaded \(RecursionError"),
    },
    "weights": {
        "a missing weight": (
            weights(lambda w: {k: v for k, v in w.items() if k != NORM}),
            rf"1 weights .* missing \({NORM}",
        ),
        "no weight": (weights(lambda w: {}), "for 0 tensors"),
        "renamed": (weights(lambda w: {f"base_model.{k}": v for k, v in w.items()}), "weights of a .* are missing"),
        "an adapter's": (weights(lambda w: w | {"lora_A": torch.ones(2)}), r"no place in it \(lora_A"),
        "transposed": (of(MLP, torch.t), r"have another shape \(model.layers.0.mlp.down_proj.weight"),
        "nan": (of(MLP, number(torch.nan)), r"down_proj\.weight holds nan or inf"),
        "inf": (of(MLP, number(-torch.inf)), r"down_proj\.weight holds nan or inf"),
        "int8": (of(MLP, lambda w: w.to(torch.int8)), "stored as I8, quantized"),
        "a matrix of 0": (of(MLP, torch.zeros_like), r"down_proj\.weight is all 0"),
        "an adapter alone": (text("adapter_config.json", "{}"), "holds an adapter; merge it"),
    },
    "tokenizer": {
        "an unknown end": (
            edit("tokenizer_config.json", eos_token="<nowhere>"),
            "token '<nowhere>' of its tokenizer is",
        ),
        "an unknown start": (
            edit("tokenizer_config.json", bos_token="<nowhere>"),
            "token '<nowhere>' of its tokenizer is",
        ),
        "an empty end": (
            edit("tokenizer_config.json", tokenizer_class="GPTNeoXTokenizer", eos_token=""),
            "eos_token in tokenizer_config.json is empty",
        ),
        "an end of another kind": (edit("tokenizer_config.json", eos_token={"a": 1}), "could not be loaded"),
        "no tokenizer": (
            lambda folder: (folder / "tokenizer.json").unlink(),
            "could not be loaded|its tokenizer makes '' of",
        ),
        "a tokenizer cut short": (text("tokenizer.json", "{"), "could not be loaded"),
        "a length of words": (edit("tokenizer_config.json", model_max_length="x"), "could not be loaded"),
    },
    "ends": {
        "no generation_config": (text("generation_config.json", "{"), "could not be loaded"),
        "a stop of words": (
            edit("generation_config.json", eos_token_id="x"),
            "eos_token_id 'x' in generation_config.json",
        ),
        "nested stops": (
            edit("generation_config.json", eos_token_id=[[1]]),
            r"eos_token_id '\[1\]' in generation_config",
        ),
        "a stop too high": (edit("generation_config.json", eos_token_id=400), "eos_token_id '400'"),
    },
}


@pytest.fixture(scope="module")
def tied_folder(tmp_path_factory):
    return folder_of("llama", GROUPED | {"tie_word_embeddings": True}, tmp_path_factory.mktemp("tied") / "model")


@row_by_row("damages", DAMAGE.values())
def test_a_damaged_folder_is_one_sentence(damages, tied_folder, tmp_path):
    for name, (damage, message) in damages.items():
        folder = shutil.copytree(tied_folder, tmp_path / name)
        damage(folder)
        with pytest.raises(ModelError, match=message) as refused:
            loading.load(str(folder), device="cpu")
        assert len(str(refused.value)) < 250 + len(str(folder)) and "\n" not in str(refused.value), name


def test_a_folder_does_not_choose_its_kernels(tied_folder, tmp_path):
    folder = shutil.copytree(tied_folder, tmp_path / "model")
    for key in ("_attn_implementation", "attn_implementation", "experts_implementation"):
        edit("config.json", **{key: "kernels-community/some-kernel"})(folder)
    assert loading.load(str(folder), device="cpu").model.config._attn_implementation == "sdpa"


def test_an_error_of_ours_passes_the_library_by(tmp_path):
    with pytest.raises(ModelError, match=r"^ours$"), library_errors(tmp_path):
        raise ModelError("ours")


# --- sizes ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def short_lm(tmp_path_factory):
    """GPT-2 with 64 positions."""
    return loading.load(folder_of("gpt2", SHORT, tmp_path_factory.mktemp("short") / "model"), device="cpu")


@row_by_row("change, message", [
    ({"max_length": 64}, r"max_length: 64 and \d+ tokens around .* 64 positions of model; max_length may be at most"),
    ({"method": "recursive", "max_new_tokens": 60}, "max_new_tokens: 60 and .* max_new_tokens may be at most"),
])  # fmt: skip
def test_a_student_that_cannot_read_so_far_is_told_before_it_begins(change, message, short_lm):
    check_sizes(Student(short_lm, LABELS[:2], SETTINGS))
    settings = SETTINGS.model_copy(update=change)
    with pytest.raises(ModelError, match=message) as refused:
        check_sizes(Student(short_lm, LABELS[:2], settings))
    (key,) = change.keys() - {"method"}
    most = int(str(refused.value).split("at most ")[1])
    check_sizes(Student(short_lm, LABELS[:2], settings.model_copy(update={key: most})))
    longest = Student(short_lm, LABELS[:2], settings.model_copy(update={"max_length": most}))
    if key == "max_length":  # and what is allowed fits: GPT-2 has no position beyond its last
        assert len(longest.text_losses(["moon " * 99])) == 1


def test_a_run_begins_with_the_comparison(neox_folder):
    settings = RunSettings(method="real", student=str(neox_folder), max_length=250, device="cpu")
    with pytest.raises(ModelError, match=r"max_length: 250 and .* 256 positions of neox; max_length may be at most 2"):
        runs.prepare(settings)


def test_positions_are_compared_with_the_sum(short_lm, monkeypatch):
    for positions in (None, 16 + 2):
        monkeypatch.setattr("symbiosis.models.checks.positions", lambda model, n=positions: n)
        check_positions(short_lm, SETTINGS, 2, "max_length")
    if positions:
        with pytest.raises(ModelError, match=r"max_length: 16 and 3 tokens around them .* may be at most 15"):
            check_positions(short_lm, SETTINGS, 3, "max_length")
        with pytest.raises(
            ModelError, match=r"max_length \+ max_new_tokens: 16 \+ 8 and 12 .*; name a model that reads"
        ):
            check_positions(short_lm, SETTINGS, 12, "max_length", "max_new_tokens")


TEMPLATES = {
    "{{ raise_exception('no') }}": "its chat_template cannot ask a question",
    "{% for": "its chat_template cannot ask a question",
    "{{ 1 / 0 }}": "its chat_template cannot ask a question",
    "hello": "its chat_template drops or changes what the user says",
}


def test_a_chat_template_that_fails_or_drops_the_text_is_refused(short_lm, qwen_folder):
    lm = loading.load(str(qwen_folder), device="cpu")
    student = Student(short_lm, LABELS[:2], SETTINGS)
    check_sizes(student, Generator(lm, LABELS[:2], SETTINGS))
    for template, message in TEMPLATES.items():
        lm.tokenizer.chat_template = template
        with pytest.raises(SymbiosisError, match=message):
            check_sizes(student, Generator(lm, LABELS[:2], SETTINGS))


@row_by_row("change, key", [
    ({"max_length": 500}, "max_length"), ({"max_new_tokens": 500}, "max_new_tokens"),
    ({"max_length": 300, "max_new_tokens": 200, "method": "symbiosis"}, r"max_length \+ max_new_tokens"),
])  # fmt: skip
def test_a_generator_reads_its_prompt_and_its_answer(change, key, short_lm, qwen_folder):
    generator = Generator(loading.load(str(qwen_folder), device="cpu"), LABELS, SETTINGS.model_copy(update=change))
    with pytest.raises(ModelError, match=f"{key}: .* the 512 positions of qwen"):
        check_sizes(Student(short_lm, LABELS[:2], SETTINGS), generator)
