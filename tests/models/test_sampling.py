"""Tokens are drawn from the nucleus, each row for itself."""

import numpy as np
import torch
from row_by_row import row_by_row
from scipy.stats import chisquare

from symbiosis.models import sampling
from symbiosis.models.sampling import draw, draw_from_nucleus, in_front, invert, mass_ahead


def nucleus(logits, temperature, top_p):
    """By the sort: the library's definition, fp64."""
    p = (logits.double() / temperature).softmax(-1)
    order = p.argsort(descending=True, stable=True)
    q = torch.zeros_like(p)
    kept = order[p[order].cumsum(0) - p[order] < top_p]
    q[kept] = p[kept]
    return q / q.sum()


def counted(logits, n, seed, **how):
    uniforms = torch.from_numpy(np.random.default_rng(seed).random(n))
    parts = [draw(logits.expand(len(u), -1), u, **how) for u in uniforms.split(4000)]
    return torch.bincount(torch.cat(parts), minlength=len(logits)).double()


def p_value(counts, q):
    """Of the counts under q; outcomes expected fewer than 5 times are taken together."""
    expected = q * counts.sum()
    many = expected >= 5
    pair = [torch.cat([x[many], x[~many].sum()[None]]) for x in (counts, expected)]
    observed, expected = (x[pair[1] > 0] for x in pair)
    if observed.sum() < counts.sum():
        return 0.0  # tokens that q does not have
    return chisquare(observed.numpy(), expected.numpy()).pvalue


@row_by_row("top_p", [1.0, 0.95, 0.6, 0.2])
def test_tokens_follow_the_softmax_within_the_nucleus(top_p):
    logits = torch.randn(300, generator=torch.Generator().manual_seed(1)) * 1.5
    for temperature in (1.0, 0.6):
        q = nucleus(logits, temperature, top_p)
        counts = counted(logits, 20_000, 11, temperature=temperature, top_p=top_p)
        assert counts[q == 0].sum() == 0 and (counts[q > 2e-3] > 0).all()
        assert p_value(counts, q) > 1e-3
        near = nucleus(logits + 0.3 * torch.arange(300).remainder(2), temperature, top_p)  # odd tokens likelier
        assert p_value(counts, near) < 1e-6


def test_equally_likely_tokens_share_the_nucleus_in_the_order_of_their_ids():
    logits = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0]).bfloat16()  # p = 0.105 and 0.288; 0.5 needs both likely ones
    counts = counted(logits, 10_000, 3, temperature=1.0, top_p=0.6)
    assert counts[[2, 3, 5]].sum() == 0 and p_value(counts, nucleus(logits, 1.0, 0.6)) > 1e-3
    flat = counted(torch.zeros(1000), 20_000, 4, temperature=1.0, top_p=0.25)
    assert flat[250:].sum() == 0 and p_value(flat[:250], torch.full((250,), 1 / 250, dtype=torch.float64)) > 1e-3


def test_the_kept_tokens_are_those_of_the_library():
    from transformers import TopPLogitsWarper

    rows = torch.randn(40, 500, generator=torch.Generator().manual_seed(2)) * 2
    kept = TopPLogitsWarper(0.8)(None, rows.clone()).isfinite()
    weights = (rows - rows.amax(-1, keepdim=True)).exp()
    for u in np.linspace(0, 1, 20, endpoint=False):
        tokens = draw_from_nucleus(weights, torch.full((40,), u, dtype=torch.float64), 0.8)
        assert kept.gather(1, tokens[:, None]).all()


def ties(n, v):
    """Weights of bf16 logits: many are equal."""
    return (torch.randn(n, v, generator=torch.Generator().manual_seed(6)) * 2).bfloat16().float().exp()


def test_the_mass_ahead_bounds_the_mass_in_front_from_above_and_tightly():
    weights = ties(200, 600)
    tokens = torch.randint(600, (200,), generator=torch.Generator().manual_seed(7))
    exact, bound = (weights * in_front(weights, tokens)).sum(-1), mass_ahead(weights, tokens)
    own = weights.gather(1, tokens[:, None])
    behind = ((weights == own).sum(-1) - 1 - ((weights == own) & in_front(weights, tokens)).sum(-1)) * own[:, 0]
    torch.testing.assert_close(bound, exact + behind, rtol=1e-5, atol=1e-5 * float(weights.sum(-1).max()))
    assert (behind > 0).any() and (behind == 0).any()


def test_tokens_are_those_drawn_by_the_exact_set_alone(monkeypatch):
    weights = ties(400, 600)
    uniforms = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    tokens, asked, exact = draw_from_nucleus(weights, uniforms, 0.7), [], sampling.in_front
    monkeypatch.setattr(sampling, "in_front", lambda w, t: asked.append(len(w)) or exact(w, t))
    assert torch.equal(draw_from_nucleus(weights, uniforms, 0.7), tokens)
    assert sum(asked) < 300  # 0.3 of the rows, their next draws, and few others
    monkeypatch.setattr(sampling, "mass_ahead", lambda w, t: torch.full((len(w),), torch.inf))
    few = sum(asked)
    assert torch.equal(draw_from_nucleus(weights, uniforms, 0.7), tokens) and sum(asked) - few > 400


def test_the_inverse_is_the_cumulative_sum_read_backwards():
    weights = torch.rand(5, 1000, generator=torch.Generator().manual_seed(3))
    weights[:, [0, 127, 128, 999]] = 0  # at the ends of blocks and of all
    cumulative = weights.double().cumsum(-1)
    for u in (0.0, 0.1234, 0.5, 0.987, 1 - 2**-53):
        expected = torch.searchsorted(cumulative, u * cumulative[:, -1:], right=True)[:, 0].clamp(max=998)
        assert torch.equal(invert(weights, torch.full((5,), u, dtype=torch.float64)), expected)


def test_a_row_draws_the_same_token_whatever_stands_beside_it(monkeypatch):
    logits, uniforms = torch.randn(33, 700), torch.rand(33, dtype=torch.float64)
    together = draw(logits, uniforms, temperature=1.0, top_p=0.3)  # most rows are rejected at first
    alone = [draw(logits[i : i + 1], uniforms[i : i + 1], temperature=1.0, top_p=0.3) for i in range(33)]
    monkeypatch.setattr(sampling, "CHUNK", 5 * 700)
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(together, draw(logits, uniforms, temperature=1.0, top_p=0.3))
