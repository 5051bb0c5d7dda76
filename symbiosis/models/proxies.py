"""Quick Students, a linear model over fixed vectors of texts: they try a lesson in seconds, to design it by.

`student: probe`   vectors are the initial Generator's last hidden states behind the Student's question
`student: minilm`  vectors are those of the MiniLM sentence encoder, another network than the labeller's

A proxy only says labels: it writes nothing and predicts no text. What a text does to it is known in closed form, see
`values`. What it says of a lesson is a first look; two proxies that disagree have told that the answer is theirs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import log_softmax, softmax

from symbiosis.models import encoders, loading
from symbiosis.models.fast import cast_linears
from symbiosis.models.loading import autocast, batches_by_length, pad
from symbiosis.models.student import Student, label_probs, soft_label
from symbiosis.settings import RunSettings
from symbiosis.store.folders import atomic_folder

FITS = {  # units of hidden states differ in size by orders; sentence vectors have length 1
    "probe": {"strength": 0.01, "standardise": True},
    "minilm": {"strength": 3.0, "standardise": False},
}


class Rows(NamedTuple):
    """A lesson as a head reads it: vectors (n, d), labels, soft or certain, (n, C), and weights (n,) >= 0."""

    x: np.ndarray
    q: np.ndarray
    w: np.ndarray


@dataclass(frozen=True)
class Head:
    """log p(c | x) = log_softmax_c(weight (x - mean) / scale + bias); weight (C, d), bias (C,), mean and scale (d,)."""

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    def log_probs(self, vectors: np.ndarray) -> np.ndarray:
        return log_softmax((vectors - self.mean) / self.scale @ self.weight.T + self.bias, axis=1)

    def inputs(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d + 1) what weight and bias multiply."""
        return np.column_stack([(vectors - self.mean) / self.scale, np.ones(len(vectors))])


def fit_head(x: np.ndarray, q: np.ndarray, w: np.ndarray, strength: float, *, standardise: bool) -> Head:
    """Multinomial logistic regression with an L2 penalty, by L-BFGS in float64: the same bits for the same rows.

        sum_i w_i sum_c -q_ic log p_ic + |weight|^2 / (2 strength)  ->  min        [nats]; the bias is free

    x: (n, d) vectors. q: (n, C) labels, soft or certain. w: (n,) weights >= 0. The optimum is one point, up to a
    constant in the bias, so it depends on no start, order or seed. With `standardise` the lesson's own weighted mean
    and standard deviation are taken out first.
    """
    n_classes, d, mean, scale = q.shape[1], x.shape[1], np.zeros(x.shape[1]), np.ones(x.shape[1])
    if standardise and w.sum():
        mean = w @ x / w.sum()
        scale = np.sqrt(w @ (x - mean) ** 2 / w.sum())
        scale[scale < 1e-12] = 1.0
    z = (x - mean) / scale

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = theta[: n_classes * d].reshape(n_classes, d), theta[n_classes * d :]
        log_p = log_softmax(z @ weight.T + bias, axis=1)
        residual = w[:, None] * (np.exp(log_p) - q)
        gradient = np.concatenate([(residual.T @ z + weight / strength).ravel(), residual.sum(0)])
        return -(w[:, None] * q * log_p).sum() + (weight**2).sum() / (2 * strength), gradient

    how = {"maxiter": 5000, "maxfun": 10000, "ftol": 0.0, "gtol": 1e-7 * max(1.0, w.sum())}
    theta = minimize(loss, np.zeros(n_classes * (d + 1)), jac=True, method="L-BFGS-B", options=how).x
    return Head(theta[: n_classes * d].reshape(n_classes, d), theta[n_classes * d :], mean, scale)


def values(head: Head, lesson: Rows, drafts: Rows, gradient: np.ndarray, strength: float) -> np.ndarray:
    """How much a little more weight of each draft in the lesson lowers a loss L of the head that is fitted to it.

        v_i = <H^-1 grad L, grad l_i> = -d L / d w_i        (m,) [nats per row]

    H: the Hessian of `fit_head`'s objective at its optimum, l_i: the label loss of draft i. gradient: grad L in weight
    and bias, (C, d + 1). To first order what fitting again would do, mean and scale held as they are. Influence
    functions: Koh and Liang 2017, arXiv 1703.04730.
    """
    z, p = head.inputs(lesson.x), np.exp(head.log_probs(lesson.x))
    penalty = np.append(np.full(z.shape[1] - 1, 1 / strength), 0.0)  # the bias is free

    def hessian(v: np.ndarray) -> np.ndarray:
        v = v.reshape(gradient.shape)
        s = p * (z @ v.T)
        return ((lesson.w[:, None] * (s - p * s.sum(1, keepdims=True))).T @ z + penalty * v).ravel()

    # one constant in all biases changes nothing, which neither H nor a gradient ever asks for
    operator = LinearOperator((gradient.size, gradient.size), matvec=hessian, dtype=float)
    direction, _ = cg(operator, gradient.ravel(), rtol=1e-8)
    residual = np.exp(head.log_probs(drafts.x)) - drafts.q
    return (residual * (head.inputs(drafts.x) @ direction.reshape(gradient.shape).T)).sum(1)


