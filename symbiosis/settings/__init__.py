"""Every parameter once, with its unit, range and meaning; anything misspelt or mistyped stops before work begins."""

from typing import Any, TypeVar

from pydantic import ValidationError

from symbiosis.settings.common import (
    UNREPORTED,
    Checked,
    Settings,
    SettingsError,
    arm_of,
    derive_seed,
    fingerprint,
    nearest,
    resolve,
    root,
    short,
)  # fmt: skip
from symbiosis.settings.interaction import InteractionSettings
from symbiosis.settings.run import EDITS, FEEDBACK_OF_TEXTS, PROXIES, RunSettings

__all__ = [
    "EDITS", "FEEDBACK_OF_TEXTS", "PROXIES", "UNREPORTED", "Checked", "InteractionSettings", "RunSettings", "Settings",
    "SettingsError", "arm_of", "derive_seed", "fingerprint", "make_settings", "nearest", "resolve", "root", "short",
]  # fmt: skip

MOST_MISTAKES = 12  # of a sentence that lists mistakes

S = TypeVar("S", bound=Settings)


def make_settings(source: str = "parameters", model_class: type[S] = RunSettings, **given: Any) -> S:
    """Validated settings; SettingsError lists every mistake, `source` says which file or notebook it is in."""
    try:
        return model_class(**given)
    except ValidationError as error:
        lines = [_explain(source, e, given, model_class) for e in error.errors()]
        more = [f"{source}: and {len(lines) - MOST_MISTAKES} more"] if len(lines) > MOST_MISTAKES else []
        raise SettingsError("\n".join(lines[:MOST_MISTAKES] + more)) from None


def _explain(source: str, error: dict, given: dict[str, Any], model_class: type[Settings]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{source}: unknown parameter '{name[:60]}'{nearest(name, model_class.model_fields)}"
    value = given.get(name)
    if isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        hint = "; YAML reads 3e-4 as text: write 3.0e-4" if "e" in value.lower() else "; remove the quotes"
        return f"{source}: {name}: {short(value)} is text, not a number{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {name}: {message}, got {short(value)}" if name else f"{source}: {message}"
