"""The Generator: a language model that is asked in its own chat template to write, to explain and to label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from symbiosis.models.chat import answer_ids, chat_ids, check_chat, end_ids
from symbiosis.models.generation import Sampling, generate
from symbiosis.models.loading import LanguageModel
from symbiosis.models.ranks import all_reduce_sum, distributed
from symbiosis.models.scoring import label_log_probs, shorten, text_losses, token_losses, told_apart
from symbiosis.models.tokens import ended
from symbiosis.models.training import Steps, adapters, epochs_of, fit, token_weights
from symbiosis.prompts import Prompts, read_prompts
from symbiosis.settings import RunSettings


@dataclass(frozen=True)
class Generator:
    """A language model with the labels of its task. It never sees a label of the pool.

    Raises ChatError where its chat template cannot ask, LabelError where it cannot tell the labels apart.
    """

    lm: LanguageModel
    label_names: Sequence[str]
    settings: RunSettings

    def __post_init__(self):
        check_chat(self.lm.tokenizer)
        self.label_rows()

    folder = property(lambda self: Path(self.lm.model.config._name_or_path))
    n_weights = property(lambda self: self.lm.model.num_parameters())

    @property
    def prompts(self) -> Prompts:
        return read_prompts(self.settings.prompts)

    def names(self, labels: Sequence[int]) -> list[str]:
        return [self.label_names[i] for i in labels]

    def write_turns(self, labels: Sequence[int]) -> list[str]:
        """The user turns that ask for a text of each label."""
        return [self.prompts.write.format(label=name) for name in self.names(labels)]

    def shorten(self, texts: Sequence[str]) -> list[str]:
        return shorten(self.lm.tokenizer, texts, self.settings.max_length)

    def label_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """log p(label | text): (n, C) [nats]."""
        turns = [self.prompts.label_turn(text, self.label_names) for text in self.shorten(texts)]
        return label_log_probs(self.lm, chat_ids(self.lm.tokenizer, turns), self.label_rows(), self.settings)

    def label_rows(self) -> list[list[int]]:
        """Token rows of the label words as they answer the question for a label, see `told_apart`."""
        tokenizer, names = self.lm.tokenizer, self.label_names
        rows = answer_ids(tokenizer, [self.prompts.label_turn("x", names)] * len(names), names)
        return told_apart(tokenizer, rows, names, end_ids(tokenizer), "generator")

    def label_probs(self, texts: Sequence[str]) -> np.ndarray:
        """p(label | text): (n, C), rows sum to 1."""
        return np.exp(self.label_log_probs(texts))

    def answers(self, turns: Sequence[str], *, seed: int, samples: int = 1) -> list[str]:
        """`samples` texts per user turn, side by side, as they come."""
        rows = chat_ids(self.lm.tokenizer, turns)
        return generate(self.lm, rows, Sampling.of(self.settings), seed=seed, samples=samples)

    def fine_tune(self, asked: Sequence[str], answers: Sequence[str], *, seed: int, weights=None) -> list[dict]:
        """Learn (user turn, answer) pairs, in place; see `fine_tune`."""
        return fine_tune(self, list(asked), list(answers), seed=seed, weights=weights)

    def prefer(self, asked: Sequence[str], best: Sequence[str], worst: Sequence[str], *, seed: int) -> list[dict]:
        """Learn to prefer one of two answers, in place; see `prefer`."""
        return prefer(self, list(asked), list(best), list(worst), seed=seed)

    def kl_to(self, initial: LanguageModel, *, n: int, seed: int) -> float:
        """KL(Generator || initial) of written texts, estimated on n own samples [nats/token], >= 0 in the mean.

        mean over samples of the mean over tokens of log p(token) - log p0(token), label names asked in turn.
        """
        turns = self.write_turns(np.arange(n) % len(self.label_names))
        rows, lengths = self.answered(turns, self.answers(turns, seed=seed))
        now, then = (text_losses(lm, rows, lengths, self.settings) for lm in (self.lm, initial))
        return float((then - now).mean())

    def answered(self, asked: Sequence[str], answers: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Token rows `chat turn, answer, its end` and how many leading tokens are the turn; see `ended`."""
        tokenizer, limit = self.lm.tokenizer, self.settings.max_new_tokens
        turns, end = chat_ids(tokenizer, asked), end_ids(tokenizer)
        parts = zip(turns, answer_ids(tokenizer, asked, answers), answers, strict=True)
        rows = [turn + ended(body, text, limit, end) for turn, body, text in parts]
        return rows, [len(turn) for turn in turns]


