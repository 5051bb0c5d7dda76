import copy
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from symbiosis.loop import teaching
from symbiosis.loop.teaching import GenerationError, Teacher, fresh_texts
from symbiosis.models import generation, loading
from symbiosis.models.generation import generate
from symbiosis.prompts import STYLES, name_prompt, write_prompt
from symbiosis.settings import RunSettings

SETTINGS = RunSettings(max_new_tokens=12, generation_batch_size=3, max_redraws=2)


@pytest.fixture(scope="module")
def generator(qwen_folder):
    return loading.load(str(qwen_folder), device="cpu")


def test_same_seed_same_texts_in_the_order_of_the_prompts(generator):
    model, tokenizer = generator
    prompts = loading.token_ids(tokenizer, ["Write.", "Write a longer one, please.", "x", "A text about the moon."])
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
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about the moon."])
    texts = generate(model, tokenizer, prompts, SETTINGS.model_copy(update={"temperature": 1e-4}), seed=0)
    for prompt, text in zip(prompts, texts, strict=True):
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
        assert text == " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())


def drawing(*rounds):
    """A writer that answers with prepared rounds."""
    answers = iter(rounds)
    return lambda prompts, seed, samples: list(next(answers))[: len(prompts)]


def test_empty_and_duplicate_texts_are_counted_and_drawn_again():
    counts = Counter()
    texts = fresh_texts(drawing(["a", "", "a", "b"], ["c", "d"]), [0, 1, 2, 3], SETTINGS, 0, counts)
    assert texts == ["a", "c", "d", "b"]
    assert counts == {"asked": 4, "empty": 1, "duplicate": 1, "redrawn": 2}


def test_a_writer_that_stays_silent_is_a_clear_stop():
    with pytest.raises(GenerationError, match=r"2 of 4 texts are still empty after max_redraws=2; raise"):
        fresh_texts(drawing(["a", "", "", "a"], ["", "", "a"], ["", "", "a"]), [0] * 4, SETTINGS, 0, Counter())


def test_duplicates_that_no_redraw_removes_stay_and_are_counted():
    counts = Counter()
    assert fresh_texts(drawing(["a", "a"], ["a"], ["a"]), [0] * 2, SETTINGS, 0, counts) == ["a", "a"]
    assert counts["repeated"] == 1 and counts["redrawn"] == 2


def test_duplicates_may_stay_but_empty_texts_may_not():
    counts = Counter()
    assert fresh_texts(drawing(["a", "a", ""], ["a"]), [0] * 3, SETTINGS, 0, counts, keep_duplicates=True) == ["a"] * 3
    assert counts["redrawn"] == 1 and counts["duplicate"] == 3  # one at first, two after the empty one was replaced


def test_several_samples_of_a_prompt_are_side_by_side_and_read_as_if_asked_one_by_one(generator):
    model, tokenizer = generator
    cold = SETTINGS.model_copy(update={"temperature": 1e-6})
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about the moon.", "x"])
    one = generate(model, tokenizer, prompts, cold, seed=0)
    assert generate(model, tokenizer, prompts, cold, seed=0, samples=3) == [text for text in one for _ in range(3)]
    warm = generate(model, tokenizer, prompts, SETTINGS, seed=0, samples=3)
    assert len(set(warm)) == 9


def teacher(generator, **changes) -> Teacher:
    return Teacher(*generator, ["World", "Sports"], SETTINGS.model_copy(update=changes), Counter())


def test_generator_labels_and_explains_in_its_chat_template(generator):
    asked = teacher(generator)
    taught = teaching.explain(asked, ["A probe landed."] * 3, seed=1)
    assert len(set(taught.texts)) == 3 and asked.counts["asked"] == 3 and set(taught.labels) <= {0, 1}
    assert (taught.labels == asked.beliefs(taught.texts).argmax(1)).all()  # one draft: its own label
    assert taught.beliefs.sum(1) == pytest.approx(np.ones(3), abs=1e-5)


def test_of_several_drafts_the_one_read_most_clearly_as_its_label_is_kept(generator):
    asked = teacher(generator, candidates=4)
    taught = teaching.write(asked, [0, 1, 1], seed=1)
    prompts = [write_prompt(asked.tokenizer, name) for name in ("World", "Sports", "Sports")]
    drafts = teacher(generator).texts(prompts, seed=1, samples=4)
    beliefs = asked.beliefs(drafts)
    for i, label in enumerate([0, 1, 1]):
        assert taught.texts[i] == drafts[4 * i + beliefs[4 * i : 4 * i + 4, label].argmax()]
    assert asked.counts["asked"] == 12 and asked.counts["filtered"] == 9 and asked.counts["kept"] == 3
    assert asked.counts["agreed"] == (taught.beliefs.argmax(1) == [0, 1, 1]).sum()


def test_the_label_of_an_explanation_is_the_vote_of_the_hard_text_and_its_drafts(generator):
    asked, hard = teacher(generator, candidates=3), ["A probe landed.", "Her serve won."]
    taught = teaching.explain(asked, hard, seed=2)
    drafts = teaching.explanations(teacher(generator, candidates=3), hard, seed=2)
    votes = np.stack([asked.beliefs([h, *drafts[3 * i : 3 * i + 3]]).mean(0) for i, h in enumerate(hard)])
    assert (taught.labels == votes.argmax(1)).all()


