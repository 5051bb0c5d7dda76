"""Influence: what one training text would do to the Student's dev loss, to first order, after an AdamW step.

One backward pass over the dev split gives a direction q in weight space; each candidate then costs two forward passes,
its loss at theta + q and at theta - q (a central difference), and no gradient of its own.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch.nn.functional import cross_entropy

from symbiosis.models.loading import batches_by_length, logit_scale, pad
from symbiosis.models.ranks import TrainingError
from symbiosis.models.scoring import shared_prefixes
from symbiosis.models.student import LessonRows, RowLosses, Student
from symbiosis.models.training import MAX_GRAD_NORM, WEIGHT_DECAY, bucketed_batches
from symbiosis.settings import derive_seed

BETAS, EPS = (0.9, 0.999), 1e-8  # torch's defaults, with which `training.fit` trains
STEP = 1e-3  # length of the move along q, both ways
DAMPING = 0.1  # of a tensor's mean squared gradient, see adamw_direction; chosen on the miniature's seeds 0 and 6
STEPS = 4  # next steps that are averaged: the true changes in two of them have a rank correlation of only 0.8
SQUARES = 8  # batches of a lesson whose gradients scale `teaching_direction`
CHECKED, TOLERANCE = 16, 0.05  # candidates scored again with half the STEP; allowed change, in spreads of the scores

Tensors = list[torch.Tensor]  # one per weight tensor of the Student


@dataclass(frozen=True)
class NextStep:
    """The optimiser step that a candidate would join: AdamW's state before it, and its batch."""

    m: Tensors  # first moments
    v: Tensors  # second moments
    t: int  # number of this step, from 1
    gradient: Tensors  # of the batch's loss, not yet clipped
    lesson: LessonRows
    batch: np.ndarray  # rows of the lesson

    @property
    def weight(self) -> torch.Tensor:
        return self.lesson.weight[self.batch]

    def losses(self) -> RowLosses:
        return self.lesson.row_losses(self.batch)


@dataclass(frozen=True)
class Influence:
    """What a training text would do to the Student's dev loss, if it joined one of the steps that come next.

    lesson: text, label, weight (label_probs); what the Student was taught last: it warms AdamW (see `next_step`) and
    gives the batches. dev: text, label. Everything is computed in fp32, and the Student is left as it was, to the bit.
    """

    student: Student
    lesson: Any
    dev: Any
    seed: int
    steps: int = STEPS

    def __post_init__(self):
        exact = self.student.settings.model_copy(update={"precision": "fp32"})
        object.__setattr__(self, "student", replace(self.student, settings=exact))

    def of(self, candidates) -> np.ndarray:
        """Change of the mean dev label loss per weight share of each candidate: (n,) [nats]; negative helps.

            s_z = d L_dev(theta+) / d share |_0 = -learning_rate * <q, grad l_z>,   share = weight of z / of the batch

        theta+ is where the next AdamW step takes the Student, q is `adamw_direction` (pulled back through the
        clipping), and l_z is how the batch's training loss changes when z joins the batch, with the batch's means A
        (label loss) and M (LM loss), its weight W and its weighted LM tokens N:

            l_z = (label_z - A) + lm_weight * (lm_z - tokens_z * M) * W / N

        so a text as good as the batch has influence 0, whatever its length. A candidate's own `weight` plays no part.
        What a text does depends on the step it joins: s is the mean over `steps` of them. Where z's gradient is long
        against the batch's, clipping cuts the whole step, and the order of texts holds better than the size.

        candidates: text, label. Raises TrainingError where halving the central difference's step changes the scores.
        Influence by gradients: Koh and Liang 2017, arXiv 1703.04730; through Adam: Xia et al. 2024, arXiv 2402.04333.
        The second term of q, its damping, l_z and the two forward passes are this project's choice.
        """
        q, step = self.mean_direction()
        rows = LessonRows(self.student, candidates)
        some = np.unique(np.linspace(0, rows.n - 1, CHECKED).astype(int))

        def joining(which: np.ndarray) -> Callable[[], np.ndarray]:
            return lambda: joining_losses(rows, which, step)

        slopes = directional_slopes(self.student, q, joining(np.arange(rows.n)), STEP)
        check_step(slopes, slopes[some], directional_slopes(self.student, q, joining(some), STEP / 2))
        return -self.student.settings.learning_rate * slopes

    def by_training(self, candidates, share: float) -> np.ndarray:
        """What `of` predicts (times `share`), by really training: (n,) [nats].

        For every candidate, from the same weights and the same AdamW state: one clipped AdamW step on the batch it has
        joined, and the dev loss after that step less the dev loss after the step without it; the mean over `steps`.
        """
        rows, settings = LessonRows(self.student, candidates), self.student.settings

        def dev_loss_after(step: NextStep, i: int, share: float) -> float:
            with restored(self.student) as theta:
                parts = [torch.cat(pair) for pair in zip(step.losses(), rows.row_losses(np.array([i])), strict=True)]
                weight = torch.cat([step.weight, share * step.weight.sum()[None]])
                train_step(self.student, theta, step, batch_loss(parts, weight, settings.lm_weight))
                with torch.inference_mode():
                    return sum(x.item() for x in dev_losses(self.student, self.dev))

        changes = np.zeros(rows.n)
        for k in range(self.steps):
            step = self.step(k)
            without = dev_loss_after(step, 0, 0.0)
            changes += [dev_loss_after(step, i, share) - without for i in range(rows.n)]
        return changes / self.steps

    def step(self, k: int) -> NextStep:
        return next_step(self.student, self.lesson, seed=derive_seed(self.seed, k, "step"))

    def mean_direction(self) -> tuple[Tensors, NextStep]:
        """q averaged over `steps` next steps, and the last of them with the batches of all as its batch."""
        mean, batches = [torch.zeros_like(p) for p in self.student.lm.model.parameters()], []
        for k in range(self.steps):
            step = self.step(k)
            for total, x in zip(mean, dev_direction(self.student, step, self.dev), strict=True):
                total += x.detach() / self.steps
            batches.append(step.batch)
        return mean, replace(step, batch=np.concatenate(batches))