def held_out_gradient(head: Head, held: Rows, scale: float, bias: np.ndarray) -> tuple[np.ndarray, float]:
    """Gradient (C, d + 1), in weight and bias, of held-out rows' mean -log softmax(scale * log p + bias), and that."""
    log_p, w = scale * head.log_probs(held.x) + bias, held.w / held.w.sum()
    gradient = scale * (w[:, None] * (softmax(log_p, axis=1) - held.q)).T @ head.inputs(held.x)
    return gradient, float(-(w[:, None] * held.q * log_softmax(log_p, axis=1)).sum())


class Vectors:
    """texts -> (n, d) float64, those of a split read once, all together.

    A vector's last bits depend on the texts it is read beside, so what is remembered is never a part of a call: a run
    that continues reads what an unbroken one has read.
    """

    def __init__(self, read: Callable[[Sequence[str]], np.ndarray], splits: Iterable[Sequence[str]] = ()):
        self.read, self.unread, self.known = read, [dict.fromkeys(split) for split in splits], {}
        self.width = read(["a"]).shape[1]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        for split in [split for split in self.unread if not split.keys().isdisjoint(texts)]:
            self.unread.remove(split)
            self.known |= zip(split, self.read(list(split)), strict=True)
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        found = self.known | dict(zip(new, self.read(new) if new else [], strict=True))
        return np.array([found[text] for text in texts], dtype=float).reshape(len(texts), self.width)


@dataclass
class ProxyStudent:
    """A Student as the loop sees one: taught, asked, tested, saved. Of a lesson only its labels are learned.

    A lesson is fitted alone, from nothing: what earlier ones taught is gone unless `mixing` teaches it again. Before
    the first, every label is as likely as any other.
    """

    label_names: Sequence[str]
    settings: RunSettings
    vectors: Vectors
    behind: Path  # the folder of the network that makes the vectors
    asker: Student | None = None  # of the probe: the Generator, asked as a Student is
    head: Head | None = None

    @classmethod
    def make(cls, names: Sequence[str], settings: RunSettings, splits=(), asker: Student | None = None):
        """The `student` of the settings; `splits` are the texts of which it will see any number again and again."""
        if settings.student == "probe":
            return cls(names, settings, Vectors(lambda texts: cue_states(asker, texts), splits), asker.folder, asker)
        how = {"device": settings.device, "max_length": settings.max_length, "precision": settings.precision}
        return cls(
            names, settings, Vectors(encoders.load(encoders.SENTENCES, **how), splits), loading.find(encoders.SENTENCES)
        )

    folder = property(lambda self: self.behind)
    device = property(lambda self: loading.pick_device(self.settings.device))
    n_weights = property(lambda self: len(self.label_names) * (self.vectors.width + 1))

    def learn(self, lesson, *, seed: int) -> list[dict]:
        """Step B, in place: one fit, which no seed changes; its weighted mean label loss [nats]."""
        x, q, w = rows = self.rows(lesson)
        self.head = fit_head(*rows, **FITS[self.settings.student])
        loss = float(-(w[:, None] * q * self.head.log_probs(x)).sum() / w.sum())
        return [{"loss": loss, "label_loss": loss, "lm_loss": np.nan}]

    def rows(self, lesson) -> Rows:
        """A lesson, or held-out rows of weight 1, as the head reads them."""
        n_classes, texts = len(self.label_names), lesson["text"][:]
        labels = map(soft_label, zip(lesson["label"], label_probs(lesson), strict=True))
        q = np.array([[soft.get(c, 0.0) for c in range(n_classes)] for soft in labels])
        weighted = "weight" in lesson.column_names
        return Rows(self.vectors(texts), q, np.array(lesson["weight"] if weighted else np.ones(len(q)), dtype=float))

    def label_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """log p(label | text): (n, C) [nats]."""
        if self.head is None:
            return np.full((len(texts), len(self.label_names)), -np.log(len(self.label_names)))
        return self.head.log_probs(self.vectors(texts[:]))

    def evaluate(self, rows) -> dict[str, np.ndarray]:
        """As `Student.evaluate`; `lm_loss` is nan: no text is predicted."""
        labels, log_p = np.array(rows["label"]), self.label_log_probs(rows["text"])
        label_loss = -log_p[np.arange(len(labels)), labels]
        return {"correct": log_p.argmax(1) == labels, "label_loss": label_loss, "lm_loss": np.full(len(labels), np.nan)}

    def save(self, folder: Path) -> None:
        """The head as safetensors; the folder appears complete or not at all."""
        with atomic_folder(folder) as temporary:
            save_file(dict(vars(self.head)), temporary / "head.safetensors")

    def load(self, folder: Path) -> "ProxyStudent":
        """This Student with the head of a folder that `save` has written."""
        return ProxyStudent(**vars(self) | {"head": Head(**load_file(folder / "head.safetensors"))})


@torch.inference_mode()
def cue_states(asker: Student, texts: Sequence[str]) -> np.ndarray:
    """(n, d) the last hidden state, as the head sees it, at the last token of each text's question."""
    (lm, settings), rows = (asker.lm, asker.settings), asker.questions(texts)
    model, states = cast_linears(lm.model, settings.precision), {}
    for batch in batches_by_length([len(row) for row in rows], settings.generation_batch_size):
        inputs = pad(lm.tokenizer, [rows[i] for i in batch], left=True, device=lm.device)
        with autocast(model, settings.precision):
            hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state[:, -1]
        states |= zip(batch, hidden.float().cpu().numpy(), strict=True)
    return np.stack([states[i] for i in range(len(rows))])
