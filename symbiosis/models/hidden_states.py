"""Inside a Student: how dense its activations are, and how many directions they use, on familiar and on rare texts.

The claim to test: a Student that learns from narrow text crowds rare patterns out, and they lose their dense
representation. Two measures, each where it means something. The residual stream has no preferred axes, so there the
`effective_rank` is taken, which no rotation changes. Units of an MLP do have them (the non-linearity works unit by
unit), so there `density` is taken: how evenly the activity is spread over the units.

Neither number means much alone: rare texts stem from more patterns than familiar ones, which raises their rank in any
model, and every Student moves away from where it began. `tail_gap` takes both out.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from symbiosis.errors import SymbiosisError
from symbiosis.measures.density import density, effective_rank
from symbiosis.models.loading import LanguageModel, batches_by_length, pad, start_ids, token_ids
from symbiosis.settings import RunSettings


class RepresentationError(SymbiosisError):
    """A model or a run that cannot be looked into, with the remedy."""


# --- what a model computes on texts --------------------------------------------------------------------------------
def hidden_states(lm: LanguageModel, texts: Sequence[str], settings: RunSettings) -> np.ndarray:
    """A vector per text from the residual stream, as the head sees it: (n, d) fp32, the mean over the text's tokens.

    The text stands alone, as in pre-training: start token, then its tokens, cut at `max_length`. The start token is
    left out of the mean: it sees no text, and many models park a huge vector there. Always fp32. Raises ValueError for
    a text without tokens.
    """
    model, rows = lm.model, _text_rows(lm.tokenizer, texts, settings)
    states: dict[int, np.ndarray] = {}
    for batch, inputs, is_text in _text_batches(lm, rows, settings):
        with torch.inference_mode():
            hidden = model.base_model(**inputs, use_cache=False, output_hidden_states=True).hidden_states[-1]
            sums = (hidden.float() * is_text[:, :, None]).sum(dim=1)
            states |= zip(batch, (sums / is_text.sum(dim=1, keepdim=True)).cpu().numpy(), strict=True)
    return np.stack([states[i] for i in range(len(rows))]) if rows else np.zeros((0, model.config.hidden_size))


def unit_density(lm: LanguageModel, texts: Sequence[str], settings: RunSettings) -> np.ndarray:
    """Mean over each text's tokens of the `density` of the last MLP's units: (n,) in [0, 1].

    Units are taken after the non-linearity (and the gate, where there is one), token by token: a mean over tokens first
    would call a text dense that merely has many different words. Texts are read as in `hidden_states`. Raises
    RepresentationError for a model whose MLP is not found.
    """
    model, rows = lm.model, _text_rows(lm.tokenizer, texts, settings)
    densities = np.zeros(len(rows))
    with _caught_units(model) as caught:
        for batch, inputs, is_text in _text_batches(lm, rows, settings):
            with torch.inference_mode():
                model.base_model(**inputs, use_cache=False)
            of_token = density(caught.pop()[is_text].float().cpu().numpy())
            row = is_text.nonzero()[:, 0].cpu().numpy()
            densities[batch] = np.bincount(row, of_token, len(batch)) / np.bincount(row, minlength=len(batch))
    return densities


def random_model(model, seed: int):
    """A model of the same architecture and size that has learned nothing, on the same device, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(model)(model.config).to(model.device).eval()


def _text_rows(tokenizer, texts: Sequence[str], settings: RunSettings) -> list[list[int]]:
    ids = token_ids(tokenizer, texts, settings.max_length)
    if empty := [i for i, row in enumerate(ids) if not row]:
        raise ValueError(f"texts {empty[:5]} have no tokens, so there is nothing to look at; leave them out")
    return [start_ids(tokenizer) + row for row in ids]


def _text_batches(lm: LanguageModel, rows, settings: RunSettings) -> Iterator[tuple[np.ndarray, dict, torch.Tensor]]:
    """(indices, model inputs, (b, T) bool of the tokens that count), longest rows first."""
    for batch in batches_by_length([len(row) for row in rows], settings.generation_batch_size):
        inputs = pad(lm.tokenizer, [rows[i] for i in batch], left=False, device=lm.device)
        is_text = inputs["attention_mask"].bool()
        is_text[:, : len(start_ids(lm.tokenizer))] = False
        yield batch, inputs, is_text


@contextlib.contextmanager
def _caught_units(model) -> Iterator[list[torch.Tensor]]:
    """Inside, each forward pass appends (b, T, units), what enters the last linear map of the last block's MLP."""
    try:
        mlp = model.base_model.layers[-1].mlp
        projection = [part for part in mlp.modules() if isinstance(part, torch.nn.Linear)][-1]
        if projection.out_features != model.config.hidden_size:  # such as the gate of experts
            raise AttributeError
    except (AttributeError, IndexError):
        raise RepresentationError(
            f"{type(model).__name__}: no linear map in layers[-1].mlp; density is known for models built like "
            "GPT-NeoX and Qwen2, hidden_states for any"
        ) from None
    caught = []
    hook = projection.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        yield caught
    finally:
        hook.remove()


# --- familiar and rare texts ---------------------------------------------------------------------------------------
def head_and_tail(texts: Sequence[str], in_tail: np.ndarray) -> tuple[list[str], list[str]]:
    """The first familiar and the first rare texts, equally many: as many as the smaller group has.

    in_tail: (n,) bool, `world.in_tail(texts)`. Raises ValueError where a group has fewer than two texts.
    """
    in_tail = np.asarray(in_tail, dtype=bool)
    if in_tail.shape != (len(texts),):
        raise ValueError(f"head_and_tail: {len(texts)} texts, but in_tail has shape {in_tail.shape}")
    n = int(min(in_tail.sum(), (~in_tail).sum()))
    if n < 2:
        raise ValueError(f"head_and_tail: {in_tail.sum()} rare of {len(texts)} texts; both groups need two at least")
    return [texts[i] for i in np.flatnonzero(~in_tail)[:n]], [texts[i] for i in np.flatnonzero(in_tail)[:n]]


def probe(lm: LanguageModel, texts: Sequence[str], in_tail: np.ndarray, settings: RunSettings) -> dict[str, float]:
    """{density_head, density_tail, effective_rank_head, effective_rank_tail, n} of the last block, n texts a group.

    Density is the mean of `unit_density` over the texts, effective rank that of their `hidden_states`. Head and tail
    of one model are not like for like (the tail has more subtopics): compare models by `tail_gap`, at equal n.
    """
    found = {}
    for group, chosen in zip(("head", "tail"), head_and_tail(texts, in_tail), strict=True):
        found[f"density_{group}"] = float(unit_density(lm, chosen, settings).mean())
        found[f"effective_rank_{group}"] = effective_rank(hidden_states(lm, chosen, settings))
    return found | {"n": len(chosen)}
