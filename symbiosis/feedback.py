"""What the Student finds hard in unlabeled text: one interface, several measures."""

from collections.abc import Sequence

import numpy as np

from symbiosis.models import start_ids, token_ids
from symbiosis.scoring import student_beliefs, text_losses
from symbiosis.settings import RunSettings


def hardness(
    student,
    tokenizer,
    texts: Sequence[str],
    label_names: Sequence[str],
    settings: RunSettings,
    *,
    rng: np.random.Generator,
) -> np.ndarray:
    """How hard each unlabeled text is for the Student by `settings.feedback`: (n,), larger is harder.

    lm_loss: mean negative log-likelihood of the bare text [nats/token], the Symbiosis paper's signal.
    entropy: of the Student's label belief, -sum_c p_c log p_c [nats], in [0, log C]; uncertainty sampling
             (Lewis and Gale 1994).
    random:  uniform in [0, 1), the control that sees the same pool without asking the Student.
    """
    if settings.feedback == "random":
        return rng.random(len(texts))
    if settings.feedback == "entropy":
        log_p = student_beliefs(student, tokenizer, texts, label_names, settings)
        return -(np.exp(log_p) * log_p).sum(1)
    start, end = start_ids(tokenizer), [tokenizer.eos_token_id]
    rows = [start + ids + end for ids in token_ids(tokenizer, texts, settings.max_length)]
    return text_losses(student, tokenizer, rows, [1] * len(rows), settings)


def find_hard(student, tokenizer, pool, label_names: Sequence[str], settings: RunSettings, *, rng: np.random.Generator):
    """Step C: the `hard_examples` hardest texts of a random `scored_share` of the pool, hardest first.

    Returns the pool's rows with a column `hardness`.
    """
    n = min(len(pool), max(settings.hard_examples, round(settings.scored_share * len(pool))))
    looked_at = pool.select(rng.permutation(len(pool))[:n])
    scores = hardness(student, tokenizer, looked_at["text"], label_names, settings, rng=rng)
    order = np.argsort(-scores, kind="stable")[: settings.hard_examples]
    return looked_at.select(order).add_column("hardness", scores[order])
