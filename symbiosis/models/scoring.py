"""Likelihoods: of label words, of texts; and the evaluation built from them.

`precision: bf16` takes shorter ways to the same likelihoods (`lowered`, `label_passes`, fewer tokens before the head at
a time); fp32 keeps the longer ones, so that published numbers stay as they are to the last bit.
"""

import copy
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy.special import log_softmax
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from symbiosis.models.loading import autocast, batches_by_length, pad, start_ids, token_ids
from symbiosis.prompts import STUDENT_CLASSIFY, STUDENT_WRITE, label_prompt
from symbiosis.settings import RunSettings

HEAD_TOKENS = 2048  # tokens whose logits are held at once: 400 MB at a vocabulary of 50,000
KEPT_LOGITS = 2**31  # bytes of logits that are kept for a gradient; where there are more, they are computed twice
CPU_HEAD_TOKENS = 128  # where nothing is kept for a gradient: 25 MB, which malloc hands out again instead of new pages


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


def lowered(model, precision: str, *, full_head: bool = False):
    """For scoring under bf16: the model with its linear layers cast once, instead of by autocast in every batch.

    Numbers are autocast's to the bit; with `full_head` the output embedding stays as it is and gives fp32 logits, under
    autocast, too. All other weights are shared; the copies take 2 bytes per linear weight. fp32: the model itself.
    """
    if precision != "bf16":
        return model
    low = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # new modules around the same weights
    head = low.get_output_embeddings() if full_head else None
    for layer in [m for m in low.modules() if isinstance(m, torch.nn.Linear) and m is not head]:
        for name, p in list(layer.named_parameters(recurse=False)):
            setattr(layer, name, torch.nn.Parameter(p.detach().bfloat16(), requires_grad=False))
    if full_head:
        low.set_output_embeddings(NotCast(head))
    return low


class NotCast(torch.nn.Module):
    """A layer that autocast leaves alone."""

    def __init__(self, layer: torch.nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return self.layer(hidden.float())


def label_passes(labels: Sequence[Sequence[int]], *, shared: bool) -> dict[tuple[int, ...], list[int]]:
    """{leading tokens: labels} of the forward passes, each over prefix + leading tokens, that see every label.

    A pass sees the labels with all but the last token equal to its own; where `shared`, also those that end earlier
    along the way: of "World" and "Sci" "/" "Tech", a pass over "Sci" "/" sees both.
    """
    leads = sorted({tuple(tokens[:-1]) for tokens in labels}, key=len)
    if shared:
        leads = [a for a in leads if not any(a == b[: len(a)] for b in leads if b != a)]
    passes = {lead: [] for lead in leads}
    for column, tokens in enumerate(labels):
        own = tuple(tokens[:-1])
        passes[next(lead for lead in leads if lead[: len(own)] == own)].append(column)
    return passes


@torch.inference_mode()
def label_log_probs(
    model, tokenizer, prefixes: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], settings: RunSettings
) -> np.ndarray:
    """log p(label | prefix), normalised over the labels: (n, C) [nats].

        score_c = sum_j log p(y_cj | prefix, y_c<j),   log p = log_softmax_c(score)

    labels: C rows of token ids; a label word may have several tokens. Labels share forward passes, see `label_passes`,
    and logits are computed at the label's positions alone. These are so few that bf16, too, has its logits in fp32:
    bf16 would round one of 16, not unusual in a trained model, by up to a 16th.
    """
    passes = label_passes(labels, shared=settings.precision == "bf16")
    model = lowered(model, settings.precision, full_head=True)
    scores = np.zeros((len(prefixes), len(labels)))
    for batch in batches_by_length([len(p) for p in prefixes], settings.generation_batch_size):
        for lead, columns in passes.items():
            rows = [[*prefixes[i], *lead] for i in batch]
            inputs = pad(tokenizer, rows, left=True, device=model.device)
            with autocast(model, settings.precision):
                logits = model(**inputs, logits_to_keep=len(lead) + 1).logits
            log_p = logits.float().log_softmax(-1)
            for column in columns:
                scores[batch, column] = sum(log_p[:, j, t] for j, t in enumerate(labels[column])).cpu().numpy()
    return log_softmax(scores, axis=1)


def token_losses(
    model, tokenizer, rows, known: Sequence[int], settings: RunSettings, *, head_tokens: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each token after its row's `known` leading ones [nats], and its row: both (m,).

    Rows are padded on the right, so a causal model needs no mask; the head, most of the cost where the vocabulary is
    large, sees predicted tokens only, `head_tokens` (None: HEAD_TOKENS) at a time, and keeps their logits for a
    gradient only up to KEPT_LOGITS.
    """
    inputs = pad(tokenizer, rows, left=False, device=model.device)
    known = torch.tensor(known, device=model.device)
    predicted = (inputs["position_ids"] >= known[:, None]) & inputs["attention_mask"].bool()
    predicted, ids = predicted[:, 1:], inputs["input_ids"]
    targets = ids[:, 1:][predicted]
    with autocast(model, settings.precision):
        hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[predicted]
        n = head_tokens or HEAD_TOKENS
        parts = zip(hidden.split(n), targets.split(n), strict=True)
        head = model.get_output_embeddings()
        twice = torch.is_grad_enabled() and 4 * len(targets) * head.out_features > KEPT_LOGITS
        per_token = partial(checkpoint, _head_losses, use_reentrant=False) if twice else _head_losses
        losses = [per_token(head, *part) for part in parts]
    return torch.cat(losses), predicted.nonzero()[:, 0]


def _head_losses(head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(hidden).float(), targets, reduction="none")


@torch.inference_mode()
def text_losses(
    model, tokenizer, rows: Sequence[Sequence[int]], known: Sequence[int], settings: RunSettings
) -> np.ndarray:
    """Mean negative log-likelihood of each row's tokens after its `known` leading ones: (n,) [nats/token]."""
    losses = np.zeros(len(rows))
    n = CPU_HEAD_TOKENS if settings.precision == "bf16" and model.device.type == "cpu" else HEAD_TOKENS
    model = lowered(model, settings.precision)
    for batch in batches_by_length([len(r) for r in rows], settings.generation_batch_size):
        some, given = [rows[i] for i in batch], [known[i] for i in batch]
        nll, row = token_losses(model, tokenizer, some, given, settings, head_tokens=n)
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
