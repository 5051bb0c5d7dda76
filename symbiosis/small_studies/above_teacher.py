"""What its labeller's labels teach a Student, by their number, kind and texts: two minutes a seed."""

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, N_HEAD, World
from symbiosis.loop import runs, teaching
from symbiosis.models.proxies import fit_head
from symbiosis.small_studies import table
from symbiosis.small_studies.students import settings_of

TAUGHT, TESTED = (300, 3_000, 10_000), 2_000  # labels, and test texts
SOURCES, STRENGTH = 300, 1.0  # texts that written ones explain; prior of the linear Student
EDGES = (0.0, 0.5, 0.7, 0.85, 0.95, 1.01)  # of the labeller's accuracy in a subtopic
DOUBTED = (0.5, 0.95)  # it is more often right than not, and not nearly always


def above_teacher(seed: int) -> pd.DataFrame:
    """What the labeller and its Students get right of the same test texts.

    Students learn labels alone, one lesson each: `student`, the loop's; `words`, a linear one over counts of the
    world's words. variant: texts, labels and number, as fresh_hard_300. Metrics: accuracy; accuracy_tail; `rescued`,
    the share right of what the labeller has wrong, and `kept`, of what it has right; accuracy_doubted and
    accuracy_at_0 .. 4, in subtopics in which it is right on so much (DOUBTED, EDGES) of the most texts it labelled.
    """
    state = runs.prepare(settings_of("pseudo_label", seed, lm_weight=0.0, generation_engine="refill"))
    world, rng = World.make(seed), np.random.default_rng([seed, 40])
    test, fresh = world.sample(TESTED, rng), world.sample(max(TAUGHT), rng)
    named = teaching.label(state.generator, fresh["text"].tolist())
    sources = fresh["text"].tolist()[:SOURCES] * (TAUGHT[1] // SOURCES)
    given = {"fresh": named, "written": teaching.explain(state.generator, sources, seed=state.seed(1, "explain"))}
    bins = bins_of(test, accuracy_by_subtopic(fresh, named.labels))
    said = {("labeller", "plain"): state.generator.label_probs(test["text"].tolist()).argmax(1)}
    for name, n, kind in [(name, n, kind) for name in given for n in TAUGHT for kind in ("hard", "soft")]:
        texts, belief = given[name].texts[:n], given[name].probs[:n]
        if len(texts) < n or (name == "written" and n < len(given[name].texts)):
            continue
        variant, labels = f"{name}_{kind}_{n}", np.eye(len(LABEL_NAMES))[belief.argmax(1)]
        head = fit_head(
            count_words(texts, world), belief if kind == "soft" else labels, np.ones(n), STRENGTH, standardise=False
        )
        said["words", variant] = head.log_probs(count_words(test["text"], world)).argmax(1)
        if kind == "hard" or n == TAUGHT[1]:
            student = state.student.load(state.student.folder)
            lesson = make_lesson(
                texts, belief.argmax(1), "real", 1, "label", label_probs=belief if kind == "soft" else None
            )
            student.learn(lesson, seed=state.seed(1, "student"))
            said["student", variant] = student.label_log_probs(test["text"].tolist()).argmax(1)
    lines = [
        (*arm, seed, 1, metric, value, n)
        for arm, s in said.items()
        for metric, value, n in scores(s, said["labeller", "plain"], test, bins)
    ]
    for name, texts in given.items():
        right = (texts.labels == world.posterior(texts.texts).argmax(1)).mean()
        lines.append(("labeller", "plain", seed, 1, f"labels_right_{name}", right, len(texts.texts)))
    return table("above_teacher", lines).dropna(subset="value")


def count_words(texts: Sequence[str], world: World) -> np.ndarray:
    """(n, words) how often a text has each word that the world writes in a slot."""
    counts = np.zeros((len(texts), len(world.places)))
    for row, text in zip(counts, texts, strict=True):
        np.add.at(row, [world.places[word] for word in re.findall("[a-z]+", text) if word in world.places], 1)
    return counts


def accuracy_by_subtopic(texts: pd.DataFrame, labels: np.ndarray) -> pd.Series:
    """Share of right labels by (class, subtopic); texts as `World.sample` gives them."""
    return (texts["label"] == labels).groupby([texts["label"], texts["subtopic"]]).mean()


def bins_of(test: pd.DataFrame, accuracy: pd.Series) -> dict[str, np.ndarray]:
    """{end of a metric's name: (n,) which texts are of subtopics of such accuracy}."""
    own = accuracy.reindex(pd.MultiIndex.from_frame(test[["label", "subtopic"]])).to_numpy()
    found = {f"at_{i}": (low <= own) & (own < high) for i, (low, high) in enumerate(itertools.pairwise(EDGES))}
    return found | {"doubted": (DOUBTED[0] <= own) & (own < DOUBTED[1]), "tail": test["subtopic"].to_numpy() >= N_HEAD}


def scores(said: np.ndarray, labeller: np.ndarray, test: pd.DataFrame, bins: dict[str, np.ndarray]) -> list[tuple]:
    """(metric, value, texts) of what was said (n,) of the test texts; nan where there are none."""
    right, its = said == test["label"].to_numpy(), labeller == test["label"].to_numpy()
    parts = {"accuracy": right | True, "rescued": ~its, "kept": its} | {f"accuracy_{k}": v for k, v in bins.items()}
    return [(name, right[part].mean() if part.any() else np.nan, int(part.sum())) for name, part in parts.items()]
