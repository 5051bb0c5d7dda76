"""Inside a Student: how dense its activations are, and how many directions they use, on familiar and on rare texts.

The claim to test: a Student that learns from narrow text crowds rare patterns out, and they lose their dense
representation. Two measures, each where it means something. The residual stream has no preferred axes, so there the
`effective_rank` is taken, which no rotation changes. Units of an MLP do have them (the non-linearity works unit by
unit), so there `density` is taken: how evenly the activity is spread over the units.

Neither number means much alone: rare texts stem from more patterns than familiar ones, which raises their rank in any
model, and every Student moves away from where it began. `tail_gap` takes both out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import entr

from symbiosis.errors import SymbiosisError
from symbiosis.settings import RunSettings

if TYPE_CHECKING:  # the functions that look into a model import torch (4 s); notebooks that read its rows need none
    import torch

MEASURES = ("density", "effective_rank")
RANDOM = "random_"  # before the name of a metric: of a Student that has learned nothing
COLUMNS = [f"{measure}_{group}" for measure in MEASURES for group in ("head", "tail")]
WARM = ("recursive-warm",)  # arms whose generation 0 has learned real rows, so that it is not the base Student
Numbers = float | np.ndarray | pd.Series
NO_SPREAD = 1e-6  # rows closer together than this share of their length are equal up to fp32 rounding


class RepresentationError(SymbiosisError):
    """A model or a run that cannot be looked into, with the remedy."""


# --- measures ------------------------------------------------------------------------------------------------------
def effective_rank(x: np.ndarray) -> float:
    """How many directions the rows of x spread over: exp of the entropy of the singular values.

        exp(-sum_i p_i ln p_i),   p_i = s_i / sum_j s_j,   s = singular values of x minus its mean row

    Args:
        x: (n, d), n >= 2; rows are texts.

    In [1, min(n - 1, d)], dimensionless: 1 if the rows lie on a line, d if they spread equally along d directions. No
    rotation, shift or scale of x changes it. Grows with n: compare at equal n. nan where all rows are equal.

    Roy and Vetterli 2007, EUSIPCO. Centring is this project's choice: the common offset of all texts, long in language
    models, would else count as a direction. `diversity.vendi` is the like of it for s^2 of rows at unit length.
    """
    x = np.asarray(x, dtype=float)
    if x.ndim != 2 or len(x) < 2 or not x.shape[1]:
        raise ValueError(f"effective_rank: needs at least two rows of a matrix, got shape {x.shape}")
    s = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
    if s[0] <= NO_SPREAD * np.linalg.norm(x):
        return float("nan")
    return float(np.exp(entr(s / s.sum()).sum()))


def density(x: np.ndarray) -> np.ndarray:
    """How evenly activity is spread over units, for each vector: one minus Hoyer's sparsity.

        D = (|x|_1 / |x|_2 - 1) / (sqrt(d) - 1)

    Args:
        x: (..., d) activations of either sign, d >= 2; the last axis is the units.

    (...) in [0, 1], dimensionless: 0 if one unit is active, 1 if all are equally strong, whatever the sign; k equal
    ones of d give (sqrt(k) - 1) / (sqrt(d) - 1). Gaussian noise gives about 0.79 at large d. Free of scale and of any
    threshold, but not of the axes: use it where the axes are units. nan for a vector of zeros.

    Hoyer 2004, Journal of Machine Learning Research 5:1457.
    """
    d = np.shape(x)[-1]
    if d < 2:
        raise ValueError(f"density: needs at least two units, got {d}")
    l2 = np.linalg.norm(x, axis=-1)
    with np.errstate(invalid="ignore"):  # 0/0 is nan: nothing is active
        return (np.abs(x).sum(axis=-1) / l2 - 1) / (np.sqrt(d) - 1)


# --- what a model computes on texts --------------------------------------------------------------------------------
def hidden_states(model, tokenizer, texts: Sequence[str], settings: RunSettings, *, layer: int = -1) -> np.ndarray:
    """A vector per text from the residual stream: (n, d) fp32, the mean over the text's tokens.

    The text stands alone, as in pre-training: start token, then its tokens, cut at `max_length`. The start token is
    left out of the mean: it sees no text, and many models park a huge vector there.

    layer: index into what the model computes, 0 the embeddings, -1 the last block (after the final norm, as the head
    sees it). Always fp32. Raises ValueError for a text without tokens.
    """
    import torch

    rows = _rows(tokenizer, texts, settings)
    states = np.zeros((len(rows), model.config.hidden_size), dtype=np.float32)
    for batch, inputs, is_text in _batches(model, tokenizer, rows, settings):
        with torch.inference_mode():
            hidden = model.base_model(**inputs, use_cache=False, output_hidden_states=True).hidden_states[layer]
            sums = (hidden.float() * is_text[:, :, None]).sum(dim=1)
            states[batch] = (sums / is_text.sum(dim=1, keepdim=True)).cpu().numpy()
    return states


def unit_density(model, tokenizer, texts: Sequence[str], settings: RunSettings, *, layer: int = -1) -> np.ndarray:
    """Mean over each text's tokens of the `density` of the MLP's units: (n,) in [0, 1].

    Units are taken after the non-linearity (and the gate, where there is one), token by token: a mean over tokens first
    would call a text dense that merely has many different words. Texts are read as in `hidden_states`.

    layer: index of the block, -1 the last. Raises RepresentationError for a model whose MLP is not found.
    """
    import torch

    rows = _rows(tokenizer, texts, settings)
    densities = np.zeros(len(rows))
    with _caught_units(model, layer) as caught:
        for batch, inputs, is_text in _batches(model, tokenizer, rows, settings):
            with torch.inference_mode():
                model.base_model(**inputs, use_cache=False)
            of_token = density(caught.pop()[is_text].float().cpu().numpy())
            row = is_text.nonzero()[:, 0].cpu().numpy()
            densities[batch] = np.bincount(row, of_token, len(batch)) / np.bincount(row, minlength=len(batch))
    return densities


def random_model(model, seed: int):
    """A model of the same architecture and size that has learned nothing, on the same device, in eval mode."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(model)(model.config).to(model.device).eval()


