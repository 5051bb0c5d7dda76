"""Texts of related parts against others of the very same sentences, taught to Students: half a minute a seed.

The claim behind it, of tool dialogues: sampling related tools, and planning first, makes better data (ToolFlow, Wang et
al. 2024, arXiv 2410.18447). Here a text is two sentences of a class. All second sentences of a class are dealt anew, so
that every word and every sentence stays as often as it was; only which two stand together changes.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import runs, teaching
from symbiosis.loop.state import LoopState
from symbiosis.models.student import Student
from symbiosis.small_studies import table
from symbiosis.small_studies.students import continuation_losses, settings_of

LESSON, TESTED, DRAFTS = 400, 1000, 1.5  # texts of a lesson, of the test, written for each text of a lesson
WRITERS = ("world", "planned", "unplanned")  # a planned text is about a subject that its Generator named first
COMPOSED = ("own", "related", "random")  # where second sentences come from
TWO_SENTENCES = re.compile(r"([^.]+\.) ([^.]+\.)")


def composition(seed: int) -> pd.DataFrame:
    """Measures of lessons of every writer, composed in every way, and of a Student taught each of them once.

    coherence: share of texts whose sentences, each read alone, speak of one subtopic; word_pairs: share of pairs of a
    word of the first and one of the second sentence that differ; relatedness: mean `relevance` of the subtopics that
    the two come from; accuracy, accuracy_tail: of the Student on the world's texts; continuation_loss: of their second
    sentence given class and first [nats/token].
    """
    state = runs.prepare(settings_of("static", seed, generation_engine="refill"))
    world, rng = World.make(seed), np.random.default_rng([seed, 47])
    test, near, lines = world.sample(TESTED, rng), relevance(world), []
    for writer in WRITERS:
        texts = sentences(texts_of(writer, state, world, rng), world)
        for how in COMPOSED:
            made = composed(texts, how, near, np.random.default_rng([seed, 48]))
            student = state.student.load(state.student.folder)
            both = (made["first"] + " " + made["second"]).tolist()
            student.learn(make_lesson(both, made["label"], writer, 1, how), seed=state.seed(1, "student"))
            found = [(*measure, len(made)) for measure in measures(made, near, world).items()]
            lines += [(writer, how, seed, 1, *line) for line in [*found, *asked(student, test, world)]]
    return table("composition", lines)


def texts_of(writer: str, state: LoopState, world: World, rng: np.random.Generator) -> pd.DataFrame:
    """More texts than a lesson has, with the label they were asked for."""
    labels = rng.permutation(np.arange(round(DRAFTS * LESSON)) % len(LABEL_NAMES))
    if writer == "world":
        return world.sample(len(labels), rng, labels=labels)
    settings = state.settings.model_copy(update={"attributes": writer == "planned"})
    written = teaching.write(replace(state.generator, settings=settings), labels, seed=state.seed(1, "write"))
    return pd.DataFrame({"text": written.texts, "label": labels})


def sentences(texts: pd.DataFrame, world: World) -> pd.DataFrame:
    """first, second, label, subtopic (the class's most probable one) of the texts of two sentences, LESSON at most."""
    parts = texts["text"].map(TWO_SENTENCES.fullmatch).dropna()
    texts = texts.loc[parts.index].groupby("label").head(LESSON // len(LABEL_NAMES))
    subtopic = world.joint(texts["text"])[np.arange(len(texts)), texts["label"]].argmax(1)
    first, second = ([parts[i][k] for i in texts.index] for k in (1, 2))
    return pd.DataFrame({"first": first, "second": second, "label": texts["label"].to_numpy(), "subtopic": subtopic})


def relevance(world: World) -> np.ndarray:
    """(C, K, K) how much two subtopics of a class share of their words, 1 of one with itself: the relevance graph.

    overlap(k, l) = mean over slots s of sum_w min(p(w | c, k, s), p(w | c, l, s))
    """
    p = world.probabilities
    return np.minimum(p[:, :, :, None], p[:, :, None]).sum(-1).mean(0)


def composed(texts: pd.DataFrame, how: str, near: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """The texts with each class's second sentences dealt anew, and `subtopic_2`, of the text a second one comes from.

    own: as they were. random: of another subtopic, any one. related: of the other subtopics the nearest, such that the
    sum of their relevance is as large as can be (an assignment). Where a subtopic is more than half of a class, what
    cannot be dealt away stays within it.
    """
    origin = np.arange(len(texts))
    for label in texts["label"].unique() if how != "own" else ():
        rows = np.flatnonzero(texts["label"] == label)
        kind = texts["subtopic"].to_numpy()[rows]
        gain = 1e-6 * rng.random((len(rows), len(rows)))  # which of equals: at random
        gain += near[label][kind[:, None], kind] if how == "related" else 0
        origin[rows] = rows[linear_sum_assignment(gain - 9.0 * (kind[:, None] == kind), maximize=True)[1]]
    second, subtopic = (texts[name].to_numpy()[origin] for name in ("second", "subtopic"))
    return texts.assign(second=second, subtopic_2=subtopic)


def measures(texts: pd.DataFrame, near: np.ndarray, world: World) -> dict[str, float]:
    """Of composed texts; see `composition`."""
    pairs = [pair for one in texts.itertuples() for pair in word_pairs(one.first, one.second, world)]
    return {
        "coherence": float((world.subtopic(texts["first"]) == world.subtopic(texts["second"])).mean()),
        "word_pairs": len(set(pairs)) / len(pairs),
        "relatedness": float(near[texts["label"], texts["subtopic"], texts["subtopic_2"]].mean()),
    }


def word_pairs(first: str, second: str, world: World) -> Iterator[tuple[str, str]]:
    """(word of the first, word of the second sentence) of all words that the world writes in a slot."""
    a, b = ([word for word in re.findall("[a-z]+", text) if word in world.places] for text in (first, second))
    return ((one, other) for one in a for other in b)


def asked(student: Student, test: pd.DataFrame, world: World) -> list[tuple[str, float, int]]:
    """(metric, value, texts): what a Student gets right, and its loss of second sentences [nats/token]."""
    right = student.label_log_probs(test["text"].tolist()).argmax(1) == test["label"].to_numpy()
    firsts = [text[: text.index(".") + 1] for text in test["text"]]
    _, loss, tokens = continuation_losses(student, test, firsts)
    tail, loss = right[world.in_tail(test["text"])], (loss * tokens).sum() / tokens.sum()
    found = {"accuracy": (right.mean(), len(test)), "accuracy_tail": (tail.mean(), len(tail))}
    return [(name, *value) for name, value in found.items()] + [("continuation_loss", loss, len(test))]
