"""How the last Students of finished runs go on with held-out text: seconds a seed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import runs
from symbiosis.measures.diversity import distinct_n, mauve
from symbiosis.models import loading
from symbiosis.models.generation import generate
from symbiosis.models.hidden_states import hidden_states
from symbiosis.models.sampling import Sampling
from symbiosis.models.student import Student
from symbiosis.small_studies import table
from symbiosis.small_studies.students import continuation_losses, settings_of
from symbiosis.store.results import NotRun

METHODS, HELD_OUT = ("real", "static", "recursive", "pseudo_label", "symbiosis"), 500


def open_ended(seed: int, folder: str | Path) -> pd.DataFrame:
    """How the last Students of finished runs go on after the first sentence of held-out texts, asked for their class.

    continuation_loss: of the true second sentence and its end [nats/token], given class and first sentence;
    on_topic: share of continuations whose words, with nothing else read, speak of the text's subtopic; repetition:
    1 less the share of different word pairs; words: of a continuation; mauve: likeness of the continuations to the
    truth's, by the hidden states of the Student before any lesson, for no sentence encoder knows the world's words. Arm
    `world`: the truth's own second sentences, their exact loss, and the likeness of those of as many other texts.
    """
    world, rng = World.make(seed), np.random.default_rng([seed, 41])
    held_out, lines = world.sample(HELD_OUT, rng), []
    firsts, seconds = halves(held_out["text"])
    untaught = runs.prepare(settings_of("real", seed)).student
    true, drawn = vectors(untaught, seconds), np.random.default_rng([seed, 50])
    for method in METHODS:
        settings = settings_of(method, seed, generation_engine="refill")
        weights = Path(folder) / "runs" / settings.folder / "state" / f"student-{settings.generations}" / "model"
        if not weights.is_dir():
            raise NotRun(f"{weights}: no such weights; run study main, arm {method}, seed {seed}, first")
        student = Student(loading.load(str(weights), device="cpu"), LABEL_NAMES, settings)
        heads, loss, tokens = continuation_losses(student, held_out, firsts)
        texts = generate(student.lm, heads, Sampling.of(settings), seed=seed)
        nats = float((loss * tokens).sum() / tokens.sum())
        measured = [*continued(texts, held_out, world, nats), likeness(untaught, texts, true, seed)]
        lines += [(method, "plain", seed, settings.generations, *line) for line in measured]
    nats = float(-conditional_log_p(held_out, firsts, world).sum() / tokens.sum())
    others = likeness(untaught, halves(world.sample(HELD_OUT, drawn)["text"])[1], true, seed)
    measured = [*continued(seconds, held_out, world, nats), others]
    lines += [("world", "plain", seed, settings.generations, *line) for line in measured]
    return table("open_ended", lines).dropna(subset="value")  # who writes nothing repeats nothing


def halves(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """First sentences, and what follows them."""
    firsts = [text[: text.index(".") + 1] for text in texts]
    return firsts, [text[len(first) + 1 :] for text, first in zip(texts, firsts, strict=True)]


def vectors(reader: Student, texts: Sequence[str]) -> np.ndarray:
    """(n, d) mean hidden states of each text; zeros of an empty one."""
    written = [i for i, text in enumerate(texts) if text.strip()]
    found = np.zeros((len(texts), reader.lm.model.config.hidden_size))
    if written:
        found[written] = hidden_states(reader.lm, [texts[i] for i in written], reader.settings)
    return found


def likeness(reader: Student, texts: Sequence[str], true: np.ndarray, seed: int) -> tuple:
    """(metric, value, n): MAUVE of texts and as many true ones by what the reader makes of them."""
    return "mauve", mauve(vectors(reader, texts), true, rng=np.random.default_rng([seed, 51])), len(texts)


def continued(texts: Sequence[str], held_out: pd.DataFrame, world: World, nats: float) -> list[tuple]:
    """(metric, value, n) of continuations of held-out texts; see `open_ended`."""
    topic = held_out["label"].to_numpy() * len(world.shares) + held_out["subtopic"].to_numpy()
    values = {
        "continuation_loss": nats,
        "on_topic": (world.subtopic(texts) == topic).mean(),
        "repetition": 1 - distinct_n(texts, 2),
        "words": np.mean([len(text.split()) for text in texts]),
    }
    return [(metric, value, len(texts)) for metric, value in values.items()]


def conditional_log_p(texts: pd.DataFrame, firsts: Sequence[str], world: World) -> np.ndarray:
    """(n,) log p(second sentence | first sentence, class) [nats], exact.

        log sum_k share_k p(first | k) p(second | k)  -  log sum_k share_k p(first | k)

    Two sentences are independent given their subtopic, so p(first | k) is the root of p(first first | k).
    """
    own, shares = np.arange(len(texts)), np.log(world.shares)
    both = world.log_likelihood(texts["text"])[own, texts["label"]]
    first = world.log_likelihood([f"{first} {first}" for first in firsts])[own, texts["label"]] / 2
    return logsumexp(both + shares, axis=1) - logsumexp(first + shares, axis=1)
