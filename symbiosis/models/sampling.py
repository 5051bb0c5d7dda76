"""How texts are drawn: what a writer is told, and a draw of tokens from the nucleus that sorts no vocabulary."""

from dataclasses import dataclass

import numpy as np
import torch

from symbiosis.errors import SymbiosisError

BLOCK = 128  # tokens per block of the inverse CDF
CHUNK = 2**20  # logits a CPU works on at a time: what fits its cache, and memory it has at hand


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn: all that a writer needs beside model, prompts and seed."""

    temperature: float
    top_p: float
    max_new_tokens: int
    batch_size: int
    precision: str = "fp32"
    engine: str = "transformers"
    stops: tuple[str, ...] = ()  # what ends a text beside the model's own end; not part of it

    @classmethod
    def of(cls, settings) -> "Sampling":
        """What the settings of a run, of either kind, say; only RunSettings has a choice of the engine."""
        engine = getattr(settings, "generation_engine", "transformers")
        size, precision = settings.generation_batch_size, settings.precision
        return cls(settings.temperature, settings.top_p, settings.max_new_tokens, size, precision, engine)


class SamplingError(SymbiosisError):
    """A model that no text can be drawn from, with the remedy."""


def draw(logits: torch.Tensor, uniforms: torch.Tensor, *, temperature: float, top_p: float) -> torch.Tensor:
    """One token per row of logits (n, V): (n,) ids, from one uniform each, (n,) fp64 in [0, 1).

        p = softmax(logits / temperature), cut to the smallest set of likeliest tokens with mass >= top_p

    The nucleus is that of Holtzman et al. 2020 (arXiv 1904.09751) as transformers cuts it: a token stays where the mass
    in front of it is below top_p. Exact up to rounding.
    """
    n = len(logits) if logits.is_cuda else max(1, CHUNK // logits.shape[1])
    pairs = zip(logits.split(n), uniforms.split(n), strict=True)
    return torch.cat([_draw_some(some, own, temperature, top_p) for some, own in pairs])


def require_finite(logits: torch.Tensor) -> None:
    """Raises SamplingError where a row of logits (n, V) has nan, inf, or nothing that could be drawn."""
    if not torch.isfinite(logits.amax(-1)).all():
        raise SamplingError(
            "no text can be drawn: the model's predictions are nan or inf, so its weights are damaged or its training "
            "went astray; copy the model again, or lower generator_learning_rate (of a Student that writes: "
            "learning_rate)"
        )


def _draw_some(logits: torch.Tensor, uniforms: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    logits = logits.float()
    require_finite(logits)
    weights = (logits - logits.amax(-1, keepdim=True)).div_(temperature).exp_()
    return invert(weights, uniforms) if top_p == 1 else draw_from_nucleus(weights, uniforms, top_p)


def draw_from_nucleus(weights: torch.Tensor, uniforms: torch.Tensor, top_p: float) -> torch.Tensor:
    """(n,) ids from the nuclei of weights (n, V), by rejection: no sort, and no partial one.

    A token is drawn from everything and kept where the mass of the tokens in front of it is below top_p, which at least
    top_p of all draws are; the next draw is from those in front of the last one, which hold the whole nucleus. What is
    kept has the nucleus' distribution, since each draw is restricted to a set that contains it. Sampling with a falling
    pivot is FlashInfer's (Ye et al. 2025, arXiv 2501.01005); that equal tokens are ordered by id, as in a stable sort,
    is ours: logits of bf16 have many.
    """
    tokens = torch.zeros(len(weights), dtype=torch.int64, device=weights.device)
    rows, limit = torch.arange(len(weights), device=weights.device), top_p * weights.sum(-1)
    while len(rows):
        tokens[rows] = drawn = invert(weights, uniforms)
        unsure = (mass_ahead(weights, drawn) >= limit).nonzero()[:, 0]
        front = weights[unsure] * in_front(weights[unsure], drawn[unsure])
        outside = front.sum(-1) >= limit[unsure]
        again, weights = unsure[outside], front[outside]
        rows, limit, uniforms = rows[again], limit[again], next_uniforms(uniforms[again])
    return tokens


def mass_ahead(weights: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(n,) at least the mass in front of `tokens` (n,): that of all other tokens as likely or likelier, of any id.

    Where even this is below the limit, the token is in the nucleus. It settles nearly every draw and takes a CPU a
    seventh of the time of the set itself (1.4 against 10 ms at 32 x 151,936), as it makes no boolean mask.
    """
    own = weights.gather(1, tokens[:, None])
    return torch.ge(weights, own, out=torch.empty_like(weights)).mul_(weights).sum(-1) - own[:, 0]


def in_front(weights: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """(n, V) whether a token is likelier than the one of `tokens` (n,), or as likely and of a lower id."""
    own = weights.gather(1, tokens[:, None])
    lower = torch.arange(weights.shape[1], device=weights.device) < tokens[:, None]
    return torch.where(lower, weights >= own, weights > own)


def invert(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Inverse CDF of weights (n, V), not normalized, at uniforms (n,): (n,) ids.

    The block first, then the token within it: n x (V / BLOCK + BLOCK) cumulative sums instead of n x V.
    """
    rest = -weights.shape[1] % BLOCK
    whole = torch.nn.functional.pad(weights, (0, rest)) if rest else weights  # pad copies even where it adds nothing
    blocks = whole.unflatten(1, (-1, BLOCK))
    mass = blocks.sum(-1).double().cumsum(-1)  # (n, blocks)
    target = uniforms[:, None] * mass[:, -1:]
    block = _first_above(mass, target)
    before = torch.where(block > 0, mass.gather(1, (block - 1).clamp(min=0)), 0)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(-1)
    return (block * BLOCK + _first_above(inside, target - before))[:, 0]


def _first_above(cumulative: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """First place (n, 1) where cumulative (n, k) exceeds target (n, 1); rounding never leads past the last weight."""
    above, last = cumulative <= target, cumulative < cumulative[:, -1:]
    return torch.minimum(above.sum(-1, keepdim=True), last.sum(-1, keepdim=True))


def next_uniforms(uniforms: torch.Tensor) -> torch.Tensor:
    """New uniforms (n,), each a hash of the one before it: a row's draws hang on no other row.

    SplitMix64's step and output (Steele et al. 2014, OOPSLA) on the 64 bits, the upper 53 of which are the new number.
    """
    bits = uniforms.cpu().numpy().view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ (bits >> np.uint64(shift))) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-53).to(uniforms.device)