def test_an_attribute_prompt_holds_a_subject_the_generator_named(generator):
    asked = teacher(generator, attributes=True)
    prompts = teaching.attribute_prompts(asked, [0, 1], seed=3)
    subjects = generate(*generator, loading.token_ids(asked.tokenizer, [name_prompt(asked.tokenizer, n) for n in
                        ("World", "Sports")]), SETTINGS, seed=3)  # fmt: skip
    assert all(s in p and n in p for s, p, n in zip(subjects, prompts, ("World", "Sports"), strict=True))
    assert any(style in prompts[0] for style in STYLES)


def test_tilt_is_the_minimiser_of_score_plus_kl():
    w = teaching.tilt(np.array([0.0, 1.0]), tau=2.0)  # sd = 1/2, so tau * sd = 1
    assert w / w.sum() == pytest.approx([0.731059, 0.268941], abs=1e-6)
    assert teaching.tilt(np.ones(3), tau=1.0).tolist() == [1, 1, 1]
    assert teaching.tilt(np.arange(9.0), tau=1e9) == pytest.approx(np.ones(9), abs=1e-6)


def test_the_generator_has_not_drifted_from_itself_and_has_after_learning(generator):
    model, tokenizer = copy.deepcopy(generator[0]), generator[1]
    settings = SETTINGS.model_copy(update={"generator_learning_rate": 1e-2, "generator_epochs": 5})
    learner = Teacher(model, tokenizer, ["World", "Sports"], settings, Counter())
    assert teaching.kl_to_initial(learner, generator[0], n=8, seed=0) == 0
    teaching.learn_pool(learner, ["Shares fell.", "A probe landed."] * 4, seed=0)
    assert teaching.kl_to_initial(learner, generator[0], n=8, seed=0) > 0.01


def test_preferred_drafts_become_likelier_than_the_others(generator):
    model, tokenizer = copy.deepcopy(generator[0]), generator[1]
    settings = SETTINGS.model_copy(update={"generator_learning_rate": 3e-3, "generator_epochs": 6, "candidates": 2})
    learner = Teacher(model, tokenizer, ["World", "Sports"], settings, Counter())
    drafts = ["Shares fell.", "A probe landed."] * 4
    scores = np.array([-1.0, 1.0] * 4)  # the first draft of each pair helps
    history = teaching.learn_preferences(learner, ["Oil rose."] * 4, drafts, scores, seed=0)
    assert history[-1]["preferred"] == 1 and history[-1]["loss"] < history[0]["loss"] - 0.05
    assert history[0]["loss"] == pytest.approx(np.log(2), abs=1e-3)  # before any step the two margins are equal


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
    monkeypatch.setattr(generation, "_engines", {})
    return seen


def test_vllm_is_asked_with_token_ids_and_the_settings_and_its_answers_keep_their_order(generator, vllm):
    model, tokenizer = generator
    prompts = loading.token_ids(tokenizer, ["Write.", "A text about  the moon.", "Write."])
    texts = generate(model, tokenizer, prompts, VLLM, seed=4, samples=2)
    expected = [tokenizer.decode([*prompt, 300 + k]) for prompt in prompts for k in range(2)]
    assert texts == [" ".join(text.split()) for text in expected]
    for asked in vllm.asked:
        assert (asked.n, asked.temperature, asked.top_p, asked.max_tokens) == (2, 0.7, 0.9, SETTINGS.max_new_tokens)
        assert asked.stop_token_ids == [tokenizer.eos_token_id]
    seeds = [asked.seed for asked in vllm.asked]
    assert len(set(seeds)) == 3  # the two equal prompts, too
    generate(model, tokenizer, prompts, VLLM, seed=4, samples=2)
    generate(model, tokenizer, prompts, VLLM, seed=5, samples=2)
    assert [a.seed for a in vllm.asked[3:6]] == seeds and not {a.seed for a in vllm.asked[6:]} & set(seeds)


def test_vllm_writes_with_the_weights_as_they_stand(generator, vllm):
    model, tokenizer = copy.deepcopy(generator[0]), generator[1]
    for _ in range(2):
        generate(model, tokenizer, [[5, 6]], VLLM, seed=0)
    assert len(vllm.engines) == 1  # an engine is kept while nothing is trained
    learner = Teacher(model, tokenizer, ["World", "Sports"], VLLM, Counter())
    teaching.learn_pool(learner, ["Shares fell.", "A probe landed."], seed=0)
    generate(model, tokenizer, [[5, 6]], VLLM.model_copy(update={"precision": "bf16"}), seed=0)
    (old, fp32, _), (new, bf16, folder) = vllm.engines
    same = [torch.equal(p, q) for p, q in zip(new.parameters(), model.parameters(), strict=True)]
    assert all(same) and not torch.equal(next(old.parameters()), next(model.parameters()))
    assert (fp32, bf16) == ("float32", "bfloat16") and not folder.exists() and len(generation._engines) == 1


def test_vllm_that_is_not_installed_is_a_clear_stop(generator, monkeypatch):
    monkeypatch.setattr(generation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        generation.GenerationError, match=r"'vllm' is not installed here; .* generation_engine to trans"
    ):
        generate(*generator, [[5, 6]], VLLM, seed=0)
    generation.require_engine(SETTINGS)  # transformers is always there
