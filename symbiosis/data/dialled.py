"""Texts of the world whose diversity and complexity are dialled, in words and frames that lessons have, or in new ones.

Beside what the world assumes, ours: every other entity of each word list, and half of the templates, are kept out of
lessons (`new_words`, `new_templates` ask for these alone); a deeper text has its sentences behind `CLAUSE`, which says
nothing of the class; a longer one has more sentences of one subtopic.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from symbiosis.data.world import (
    CLASS_WORDS,
    GLOBAL_WORDS,
    LABEL_NAMES,
    SLOTS,
    SUBTOPIC_WORDS,
    TEMPLATES,
    World,
    parse,
)

CLAUSE = "reporters asked why officials say"  # two clauses around a sentence, of the templates' own words
KNOWN = len(TEMPLATES) // 2  # the first templates are those of lessons
UNEVEN = (0.4, 0.3, 0.2, 0.1)  # another class mix


@dataclass(frozen=True)
class Dial:
    """How texts are drawn: p(subtopic) ~ share^power, so many sentences, behind so many clauses."""

    power: float = 1.0
    sentences: int = 2
    deep: bool = False
    new_words: bool = False
    new_templates: bool = False
    uneven: bool = False  # classes as UNEVEN says

    def texts(self, world: World, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """n documents as `World.sample` gives them: text, label, subtopic; classes are balanced unless uneven."""
        shares = world.shares**self.power
        labels = rng.choice(len(LABEL_NAMES), size=n, p=UNEVEN) if self.uneven else None
        docs = world.sample(n, rng, labels=labels, shares=shares / shares.sum())
        sentences = [parse(text) for text in docs["text"]]
        for _ in range(1, -(-self.sentences // 2)):
            more = world.sample(n, rng, labels=docs["label"].to_numpy(), subtopics=docs["subtopic"].to_numpy())
            sentences = [a + parse(b) for a, b in zip(sentences, more["text"], strict=True)]
        entities = self._entities(world, docs, rng)
        texts = [
            " ".join(self._said(*part, name) for part, name in zip(parts[: self.sentences], names, strict=True))
            for parts, names in zip(sentences, entities, strict=True)
        ]
        return docs.assign(text=texts)

    def _entities(self, world: World, docs: pd.DataFrame, rng: np.random.Generator) -> list[list[str]]:
        """Entities of each document's sentences, by p(word | class, subtopic) among the known words or the new ones."""
        words = world.slot_words["E"]
        known = np.array([word not in kept_out() for word in words])
        p = world.probabilities[SLOTS.index("E")][docs["label"], docs["subtopic"]] * (known != self.new_words)
        up_to = p.cumsum(axis=1)
        drawn = rng.random((len(docs), self.sentences, 1)) * up_to[:, None, -1:]
        return [[words[i] for i in row] for row in (up_to[:, None] < drawn).sum(axis=2)]

    def _said(self, template: int, words: dict[str, str], entity: str) -> str:
        frame = TEMPLATES[template % KNOWN + KNOWN * self.new_templates]
        return f"{CLAUSE} " * self.deep + frame.format(**words | {"E": entity})


@cache
def kept_out() -> frozenset[str]:
    """The entities that no lesson has: every other one of each list."""
    lists = [GLOBAL_WORDS, *CLASS_WORDS.values(), *(w for names in SUBTOPIC_WORDS.values() for w in names.values())]
    return frozenset(word for words in lists for word in words.split(" / ")[SLOTS.index("E")].split()[1::2])
