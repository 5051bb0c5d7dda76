"""Where initial weights are: what a setting names, or a model pre-trained here once per seed and cached.

Roles: the loop's `student` and `generator`, and `interaction`, the Student that an entity begins as. The latter
reads public text only: the loop's has read every class, so nothing would be left for one entity to learn from another.
"""

import numpy as np
import torch

from symbiosis.models import loading
from symbiosis.pretrain import miniature
from symbiosis.pretrain.recipe import new_model, train
from symbiosis.settings import InteractionSettings, RunSettings, derive_seed, fingerprint, resolve
from symbiosis.store.folders import disk_errors_said, locked

RECIPES = {"miniature": miniature.RECIPES} | miniature.ENTITIES  # what a setting can name -> role -> recipe
ARCHITECTURE = {"student": "student", "generator": "generator", "interaction": "student"}  # and the setting's name


def initial_model_folder(role: str, settings: RunSettings | InteractionSettings) -> str:
    """The cached folder of a model pre-trained here, else the folder or hub id the setting names.

    It is trained when its folder is absent; a lock keeps two jobs of one seed from training it twice.
    """
    if not (key := cache_key(role, settings)):
        return getattr(settings, ARCHITECTURE[role])
    folder = resolve(".cache/symbiosis") / key
    remedy = "free some space, or see that you may write to it"
    with disk_errors_said(folder.parent, remedy), locked(folder.with_name(f"{key}.lock"), wait=True):
        if not folder.is_dir():
            initial_model(role, settings).save(folder)
    return str(folder)


def initial_weights(role: str, key: str, settings: RunSettings | InteractionSettings) -> dict[str, str]:
    """Which weights a role begins with: of a model pre-trained here its `cache_key`, of a local one name and digest.

    Nothing of a hub id, whose commit the settings say.
    """
    if key:
        return {role: key}
    folder = loading.local_folder(getattr(settings, ARCHITECTURE[role]))
    return loading.named_weights(role, folder) if folder else {}


def cache_key(role: str, settings: RunSettings | InteractionSettings) -> str:
    """Name of a model pre-trained here, with a digest of all that its weights depend on; '' of any other."""
    named = ARCHITECTURE[role]
    name = getattr(settings, named)
    if role not in RECIPES.get(name, {}):
        return ""
    recipe = RECIPES[name][role]
    used = {"seed": settings.seed, "steps": getattr(settings, f"{named}_steps"), "version": recipe.version}
    used["student" if role == "interaction" else "model"] = name  # the words of keys that finished runs hold
    if role == "generator":
        used |= settings.model_dump(include={"name_power", "explain_by"}, exclude_defaults=True)
    return f"{role}-{fingerprint(used)}"


def initial_model(role: str, settings: RunSettings | InteractionSettings):
    """A LanguageModel, pre-trained by its recipe; the same bits for the same seed and threads."""
    named = ARCHITECTURE[role]
    recipe = RECIPES[getattr(settings, named)][role]
    rng = np.random.default_rng(derive_seed(settings.seed, 0, f"{role}-base"))
    tokenizer, batches = recipe.lesson(role, settings, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(settings.seed, 0, f"{role}-init"))
        model = new_model(
            recipe.architecture or named, tokenizer, {"positions": max(512, 4 * settings.max_length)} | recipe.sizes
        )
    train(model, batches, recipe, desc=f"pre-training the {role} model")
    return loading.LanguageModel(model, tokenizer)
