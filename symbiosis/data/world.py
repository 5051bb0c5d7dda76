"""A small written world of news whose true distribution is known exactly: class -> subtopic -> two sentences.

    p(text | class c, subtopic k) = prod over 2 sentences of  1/8 * prod over slots s of  p(word | c, k, s)
    p(word | c, k, s) = .50 subtopic list + .10 class list + .38 global list + .02 any word of slot s

Assumptions, all of them ours:

* 4 classes of 6 subtopics; inside a class the shares follow Zipf's law with exponent 0.9 (.38 .20 .14 .11 .09 .08).
  Ranks 0-1 are the head, ranks 2-5 the tail (true tail mass .42). The seed decides which subtopic has which rank.
* A subtopic list has 4 words per slot with p ~ rank^-1/2; class (4) and global (8) lists are uniform.
* A tail subtopic takes half of its words from a head subtopic of another class (the seed decides which), so that a
  model which knows only the heads mistakes tails for another class: coverage matters.
* Sentences are independent given the subtopic; templates say nothing about the class.

The words are ordinary English; the news is not. Nothing here is a claim about real news.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

LABEL_NAMES = ("world", "sports", "business", "science")
SLOTS = "EVNP"  # entity, verb, noun, place
MIXTURE = {"subtopic": 0.50, "class": 0.10, "global": 0.38, "any": 0.02}
ZIPF = 0.9
N_HEAD = 2
TEMPLATES = (  # each has all four slots; the function words differ, so that a sentence fits one template only
    "the {E} {V} the {N} at the {P}.",
    "inside the {P} one {E} {V} some {N}.",
    "officials say {E} {V} this {N} near {P}.",
    "every {N} was {V} by our {E} from {P}.",
    "on monday another {E} {V} that {N} outside {P}.",
    "reporters in {P} asked why {E} {V} {N}.",
    "after {N} their {E} {V} many in {P}.",
    "for years no {E} {V} such {N} across {P}.",
)

WORDS = yaml.safe_load(Path(__file__).with_name("world.yaml").read_text())
SUBTOPIC_WORDS, CLASS_WORDS, GLOBAL_WORDS = WORDS["subtopics"], WORDS["classes"], WORDS["shared"]


@dataclass(frozen=True, eq=False)
class World:
    """One world. C classes, K subtopics (axis 0..K-1 is the rank), S slots, W words per slot."""

    subtopics: tuple[tuple[str, ...], ...]  # names, (C, K)
    shares: np.ndarray  # (K,) share of each rank within its class, sums to 1
    donors: np.ndarray  # (C, K, 2) class and rank a tail subtopic borrows from, -1 at the head
    lists: dict[tuple[int, int, str], tuple[str, ...]]  # words of a subtopic: (class, rank, slot) -> 4 words
    slot_words: dict[str, tuple[str, ...]]  # all words a slot can hold
    probabilities: np.ndarray  # (S, C, K, W) p(word | class, subtopic, slot), sums to 1 over W
    places: dict[str, int]  # word -> slot * W + its place in the slot

    @classmethod
    def make(cls, seed: int) -> "World":
        """The world of a seed: which subtopics are frequent, and from whom the rare ones borrow words."""
        rng = np.random.default_rng([seed, 20])  # 20: a stream of its own, apart from default_rng(seed)
        subtopics = tuple(tuple(str(k) for k in rng.permutation(list(SUBTOPIC_WORDS[c]))) for c in LABEL_NAMES)
        shares = zipf(len(subtopics[0]))
        donors = _draw_donors(len(LABEL_NAMES), len(shares), rng)
        lists = _subtopic_lists(subtopics, donors)
        slot_words = {s: _words_of_slot(lists, s) for s in SLOTS}
        probabilities = np.stack([_slot_probabilities(lists, slot_words[s], s, len(shares)) for s in SLOTS])
        places = {word: i for i, word in enumerate(w for s in SLOTS for w in slot_words[s])}
        return cls(subtopics, shares, donors, lists, slot_words, probabilities, places)

    @property
    def tail(self) -> tuple[int, ...]:
        """Ranks of the rare subtopics."""
        return tuple(range(N_HEAD, len(self.shares)))

    def sample(
        self,
        n: int,
        rng: np.random.Generator,
        *,
        labels: np.ndarray | None = None,
        shares: np.ndarray | None = None,
        subtopics: np.ndarray | None = None,
    ) -> pd.DataFrame:
        """n documents: text, label (0..C-1), subtopic (0..K-1).

        Args:
            labels:    (n,) classes; balanced and shuffled where None.
            shares:    (K,) subtopic shares instead of the true ones; see `zipf`.
            subtopics: (n,) ranks instead of drawn ones.
        """
        if labels is None:
            labels = rng.permutation(np.arange(n) % len(LABEL_NAMES))
        if subtopics is None:
            shares = self.shares if shares is None else shares
            subtopics = rng.choice(len(self.shares), size=n, p=shares)
        first = self._sentences(labels, subtopics, rng)
        second = self._sentences(labels, subtopics, rng)
        texts = [f"{a} {b}" for a, b in zip(first, second, strict=True)]
        return pd.DataFrame({"text": texts, "label": np.asarray(labels, int), "subtopic": np.asarray(subtopics, int)})

    def log_likelihood(self, texts: Iterable[str]) -> np.ndarray:
        """(n, C, K) log p(text | class, subtopic) in nats, exact; -inf where the world cannot write the text."""
        texts = list(texts)
        slots = [[slot for _, words in parse(text) or [] for slot in words.items()] for text in texts]
        writable = np.array(
            [bool(of) and all(word in self.slot_words[slot] for slot, word in of) for of in slots], bool
        )
        scores = self._word_scores(texts) - 2 * np.log(len(TEMPLATES))
        return np.where(writable[:, None, None], scores, -np.inf)

    def posterior(self, texts: Iterable[str]) -> np.ndarray:
        """(n, C) p(class | text) for balanced classes.

        Exact for texts of the world, where templates cancel and only the slot words count. A text a model wrote that
        fits no template is read as a bag of its slot words (best effort); without any slot word it is uniform.
        """
        return self.joint(texts).sum(axis=2)

    def joint(self, texts: Iterable[str]) -> np.ndarray:
        """(n, C, K) p(class, subtopic | text), prior 1/C times the share of the rank."""
        scores = self._word_scores(list(texts)) + np.log(self.shares)
        scores = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
        return scores / scores.sum(axis=(1, 2), keepdims=True)

    def subtopic(self, texts: Iterable[str]) -> np.ndarray:
        """(n,) most probable subtopic as class * K + rank, read as in `posterior`; -1 where no slot word occurs."""
        texts = list(texts)
        best = self.joint(texts).reshape(len(texts), -1).argmax(axis=1)
        return np.where([bool(self._places(text)) for text in texts], best, -1)

    def in_tail(self, texts: Iterable[str]) -> np.ndarray:
        """(n,) bool: the most probable subtopic is a rare one."""
        best = self.subtopic(texts)
        return (best >= 0) & (best % len(self.shares) >= N_HEAD)

    def vocabulary(self) -> list[str]:
        """All words the world can write, sorted, '.' included."""
        function_words = {w for t in TEMPLATES for w in re.findall(r"(?<!\{)\b[a-z]+\b", t)}
        return sorted(function_words | {"."} | {w for words in self.slot_words.values() for w in words})

    def _sentences(self, labels: np.ndarray, subtopics: np.ndarray, rng: np.random.Generator) -> list[str]:
        """One sentence per document, words by inverting the cumulative distribution."""
        templates = rng.integers(len(TEMPLATES), size=len(labels))
        words = {}
        for s, slot in enumerate(SLOTS):
            cumulative = self.probabilities[s].cumsum(axis=-1)[labels, subtopics]  # (n, W)
            below = cumulative < rng.random((len(labels), 1)) * cumulative[:, -1:]
            words[slot] = [self.slot_words[slot][i] for i in below.sum(axis=1)]
        rows = zip(templates, *words.values(), strict=True)
        return [TEMPLATES[t].format(E=e, V=v, N=n, P=p) for t, e, v, n, p in rows]

    def _word_scores(self, texts: list[str]) -> np.ndarray:
        """(n, C, K) sum of log p(word | class, subtopic, slot) over the slot words; each word belongs to one slot."""
        table = np.log(self.probabilities).transpose(0, 3, 1, 2).reshape(-1, *self.probabilities.shape[1:3])
        scores = np.zeros((len(texts), *table.shape[1:]))
        for i, text in enumerate(texts):
            scores[i] = table[self._places(text)].sum(axis=0)
        return scores

    def _places(self, text: str) -> list[int]:
        """Index slot * W + word of every slot word in the text."""
        return [self.places[word] for word in re.findall(r"[a-z]+", text.lower()) if word in self.places]


def zipf(k: int, exponent: float = ZIPF) -> np.ndarray:
    """(k,) shares p ~ (rank + 1)^-exponent, sum 1."""
    p = np.arange(1, k + 1) ** -float(exponent)
    return p / p.sum()


_PATTERNS = [re.compile(re.sub(r"\\\{(.)\\\}", r"(?P<\1>[a-z]+)", re.escape(t))) for t in TEMPLATES]


def parse(text: str) -> list[tuple[int, dict[str, str]]] | None:
    """Template number and slot words of both sentences; None where the text is not two sentences of the templates."""
    *pieces, rest = text.split(".")
    sentences = [f"{piece.strip()}." for piece in pieces]
    if len(sentences) != 2 or rest or " ".join(sentences) != text:
        return None
    fits = [(i, match.groupdict()) for s in sentences for i, p in enumerate(_PATTERNS) if (match := p.fullmatch(s))]
    return fits if len(fits) == 2 else None


def _split(words: str) -> dict[str, tuple[str, ...]]:
    """'a b / c d / e f / g h' -> {'E': ('a', 'b'), ...}"""
    return {slot: tuple(part.split()) for slot, part in zip(SLOTS, words.split(" / "), strict=True)}


def _draw_donors(n_classes: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """(C, K, 2): for every tail subtopic a class other than its own, and a head rank in it."""
    donors = np.full((n_classes, k, 2), -1)
    for c in range(n_classes):
        others = [other for other in range(n_classes) if other != c]
        donors[c, N_HEAD:, 0] = rng.choice(others, size=k - N_HEAD)
        donors[c, N_HEAD:, 1] = rng.integers(N_HEAD, size=k - N_HEAD)
    return donors


def _subtopic_lists(subtopics, donors: np.ndarray) -> dict[tuple[int, int, str], tuple[str, ...]]:
    """Words per (class, rank, slot); a tail keeps its own two best words and alternates them with its donor's two."""
    own = [[_split(SUBTOPIC_WORDS[LABEL_NAMES[c]][name]) for name in names] for c, names in enumerate(subtopics)]
    lists = {}
    for c, k in np.ndindex(donors.shape[:2]):
        for slot in SLOTS:
            words = own[c][k][slot]
            if k >= N_HEAD:
                lent = own[donors[c, k, 0]][donors[c, k, 1]][slot]
                words = (words[0], lent[0], words[1], lent[1])
            lists[c, k, slot] = words
    return lists


def _words_of_slot(lists: dict, slot: str) -> tuple[str, ...]:
    words = {w for (_, _, s), ws in lists.items() if s == slot for w in ws}
    words |= {w for ws in CLASS_WORDS.values() for w in _split(ws)[slot]}
    return tuple(sorted(words | set(_split(GLOBAL_WORDS)[slot])))


def _slot_probabilities(lists: dict, words: tuple[str, ...], slot: str, k: int) -> np.ndarray:
    """(C, K, W) the four-part mixture of the module's docstring for one slot."""
    column = {word: i for i, word in enumerate(words)}
    p = np.full((len(LABEL_NAMES), k, len(words)), MIXTURE["any"] / len(words))
    p[..., [column[w] for w in _split(GLOBAL_WORDS)[slot]]] += MIXTURE["global"] / len(_split(GLOBAL_WORDS)[slot])
    for c, name in enumerate(LABEL_NAMES):
        of_class = _split(CLASS_WORDS[name])[slot]
        p[c][:, [column[w] for w in of_class]] += MIXTURE["class"] / len(of_class)
        for rank in range(k):
            p[c, rank, [column[w] for w in lists[c, rank, slot]]] += MIXTURE["subtopic"] * zipf(4, 0.5)
    return p
