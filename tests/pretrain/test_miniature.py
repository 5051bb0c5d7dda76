"""Made models: their tokenizer, what they read, and a cache that holds whole models or nothing."""

import shutil
import threading
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from symbiosis import prompts
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models import loading
from symbiosis.pretrain import initial, miniature, recipe
from symbiosis.pretrain.initial import base_folder
from symbiosis.pretrain.miniature import word_tokenizer
from symbiosis.pretrain.recipe import Recipe
from symbiosis.settings import RunSettings

WORLD = World.make(0)
TINY = RunSettings(student_steps=2, generator_steps=8)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty repository root, so that the cache of the tests is theirs alone."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".cache" / "symbiosis"


def snapshot(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(folder).iterdir()}


def attributes_of(world):
    """Every subtopic once with its class, every style and every length at least once."""
    subjects = [(label, name) for label, names in zip(LABEL_NAMES, world.subtopics, strict=True) for name in names]
    return [(*s, a, b) for s, a, b in zip(subjects, cycle(prompts.STYLES), cycle(prompts.LENGTHS), strict=False)]


def test_texts_survive_the_tokenizer():
    tokenizer = word_tokenizer(WORLD, "student")
    texts = WORLD.sample(200, np.random.default_rng(0)).text.tolist()
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert tokenizer.batch_decode(ids) == texts
    assert [len(row) for row in ids] == [len(text.split()) + 2 for text in texts]  # every '.' is a token of its own
    assert tokenizer.unk_token_id not in {i for row in ids for i in row}


def test_prompts_and_labels_have_no_unknown_word():
    tokenizer = word_tokenizer(WORLD, "generator")
    text = WORLD.sample(1, np.random.default_rng(0)).text[0]
    asked = [
        prompts.write_prompt(tokenizer, "Sports"),
        prompts.explain_prompt(tokenizer, text),
        prompts.label_prompt(tokenizer, text, list(LABEL_NAMES)),
        *(prompts.name_prompt(tokenizer, label) for label in LABEL_NAMES),
        *(prompts.write_about_prompt(tokenizer, *attributes) for attributes in attributes_of(WORLD)),
        prompts.STUDENT_CLASSIFY.format(text=text) + " Science",
        prompts.STUDENT_WRITE.format(label="World"),
    ]
    for prompt in asked:
        assert tokenizer.unk_token_id not in tokenizer(prompt)["input_ids"], prompt
    assert tokenizer.unk_token_id in tokenizer("zeppelin")["input_ids"]  # and an unknown word would have been seen


def test_label_words_are_one_token_each():
    tokenizer = word_tokenizer(WORLD, "student")
    assert [len(tokenizer(f" {label}")["input_ids"]) for label in LABEL_NAMES] == [1, 1, 1, 1]


def test_chat_template_by_hand():
    generator, student = word_tokenizer(WORLD, "generator"), word_tokenizer(WORLD, "student")
    assert prompts.chat(generator, "report this.") == "<user> report this. <assistant> "
    assert prompts.chat(student, "report this.") == "report this.\n"  # the Student has no chat template
    ids = generator("<user> report this. <assistant> ")["input_ids"]
    assert generator.convert_ids_to_tokens(ids) == ["<user>", "report", "this", ".", "<assistant>"]


def test_attribute_prompts_by_hand():
    tokenizer = word_tokenizer(WORLD, "generator")
    assert prompts.name_prompt(tokenizer, "sports") == (
        "<user> Name one narrow subject of sports news, in at most three words. <assistant> "
    )
    attributes = ("sports", "tennis", "as breaking news", "two sentences")
    assert prompts.write_about_prompt(tokenizer, *attributes) == (
        "<user> Write two sentences of sports news about tennis, as breaking news. <assistant> "
    )


def test_names_of_subtopics_are_one_token_and_only_the_generators():
    generator, student = word_tokenizer(WORLD, "generator"), word_tokenizer(WORLD, "student")
    names = {name for names in WORLD.subtopics for name in names}
    assert len(names) == 24
    assert names < set(generator.get_vocab())
    assert not names & set(student.get_vocab())
    assert not names & set(WORLD.vocabulary())  # a name is never copied out of a text


def test_special_tokens_have_their_roles():
    tokenizer = word_tokenizer(WORLD, "student")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<bos>", "<eos>", "<pad>")
    ids = tokenizer("<bos> the city. <eos>")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the city."


def test_student_reads_texts_and_no_labels():
    tokenizer = word_tokenizer(WORLD, "student")
    batches = miniature.student_batches(WORLD, tokenizer, 3, Recipe(batch_size=4), np.random.default_rng(0))
    assert [len(ids) for ids, _ in batches] == [4, 4, 4]
    labels = set(tokenizer.convert_tokens_to_ids(list(LABEL_NAMES)))
    for ids, targets in batches:
        assert (ids[:, 0] == tokenizer.bos_token_id).all()
        assert (ids[torch.arange(4), (targets != -100).sum(1) - 1] == tokenizer.eos_token_id).all()
        assert not labels & set(ids.flatten().tolist())


