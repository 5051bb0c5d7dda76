"""Likelihoods of label words and of texts.

`precision: bf16` takes shorter ways to the same likelihoods (`cast_linears`, `shared_prefixes`, texts read once for all
labels and beginnings once for all answers, fewer tokens before the head at a time); fp32 keeps the longer ones, so that
published numbers stay as they are to the last bit.
"""

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers.cache_utils import DynamicLayer

from symbiosis.errors import SymbiosisError
from symbiosis.models.devices import resolved_precision
from symbiosis.models.fast import cast_linears
from symbiosis.models.loading import LanguageModel, autocast, batches_by_length, own_logits, pad, token_ids
from symbiosis.settings import RunSettings

HEAD_TOKENS = 2048  # tokens whose logits are held at once: 400 MB at a vocabulary of 50,000
KEPT_LOGITS = 2**31  # bytes of logits that are kept for a gradient; where there are more, they are computed twice
CPU_HEAD_TOKENS = 128  # where nothing is kept for a gradient: 25 MB, which malloc hands out again instead of new pages


class LikelihoodError(SymbiosisError):
    """Likelihoods that are no numbers, with the remedy."""


class LabelError(SymbiosisError):
    """Labels that a model cannot tell apart, with the remedy."""


def shorten(tokenizer, texts: Sequence[str], max_length: int) -> list[str]:
    """Texts of at most `max_length` tokens; those that fit are returned untouched."""
    rows = token_ids(tokenizer, texts)
    return [t if len(r) <= max_length else tokenizer.decode(r[:max_length]) for t, r in zip(texts, rows, strict=True)]


def shared_prefixes(labels: Sequence[Sequence[int]], *, nested: bool) -> dict[tuple[int, ...], list[int]]:
    """{leading tokens: labels} of the forward passes, each over prefix + leading tokens, that see every label.

    A pass sees the labels with all but the last token equal to its own; where `nested`, also those that end earlier
    along the way: of "World" and "Sci" "/" "Tech", a pass over "Sci" "/" sees both.
    """
    prefixes = sorted({tuple(tokens[:-1]) for tokens in labels}, key=len)
    if nested:
        prefixes = [a for a in prefixes if not any(a == b[: len(a)] for b in prefixes if b != a)]
    passes = {prefix: [] for prefix in prefixes}
    for column, tokens in enumerate(labels):
        own = tuple(tokens[:-1])
        passes[next(prefix for prefix in prefixes if prefix[: len(own)] == own)].append(column)
    return passes


@dataclass(frozen=True)
class LabelWords:
    """Token rows of every label word, class by class, and the class of each: both (W,)."""

    rows: list[list[int]]
    classes: list[int]

    @property
    def first(self) -> list[list[int]]:
        """The row of each class's first word, the one that is taught: (C,)."""
        return [self.rows[self.classes.index(c)] for c in range(max(self.classes) + 1)]


def summed(log_p: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """log p of each class from those of its words, log sum_w p(w): (n, W) -> (n, C)."""
    own = np.asarray(classes)
    if len(set(classes)) == len(classes):
        return log_p
    return np.stack([logsumexp(log_p[:, own == c], axis=1) for c in range(own.max() + 1)], axis=1)


def calibrated(log_p: np.ndarray, reference: Sequence[float] | None) -> np.ndarray:
    """log p(label | text) less a `reference` (C,), normalised anew: (n, C); as they are where there is none.

        log p'_c = log p_c - log mean_batch p_c - log sum_k (p_k / mean_batch p_k)

    What the labeller says of a whole batch, whatever the text, is taken away: batch calibration (Zhou et al. 2024,
    arXiv 2309.17249).
    """
    return log_p if reference is None else log_softmax(log_p - np.asarray(reference), axis=1)


def told_apart(tokenizer, words: LabelWords, names: Sequence[str], end: list[int], role: str) -> LabelWords:
    """Label words by token rows; where one begins another, all with an `end`, or the longer could never be likelier.

    names: (W,). Raises LabelError for words of which the tokenizer of the `role` ('student', 'generator') knows no
    token, which it reads as the same, or, where a class has several, of which one begins another.
    """
    rows, several = words.rows, len(words.first) < len(words.rows)
    seen: dict[tuple[int, ...], str] = {}
    for row, name in zip(map(tuple, rows), names, strict=True):
        problem = ""
        if not set(row) - {tokenizer.unk_token_id}:
            problem = f"does not know the label {name[:60]!r}"
        elif row in seen:
            problem = f"reads the labels {seen[row][:60]!r} and {name[:60]!r} as the same"
        if problem:
            remedy = f"name another model in {role}, or rename the class in the task's files (classes.txt)"
            remedy = "take another word in label_words of the prompts file" if several else remedy
            raise LabelError(f"{role}: its tokenizer {problem}; {remedy}")
        seen[row] = name
    nested = [(a, b) for a in seen for b in seen if a != b and a == b[: len(a)]]
    if nested and several:
        short, long = (seen[row][:60] for row in nested[0])
        raise LabelError(
            f"{role}: its tokenizer reads the label word {short!r} as the beginning of {long!r}, whose probability "
            "would be counted twice; leave one of them out of label_words in the prompts file"
        )
    return LabelWords([[*row, *end * bool(nested)] for row in rows], words.classes)


@torch.inference_mode()
def label_log_probs(
    lm: LanguageModel, prefixes: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], settings: RunSettings
) -> np.ndarray:
    """log p(label | prefix), normalised over the labels: (n, C) [nats].

        score_c = sum_j log p(y_cj | prefix, y_c<j),   log p = log_softmax_c(score)

    labels: C rows of token ids; a label word may have several tokens. Of classes with several words each: all words,
    whose probabilities `summed` adds. Labels share forward passes, see `shared_prefixes`; under bf16 several passes
    share what the model made of the text. Logits are computed at the label's positions alone. These are so few that
    bf16, too, has its logits in fp32: bf16 would round one of 16, not unusual in a trained model, by up to a 16th.
    """
    low = resolved_precision(settings.precision, lm.device) == "bf16"
    passes = shared_prefixes(labels, nested=low)
    model = cast_linears(lm.model, settings.precision, keep_head_fp32=True)
    scores = np.zeros((len(prefixes), len(labels)))
    for batch in batches_by_length([len(p) for p in prefixes], settings.generation_batch_size):
        rows = [prefixes[i] for i in batch]
        with autocast(model, settings.precision):
            logits_of = _read_once(lm, model, rows) if low and len(passes) > 1 else partial(_logits, lm, model, rows)
        for prefix, columns in passes.items():
            with autocast(model, settings.precision):
                logits = logits_of(prefix)
            log_p = logits.float().log_softmax(-1)
            for column in columns:
                scores[batch, column] = sum(log_p[:, j, t] for j, t in enumerate(labels[column])).cpu().numpy()
    return require_numbers(log_softmax(scores, axis=1), lm)


