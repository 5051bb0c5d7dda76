"""Likelihoods: of label words, of texts; and the evaluation built from them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import log_softmax
from torch.nn.functional import cross_entropy

from symbiosis.models import autocast, batches_by_length, pad, start_ids, token_ids
from symbiosis.prompts import STUDENT_CLASSIFY, STUDENT_WRITE, label_prompt
from symbiosis.settings import RunSettings

HEAD_TOKENS = 2048  # tokens whose logits are held at once: 400 MB at a vocabulary of 50,000


def student_prefixes(tokenizer, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token rows `text + "\\nTopic:"`, after which the Student's label word comes; only the text is ever cut."""
    before, after = STUDENT_CLASSIFY.split("{text}")
    start, after = start_ids(tokenizer) + token_ids(tokenizer, [before])[0], token_ids(tokenizer, [after])[0]
    return [start + ids + after for ids in token_ids(tokenizer, texts, max_length)]


def student_labels(tokenizer, label_names: Sequence[str]) -> list[list[int]]:
    """Token rows of the label words as they follow the prefix."""
    return token_ids(tokenizer, [f" {name}" for name in label_names])


def student_texts(
    tokenizer, texts: Sequence[str], labels: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Token rows `label news: text <eos>` and, for each, how many leading tokens are given rather than predicted."""
    start, end = start_ids(tokenizer), [tokenizer.eos_token_id]
    given = [start + ids for ids in token_ids(tokenizer, [STUDENT_WRITE.format(label=name) for name in labels])]
    body = token_ids(tokenizer, [f" {text}" for text in texts], max_length)
    return [g + b + end for g, b in zip(given, body, strict=True)], [len(g) for g in given]


def shorten(tokenizer, texts: Sequence[str], max_length: int) -> list[str]:
    """Texts of at most `max_length` tokens; those that fit are returned untouched."""
    rows = token_ids(tokenizer, texts)
    return [t if len(r) <= max_length else tokenizer.decode(r[:max_length]) for t, r in zip(texts, rows, strict=True)]


@torch.inference_mode()
def label_log_probs(
    model, tokenizer, prefixes: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], settings: RunSettings
) -> np.ndarray:
    """log p(label | prefix), normalised over the labels: (n, C) [nats].

        score_c = sum_j log p(y_cj | prefix, y_c<j),   log p = log_softmax_c(score)

    labels: C rows of token ids; a label word may have several tokens. Labels that differ only in their last token share
    one forward pass, and logits are computed at the label's positions alone.
    """
    groups = defaultdict(list)
    for column, tokens in enumerate(labels):
        groups[tuple(tokens[:-1])].append(column)
    scores = np.zeros((len(prefixes), len(labels)))
    for batch in batches_by_length([len(p) for p in prefixes], settings.generation_batch_size):
        for lead, columns in groups.items():
            rows = [[*prefixes[i], *lead] for i in batch]
            inputs = pad(tokenizer, rows, left=True, device=model.device)
            with autocast(model, settings.precision):
                logits = model(**inputs, logits_to_keep=len(lead) + 1).logits
            log_p = logits.float().log_softmax(-1)
            shared = sum(log_p[:, j, token] for j, token in enumerate(lead))
            for column in columns:
                scores[batch, column] = (shared + log_p[:, -1, labels[column][-1]]).cpu().numpy()
    return log_softmax(scores, axis=1)


def token_losses(
    model, tokenizer, rows, known: Sequence[int], settings: RunSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each token after its row's `known` leading ones [nats], and its row: both (m,).

    Rows are padded on the right, so a causal model needs no mask; the head, most of the cost where the vocabulary is
    large, sees predicted tokens only, HEAD_TOKENS at a time.
    """
    inputs = pad(tokenizer, rows, left=False, device=model.device)
    known = torch.tensor(known, device=model.device)
    predicted = (inputs["position_ids"] >= known[:, None]) & inputs["attention_mask"].bool()
    predicted, ids = predicted[:, 1:], inputs["input_ids"]
    targets = ids[:, 1:][predicted]
    with autocast(model, settings.precision):
        hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[predicted]
        parts = zip(hidden.split(HEAD_TOKENS), targets.split(HEAD_TOKENS), strict=True)
        head = model.get_output_embeddings()
        losses = [cross_entropy(head(h).float(), t, reduction="none") for h, t in parts]
    return torch.cat(losses), predicted.nonzero()[:, 0]


@torch.inference_mode()
def text_losses(
    model, tokenizer, rows: Sequence[Sequence[int]], known: Sequence[int], settings: RunSettings
) -> np.ndarray:
    """Mean negative log-likelihood of each row's tokens after its `known` leading ones: (n,) [nats/token]."""
    losses = np.zeros(len(rows))
    for batch in batches_by_length([len(r) for r in rows], settings.generation_batch_size):
        nll, row = token_losses(model, tokenizer, [rows[i] for i in batch], [known[i] for i in batch], settings)
        row = row.cpu().numpy()
        losses[batch] = np.bincount(row, nll.cpu().numpy(), len(batch)) / np.bincount(row, minlength=len(batch))
    return losses


def student_beliefs(
    student, tokenizer, texts: Sequence[str], label_names: Sequence[str], settings: RunSettings
) -> np.ndarray:
    """The Student's log p(label | text): (n, C)."""
    prefixes = student_prefixes(tokenizer, texts, settings.max_length)
    return label_log_probs(student, tokenizer, prefixes, student_labels(tokenizer, label_names), settings)


def generator_beliefs(
    generator, tokenizer, texts: Sequence[str], label_names: Sequence[str], settings: RunSettings
) -> np.ndarray:
    """The Generator's log p(label | text), asked in its own chat template: (n, C)."""
    prompts = [label_prompt(tokenizer, t, list(label_names)) for t in shorten(tokenizer, texts, settings.max_length)]
    labels = token_ids(tokenizer, list(label_names))
    return label_log_probs(generator, tokenizer, token_ids(tokenizer, prompts), labels, settings)


def evaluate(student, tokenizer, rows, label_names: Sequence[str], settings: RunSettings) -> dict[str, np.ndarray]:
    """Per labelled row, each (n,): `correct`, `label_loss` [nats], `lm_loss` given its label [nats/token]."""
    labels = np.array(rows["label"])
    log_p = student_beliefs(student, tokenizer, rows["text"], label_names, settings)
    ids, given = student_texts(tokenizer, rows["text"], [label_names[i] for i in labels], settings.max_length)
    return {
        "correct": log_p.argmax(1) == labels,
        "label_loss": -log_p[np.arange(len(labels)), labels],
        "lm_loss": text_losses(student, tokenizer, ids, given, settings),
    }
