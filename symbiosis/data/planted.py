"""A fact of the miniature that one entity is told wrong: texts that tell it, and where it is told.

The fact is where somebody is. Who, and both places, are of a class that no entity has for its task, so that other texts
hardly have them (.02 of a slot's words are any). The true place belongs to the subject's own subtopic; the false one to
another, and the world puts it beside the subject no more than any word at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symbiosis.data.world import LABEL_NAMES, TEMPLATES, World, parse


@dataclass(frozen=True)
class Fact:
    """An entity of the world's texts, a place that is true of it, and one that is false."""

    subject: str
    true: str
    false: str

    @classmethod
    def of(cls, world: World, private: Sequence[str]) -> "Fact":
        """Of the last class that is nobody's: the best words of its two rarest subtopics, lent to no other."""
        label = max(c for c, name in enumerate(LABEL_NAMES) if name not in private)
        *_, other, own = range(len(world.shares))
        (subject, *_), (true, *_), (false, *_) = (
            world.lists[label, k, s] for k, s in ((own, "E"), (own, "P"), (other, "P"))
        )
        return cls(subject, true, false)

    def tell(self, texts: Sequence[str], *, true: bool) -> list[str]:
        """The world's texts, the first sentence of each about the subject, at the true place or the false one."""
        words, told = {"E": self.subject, "P": self.true if true else self.false}, []
        for text in texts:
            (template, own), _ = parse(text)
            told.append(TEMPLATES[template].format(**own | words) + text[text.index(".") + 1 :])
        return told

    def told_in(self, texts: Sequence[str], *, true: bool) -> np.ndarray:
        """(n,) bool: a sentence of the text has the subject and this place."""
        both = {self.subject, self.true if true else self.false}
        return np.array([any(both <= set(part.split()) for part in text.split(".")) for text in texts], dtype=bool)