def _logits(lm: LanguageModel, model, rows: Sequence[Sequence[int]], prefix: Sequence[int]) -> torch.Tensor:
    """(b, len(prefix) + 1, V) logits at the end of each row and after each token of a prefix that all go on with."""
    inputs = pad(lm.tokenizer, [[*row, *prefix] for row in rows], left=True, device=model.device)
    return model(**inputs, logits_to_keep=len(prefix) + 1).logits


def _read_once(lm: LanguageModel, model, rows: Sequence[Sequence[int]]) -> Callable[[Sequence[int]], torch.Tensor]:
    """`_logits` of any prefix, the rows read now and no more; where a model keeps no such cache, read again."""
    inputs = pad(lm.tokenizer, rows, left=True, device=model.device)
    read = model(**inputs, use_cache=True, logits_to_keep=1)
    if getattr(read, "past_key_values", None) is None:
        return partial(_logits, lm, model, rows)

    def logits_of(prefix: Sequence[int]) -> torch.Tensor:
        if not prefix:
            return read.logits
        ids = torch.tensor([prefix] * len(rows), device=model.device)
        more = model(
            input_ids=ids,
            attention_mask=torch.cat([inputs["attention_mask"], torch.ones_like(ids)], 1),
            position_ids=inputs["position_ids"][:, -1:] + 1 + torch.arange(len(prefix), device=model.device),
            past_key_values=copy.deepcopy(read.past_key_values),  # which a pass makes longer
        ).logits
        return torch.cat([read.logits, more], 1)

    return logits_of


def require_numbers(values: np.ndarray, lm: LanguageModel) -> np.ndarray:
    """The values; raises LikelihoodError where one is nan, which would be read as the first label or as a loss."""
    if np.isnan(values).any():
        raise LikelihoodError(
            f"{lm.model.config._name_or_path}: its likelihoods are nan, so its weights are damaged or training went "
            "astray; copy the model again, or lower learning_rate (of a Generator: generator_learning_rate)"
        )
    return values


