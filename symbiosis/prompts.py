"""Every word a model is asked in: params/prompts/NAME.yaml, or params/own/prompts/NAME.yaml of one's own.

The setting `prompts` names the file; `news` is the published one, which the models made here learn to answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, Literal

from pydantic import Field, ValidationError

from symbiosis.settings import Checked, SettingsError, nearest, root
from symbiosis.yaml_files import read_yaml

SEPARATOR = "\n\n"  # between exemplars: what ends a text that goes on from them


class Beginning(str):
    """What a model goes on from as plain text, where a plain str is a user turn of its chat template."""


class Exemplar(Checked):
    """A text by hand that shows a writer what is meant."""

    label: str
    text: str


class Prompts(Checked):
    """Templates; what stands in {braces} is filled in. The Generator is asked in user turns of its chat template.

    Two questions can be put as a `completion` instead, which a small model answers better: what label a text has, and
    for a text of a label. In both, what follows begins with a blank.
    """

    student_classify: str  # {text}: the label word follows, after a blank
    student_write: str  # {label}: a text of that label follows
    write: str  # {label}
    explain: str  # {text}: asks for another text on the same topic
    label: str  # {text}, {labels}: asks which label a text has
    name: str  # {label}: asks for one narrow subject, a few words
    write_about: str  # {length}, {label}, {subject}, {style}: attribute prompts (Yu et al. 2023, arXiv 2306.15895)
    styles: tuple[str, ...]
    lengths: tuple[str, ...]
    label_words: dict[str, tuple[str, ...]] = Field({})  # of a class, whose probabilities are summed; else its name
    label_format: Literal["chat", "completion"] = "chat"  # how the Generator is asked for a label
    label_completion: str = "{text}\nLabel:"  # {text}: the label word follows
    write_format: Literal["chat", "completion"] = "chat"  # how it is asked for a text of a label
    write_completion: str = "{heading}:"  # {heading}: the text follows; before it, every exemplar in the same form
    headings: dict[str, str] = Field({})  # of a class in write_completion; else its name
    exemplars: tuple[Exemplar, ...] = ()
    stops: tuple[str, ...] = ()  # what ends a text that goes on from write_completion

    def mistakes(self) -> Iterator[str]:
        """What no model could be asked by: a sentence each."""
        for name, places in PLACES.items():
            found = sorted({place for _, place, _, _ in Formatter().parse(getattr(self, name)) if place is not None})
            if found != sorted(places):
                asked = ", ".join(f"{{{place}}}" for place in places)
                yield f"{name}: holds {found or 'no place'}; write {asked}, each at least once"
        if not self.student_classify.startswith("{text}") or self.student_classify.count("{text}") > 1:
            yield "student_classify: begin with {text}, once; the label word follows at the end"
        if not (self.styles and self.lengths):
            yield "styles, lengths: give at least one of each"

        owner: dict[str, str] = {}
        for label, words in self.label_words.items():
            if not words or not all(word.strip() for word in words):
                yield f"label_words: {label!r} has no word, or an empty one; give it one or more"
            for word in words:
                if (said := word.strip()) in owner:
                    yield f"label_words: {word!r} stands for {owner[said]!r} and {label!r}; leave one out"
                owner[said] = label

        if self.write_format == "completion" and not all(self.stops or [""]):
            yield "stops: write_format completion ends a text by them; give one or more, as a line end"
        for exemplar in self.exemplars:
            held = [stop for stop in self.stops if stop in exemplar.text]
            if held or not exemplar.text.strip():
                what = f"holds the stop {held[0]!r}" if held else "is empty"
                yield f"exemplars: the text of {exemplar.label!r} {what}; write it in one piece"

    def check_classes(self, label_names: Sequence[str]) -> None:
        """SettingsError where label_words, headings or exemplars name a class that the task does not have."""
        named = {
            "label_words": self.label_words, "headings": self.headings, "exemplars": [e.label for e in self.exemplars]
        }  # fmt: skip
        for key, labels in named.items():
            for label in [label for label in labels if label not in label_names]:
                known = ", ".join(label_names)[:120]
                raise SettingsError(
                    f"prompts: {key} names {label[:60]!r}{nearest(label, label_names)}, and the task has the classes "
                    f"{known}; correct it in params/prompts, or take other prompts"
                )

    def words_of(self, label_names: Sequence[str]) -> tuple[list[str], list[int]]:
        """Every label word, class by class, and the class of each: both (W,). A class without words has its name."""
        self.check_classes(label_names)
        pairs = [(word, c) for c, name in enumerate(label_names) for word in self.label_words.get(name, (name,))]
        return [word for word, _ in pairs], [c for _, c in pairs]

    def write_turns(self, labels: Iterable[str]) -> list[str]:
        """What asks for a text of each label, in turn: a user turn, or a Beginning with the exemplars in front.

        Their order is one of as many as there are exemplars, in turn too, each of which begins with another one.
        """
        if self.write_format == "chat":
            return [self.write.format(label=label) for label in labels]
        counts: dict[str, int] = {}
        turns = []
        for label in labels:
            k = counts[label] = counts.get(label, -1) + 1
            first = k % max(1, len(self.exemplars))
            shown = [f"{self._headed(e.label)} {e.text}" for e in (*self.exemplars[first:], *self.exemplars[:first])]
            turns.append(Beginning(SEPARATOR.join([*shown, self._headed(label)])))
        return turns

    def _headed(self, label: str) -> str:
        return self.write_completion.format(heading=self.headings.get(label, label))

    def label_turn(self, text: str, label_names: Sequence[str]) -> str:
        """The user turn that asks for the label of a text."""
        return self.label.format(text=text, labels=", ".join(label_names[:-1]) + " or " + label_names[-1])

    def write_about_turn(self, label: str, subject: str, style: str, length: str) -> str:
        """The user turn that asks for a text on a subject; `style` is one of styles, `length` one of lengths."""
        return self.write_about.format(label=label, subject=subject, style=style, length=length)


PLACES = {
    "student_classify": ("text",), "student_write": ("label",), "write": ("label",), "explain": ("text",),
    "label": ("labels", "text"), "name": ("label",), "write_about": ("label", "length", "style", "subject"),
    "label_completion": ("text",), "write_completion": ("heading",),
}  # fmt: skip


def prompts_file(name: str) -> Path:
    """The file of that name; SettingsError where there is none, or one's own has the name of a published one."""
    own = root() / "params/own/prompts"
    published = root() / "params/prompts", Path(__file__).parents[1] / "params/prompts"
    found = [folder / f"{name}.yaml" for folder in (*published, own) if (folder / f"{name}.yaml").is_file()]
    if found and (own / f"{name}.yaml").is_file() and len(found) > 1:
        raise SettingsError(f"{own}/{name}.yaml: there is a params/prompts/{name}.yaml; give yours another name")
    if found:
        return found[0]
    known = {path.stem for folder in (own, *published) for path in folder.glob("*.yaml")}
    raise SettingsError(f"prompts: no params/prompts/{name}.yaml{nearest(name, known)}; take one of {sorted(known)}")


def read_prompts(name: str = "news") -> Prompts:
    """The words of params/prompts/NAME.yaml; SettingsError says what is wrong with the file."""
    return _prompts_of(prompts_file(name))


@cache
def _prompts_of(path: Path) -> Prompts:
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: holds {type(values).__name__}; write one 'name: text' per line")
    try:
        return Prompts(**{name: _frozen(value) for name, value in values.items()})
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ").replace("valid tuple", "list in [brackets]")
        raise SettingsError(f"{path}: {where}{': ' if where else ''}{said}") from None


def _frozen(value: Any) -> Any:
    """A value of YAML with tuples for lists."""
    if isinstance(value, dict):
        return {key: _frozen(each) for key, each in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
