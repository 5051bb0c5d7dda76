"""The Generator: a language model that is asked to write, to explain and to label.

It is asked in turns of its own chat template or, as the prompts say, by plain texts that it goes on from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from symbiosis.models import scoring
from symbiosis.models.chat import answer_ids, chat, chat_ids, check_chat, end_ids
from symbiosis.models.generation import generate
from symbiosis.models.loading import LanguageModel
from symbiosis.models.ranks import all_reduce_sum, distributed
from symbiosis.models.sampling import Sampling
from symbiosis.models.scoring import LabelWords, answer_losses, beginnings, calibrated, summed, token_losses
from symbiosis.models.student import Role
from symbiosis.models.tokens import continued, ended, start_ids, token_ids
from symbiosis.models.training import Steps, adapters, epochs_of, fit, token_weights, upper_layers
from symbiosis.prompts import SEPARATOR, Beginning

POLICY_STEPS = 4  # AdamW steps over one round's drafts, each of which is learned from once


@dataclass(frozen=True)
class Generator(Role):
    """Who writes, explains and labels, and never sees a label of the pool.

    Raises ChatError where its chat template cannot ask, LabelError where it cannot tell the labels apart.
    """

    reference: Sequence[float] | None = None  # what its label beliefs are calibrated by (C,) [nats], see `calibrated`

    def __post_init__(self):
        check_chat(self.lm.tokenizer)
        self.label_words()

    def names(self, labels: Sequence[int]) -> list[str]:
        return [self.label_names[i] for i in labels]

    def write_turns(self, labels: Sequence[int]) -> list[str]:
        """What asks for a text of each label: user turns, or Beginnings."""
        return self.prompts.write_turns(self.names(labels))

    def shorten(self, texts: Sequence[str]) -> list[str]:
        return scoring.shorten(self.lm.tokenizer, texts, self.settings.max_length)

    # --- labels ---

    def label_turn(self, text: str) -> str:
        """What asks for the label of a text: a user turn, or a Beginning."""
        if self.prompts.label_format == "completion":
            return Beginning(self.prompts.label_completion.format(text=text))
        return self.prompts.label_turn(text, self.label_names)

    def label_words(self) -> LabelWords:
        """The label words as they answer the question for a label, see `told_apart`."""
        words, classes = self.prompts.words_of(self.label_names)
        turns = [self.label_turn("x")] * len(words)
        found = LabelWords(self.body_ids(turns, words), classes)
        return scoring.told_apart(self.lm.tokenizer, found, words, self.end_ids(turns), "generator")

    def label_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """log p(label | text), summed over the words of each label, calibrated by the `reference`: (n, C) [nats]."""
        words, turns = self.label_words(), [self.label_turn(text) for text in self.shorten(texts)]
        log_p = scoring.label_log_probs(self.lm, self.asked_ids(turns), words.rows, self.settings)
        return calibrated(summed(log_p, words.classes), self.reference)

    def label_probs(self, texts: Sequence[str]) -> np.ndarray:
        """p(label | text): (n, C), rows sum to 1."""
        return np.exp(self.label_log_probs(texts))

    # --- texts ---

    def asked_ids(self, turns: Sequence[str]) -> list[list[int]]:
        """Token rows of what it is asked: user turns in its chat template, or Beginnings as the plain text they are."""
        if not plain(turns):
            return chat_ids(self.lm.tokenizer, turns)
        return [start_ids(self.lm.tokenizer) + ids for ids in token_ids(self.lm.tokenizer, turns)]

    def body_ids(self, turns: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """Token ids of each answer where it stands behind its turn; behind a Beginning it begins with a blank."""
        if not plain(turns):
            return answer_ids(self.lm.tokenizer, turns, answers)
        return continued(self.lm.tokenizer, turns, [f" {answer}" for answer in answers])[1]

    def end_ids(self, turns: Sequence[str]) -> list[int]:
        """What ends an answer to such turns."""
        return token_ids(self.lm.tokenizer, [SEPARATOR])[0] if plain(turns) else end_ids(self.lm.tokenizer)

    def read(self, turn: str) -> str:
        """The turn as the Generator reads it, without what begins a document."""
        return str(turn) if plain([turn]) else chat(self.lm.tokenizer, turn)

    def answers(self, turns: Sequence[str], *, seed: int, samples: int = 1) -> list[str]:
        """`samples` texts per turn, side by side, as they come; from Beginnings up to the first of the `stops`."""
        sampling = Sampling.of(self.settings)
        if plain(turns):
            sampling = replace(sampling, stops=self.prompts.stops)
        return generate(self.lm, self.asked_ids(turns), sampling, seed=seed, samples=samples)

    def kl_to(self, initial: LanguageModel, *, n: int, seed: int) -> float:
        """KL(Generator || initial) of written texts, estimated on n own samples [nats/token], >= 0 in the mean.

        mean over samples of the mean over tokens of log p(token) - log p0(token), label names asked in turn.
        """
        turns = self.write_turns(np.arange(n) % len(self.label_names))
        rows, lengths = self.answered(turns, self.answers(turns, seed=seed))
        now, then = (scoring.mean_answer_losses(lm, rows, lengths, self.settings) for lm in (self.lm, initial))
        return float((then - now).mean())

    def answered(self, asked: Sequence[str], answers: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Token rows `turn, answer, its end` and how many leading tokens are the turn; see `ended`."""
        turns, end, limit = self.asked_ids(asked), self.end_ids(asked), self.settings.max_new_tokens
        parts = zip(turns, self.body_ids(asked, answers), answers, strict=True)
        rows = [turn + ended(body, text, limit, end) for turn, body, text in parts]
        return rows, [len(turn) for turn in turns]

    # --- what it learns: in place, in as many ranks as the settings ask for; each step's losses come back. With
    # `generator_lora_rank` only adapters are trained, then merged. ---

    @distributed
    def fine_tune(self, asked: Sequence[str], answers: Sequence[str], *, seed: int, weights=None) -> list[dict]:
        """Supervised fine-tuning on (user turn, answer) pairs.

            loss = sum_i w_i * nll_i / sum_i w_i * tokens_i      over the answers' tokens [nats/token]

        weights: (n,) of the pairs, 1 where None.
        """
        rows, lengths = self.answered(asked, answers)
        weight = torch.tensor(np.ones(len(rows)) if weights is None else weights, dtype=torch.float32)
        weight = weight.to(self.lm.device)
        token_weight = token_weights(weight, rows, lengths)

        def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
            nll, row = self._token_losses(rows, lengths, some)
            return {"loss": (nll * weight[some][row]).sum() / token_weight(batch)}

        return self._fit(losses, rows, seed)

    @distributed
    def prefer(self, asked: Sequence[str], best: Sequence[str], worst: Sequence[str], *, seed: int) -> list[dict]:
        """Direct preference optimisation: of each prompt's two answers, more of the better one.

            loss = -log sigmoid(beta * [(log p(best) - log p0(best)) - (log p(worst) - log p0(worst))])

        log p is summed over the answer's tokens, p0 is the Generator as it was, beta `dpo_beta`. The step's history
        also holds `preferred`, the share of pairs whose bracket is positive. Rafailov et al. 2023, arXiv 2305.18290.
        """
        n, settings = len(asked), self.settings
        rows, lengths = self.answered([*asked, *asked], [*best, *worst])

        def log_p(batch) -> torch.Tensor:
            nll, row = self._token_losses(rows, lengths, batch)
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

        return self._fit(losses, rows[:n], seed)

    @distributed
    def reinforce(self, answered: tuple[list, list], advantages: np.ndarray, *, seed: int) -> list[dict]:
        """POLICY_STEPS steps up the expected advantage: REINFORCE (Williams 1992) on the Generator's own answers.

            loss = -sum_i A_i * log p(answer_i | user turn_i) / sum_i tokens_i      over a batch [nats/token]

        answered: rows and prompt lengths of `answered`. A_i, (n,), may have either sign and holds the baseline and the
        KL term already; log p sums over the answer's tokens. No more than generation_batch_size are read at a time.
        Only the last `teach_layers` layers learn, where that is not 0. For the batches see `policy_batches`.
        """
        (rows, lengths), settings = answered, self.settings
        gain = torch.tensor(advantages, dtype=torch.float32, device=self.lm.device)
        n_tokens = token_weights(torch.ones_like(gain), rows, lengths)

        def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
            own = [rows[i] for i in some], [lengths[i] for i in some]
            nll, row = answer_losses(self.lm, *own, settings)
            return {"loss": (nll * gain[some][row]).sum() / n_tokens(batch)}

        batches = policy_batches([row[:n] for row, n in zip(rows, lengths, strict=True)], seed)
        parts = settings.gradient_accumulation_steps * -(-max(map(len, batches)) // settings.generation_batch_size)
        rate = settings.teach_speed * settings.generator_learning_rate
        steps = Steps("Generator", rate, sharding=settings.sharding, microbatches=parts)
        with adapters(self.lm.model, settings.generator_lora_rank), upper_layers(self.lm.model, settings.teach_layers):
            return fit(self.lm.model, losses, batches, steps)

    def _token_losses(self, rows: list, lengths: list, some: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return token_losses(self.lm, [rows[i] for i in some], [lengths[i] for i in some], self.settings)

    def _fit(self, losses: Callable, rows: list[list[int]], seed: int) -> list[dict]:
        settings = self.settings
        batches = epochs_of([len(row) for row in rows], settings.batch_size, settings.generator_epochs, seed)
        steps = Steps.of("Generator", settings.generator_learning_rate, settings)
        with adapters(self.lm.model, settings.generator_lora_rank):
            return fit(self.lm.model, losses, batches, steps)


def policy_batches(prompts: Sequence[Sequence[int]], seed: int) -> list[np.ndarray]:
    """POLICY_STEPS batches of answers to `prompts`, at random; or, where many prompts begin alike, those side by side.

    A batch then reads few beginnings, see `answer_losses`. Prompts that begin alike ask for several labels.
    """
    rng, groups = np.random.default_rng(seed), [own for _, own in beginnings(prompts)]
    if len(groups) < POLICY_STEPS or any(len({tuple(prompts[i]) for i in own}) == 1 for own in groups):
        return np.array_split(rng.permutation(len(prompts)), POLICY_STEPS)
    parts = np.array_split(rng.permutation(len(groups)), POLICY_STEPS)
    return [np.concatenate([groups[k] for k in part]) for part in parts]


def plain(turns: Sequence[str]) -> bool:
    """Whether turns, all of one kind, are Beginnings."""
    return len(turns) > 0 and isinstance(turns[0], Beginning)
