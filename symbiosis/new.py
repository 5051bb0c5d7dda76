"""A scale of one's own: `python -m symbiosis.new NAME DATA` looks at the data and writes params/own/NAME.yaml.

`make new NAME=tickets DATA=folder`, then `make reproduce SCALE=tickets`. It is params/paper.yaml with other values.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from symbiosis.data.characters import match_key
from symbiosis.data.labelled import Source, read
from symbiosis.data.task import remove_overlap
from symbiosis.errors import SymbiosisError
from symbiosis.models.checks import library_errors
from symbiosis.models.loading import find, pick_device, read_tokenizer
from symbiosis.models.tokens import token_ids
from symbiosis.prompts import read_prompts
from symbiosis.settings import PROXIES, RunSettings, make_settings, root
from symbiosis.store.folders import write_atomic

FIRST_LOOK = 40  # tokens of a text and its labels up to which a first look has all ROWS
ROWS = {"dev": (32, 12), "train": (72, 36), "pool": (64, 32), "test": (64, 24), "lesson": (24, 12)}  # most and least
MODEL = "smollm2-135m-instruct"  # what `make weights` fetches
QUICK = "probe"  # the Student of a first look: seconds where a language model takes minutes
SPELLED = 4  # tokens a class name, beyond which a model is reading letters
EVEN = (
    2  # the largest class has at most so many times the rows of the mean one where beliefs are calibrated by the pool
)


class NewError(SymbiosisError):
    """A scale that cannot be written, with the remedy."""


@dataclass(frozen=True)
class Look:
    """What a data set holds, as far as its scale depends on it."""

    source: Source
    distinct: int  # rows outside the test, each text once
    removed: dict[str, int]
    tokens: pd.Series  # of each text outside the test, as the model counts them
    label_tokens: int  # of all class names together: a label is read after every text

    @property
    def counts(self) -> pd.Series:
        """Rows of each class outside the test."""
        classes = range(len(self.source.label_names))
        return self.source.rest["label"].value_counts().reindex(classes, fill_value=0)


def look(data: str, count_tokens: Callable[[list[str]], list[int]]) -> Look:
    """Read a data set as a run would; raises DataError where a run would."""
    source = read(RunSettings(task=data))
    rest, removed = remove_overlap(source.rest, set(source.test["text"].map(match_key)))
    tokens = pd.Series(count_tokens(list(rest["text"])))
    return Look(source, len(rest), removed, tokens, sum(count_tokens(list(source.label_names))))


def values_of(name: str, data: str, models: dict[str, str], found: Look) -> dict:
    """What the scale says otherwise than params/paper.yaml: a first look that the data fill and a CPU in minutes."""
    share = min(1.0, FIRST_LOOK / (found.tokens.median() + found.label_tokens))  # of the rows of short texts
    most = {name: max(least, round(rows * share)) for name, (rows, least) in ROWS.items()}
    dev = min(most["dev"], max(4, found.distinct // 10))
    train = min(most["train"], (found.distinct - dev) // 2)
    pool, test = min(most["pool"], found.distinct - dev - train), min(most["test"], len(found.source.test))
    lesson = min(most["lesson"], train)
    if lesson < 4 or pool < 8:
        raise NewError(f"{data}: {found.distinct} distinct rows outside the test are too few for dev, train and pool")
    length = min(256, max(16, -(-int(found.tokens.quantile(0.95)) // 8) * 8))
    return {
        "scale": name, "generations": 2, "task": data, "task_revision": "", "lesson_size": lesson, "train_size": train,
        "pool_size": pool, "dev_size": dev, "test_size": test, "max_length": length, "max_new_tokens": min(length, 48),
        "calibration": "pool" if found.counts.max() <= EVEN * found.counts.mean() else "none",
        "device": "cpu" if pick_device("auto").type == "cpu" else "auto",  # on a CPU several runs go side by side
        "precision": "auto", "threads": 1, "batch_size": 8, "epochs": 3, "learning_rate": 1e-4, "max_redraws": 2,
        **models,
    }  # fmt: skip


def scale_file(values: dict) -> str:
    """params/paper.yaml, line by line, with other values; a changed line says what the parameter is."""
    meanings = {key: field.description for key, field in RunSettings.model_fields.items()}
    lines = [f"# Change what you like, every line says what it sets; then: make reproduce SCALE={values['scale']}"]
    for line in (root() / "params/paper.yaml").read_text().splitlines():
        key = line.partition(":")[0]
        if key in values:
            value = values[key]
            line = f"{key}: {value if value != '' else chr(34) * 2}  # {meanings[key]}"
        if not line.startswith("#") or lines[-1] == "":
            lines.append(line)
    return "\n".join(lines).rstrip() + "\n"


def report(found: Look, values: dict) -> str:
    """What was found, in a few lines: rows, classes, lengths, what will be cut, was cleaned, or is missing."""
    source, longest, n_test = found.source, values["max_length"], len(found.source.test)
    counts, cut = found.counts, (found.tokens > longest).mean()
    lines = [
        f"{source.name}: {len(source.rest)} rows to learn from, {found.distinct} distinct; {n_test} test rows",
        "classes: " + ", ".join(f"{n} {c}" for n, c in zip(source.label_names, counts, strict=True)),
        f"tokens per text: half up to {found.tokens.median():.0f}, longest {found.tokens.max()}; max_length {longest} "
        f"cuts {cut:.0%} of the texts",
        "left out: " + (", ".join(f"{n} {k.replace('_', ' ')}" for k, n in found.removed.items() if n) or "nothing"),
        "cleaned: " + (", ".join(f"{n} x {kind}" for kind, n in source.cleaned.items()) or "nothing"),
    ]
    if found.label_tokens > SPELLED * len(counts):
        lines.append(
            f"class names: {found.label_tokens} tokens for {len(counts)}: the model spells them, so it may not know "
            "their language; look at the line `labeller` of a run"
        )
    if (counts == 0).any():
        missing = [name for name, count in zip(source.label_names, counts, strict=True) if not count]
        lines.append(f"missing: no row of {', '.join(missing)} outside the test, so nothing real can teach it")
    return "\n".join(lines)


def new(name: str, data: str, student: str = QUICK, generator: str = MODEL, prompts: str = "texts") -> tuple[Path, str]:
    """Write params/own/NAME.yaml; returns its path, and in lines what was found and is next.

    Raises a SymbiosisError, nothing written.
    """
    path = root() / f"params/own/{name}.yaml"
    if not re.fullmatch(r"[a-z0-9_]+", name) or (root() / f"params/{name}.yaml").exists():
        raise NewError(f"NAME={name}: take small letters, digits and _, and a name that params/ does not have yet")
    if path.exists():
        raise NewError(f"{path.relative_to(root())}: is there already; edit it, or delete it to have it written anew")
    reader = generator if student in PROXIES else student
    with library_errors(reader):
        tokenizer = read_tokenizer(find(reader))
    read_prompts(prompts)
    models = {"student": student, "student_revision": "", "generator": generator, "generator_revision": ""}
    models["prompts"] = prompts
    found = look(data, lambda texts: [len(row) for row in token_ids(tokenizer, texts)])
    values = values_of(name, data, models, found)
    text = scale_file(values)
    make_settings(str(path), **yaml.safe_load(text), method="real")
    write_atomic(path, text.encode())
    return path, f"{report(found, values)}\nwritten: {path.relative_to(root())}; {steps(name, data, student)}"


def steps(name: str, data: str, student: str) -> str:
    """What to do with a scale: of a quick Student, which tries only some methods, also how to have them all."""
    if student not in PROXIES:
        return f"next: make reproduce SCALE={name} SEEDS=1"
    return (
        f"next: make reproduce SCALE={name} SEEDS=1 ARMS=first_look\n"
        f"{student!r} is a quick Student, which only says labels; then all methods, many times slower: "
        f"make new NAME={name}_full DATA={data} STUDENT={MODEL}"
    )


def main(words: list[str]) -> None:
    """NAME and DATA, then STUDENT, GENERATOR, PROMPTS where they are not empty."""
    given = dict(zip(("name", "data", "student", "generator", "prompts"), words, strict=False))
    given = {key: word for key, word in given.items() if word}
    if not {"name", "data"} <= set(given):
        raise SystemExit("make new NAME=tickets DATA=folder [STUDENT=model] [GENERATOR=model] [PROMPTS=tickets]")
    try:
        print(new(**given)[1])
    except SymbiosisError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(sys.argv[1:])