def gradient_norm(student: Student, texts: Sequence[str]) -> np.ndarray:
    """Length of the label loss's gradient at the Student's own likeliest label, by the head's label rows: (n,), >= 0.

        |grad| = |p - e_y| * s |h|,   p = p(label | text), y = argmax p, h the last hidden state before the label word,
                                      s what the model multiplies its head's output by

    In closed form, without a backward pass; exact where label words are one token each, else each counts as one class.
    Small for what the Student is sure of. The hallucinated label: BADGE, Ash et al. 2020, arXiv 1906.03671; gradient
    length as a signal: Settles, Craven and Ray 2008.
    """
    p = np.exp(student.label_log_probs(texts))
    residual = np.linalg.norm(p - np.eye(p.shape[1])[p.argmax(1)], axis=1)
    return residual * logit_scale(student.lm) * _hidden_norms(student, student.questions(texts))


@torch.inference_mode()
def _hidden_norms(student: Student, rows: Sequence[Sequence[int]]) -> np.ndarray:
    norms, (model, tokenizer) = np.zeros(len(rows)), student.lm
    for batch in batches_by_length([len(row) for row in rows], student.settings.generation_batch_size):
        inputs = pad(tokenizer, [rows[i] for i in batch], left=True, device=model.device)
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[:, -1]
        norms[batch] = hidden.float().norm(dim=1).cpu().numpy()
    return norms


# --- the step a candidate would join -------------------------------------------------------------------------------
def next_step(student: Student, lesson, *, seed: int) -> NextStep:
    """One pass over the lesson at fixed weights: all batches but the last warm AdamW's moments, the last is the step's.

    This stands for a step in the middle of training. A fresh AdamW would not do: its first step has the same length
    whatever the gradient's, so that to first order no text has an influence. A lesson of one batch warms with itself.
    """
    student.lm.model.eval()
    rows, settings = LessonRows(student, lesson), student.settings
    *before, last = bucketed_batches(rows.lengths, settings.batch_size, np.random.default_rng(seed))
    m, v = ([torch.zeros_like(p) for p in student.lm.model.parameters()] for _ in range(2))

    def gradient(batch: np.ndarray) -> Tensors:
        return _gradient(batch_loss(rows.row_losses(batch), rows.weight[batch], settings.lm_weight), student)

    for batch in before or [last]:
        for m_p, v_p, g in zip(m, v, clipped(gradient(batch)), strict=True):
            m_p.lerp_(g, 1 - BETAS[0])
            v_p.lerp_(g.square(), 1 - BETAS[1])
    return NextStep(m, v, max(len(before), 1) + 1, gradient(last), rows, last)


