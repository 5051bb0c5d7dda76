"""Small variational autoencoders of points in the plane that train on their own samples: a recursion beyond language.

S independent ones are trained side by side, one a line of the first axis of every array.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from symbiosis.theory.mixtures import POINTS, SPREAD, Source

HIDDEN, LATENT, SCALE = 32, 2, 4.0  # units of both layers, of the code, and what the points are divided by
FIRST_STEPS, STEPS, BATCH, LEARNING_RATE = 2000, 200, 100, 3e-3  # on real points, then in every generation


class Autoencoders:
    """x = SCALE decode(z) + SPREAD noise,  z ~ N(0, 1) in the plane; both networks have two hidden layers.

    The loss is the negative evidence lower bound [nats per point] (Kingma and Welling, arXiv 1312.6114):

        E_q |x - SCALE decode(z)|^2 / (2 SPREAD^2) + KL(q(z | x) | N(0, 1)),   q(z | x) = N(mean(x), exp(log_var(x)))
    """

    def __init__(self, seeds: int, rng: torch.Generator):
        sizes = [(2, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2)]
        self.weights = [torch.randn(seeds, m, n, generator=rng) / m**0.5 for m, n in sizes]
        self.biases = [torch.zeros(seeds, 1, n) for _, n in sizes]
        self.rng = rng
        for parameter in self.parameters:
            parameter.requires_grad_()

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.weights, *self.biases]

    def _layers(self, x: torch.Tensor, which: Sequence[int]) -> torch.Tensor:
        for i in which:
            x = torch.baddbmm(self.biases[i], x, self.weights[i])
            x = x if i == which[-1] else functional.silu(x)
        return x

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """(S,) mean over the points x (S, n, 2)."""
        mean, log_var = self._layers(x / SCALE, (0, 1, 2)).chunk(2, dim=-1)
        z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=self.rng)
        error = ((x - SCALE * self._layers(z, (3, 4, 5))) ** 2).sum(-1) / (2 * SPREAD**2)
        return (error + (mean**2 + log_var.exp() - 1 - log_var).sum(-1) / 2).mean(1)

    def fit(self, x: np.ndarray, steps: int) -> None:
        """Go on from these weights on points (S, n, 2); AdamW without decay, batches of BATCH, step size down to 0."""
        points, optimiser = torch.tensor(x, dtype=torch.float32), torch.optim.Adam(self.parameters)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            some = torch.randint(points.shape[1], (BATCH,), generator=self.rng)
            optimiser.zero_grad()
            self.loss(points[:, some]).sum().backward()
            optimiser.step()

    @torch.no_grad()
    def sample(self, n: int, kept: float) -> np.ndarray:
        """(S, n, 2) points of the likeliest share `kept` of the codes: |z|^2 <= -2 ln(1 - kept), as for a plane."""
        shape = (len(self.weights[0]), n)
        radius = (-2 * torch.log1p(-kept * torch.rand(shape, generator=self.rng))).sqrt()
        angle = 2 * np.pi * torch.rand(shape, generator=self.rng)
        z = radius[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)
        noise = SPREAD * torch.randn((*shape, 2), generator=self.rng)
        return (SCALE * self._layers(z, (3, 4, 5)) + noise).double().numpy()


def simulate_vae(
    sources: Sequence[Source], generations: int, chains: Mapping[str, Mapping[str, float]], *, seed: int
) -> dict[str, list[list[dict[str, float]]]]:
    """{chain: `Source.measures` of the POINTS of generations 1..G, of each source}: fitted, sampled and fitted again.

    Args:
        sources:     S truths, one for each autoencoder.
        generations: G.
        chains:      {name: kept, real_share as in `mixtures.simulate_mixture`}; all begin with the same weights.
        seed:        of the weights, the batches and all that is drawn; the same numbers for the same processor.
    """
    rng = np.random.default_rng(seed)
    first = Autoencoders(len(sources), torch.Generator().manual_seed(seed))

    def real(n: int) -> np.ndarray:
        return np.stack([source.truth.sample(n, rng) for source in sources])

    first.fit(real(10 * POINTS), FIRST_STEPS)
    found = {}
    for name, chain in chains.items():
        models, n_real = copy.deepcopy(first), round(chain.get("real_share", 0.0) * POINTS)
        found[name] = [[] for _ in sources]
        for _ in range(generations):
            x = np.concatenate([models.sample(POINTS - n_real, chain.get("kept", 1.0)), real(n_real)], axis=1)
            for rows, source, points in zip(found[name], sources, x, strict=True):
                rows.append(source.measures(points))
            models.fit(x, STEPS)
    return found
