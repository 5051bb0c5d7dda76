import copy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from made_tokenizers import CHATML, byte_level
from row_by_row import row_by_row
from transformers import GenerationConfig

from symbiosis.models import loading
from symbiosis.models import vllm as vllm_engine
from symbiosis.models.chat import stops
from symbiosis.models.generation import generate, written_texts
from symbiosis.models.generator import Generator
from symbiosis.models.sampling import Sampling, SamplingError
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_new_tokens=12, generation_batch_size=3, max_redraws=2)


@pytest.fixture(scope="module")
def generator(qwen_folder):
    return loading.load(str(qwen_folder), device="cpu")


def write(lm, prompts, settings, **how):
    return generate(lm, prompts, Sampling.of(settings), **how)


def test_same_seed_same_texts_and_the_random_state_is_left_alone(generator):
    _model, tokenizer = generator
    prompts = loading.token_ids(tokenizer, ["Write.", "Write a longer one, please.", "x", "A text about the moon."])
    first, again, other = (write(generator, prompts, SETTINGS, seed=s) for s in (1, 1, 2))
    assert first == again != other and len(first) == 4

    _model, _tokenizer = generator
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    write(generator, [[5, 6]], SETTINGS, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_cold_sampling_equals_the_library_greedy_token_for_token(generator):
    model, tokenizer = generator
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about the moon."])
    texts = write(generator, prompts, SETTINGS.model_copy(update={"temperature": 1e-4}), seed=0)
    for prompt, text in zip(prompts, texts, strict=True):
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
        assert text == " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())


@row_by_row("engine", ["transformers", "refill"])
def test_a_text_ends_at_the_first_stop_and_is_not_cut_there(generator, engine):
    tokenizer = generator.tokenizer
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about the moon.", "x", "Shares fell"])
    how = {"temperature": 1e-6, "top_p": 1.0, "max_new_tokens": 12, "batch_size": 3, "engine": engine}
    whole = generate(generator, prompts, Sampling(**how), seed=0)
    common = max("abcdefghijklmnopqrstuvwxyz", key=lambda letter: sum(letter in text[1:] for text in whole))
    found = generate(generator, prompts, Sampling(**how, stops=(common, "never so")), seed=0)
    assert found == [text.partition(common)[0].strip() for text in whole]
    assert any(common in text for text in whole) and not any(
        t.cut for t, w in zip(found, whole, strict=True) if common in w
    )
    assert [t.cut for t, w in zip(found, whole, strict=True) if common not in w] == [
        w.cut for w in whole if common not in w
    ]


def test_nothing_is_drawn_behind_a_token_that_holds_a_stop(generator):
    ends = loading.end_tokens(generator, ("t", "x"))
    own, said = ends[:1], [generator.tokenizer.decode([i]) for i in ends[1:]]
    assert own == [generator.tokenizer.eos_token_id] and len(said) > 2  # also tokens of several letters
    assert all("t" in token or "x" in token for token in said)
    assert loading.end_tokens(generator) == own


def test_several_samples_of_a_prompt_are_side_by_side_and_read_as_if_asked_one_by_one(generator):
    _model, tokenizer = generator
    cold = SETTINGS.model_copy(update={"temperature": 1e-6})
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about the moon.", "x"])
    one = write(generator, prompts, cold, seed=0)
    assert write(generator, prompts, cold, seed=0, samples=3) == [text for text in one for _ in range(3)]
    warm = write(generator, prompts, SETTINGS, seed=0, samples=3)
    assert len(set(warm)) == 9


# --- vLLM ----------------------------------------------------------------------------------------------------------
VLLM = SETTINGS.model_copy(update={"generation_engine": "vllm", "temperature": 0.7, "top_p": 0.9})


@pytest.fixture
def vllm(monkeypatch):
    """A stand-in for the package: keeps what it is given; answers a prompt with itself and the sample's number."""
    module, seen = ModuleType("vllm"), SimpleNamespace(engines=[], asked=[])

    class LLM:
        def __init__(self, *, model, dtype, gpu_memory_utilization, trust_remote_code):
            assert 0 < gpu_memory_utilization < 1 and not trust_remote_code
            seen.engines.append((loading.load(model, device="cpu")[0], dtype, Path(model)))

        def generate(self, prompts, sampling_params, *, use_tqdm):
            seen.asked += sampling_params
            return [
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=[*row["prompt_token_ids"], 300 + k, 2]) for k in
                                         range(params.n)])
                for row, params in zip(prompts, sampling_params, strict=True)
            ]  # fmt: skip

    module.LLM, module.SamplingParams = LLM, lambda **given: SimpleNamespace(**given)
    module.__spec__ = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm_engine, "_engines", {})
    return seen