def _rows(tokenizer, texts: Sequence[str], settings: RunSettings) -> list[list[int]]:
    from symbiosis.models.loading import start_ids, token_ids

    ids = token_ids(tokenizer, texts, settings.max_length)
    if empty := [i for i, row in enumerate(ids) if not row]:
        raise ValueError(f"texts {empty[:5]} have no tokens, so there is nothing to look at; leave them out")
    return [start_ids(tokenizer) + row for row in ids]


def _batches(model, tokenizer, rows, settings: RunSettings) -> Iterator[tuple[np.ndarray, dict, torch.Tensor]]:
    """(indices, model inputs, (b, T) bool of the tokens that count), longest rows first."""
    from symbiosis.models.loading import batches_by_length, pad, start_ids

    for batch in batches_by_length([len(row) for row in rows], settings.generation_batch_size):
        inputs = pad(tokenizer, [rows[i] for i in batch], left=False, device=model.device)
        is_text = inputs["attention_mask"].bool()
        is_text[:, : len(start_ids(tokenizer))] = False
        yield batch, inputs, is_text


@contextlib.contextmanager
def _caught_units(model, layer: int) -> Iterator[list[torch.Tensor]]:
    """Inside, each forward pass appends (b, T, units), what enters the last linear map of that block's MLP."""
    from torch import nn

    try:
        mlp = model.base_model.layers[layer].mlp
        projection = [part for part in mlp.modules() if isinstance(part, nn.Linear)][-1]
    except (AttributeError, IndexError):
        raise RepresentationError(
            f"{type(model).__name__}: no linear map in layers[{layer}].mlp; density is known for models built like "
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


def inside(
    model, tokenizer, texts: Sequence[str], in_tail: np.ndarray, settings: RunSettings, *, layer: int = -1
) -> dict[str, float]:
    """{density_head, density_tail, effective_rank_head, effective_rank_tail, n} of one block, n texts in each group.

    Density is the mean of `unit_density` over the texts, effective rank that of their `hidden_states`. Head and tail
    of one model are not like for like (the tail has more subtopics): compare models by `tail_gap`, at equal n.
    """
    found = {}
    for group, chosen in zip(("head", "tail"), head_and_tail(texts, in_tail), strict=True):
        asked = (model, tokenizer, chosen, settings)
        found[f"density_{group}"] = float(unit_density(*asked, layer=layer).mean())
        found[f"effective_rank_{group}"] = effective_rank(hidden_states(*asked, layer=layer))
    return found | {"n": len(chosen)}


def tail_gap(tail: Numbers, head: Numbers, tail_reference: Numbers, head_reference: Numbers) -> Numbers:
    """How much more of a measure a model's rare texts have lost than its familiar ones, against a reference.

        gap = ln(tail / tail_reference) - ln(head / head_reference)

    Of one measure on the same texts; numbers, or one per seed. Dimensionless, about a relative change; below 0 the tail
    has lost more than the head, as the claim says. What changes head and tail alike, and what sets them apart in any
    model (the number of their subtopics), cancels. nan where a value is nan.

    Another draw of texts alone moves the gap of effective rank by 0.03 (standard deviation) at n = 73 and by 0.01 at
    n = 390, that of density by 0.002 and 0.001: on the miniature, one seed, Students of three methods.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.divide(tail, tail_reference)) - np.log(np.divide(head, head_reference))


# --- rows of finished runs -----------------------------------------------------------------------------------------
def by_student(rows: pd.DataFrame) -> pd.DataFrame:
    """Students side by side: columns arm, seed, generation, n and the four numbers of `inside`.

    rows: long rows with `arm`, of runs with `inside: true`. For each seed come the `random` Student of the same shape
    and the `base` one every arm starts from, both as generation 0, then every arm, in order. Empty without such rows.
    """
    found = rows[rows["metric"].str.removeprefix(RANDOM).isin(COLUMNS)].copy()
    random = found["metric"].str.startswith(RANDOM)
    found.loc[random, "arm"], found["metric"] = "random", found["metric"].str.removeprefix(RANDOM)
    started = found["arm"].isin(WARM) | (found["generation"] > 0) | random
    found.loc[~started, "arm"] = "base"
    found = found.drop_duplicates(["arm", "seed", "generation", "metric"])  # the same Student, measured by every arm
    wide = found.pivot(index=["arm", "seed", "generation", "n"], columns="metric", values="value").reset_index()
    return wide.rename_axis(columns=None)


def tail_gaps(table: pd.DataFrame, reference: str = "real") -> pd.DataFrame:
    """`tail_gap` of every arm against `reference` at the same seed and generation: arm, seed, generation, MEASURES.

    table: of `by_student`. What has no such reference (generation 0, a seed it lacks) is left out. ValueError where n
    differs from the reference's.
    """
    at = ["seed", "generation"]
    table = table.reindex(columns=["arm", *at, "n", *COLUMNS])  # an empty one has no columns
    is_reference = table["arm"] == reference
    pairs = table[~is_reference].merge(table[is_reference].drop(columns="arm"), on=at, suffixes=("", "_reference"))
    if (odd := pairs[pairs["n"] != pairs["n_reference"]]).size:
        n, n_reference = odd[["n", "n_reference"]].iloc[0]
        raise ValueError(f"tail_gaps: {n} texts per group here, {n_reference} in the reference")
    ends = ("tail", "head", "tail_reference", "head_reference")
    gaps = {measure: tail_gap(*(pairs[f"{measure}_{end}"] for end in ends)) for measure in MEASURES}
    return pairs[["arm", *at]].assign(**gaps)