ASKED_WORDS = {
    "write": "write a short",
    "explain": "hard to learn from",
    "label": "which topic",
    "name": "name one narrow subject",
    "write_about": "news about",
}


def test_generator_batches_hold_one_kind_each_in_the_stated_shares():
    tokenizer = word_tokenizer(WORLD, "generator")
    batches = miniature.generator_batches(WORLD, tokenizer, 100, Recipe(batch_size=2), np.random.default_rng(0))
    asked = [text.split("<assistant>")[0] for ids, _ in batches for text in tokenizer.batch_decode(ids)]
    kinds = [next(kind for kind, words in ASKED_WORDS.items() if words in text) for text in asked]
    assert kinds[::2] == kinds[1::2]  # the two rows of a batch
    counts = {kind: kinds[::2].count(kind) for kind in ASKED_WORDS}
    assert counts == {kind: round(100 * share) for kind, share in miniature.KIND_SHARES.items()}
    assert sum(counts.values()) == 100
    first = next(iter(miniature.KIND_SHARES))
    assert set(kinds[: counts[first]]) != {first}  # shuffled


@pytest.mark.parametrize("steps", [1, 7, 8, 333])
def test_every_step_has_a_batch_and_a_short_training_is_possible(steps):
    tokenizer = word_tokenizer(WORLD, "generator")
    recipe = Recipe(batch_size=1)
    batches = miniature.generator_batches(WORLD, tokenizer, steps, recipe, np.random.default_rng(0))
    assert len(batches) == steps


def test_explanations_keep_the_subtopic_and_labels_are_true():
    tokenizer, rng = word_tokenizer(WORLD, "generator"), np.random.default_rng(0)
    rows = [row.split("<assistant>") for row in miniature._explain_rows(WORLD, tokenizer, 200, rng)]
    texts = [asked.split(": ", 1)[1].rsplit("\n", 1)[0] for asked, _ in rows]
    answers = [answer.removesuffix(" <eos>").strip() for _, answer in rows]
    assert np.isfinite(WORLD.log_likelihood(texts)).all() and np.isfinite(WORLD.log_likelihood(answers)).all()
    assert (WORLD.subtopic(texts) == WORLD.subtopic(answers)).mean() > 0.9  # .98 each is read correctly
    rows = [row.split("<assistant>") for row in miniature._label_rows(WORLD, tokenizer, 200, rng)]
    texts = [asked.removeprefix("<user> ").rsplit("\n", 1)[0] for asked, _ in rows]
    given = np.array([LABEL_NAMES.index(label.split()[0]) for _, label in rows])
    assert (WORLD.posterior(texts).argmax(axis=1) == given).mean() > 0.95


TAIL_MASS = {"write": 0.166, "label": 0.363, "name": 0.363, "write_about": 0.363}  # shares^2.2 and ^1.2, by hand


@pytest.mark.parametrize("kind", TAIL_MASS)
def test_the_generator_learns_to_write_heads_and_everything_else_wider(kind):
    docs = miniature._drawn(WORLD, kind, 20_000, np.random.default_rng(0))
    stderr = 0.5 / 20_000**0.5
    assert docs.subtopic.isin(WORLD.tail).mean() == pytest.approx(TAIL_MASS[kind], abs=4 * stderr)
    assert 0.416 - TAIL_MASS[kind] > 10 * stderr  # and the true tail mass would have been seen
    assert miniature._sharpened(np.array([0.6, 0.4]), 2.0) == pytest.approx([9 / 13, 4 / 13])


def test_names_are_subtopics_of_the_asked_class():
    tokenizer = word_tokenizer(WORLD, "generator")
    rows = miniature._name_rows(WORLD, tokenizer, 400, np.random.default_rng(0))
    asked, answers = zip(*(row.split(" <assistant> ") for row in rows), strict=True)
    labels = [LABEL_NAMES.index(text.split(" of ")[1].split()[0]) for text in asked]
    names = [answer.removesuffix(" <eos>") for answer in answers]
    assert all(name in WORLD.subtopics[label] for label, name in zip(labels, names, strict=True))
    assert len(set(names)) == 24


def test_texts_about_a_subject_are_of_it_and_style_and_length_change_nothing():
    tokenizer = word_tokenizer(WORLD, "generator")
    rows = miniature._write_about_rows(WORLD, tokenizer, 1200, np.random.default_rng(0))
    asked, answers = zip(*(row.split(" <assistant> ") for row in rows), strict=True)
    texts = np.array([answer.removesuffix(" <eos>") for answer in answers])
    assert np.isfinite(WORLD.log_likelihood(texts)).all()
    number = {name: c * 6 + k for c, names in enumerate(WORLD.subtopics) for k, name in enumerate(names)}
    subjects = [number[text.split(" about ")[1].split(",")[0]] for text in asked]
    assert (WORLD.subtopic(texts) == subjects).mean() > 0.9  # .98 are read correctly
    for phrases in (prompts.STYLES, prompts.LENGTHS):
        words = [np.mean([len(t.split()) for t in texts[[phrase in a for a in asked]]]) for phrase in phrases]
        assert words == pytest.approx([np.mean(words)] * len(phrases), abs=1.0)  # stderr of a mean is below .2


