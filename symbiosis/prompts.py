"""Every word a model is asked in: params/prompts/NAME.yaml, or params/own/prompts/NAME.yaml of one's own.

The setting `prompts` names the file; `news` is the published one, which the models made here learn to answer.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Formatter

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from symbiosis.settings import SettingsError, nearest, read_yaml, root


class Prompts(BaseModel):
    """Templates; what stands in {braces} is filled in. The Generator is asked in user turns of its chat template."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    student_classify: str  # {text}: the label word follows, after a blank
    student_write: str  # {label}: a text of that label follows
    write: str  # {label}
    explain: str  # {text}: asks for another text on the same topic
    label: str  # {text}, {labels}: asks which label a text has
    name: str  # {label}: asks for one narrow subject, a few words
    write_about: str  # {length}, {label}, {subject}, {style}: attribute prompts (Yu et al. 2023, arXiv 2306.15895)
    styles: tuple[str, ...]
    lengths: tuple[str, ...]

    @model_validator(mode="after")
    def _has_its_places(self):
        for name, places in PLACES.items():
            found = sorted({place for _, place, _, _ in Formatter().parse(getattr(self, name)) if place is not None})
            if found != sorted(places):
                asked = ", ".join(f"{{{place}}}" for place in places)
                raise ValueError(f"{name}: holds {found or 'no place'}; write {asked}, each at least once")
        if not self.student_classify.startswith("{text}") or self.student_classify.count("{text}") > 1:
            raise ValueError("student_classify: begin with {text}, once; the label word follows at the end")
        if not (self.styles and self.lengths):
            raise ValueError("styles, lengths: give at least one of each")
        return self

    def label_turn(self, text: str, label_names: Sequence[str]) -> str:
        """The user turn that asks for the label of a text."""
        return self.label.format(text=text, labels=", ".join(label_names[:-1]) + " or " + label_names[-1])

    def write_about_turn(self, label: str, subject: str, style: str, length: str) -> str:
        """The user turn that asks for a text on a subject; `style` is one of styles, `length` one of lengths."""
        return self.write_about.format(label=label, subject=subject, style=style, length=length)


PLACES = {
    "student_classify": ("text",), "student_write": ("label",), "write": ("label",), "explain": ("text",),
    "label": ("labels", "text"), "name": ("label",), "write_about": ("label", "length", "style", "subject"),
}  # fmt: skip


def prompts_file(name: str) -> Path:
    """The file of that name; SettingsError where there is none, or one's own has the name of a published one."""
    own, *published = (
        root() / "params/own/prompts",
        root() / "params/prompts",
        Path(__file__).parents[1] / "params/prompts",
    )
    found = [folder / f"{name}.yaml" for folder in (*published, own) if (folder / f"{name}.yaml").is_file()]
    if found and (own / f"{name}.yaml").is_file() and len(found) > 1:
        raise SettingsError(f"{own}/{name}.yaml: there is a params/prompts/{name}.yaml; give yours another name")
    if found:
        return found[0]
    known = {path.stem for folder in (own, *published) for path in folder.glob("*.yaml")}
    raise SettingsError(f"prompts: no params/prompts/{name}.yaml{nearest(name, known)}; take one of {sorted(known)}")


def read_prompts(name: str = "news") -> Prompts:
    """The words of params/prompts/NAME.yaml; SettingsError says what is wrong with the file."""
    return _read(prompts_file(name))


@cache
def _read(path: Path) -> Prompts:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: holds {type(values).__name__}; write one 'name: text' per line")
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return Prompts(**values)
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"{path}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"
        ) from None
