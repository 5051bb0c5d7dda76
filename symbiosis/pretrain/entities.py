"""The initial model that all entities of an interaction share: named, or made here once per seed and cached.

A made model reads public text only. The miniature Student of the other experiments has read every class, so nothing
would be left for one entity to learn from another: transfer needs tasks that the common start does not know.
"""

import numpy as np
import torch

from symbiosis.data import corpora
from symbiosis.data.readers import DataError
from symbiosis.data.task import match_key
from symbiosis.data.texts import TaskTexts, public_world
from symbiosis.data.world import World
from symbiosis.models import loading
from symbiosis.models.loading import pad, start_ids, token_ids
from symbiosis.pretrain import miniature, small
from symbiosis.pretrain.miniature import word_tokenizer
from symbiosis.pretrain.recipe import Recipe, new_model, train
from symbiosis.pretrain.small import byte_tokenizer, packed_windows
from symbiosis.settings import InteractionSettings, derive_seed, fingerprint, resolve
from symbiosis.store.folders import digest, locked

VERSION = 1  # of what is made here: raised when a change to the recipe, the world or a prompt changes the weights


def base_folder(settings: InteractionSettings, tasks: list[TaskTexts]) -> str:
    """The cached folder of a made model, else the folder or hub id that `student` names.

    A made model is trained when its folder is absent; a lock keeps two jobs of one seed from training it twice.
    """
    if settings.student not in _MAKERS:
        return settings.student
    folder = resolve(".cache/symbiosis") / made_name(settings, tasks)
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not folder.is_dir():
            tokenizer, batches, recipe, sizes = _MAKERS[settings.student](settings, tasks)
            loading.save(_trained(settings, tokenizer, batches, recipe, sizes), tokenizer, folder)
    return str(folder)


def made_name(settings: InteractionSettings, tasks: list[TaskTexts]) -> str:
    """Name of a made model: a digest of what its weights depend on; '' of any other."""
    if settings.student not in _MAKERS:
        return ""
    used = {"student": settings.student, "seed": settings.seed, "steps": settings.student_steps, "version": VERSION}
    if settings.student == "small":
        used["corpus"] = digest(corpora.plain_files(settings.student_corpus))
        used |= {"max_length": settings.max_length, "left out": fingerprint(sorted(_test_keys(tasks)))}
    return f"interaction-{fingerprint(used)}"


def _trained(settings: InteractionSettings, tokenizer, batches: list, recipe: Recipe, sizes: dict):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, 0, "interaction-init"))
        model = new_model("student", tokenizer, **sizes)
    train(model, batches, recipe, desc="pre-training the common model")
    return model


def _miniature(settings: InteractionSettings, tasks: list[TaskTexts]) -> tuple:
    """Public texts of the seed's world, from a stream of their own."""
    world, recipe = World.make(settings.seed), miniature.RECIPES["student"]
    tokenizer = word_tokenizer(world, "student")
    n = settings.student_steps * recipe.batch_size
    texts = public_world(world).sample(n, _rng(settings))["text"].tolist()
    rows = [start_ids(tokenizer) + ids + [tokenizer.eos_token_id] for ids in token_ids(tokenizer, texts)]
    batches = [_batch(tokenizer, rows[i : i + recipe.batch_size]) for i in range(0, n, recipe.batch_size)]
    return tokenizer, batches, recipe, miniature.SIZES["student"]


def _batch(tokenizer, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    padded = pad(tokenizer, rows, left=False, device="cpu")
    return padded["input_ids"], padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)


def _small(settings: InteractionSettings, tasks: list[TaskTexts]) -> tuple:
    """Packed windows of the corpus, without the texts that any task tests on."""
    documents, tested = corpora.read_plain(settings.student_corpus), _test_keys(tasks)
    documents = [text for text in documents if match_key(text) not in tested]
    if not documents:
        raise DataError("student_corpus: every text is also a test text of a task; name another corpus")
    tokenizer = byte_tokenizer(documents)
    width, n = settings.max_length + small.ROOM, settings.student_steps * small.RECIPE.batch_size
    windows = packed_windows(tokenizer, documents, n, width, _rng(settings))
    batches = [(batch, batch) for batch in torch.from_numpy(windows).split(small.RECIPE.batch_size)]
    return tokenizer, batches, small.RECIPE, small.SIZES["student"] | {"positions": max(512, 4 * settings.max_length)}


def _test_keys(tasks: list[TaskTexts]) -> set[str]:
    return {match_key(text) for task in tasks for text in task.test}


def _rng(settings: InteractionSettings) -> np.random.Generator:
    return np.random.default_rng(derive_seed(settings.seed, 0, "interaction-base"))


_MAKERS = {"miniature": _miniature, "small": _small}