def test_learning_rate_rises_then_falls_to_nothing():
    rates = [recipe.schedule(step, 100, 0.05) for step in range(100)]
    peak = int(np.argmax(rates))
    assert 3 <= peak <= 6
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[0] < 0.2 and rates[-1] == pytest.approx(0.01)


def test_padding_is_not_learned():
    # The same rows with and without extra padding must give the same weights.
    tokenizer = word_tokenizer(WORLD, "student")
    texts = [f"<bos> {text} <eos>" for text in WORLD.sample(4, np.random.default_rng(0)).text]
    (ids, targets), *_ = miniature._padded_batches(tokenizer, texts, Recipe(batch_size=4))
    padded = [torch.nn.functional.pad(a, (0, 5), value=v) for a, v in ((ids, tokenizer.pad_token_id), (targets, -100))]
    weights = []
    for batch in ((ids, targets), padded):
        torch.manual_seed(0)
        model = recipe.new_model("student", tokenizer, **miniature.SIZES["student"])
        recipe.train(model, [batch], Recipe(batch_size=4), desc="test")
        weights.append(model.get_output_embeddings().weight.detach())
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)


def test_names_of_other_models_are_left_alone(cache):
    settings = RunSettings(student="EleutherAI/pythia-160m", generator="some/folder")
    assert base_folder("student", settings) == "EleutherAI/pythia-160m"
    assert base_folder("generator", settings) == "some/folder"
    assert not cache.exists()


@pytest.mark.parametrize("role", ["student", "generator"])
def test_base_is_made_once_loads_anywhere_and_is_reproducible(cache, role):
    folder = base_folder(role, TINY)
    first = snapshot(folder)
    assert base_folder(role, TINY) == folder
    assert snapshot(folder) == first  # bytes and modification times: nothing was written again

    model, tokenizer = loading.load(folder)
    assert model.config.model_type == {"student": "gpt_neox", "generator": "qwen2"}[role]
    assert model.dtype == torch.float32
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert bool(tokenizer.chat_template) == (role == "generator")
    text = WORLD.sample(1, np.random.default_rng(0)).text[0]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

    weights = Path(folder) / "model.safetensors"
    before = weights.read_bytes()
    shutil.rmtree(folder)
    assert base_folder(role, TINY) == folder
    assert weights.read_bytes() == before  # bit for bit


def test_another_seed_or_step_count_is_another_model(cache):
    folders = {base_folder("student", TINY.model_copy(update=change)) for change in ({}, {"seed": 1})}
    folders.add(base_folder("student", TINY.model_copy(update={"student_steps": 1})))
    assert len(folders) == 3
    assert len({(Path(folder) / "model.safetensors").read_bytes() for folder in folders}) == 3
    assert base_folder("student", TINY.model_copy(update={"epochs": 7})) in folders  # does not change the base


def test_making_a_base_leaves_the_callers_random_numbers_alone(cache):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    base_folder("student", TINY)
    assert torch.rand(1) == expected


def test_an_interrupted_save_leaves_nothing(cache, monkeypatch):
    def interrupted(self, folder, **kwargs):
        assert list(Path(folder).glob("*.safetensors"))  # the model is there already, the tokenizer is not
        raise KeyboardInterrupt

    monkeypatch.setattr(miniature.PreTrainedTokenizerFast, "save_pretrained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        base_folder("student", TINY)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    monkeypatch.undo()
    monkeypatch.chdir(cache.parent.parent)
    assert (Path(base_folder("student", TINY)) / "tokenizer.json").is_file()  # the next run starts anew


def test_two_jobs_of_one_seed_train_once(cache, monkeypatch):
    made = []
    original, inputs = initial.MAKERS["miniature"]
    monkeypatch.setitem(initial.MAKERS, "miniature", (lambda *a: made.append(a[0]) or original(*a), inputs))
    found = []
    jobs = [threading.Thread(target=lambda: found.append(base_folder("student", TINY))) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert made == ["student"]
    assert len(found) == 3 and len(set(found)) == 1


def test_pre_training_learns_the_language(cache):
    # Measured 2.0 after 60 steps; token shares without context give 4.4 (computed below), the true world 1.45.
    settings = RunSettings(student_steps=60)
    model = AutoModelForCausalLM.from_pretrained(base_folder("student", settings))
    tokenizer = word_tokenizer(WORLD, "student")
    texts = [f"<bos> {text} <eos>" for text in WORLD.sample(64, np.random.default_rng(9)).text]
    (ids, targets), *_ = miniature._padded_batches(tokenizer, texts, Recipe(batch_size=64))
    learned = targets[:, 1:] != -100
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1]).logits[learned]
    targets = ids[:, 1:][learned]
    shares = targets.bincount() / len(targets)
    entropy = -(shares[shares > 0] * shares[shares > 0].log()).sum()
    assert torch.nn.functional.cross_entropy(logits, targets) < 0.6 * entropy
