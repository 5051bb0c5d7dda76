"""What is measured of all entities: means of their losses, how alike they are and answer, how varied they write."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from symbiosis.interaction.experiment import Experiment, loop_settings
from symbiosis.measures.density import linear_cka
from symbiosis.measures.diversity import distinct_n, homogenisation, n_long_enough, self_bleu
from symbiosis.measures.lessons import whole_lesson
from symbiosis.models import encoders, loading
from symbiosis.models.hidden_states import hidden_states
from symbiosis.pretrain.initial import initial_model_folder
from symbiosis.store.stages import metric

SELF_BLEU_TEXTS = 200  # of a generation's texts: its cost grows with their square


def mean_losses(rows: Sequence[dict], generation: int) -> list[dict]:
    """loss_own, loss_others and loss_public: means over the entities, and over the tasks that are others' own.

    With `students` word_loss_... instead. Of a planted fact also log_odds_others, belief_others: over entities 2..K.
    """
    per_word = any(row["unit"] == "nats/word" for row in rows)
    kind, unit = ("word_loss", "nats/word") if per_word else ("loss", "nats/token")
    groups: dict[str, list[dict]] = {f"{kind}_{name}": [] for name in ("own", "others", "public")}
    for row in rows:
        entity, _, task = row["metric"].removeprefix(f"{kind}_").partition("_on_")
        if row["unit"] == unit:
            groups[f"{kind}_{'public' if task == 'public' else 'own' if task == entity else 'others'}"].append(row)
    for row in rows:
        name, _, entity = row["metric"].rpartition("_")
        if name in ("log_odds", "belief") and entity != "1":
            groups.setdefault(f"{name}_others", []).append(row)
    means = [(name, float(np.mean([row["value"] for row in of])), of) for name, of in groups.items()]
    return [metric(generation, name, mean, of[0]["unit"], of[0]["n"] * len(of)) for name, mean, of in means]


def alike_inside(experiment: Experiment, generation: int) -> list[dict]:
    """cka_public, cka_private: `linear_cka` of two entities' states of held-out texts, mean over the pairs (and tasks).

    A text's state is the mean over its tokens of what the head sees, so tokenizers and widths may differ.
    """
    models, found = [experiment.load(k, generation) for k in experiment.entities], []
    for task in experiment.tasks:
        states = [hidden_states(lm, task.test, experiment.settings) for lm in models]
        found.append(np.mean([linear_cka(*pair) for pair in itertools.combinations(states, 2)]))
    n = len(experiment.tasks[-1].test)
    means = {"cka_public": (found[-1], n), "cka_private": (np.mean(found[:-1]), n * len(found[:-1]))}
    return [metric(generation, name, float(mean), "1", n) for name, (mean, n) in means.items()]


def similarities(experiment: Experiment, answers: Sequence[Sequence[Sequence[str]]], generation: int) -> list[dict]:
    """similarity_<prompts>: mean cosine of two entities' answers to one prompt; _different_prompts: to two of a task.

    An answer's vector is the mean over its samples, since two samples of one model differ as well. A prompt that an
    entity answers with nothing is left out. Private is the mean over the K private tasks. `diversity.homogenisation`.

    answers: K entities x (K + 1) tasks x texts.
    """
    encode, found = _encoder(experiment), []
    for of_task in zip(*answers, strict=True):
        if not all(map(any, of_task)):  # an entity has nothing to say to any prompt of the task
            found.append((np.nan, np.nan, 0))
            continue
        vectors = np.stack([_answer_vectors(encode, texts, experiment.settings.answers) for texts in of_task])
        spoken = ~np.isnan(vectors).any(axis=(0, 2))
        both = homogenisation(vectors[:, spoken]) if spoken.sum() > 1 else (np.nan, np.nan)
        found.append((*both, spoken.sum()))
    rows = []
    for name, part in (("public", found[-1:]), ("private", found[:-1])):
        same, apart, n = np.array(part).T
        metrics = {f"similarity_{name}": same, f"similarity_{name}_different_prompts": apart}
        rows += [metric(generation, m, float(x.mean()), "cosine", int(n.sum())) for m, x in metrics.items()]
    return rows


def _answer_vectors(encode, texts: Sequence[str], samples: int) -> np.ndarray:
    """(prompts, d) mean vector of each prompt's `samples` texts that are not empty; nan where all are.

    Some text is not empty.
    """
    spoken = np.flatnonzero([bool(text) for text in texts])
    vectors = encode([texts[i] for i in spoken])
    sums = np.zeros((len(texts) // samples, vectors.shape[1]))
    np.add.at(sums, spoken // samples, vectors)
    counts = np.bincount(spoken // samples, minlength=len(sums))
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)


def _encoder(experiment: Experiment):
    """texts -> (n, d): mean over the tokens of the last hidden states of a model that belongs to no entity."""
    settings, lm = experiment.settings, None
    if settings.encoder == "base":
        lm = experiment.load(1, -1)
    elif settings.encoder == "miniature":
        lm = loading.load(initial_model_folder("student", loop_settings(settings)), device=settings.device)
    if lm:
        return lambda texts: hidden_states(lm, texts, settings)
    how = {"device": settings.device, "max_length": settings.max_length, "precision": settings.precision}
    return encoders.load(settings.encoder, settings.encoder_revision, **how)


def lesson_rows(experiment: Experiment, lesson: pd.DataFrame, generation: int) -> list[dict]:
    """How varied the generation's texts are, all writers together and each alone."""
    texts = lesson["text"].tolist()
    order = np.random.default_rng(experiment.seed(generation, "self_bleu")).permutation(len(texts))
    some = [texts[i] for i in order[:SELF_BLEU_TEXTS]]
    rows = [metric(generation, f"lesson_{k}", value, "share", len(texts)) for k, value in whole_lesson(texts).items()]
    rows.append(metric(generation, "lesson_self_bleu", self_bleu(some), "share", n_long_enough(some)))
    for entity, own in lesson.groupby("entity")["text"]:
        rows.append(metric(generation, f"lesson_distinct_2_{entity}", distinct_n(list(own), 2), "share", len(own)))
    return rows + _told(experiment, lesson, generation)


def _told(experiment: Experiment, lesson: pd.DataFrame, generation: int) -> list[dict]:
    """told_false_<entity>, told_true_<entity>, .._others (2..K): share of their texts that tell a planted fact."""
    if not (fact := experiment.fact):
        return []
    rows, parts = [], [(str(entity), own) for entity, own in lesson.groupby("entity")["text"]]
    for name, true in (("false", False), ("true", True)):
        for who, own in [*parts, ("others", lesson.loc[lesson["entity"] > 1, "text"])]:
            share = float(fact.told_in(own.tolist(), true=true).mean()) if len(own) else np.nan
            rows.append(metric(generation, f"told_{name}_{who}", share, "share", len(own)))
    return rows