@distributed
def fine_tune(generator: Generator, asked: list[str], answers: list[str], *, seed: int, weights=None) -> list[dict]:
    """Supervised fine-tuning, in place, on (user turn, answer) pairs.

        loss = sum_i w_i * nll_i / sum_i w_i * tokens_i      over the answers' tokens [nats/token]

    weights: (n,) of the pairs, 1 where None. With `generator_lora_rank` only adapters are trained, then merged.
    """
    rows, lengths = generator.answered(asked, answers)
    weight = torch.tensor(np.ones(len(rows)) if weights is None else weights, dtype=torch.float32)
    weight = weight.to(generator.lm.device)
    token_weight = token_weights(weight, rows, lengths)

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        asked_rows, prompt_lengths = [rows[i] for i in some], [lengths[i] for i in some]
        nll, row = token_losses(generator.lm, asked_rows, prompt_lengths, generator.settings)
        return {"loss": (nll * weight[some][row]).sum() / token_weight(batch)}

    with adapters(generator.lm.model, generator.settings.generator_lora_rank):
        return _fit(generator, losses, rows, seed)


@distributed
def prefer(generator: Generator, asked: list[str], best: list[str], worst: list[str], *, seed: int) -> list[dict]:
    """Direct preference optimisation, in place: of each prompt's two answers, more of the better one.

        loss = -log sigmoid(beta * [(log p(best) - log p0(best)) - (log p(worst) - log p0(worst))])

    log p is summed over the answer's tokens, p0 is the Generator as it was, beta `dpo_beta`. The step's history also
    holds `preferred`, the share of pairs whose bracket is positive. Rafailov et al. 2023, arXiv 2305.18290.
    """
    n, settings = len(asked), generator.settings
    rows, lengths = generator.answered([*asked, *asked], [*best, *worst])

    def log_p(batch) -> torch.Tensor:
        nll, row = token_losses(generator.lm, [rows[i] for i in batch], [lengths[i] for i in batch], settings)
        return -torch.zeros(len(batch), device=nll.device).index_add(0, row, nll)

    with torch.no_grad():
        chunks = np.array_split(np.arange(2 * n), -(-2 * n // settings.batch_size))
        before = torch.cat([log_p(chunk) for chunk in chunks])

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        both = np.concatenate([some, some + n])
        better, worse = (log_p(both) - before[both]).chunk(2)
        margin = better - worse
        total = all_reduce_sum(torch.tensor(float(len(batch)), device=margin.device))
        share = len(some) / total  # 1 where some is all
        loss = -logsigmoid(settings.dpo_beta * margin).mean()
        return {"loss": loss * share, "preferred": (margin > 0).float().mean() * share}

    with adapters(generator.lm.model, settings.generator_lora_rank):
        return _fit(generator, losses, rows[:n], seed)


def _fit(generator: Generator, losses: Callable, rows: list[list[int]], seed: int) -> list[dict]:
    settings = generator.settings
    batches = epochs_of([len(row) for row in rows], settings.batch_size, settings.generator_epochs, seed)
    steps = Steps.of("Generator", settings.generator_learning_rate, settings)
    return fit(generator.lm.model, losses, batches, steps)


# --- policy gradient -----------------------------------------------------------------------------------------------
POLICY_STEPS = 4  # AdamW steps over one round's drafts, each of which is learned from once


@distributed
def reinforce(generator: Generator, answered: tuple[list, list], advantages: np.ndarray, *, seed: int) -> list[dict]:
    """POLICY_STEPS steps up the expected advantage, in place: REINFORCE (Williams 1992) on the Generator's own answers.

        loss = -sum_i A_i * log p(answer_i | user turn_i) / sum_i tokens_i      over a batch [nats/token]

    answered: rows and prompt lengths of `Generator.answered`. A_i, (n,), may have either sign and holds the baseline
    and the KL term already; log p sums over the answer's tokens. No more than generation_batch_size are read at a time.
    """
    (rows, lengths), settings = answered, generator.settings
    gain = torch.tensor(advantages, dtype=torch.float32, device=generator.lm.device)
    n_tokens = token_weights(torch.ones_like(gain), rows, lengths)

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        nll, row = token_losses(generator.lm, [rows[i] for i in some], [lengths[i] for i in some], settings)
        return {"loss": (nll * gain[some][row]).sum() / n_tokens(batch)}

    batches = np.array_split(np.random.default_rng(seed).permutation(len(rows)), POLICY_STEPS)
    with adapters(generator.lm.model, settings.generator_lora_rank):
        parts = settings.gradient_accumulation_steps * -(-len(batches[0]) // settings.generation_batch_size)
        rate = settings.teach_speed * settings.generator_learning_rate
        steps = Steps("Generator", rate, sharding=settings.sharding, microbatches=parts)
        return fit(generator.lm.model, losses, batches, steps)
