"""Where a role's initial weights are: what its name says, or a model made here once per seed and cached."""

from symbiosis.models import loading
from symbiosis.pretrain import miniature, small
from symbiosis.settings import RunSettings, fingerprint, resolve
from symbiosis.store.folders import locked

MAKERS = {
    "miniature": (miniature.make_miniature, miniature.cache_inputs),
    "small": (small.make_small, small.cache_inputs),
}


def made_name(role: str, settings: RunSettings) -> str:
    """Name of the made model of `role` ('student' or 'generator'): a digest of its inputs; '' of any other."""
    name = getattr(settings, role)
    if name not in MAKERS:
        return ""
    used = {"model": name, "seed": settings.seed, "steps": getattr(settings, f"{role}_steps")}
    return f"{role}-{fingerprint(used | MAKERS[name][1](role, settings))}"


def base_folder(role: str, settings: RunSettings) -> str:
    """The cached folder of a made model of `role`, else the folder or hub id it names.

    A made model is trained when its folder is absent; a lock keeps two jobs of one seed from training it twice.
    """
    name = getattr(settings, role)
    if name not in MAKERS:
        return name
    make, folder = MAKERS[name][0], resolve(".cache/symbiosis") / made_name(role, settings)
    with locked(folder.with_name(f"{folder.name}.lock"), wait=True):
        if not folder.is_dir():
            loading.save(*make(role, settings), folder)
    return str(folder)