def train_step(student: Student, theta: Tensors, step: NextStep, loss: torch.Tensor) -> None:
    """Move the Student, which stands at theta, by one AdamW step down `loss`, with the moments of `step`."""
    weights = list(student.lm.model.parameters())
    optimizer = torch.optim.AdamW(
        weights, lr=student.settings.learning_rate, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY
    )
    for p, start, m, v, g in zip(weights, theta, step.m, step.v, clipped(_gradient(loss, student)), strict=True):
        p.data.copy_(start)
        p.grad = g
        optimizer.state[p] = {"step": torch.tensor(float(step.t - 1)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def clipped(gradient: Tensors) -> Tensors:
    """The gradient, its total length cut to MAX_GRAD_NORM as in training."""
    factor = (MAX_GRAD_NORM / (total_norm(gradient) + 1e-6)).clamp(max=1.0)  # torch.nn.utils.clip_grad_norm_'s 1e-6
    return [g * factor for g in gradient]


def total_norm(tensors: Tensors) -> torch.Tensor:
    return torch.stack([x.norm() for x in tensors]).norm()


def _gradient(loss: torch.Tensor, student: Student) -> Tensors:
    return list(torch.autograd.grad(loss, list(student.lm.model.parameters())))


@contextlib.contextmanager
def restored(student: Student) -> Iterator[Tensors]:
    """The weights as they are; when the block ends, well or not, the Student has them again, to the bit."""
    theta = [p.detach().clone() for p in student.lm.model.parameters()]
    try:
        yield theta
    finally:
        for p, start in zip(student.lm.model.parameters(), theta, strict=True):
            p.data.copy_(start)


# --- the direction -------------------------------------------------------------------------------------------------
def dev_direction(student: Student, step: NextStep, dev) -> Tensors:
    """q of `Influence.of`: d L_dev(theta+) / d (gradient of the batch), divided by -learning_rate."""
    with restored(student) as theta:
        train_step(student, theta, step, batch_loss(step.losses(), step.weight, student.settings.lm_weight))
        total = dev_gradient(student, dev)
    parts = zip(total, step.m, step.v, clipped(step.gradient), strict=True)
    q = [adamw_direction(d, (m, v, step.t), g, damping=DAMPING) for d, m, v, g in parts]
    return through_clipping(q, step.gradient)


def dev_gradient(student: Student, dev) -> Tensors:
    """Gradient of the sum of `dev_losses`, at the weights as they are."""
    total = [torch.zeros_like(p) for p in student.lm.model.parameters()]
    for loss in dev_losses(student, dev):
        for part, g in zip(total, _gradient(loss, student), strict=True):
            part += g
    return total


def teaching_direction(student: Student, lesson, dev) -> Tensors:
    """q with which <q, grad l> is how much a small step on a text of loss l lowers the dev loss, over the step's size.

        q = grad L_dev / sqrt(mean_b g_b^2 + DAMPING * its mean over the tensor),   g_b: gradients of SQUARES batches

    As `adamw_direction` long after the moments have warmed up, without momentum and clipping: no step is singled out.
    """
    rows, settings = LessonRows(student, lesson), student.settings
    batches = bucketed_batches(rows.lengths, settings.batch_size, np.random.default_rng(0))[:SQUARES]
    squares = [torch.zeros_like(p) for p in student.lm.model.parameters()]
    for batch in batches:
        loss = batch_loss(rows.row_losses(batch), rows.weight[batch], settings.lm_weight)
        for total, g in zip(squares, _gradient(loss, student), strict=True):
            total += g.square() / len(batches)
    parts = zip(dev_gradient(student, dev), squares, strict=True)
    return [d / (v + DAMPING * v.mean()).sqrt().clamp(min=EPS) for d, v in parts]


def adamw_direction(
    dev_gradient: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor, int], g: torch.Tensor, *, damping: float = 0.0
) -> torch.Tensor:
    """q with d L(theta+)/d w = -lr * <q, g_z> when the AdamW step's gradient is g + w * g_z, at w = 0; all (P,).

        q = grad L(theta+) * [c1 / D - c2 * m^ * g / (s * D^2)],   s = sqrt(v^ + damping * mean(v^)),   D = s + eps
        c1 = (1 - beta1) / (1 - beta1^t),   c2 = (1 - beta2) / (1 - beta2^t),   elementwise

    dev_gradient is grad L(theta+); state is (m, v, t), the moments before step t; m^, v^ are corrected, after it. The
    exact derivative at damping 0. There a weight that the lesson never touched (the embedding of a word not in it) has
    s = 0 and a slope of 1/eps, although a real step along it is bounded; the damping, in shares of the mean over the
    weights that were touched, replaces that slope by one that holds for steps of ordinary size. Weight decay drops out.
    """
    (m, v, t), betas = state, BETAS
    c1, c2 = (1 - betas[0]) / (1 - betas[0] ** t), (1 - betas[1]) / (1 - betas[1] ** t)
    m_hat = betas[0] * m / (1 - betas[0] ** t) + c1 * g
    v_hat = betas[1] * v / (1 - betas[1] ** t) + c2 * g.square()
    touched = (v_hat > 0).sum().clamp(min=1)
    s = (v_hat + damping * v_hat.sum() / touched).sqrt()
    d = s + EPS
    never_zero = torch.finfo(s.dtype).tiny
    return dev_gradient * (c1 / d - c2 * m_hat * g / s.clamp(min=never_zero) / d.square())


def through_clipping(q: Tensors, gradient: Tensors) -> Tensors:
    """q pulled back through g -> MAX_GRAD_NORM * g / |g|: its part along g vanishes, the rest shrinks like g.

    q' = (q - u <u, q>) * MAX_GRAD_NORM / |g|,   u = g / |g|;   q itself where the gradient is short enough
    """
    norm = total_norm(gradient)
    if norm <= MAX_GRAD_NORM:
        return q
    along = sum((x * g).sum() for x, g in zip(q, gradient, strict=True)) / norm.square()
    return [(x - along * g) * (MAX_GRAD_NORM / norm) for x, g in zip(q, gradient, strict=True)]


def directional_slopes(student: Student, q: Tensors, losses: Callable[[], np.ndarray], size: float) -> np.ndarray:
    """<q, grad l_z> of each of losses(): (n,), by a central difference over theta +- size * q / |q|."""
    norm, ends = total_norm(q).item(), []
    with restored(student) as theta, torch.inference_mode():
        for sign in (1, -1):
            for p, start, x in zip(student.lm.model.parameters(), theta, q, strict=True):
                p.data.copy_(start + (sign * size / norm) * x)
            ends.append(losses())
    return (ends[0] - ends[1]) * norm / (2 * size)


def check_step(slopes: np.ndarray, full: np.ndarray, half: np.ndarray) -> None:
    """Raise TrainingError where the slopes at half the step are not those at the full one, up to TOLERANCE spreads."""
    spread = max(slopes.std(), 0.1 * np.sqrt(np.mean(slopes**2)))  # texts all alike have no spread of their own
    worst = np.abs(half - full).max()
    if not worst <= TOLERANCE * spread:  # also where one is nan
        raise TrainingError(
            f"influence: half the step along the dev gradient changes the scores by {worst / spread:.1%} of their "
            f"spread, more than {TOLERANCE:.0%}; the loss is too rough at this point for a first order: lower "
            "learning_rate or raise lesson_size, or choose another feedback or generator_update"
        )


# --- losses --------------------------------------------------------------------------------------------------------
def batch_loss(parts: Sequence[torch.Tensor], weight: torch.Tensor, lm_weight: float) -> torch.Tensor:
    """label_loss + lm_weight * lm_loss of a batch, from its RowLosses and the rows' weights (b,), as in training."""
    label, lm, tokens = parts
    return (label @ weight) / weight.sum() + lm_weight * (lm @ weight) / (tokens @ weight)


def joining_losses(rows: LessonRows, which: np.ndarray, step: NextStep) -> np.ndarray:
    """l_z of `Influence.of` for the candidates `which`, at the weights as they are: (n,) [nats]."""
    settings = rows.student.settings
    label, lm, tokens = (x.detach().double() for x in step.losses())
    weight = step.weight.double()
    n_tokens, losses = tokens @ weight, np.zeros(len(which))
    mean_label, mean_lm = (label @ weight) / weight.sum(), (lm @ weight) / n_tokens
    for batch in batches_by_length([rows.lengths[i] for i in which], settings.generation_batch_size):
        label, lm, tokens = (x.detach().double() for x in rows.row_losses(which[batch]))
        in_lm = (lm - tokens * mean_lm) * weight.sum() / n_tokens
        losses[batch] = (label - mean_label + settings.lm_weight * in_lm).cpu().numpy()
    return losses


def dev_losses(student: Student, dev) -> Iterator[torch.Tensor]:
    """Parts, batch by batch, that sum to the mean -log p(label | text) of dev [nats], as in `Student.evaluate`.

    Each part can be differentiated on its own, so that only one batch's activations are held. Under `dev_loss:
    calibrated` p is softmax(e^k * score + b) with the `calibration` (k, b) of these very rows.
    """
    rows, labels = student.questions(dev["text"]), torch.tensor(dev["label"], device=student.lm.device)
    batches = batches_by_length([len(row) for row in rows], 2 * student.settings.batch_size)  # a lesson's row is two
    scale, bias = 1.0, 0.0
    if student.settings.dev_loss == "calibrated":
        scale, bias = _calibrated(student, rows, labels, batches)
    for batch in batches:
        scores = scale * label_scores(student, [rows[i] for i in batch]) + bias
        yield cross_entropy(scores, labels[batch], reduction="sum") / len(rows)


def _calibrated(student: Student, rows, labels: torch.Tensor, batches) -> tuple[float, torch.Tensor]:
    with torch.no_grad():
        scores = torch.cat([label_scores(student, [rows[i] for i in batch]) for batch in batches])
    order = np.concatenate(batches)
    k, bias = calibration(scores.double().cpu().numpy(), labels.cpu().numpy()[order])
    return float(np.exp(k)), torch.tensor(bias, dtype=scores.dtype, device=scores.device)


def calibration(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The k and b (C,) under which labels (n,) are likeliest given scores (n, C): temperature and bias scaling.

        min over k, b of  mean_i -log softmax(e^k * scores_i + b)[label_i],      |k| <= 3, |b_c| <= 5

    by L-BFGS. How sure a model is then no longer counts, only what it can tell apart: the plain loss of an over-sure
    Student falls when texts with wrong labels make it less sure. The loss's gradient in the model's weights is taken
    at fixed (k, b), which is exact: at the minimum the loss does not move with them (envelope theorem). Guo et al.
    2017, arXiv 1706.04599; the bounds, which hold where labels are told apart without an error, are ours.
    """
    n, n_classes = scores.shape
    hit = np.eye(n_classes)[labels]
    scores = scores - scores.mean(1, keepdims=True)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = log_softmax(np.exp(x[0]) * scores + x[1:], axis=1)
        residual = (np.exp(log_p) - hit) / n
        return -log_p[hit > 0].mean(), np.append((residual * scores).sum() * np.exp(x[0]), residual.sum(0))

    bounds = [(-3, 3)] + [(-5, 5)] * n_classes
    x = minimize(loss, np.zeros(1 + n_classes), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(x[0]), x[1:]


def label_scores(student: Student, questions: Sequence[Sequence[int]]) -> torch.Tensor:
    """log p of each label word after each question, not normalised over the labels: (n, C) [nats], differentiable."""
    (model, tokenizer), labels, scores = student.lm, student.label_rows(), {}
    for prefix, columns in shared_prefixes(labels, nested=False).items():
        inputs = pad(tokenizer, [[*question, *prefix] for question in questions], left=True, device=model.device)
        log_p = model(**inputs, logits_to_keep=len(prefix) + 1).logits.log_softmax(-1)
        shared = sum(log_p[:, j, token] for j, token in enumerate(prefix))
        scores |= {column: shared + log_p[:, -1, labels[column][-1]] for column in columns}
    return torch.stack([scores[column] for column in range(len(labels))], dim=1)
