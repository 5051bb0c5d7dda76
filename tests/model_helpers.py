"""Learners that tests train: the eight texts of the small models as a lesson, copies with other settings."""

import copy
from dataclasses import replace

import numpy as np
import torch
from conftest import NEWS
from datasets import Dataset
from scipy.special import log_softmax

LABELS = list(NEWS)
TEXTS = [text for texts in NEWS.values() for text in texts]
LESSON = Dataset.from_dict({"text": TEXTS, "label": [0, 0, 1, 1, 2, 2, 3, 3], "weight": [1.0] * 8})
UNEVEN = LESSON.remove_columns("weight").add_column("weight", [2.0, 1.0, 0.5, 1.0, 3.0, 1.0, 1.0, 0.25])


def with_(learner, **changes):
    """A copy of a Student or Generator, weights and all, with other settings."""
    settings = learner.settings.model_copy(update=changes)
    return replace(learner, lm=copy.deepcopy(learner.lm), settings=settings)


def weights(learner):
    return list(learner.lm.model.parameters())


def log_p(model, row) -> np.ndarray:
    """log p(next token) at every place of one token row, read alone, without padding: (length, vocabulary)."""
    return model(torch.tensor([row])).logits[0].log_softmax(-1).detach().numpy()


def label_log_probs_one_by_one(model, prefixes, labels) -> list[np.ndarray]:
    """What scoring computes in batches: every label word after every prefix, by a pass of its own."""
    scores = []
    for prefix in prefixes:
        passes = [log_p(model, prefix + label)[len(prefix) - 1 :] for label in labels]
        scores.append(log_softmax([sum(p[range(len(y)), y]) for p, y in zip(passes, labels, strict=True)]))
    return scores