def token_losses(
    lm: LanguageModel, rows, prompt_lengths: Sequence[int], settings: RunSettings, *, head_tokens: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each token after its row's `prompt_lengths` first ones [nats], and its row: both (m,).

    Rows are padded on the right, so a causal model needs no mask; the head, most of the cost where the vocabulary is
    large, sees predicted tokens only, `head_tokens` (None: HEAD_TOKENS) at a time, and keeps their logits for a
    gradient only up to KEPT_LOGITS.
    """
    model = lm.model
    inputs = pad(lm.tokenizer, rows, left=False, device=model.device)
    first = torch.tensor(prompt_lengths, device=model.device)
    predicted = (inputs["position_ids"] >= first[:, None]) & inputs["attention_mask"].bool()
    predicted, ids = predicted[:, 1:], inputs["input_ids"]
    targets = ids[:, 1:][predicted]
    with autocast(model, settings.precision):
        trunk = model.get_decoder()(input_ids=ids[:, :-1], use_cache=False)
        n = head_tokens or HEAD_TOKENS
        parts = zip(trunk.last_hidden_state[predicted].split(n), targets.split(n), strict=True)
        vocabulary = model.get_input_embeddings().num_embeddings
        twice = torch.is_grad_enabled() and 4 * len(targets) * vocabulary > KEPT_LOGITS
        per_token = partial(checkpoint, _head_losses, use_reentrant=False) if twice else _head_losses
        losses = [per_token(model, type(trunk), *part) for part in parts]
    return torch.cat(losses), predicted.nonzero()[:, 0]


def _head_losses(model, made: type, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(own_logits(model, made, hidden).float(), targets, reduction="none")


def answer_losses(
    lm: LanguageModel, rows, prompt_lengths: Sequence[int], settings: RunSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """`token_losses` of answers to prompts that begin alike: under bf16 a beginning is read once for all its answers.

    With its gradient, which is the same. Beginnings of 130 tokens before answers of 25 are most of the work otherwise.
    """
    low = resolved_precision(settings.precision, lm.device) == "bf16"
    if not low or min(prompt_lengths) < 2 or not _keeps_plain_cache(lm, settings):
        return token_losses(lm, rows, prompt_lengths, settings)
    losses, owners, trunk = [], [], lm.model.get_decoder()
    first = torch.tensor(prompt_lengths, device=lm.device)
    with autocast(lm.model, settings.precision):
        # of a prompt the last token predicts the first of the answer
        for n, own in beginnings([row[: length - 1] for row, length in zip(rows, prompt_lengths, strict=True)]):
            read = trunk(input_ids=torch.tensor([rows[own[0]][:n]], device=lm.device), use_cache=True).past_key_values
            read.batch_repeat_interleave(len(own))
            inputs = pad(lm.tokenizer, [rows[i][n:] for i in own], left=False, device=lm.device)
            ids, places = inputs["input_ids"], n + inputs["position_ids"]
            predicted = (inputs["attention_mask"].bool() & (places >= first[own][:, None]))[:, 1:]
            out = trunk(input_ids=ids[:, :-1], position_ids=places[:, :-1], past_key_values=read, use_cache=True)
            losses.append(_head_losses(lm.model, type(out), out.last_hidden_state[predicted], ids[:, 1:][predicted]))
            owners.append(torch.tensor(own, device=lm.device)[predicted.nonzero()[:, 0]])
    return torch.cat(losses), torch.cat(owners)


def beginnings(prompts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """(n, rows) of prompts, in the order of their tokens, that begin with the same n ones, at least half of each."""
    groups: list[tuple[int, list[int]]] = []
    for i in sorted(range(len(prompts)), key=lambda i: tuple(prompts[i])):
        length, own = groups[-1] if groups else (0, [i])
        pairs = zip(prompts[own[0]][:length], prompts[i], strict=False)
        shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if groups and 2 * shared >= len(prompts[i]):
            groups[-1] = (shared, [*own, i])
        else:
            groups.append((len(prompts[i]), [i]))
    return groups


@torch.inference_mode()
def _keeps_plain_cache(lm: LanguageModel, settings: RunSettings) -> bool:
    """Whether the model keeps keys and values of every token it read, and nothing else."""
    with autocast(lm.model, settings.precision):
        read = lm.model.get_decoder()(input_ids=torch.ones(1, 1, dtype=torch.long, device=lm.device), use_cache=True)
    cache = getattr(read, "past_key_values", None)
    return cache is not None and all(type(layer) is DynamicLayer for layer in cache.layers)


@torch.inference_mode()
def mean_answer_losses(
    lm: LanguageModel, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int], settings: RunSettings
) -> np.ndarray:
    """`text_losses` of answers to prompts that begin alike, see `answer_losses`: (n,) [nats/token]."""
    if resolved_precision(settings.precision, lm.device) != "bf16":
        return text_losses(lm, rows, prompt_lengths, settings)
    model = cast_linears(lm.model, settings.precision)
    nll, row = (x.cpu().numpy() for x in answer_losses(lm._replace(model=model), rows, prompt_lengths, settings))
    return require_numbers(np.bincount(row, nll, len(rows)) / np.bincount(row, minlength=len(rows)), lm)


@torch.inference_mode()
def text_losses(
    lm: LanguageModel, rows: Sequence[Sequence[int]], prompt_lengths: Sequence[int], settings: RunSettings
) -> np.ndarray:
    """Mean negative log-likelihood of each row's tokens after its `prompt_lengths` leading ones: (n,) [nats/token]."""
    losses = np.zeros(len(rows))
    low = resolved_precision(settings.precision, lm.device) == "bf16"
    n = CPU_HEAD_TOKENS if low and lm.device.type == "cpu" else HEAD_TOKENS
    lm = lm._replace(model=cast_linears(lm.model, settings.precision))
    for batch in batches_by_length([len(r) for r in rows], settings.generation_batch_size):
        lengths = [prompt_lengths[i] for i in batch]
        nll, row = token_losses(lm, [rows[i] for i in batch], lengths, settings, head_tokens=n)
        row = row.cpu().numpy()
        losses[batch] = np.bincount(row, nll.cpu().numpy(), len(batch)) / np.bincount(row, minlength=len(batch))
    return require_numbers(losses, lm)