def test_vllm_is_asked_with_token_ids_and_the_settings_and_its_answers_keep_their_order(generator, vllm):
    _model, tokenizer = generator
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about  the moon.", "Write."])
    texts = write(generator, prompts, VLLM, seed=4, samples=2)
    expected = [tokenizer.decode([*prompt, 300 + k]) for prompt in prompts for k in range(2)]
    assert texts == [" ".join(text.split()) for text in expected]
    for asked in vllm.asked:
        assert (asked.n, asked.temperature, asked.top_p, asked.max_tokens) == (2, 0.7, 0.9, SETTINGS.max_new_tokens)
        assert asked.stop_token_ids == [tokenizer.eos_token_id]
    seeds = [asked.seed for asked in vllm.asked]
    assert len(set(seeds)) == 3  # the two equal prompts, too
    write(generator, prompts, VLLM, seed=4, samples=2)
    write(generator, prompts, VLLM, seed=5, samples=2)
    assert [a.seed for a in vllm.asked[3:6]] == seeds and not {a.seed for a in vllm.asked[6:]} & set(seeds)


def test_vllm_writes_with_the_weights_as_they_stand(generator, vllm):
    generator = copy.deepcopy(generator)
    model, _ = generator
    for _ in range(2):
        write(generator, [[5, 6]], VLLM, seed=0)
    assert len(vllm.engines) == 1  # an engine is kept while nothing is trained
    Generator(generator, ["World", "Sports"], VLLM).fine_tune(
        ["Write."] * 2, ["Shares fell.", "A probe landed."], seed=0
    )
    write(generator, [[5, 6]], VLLM.model_copy(update={"precision": "bf16"}), seed=0)
    (old, fp32, _), (new, bf16, folder) = vllm.engines
    same = [torch.equal(p, q) for p, q in zip(new.parameters(), model.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(old.parameters()), next(model.parameters()))
    assert (fp32, bf16) == ("float32", "bfloat16") and not folder.exists() and len(vllm_engine._engines) == 1


def test_vllm_that_is_not_installed_is_a_clear_stop(generator, monkeypatch):
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(vllm_engine.EngineError, match=r"'vllm' is not installed here; .* generation_engine to trans"):
        write(generator, [[5, 6]], VLLM, seed=0)
    vllm_engine.require_engine("transformers")  # transformers is always there


# --- what was written -----------------------------------------------------------------------------------------------
THINKS = byte_level("<|im_start|>", "<|im_end|>", template=CHATML)
THINKS.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
VICUNA = byte_level(template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:")


@row_by_row(
    "tokenizer, written, text, cut",
    [
        (THINKS, "Shares  fell.</s> more", "Shares fell.", False),
        (THINKS, "Shares fell.<|im_end|>\n<|im_start|>user\nWrite.", "Shares fell.", False),  # eos is </s>
        (THINKS, "<s>Shares fell.</s>", "Shares fell.", False),
        (THINKS, "Shares fell.", "Shares fell.", True),
        (THINKS, "", "", False),
        (THINKS, "<think>\nHm. </think>\n\nShares fell.</s>", "Shares fell.", False),
        (THINKS, "Hm.</think> Well.</think> Shares fell.</s>", "Shares fell.", False),
        (THINKS, "[THINK]Hm.[/THINK]Shares fell.</s>", "Shares fell.", False),  # by special tokens
        (THINKS, " <think> Hm and hm", "", False),  # and no answer: it is drawn again
        (VICUNA, "Shares fell.\nuser: Write.\nassistant: Oil", "Shares fell.", False),
    ],
)
def test_an_answer_is_what_stands_between_its_thoughts_and_its_end(tokenizer, written, text, cut, capsys):
    ends = GenerationConfig(eos_token_id=sorted(stops(tokenizer)[0]))
    lm = loading.LanguageModel(SimpleNamespace(generation_config=ends), tokenizer)
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    (answer,) = written_texts(lm, [ids], len(ids))
    assert (answer, answer.cut) == (text, cut)
    thought = "think" in written.lower()
    assert ("1 of 1 answers began with thinking" in capsys.readouterr().out) == thought


@row_by_row("engine", ["transformers", "refill"])
def test_texts_without_an_end_of_their_own_are_marked(generator, engine):
    settings = SETTINGS.model_copy(update={"generation_engine": engine, "max_new_tokens": 6})
    lm = copy.deepcopy(generator)
    endless = write(lm, [[5, 6]] * 4, settings, seed=1)
    lm.model.generation_config.eos_token_id = list(range(100, 400))  # most tokens end a text
    brief = write(lm, [[5, 6]] * 40, settings, seed=1)
    assert all(text.cut for text in endless) and not any(text.cut for text in brief[:20])


@row_by_row("engine", ["transformers", "refill"])
@row_by_row("value", [float("nan"), float("inf")])
def test_predictions_that_are_no_numbers_stop_in_a_sentence(generator, engine, value):
    broken = copy.deepcopy(generator)
    broken.model.get_output_embeddings().weight.data.fill_(value)
    with pytest.raises(SamplingError, match=r"no text can be drawn: .* nan or inf, .* lower generator_learning_rate"):
        write(broken, [[5, 6]], SETTINGS.model_copy(update={"generation_engine": engine}), seed=0)
