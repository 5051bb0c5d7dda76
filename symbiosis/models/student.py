"""The Student: a language model that is taught lessons, and says which label a text has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from symbiosis.data.lesson import Written, texts_of
from symbiosis.models import loading
from symbiosis.models.editing import edit
from symbiosis.models.generation import written_texts
from symbiosis.models.loading import LanguageModel, document_rows
from symbiosis.models.ranks import all_reduce_sum, distributed
from symbiosis.models.sampling import Sampling
from symbiosis.models.scoring import LabelWords, label_log_probs, summed, text_losses, token_losses, told_apart
from symbiosis.models.tokens import continued, ended, start_ids, token_ids
from symbiosis.models.training import Steps, epochs_of, fit, token_weights
from symbiosis.prompts import Prompts, read_prompts
from symbiosis.settings import RunSettings

MIN_LABEL_PROB = 0.02  # a label less likely than this is left out of a soft label: most rows then have one or two
RowLosses = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # label loss, summed LM loss, LM tokens, each (b,)


@dataclass(frozen=True)
class Role:
    """A language model with the labels of its task."""

    lm: LanguageModel
    label_names: Sequence[str]
    settings: RunSettings

    folder = property(lambda self: Path(self.lm.model.config._name_or_path))
    n_weights = property(lambda self: self.lm.model.num_parameters())

    @property
    def prompts(self) -> Prompts:
        return read_prompts(self.settings.prompts)


@dataclass(frozen=True)
class Student(Role):
    """Who is taught, asked and tested. Raises LabelError where it cannot tell the labels apart."""

    def __post_init__(self):
        self.label_words()

    # --- its weights, as any Student's (see `proxies`) ---

    device = property(lambda self: self.lm.device)

    def save(self, folder: Path) -> None:
        """Write a checkpoint any tool can load; the folder appears complete or not at all."""
        self.lm.save(folder)

    def load(self, folder: Path) -> "Student":
        """This Student with the weights of a folder."""
        return replace(self, lm=loading.load(str(folder), device=self.settings.device))

    # --- token rows ---

    def questions(self, texts: Sequence[str]) -> list[list[int]]:
        """Token rows `text + "\\nTopic:"`, after which the label word comes; only the text is ever cut."""
        tokenizer, (before, after) = self.lm.tokenizer, self.prompts.student_classify.split("{text}")
        (first,), start = token_ids(tokenizer, [before]), start_ids(tokenizer)
        _, (last,) = continued(tokenizer, [before + "x"], [after])
        rows = token_ids(tokenizer, [before + text + after for text in texts[:]])
        longest = len(first) + self.settings.max_length
        return [start + (ids if len(ids) <= longest + len(last) else ids[:longest] + last) for ids in rows]

    def label_words(self) -> LabelWords:
        """The label words as they follow a question, see `told_apart`."""
        tokenizer, (words, classes) = self.lm.tokenizer, self.prompts.words_of(self.label_names)
        asked = [self.prompts.student_classify.format(text="x")] * len(words)
        _, rows = continued(tokenizer, asked, [f" {word}" for word in words])
        return told_apart(tokenizer, LabelWords(rows, classes), words, [tokenizer.eos_token_id], "student")

    def written_rows(self, texts: Sequence[str], labels: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """Token rows `label news: text <eos>` and how many leading tokens are given, not predicted; see `ended`."""
        tokenizer, limit, start = self.lm.tokenizer, self.settings.max_length, start_ids(self.lm.tokenizer)
        cues, bodies = continued(tokenizer, self._asked_to_write(labels), [f" {text}" for text in texts[:]])
        parts, end = zip(cues, bodies, texts, strict=True), [tokenizer.eos_token_id]
        rows = [start + cue + ended(body, text, limit, end) for cue, body, text in parts]
        return rows, [len(start + cue) for cue in cues]

    def edited(self, texts: Sequence[str], labels: Sequence[int], *, seed: int) -> tuple[list[Written], int]:
        """Each text, given its label, with the tokens drawn anew that the Student thought likely; how many were."""
        settings, (_, given) = self.settings, (found := self.written_rows(texts, labels))
        sampling, threshold = Sampling.of(settings), settings.edit_threshold
        rows, drawn = edit(self.lm, found, sampling, threshold=threshold, seed=seed)
        bodies = written_texts(self.lm, [row[n:] for row, n in zip(rows, given, strict=True)], settings.max_length)
        ends = [row[-1] == self.lm.tokenizer.eos_token_id for row in rows]
        return [Written(text, cut=not whole) for text, whole in zip(bodies, ends, strict=True)], drawn

    def cues(self, labels: Sequence[int]) -> list[list[int]]:
        """Token rows after which the Student writes a text of each label."""
        start, tokenizer = start_ids(self.lm.tokenizer), self.lm.tokenizer
        return [start + ids for ids in token_ids(tokenizer, self._asked_to_write(labels))]

    def _asked_to_write(self, labels: Sequence[int]) -> list[str]:
        return [self.prompts.student_write.format(label=self.label_names[i]) for i in labels]

    # --- what it knows ---

    def label_log_probs(self, texts: Sequence[str]) -> np.ndarray:
        """log p(label | text), summed over the words of each label: (n, C) [nats]."""
        words = self.label_words()
        return summed(label_log_probs(self.lm, self.questions(texts), words.rows, self.settings), words.classes)

    def text_losses(self, texts: Sequence[str]) -> np.ndarray:
        """Mean negative log-likelihood of each bare text, with its end where it has one: (n,) [nats/token]."""
        rows = document_rows(self.lm.tokenizer, texts, self.settings.max_length)
        return text_losses(self.lm, rows, [1] * len(rows), self.settings)

    def evaluate(self, rows) -> dict[str, np.ndarray]:
        """Per labelled row, each (n,): `correct`, `label_loss` [nats], `lm_loss` given its label [nats/token].

        The latter takes as long as the others and is nan of a Student that learns no text (`lm_weight` 0).
        """
        labels = np.array(rows["label"])
        log_p, lm_loss = self.label_log_probs(rows["text"]), np.full(len(labels), np.nan)
        if self.settings.lm_weight:
            lm_loss = text_losses(self.lm, *self.written_rows(rows["text"], labels), self.settings)
        label_loss = -log_p[np.arange(len(labels)), labels]
        return {"correct": log_p.argmax(1) == labels, "label_loss": label_loss, "lm_loss": lm_loss}

    # --- what it learns ---

    @distributed
    def learn(self, lesson, *, seed: int) -> list[dict]:
        """Step B: one lesson, in place, in as many ranks as the settings ask for.

        Returns each step's losses, see `LessonRows.batch_losses`.
        """
        rows, settings = LessonRows(self, lesson), self.settings
        batches = epochs_of(rows.lengths, settings.batch_size, settings.epochs, seed)
        steps = Steps.of("Student", settings.learning_rate, settings)
        steps = steps.shaped(settings.schedule, settings.warmup_steps, len(batches))
        return fit(self.lm.model, rows.batch_losses, batches, steps)


class LessonRows:
    """A lesson as the Student reads it: every row in two formats, its label word after the text, and its text after
    the label. A soft label counts as its labels, each weighted by its probability.
    """

    def __init__(self, student: Student, lesson):
        self.student, self.n = student, len(lesson)
        self.labels = [soft_label(row) for row in zip(lesson["label"], label_probs(lesson), strict=True)]
        self.words, self.asked = student.label_words().first, student.questions(lesson["text"])
        self.written, self.given = student.written_rows(texts_of(lesson), lesson["label"])
        self.lengths = [len(row) for row in self.written]
        self.weight = torch.tensor(lesson["weight"], dtype=torch.float32, device=student.lm.device)
        self.lm_weight = token_weights(self.weight, self.written, self.given)

    def _token_losses(self, rows: Sequence[int], written: Sequence[int]):
        """Loss and row of every predicted token, the label rows (place, row), each token row's share.

        rows are read as questions with their labels, `written` as texts after their labels, behind them.
        """
        asks = [(k, i, label, p) for k, i in enumerate(rows) for label, p in self.labels[i].items()]
        tokens = [[*self.asked[i], *self.words[label]] for _, i, label, _ in asks] + [self.written[i] for i in written]
        lengths = [len(self.asked[i]) for _, i, _, _ in asks] + [self.given[i] for i in written]
        nll, row = token_losses(self.student.lm, tokens, lengths, self.student.settings)
        share = torch.tensor([p for *_, p in asks] + [1.0] * len(written), device=nll.device)
        return nll, row, [(k, i) for k, i, *_ in asks], share

    def batch_losses(self, rows: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        """What some rows of the lesson give to the means of a batch.

            loss = label_loss + lm_weight * lm_loss

        Losses are means weighted by the row's `weight`; a label word counts once, however many tokens it has. Without
        lm_weight the texts are not predicted at all, which is more than half of a step, and lm_loss is nan.
        """
        written = rows if self.student.settings.lm_weight else []
        nll, row, asks, share = self._token_losses(rows, written)
        w = self.weight[[i for _, i in asks] + list(written)] * share
        is_label = row < len(asks)
        label_loss = (nll * w[row])[is_label].sum() / all_reduce_sum(self.weight[batch].sum())
        if not len(written):
            return {"loss": label_loss, "label_loss": label_loss, "lm_loss": torch.tensor(torch.nan, device=nll.device)}
        lm_loss = (nll * w[row])[~is_label].sum() / self.lm_weight(batch)
        loss = label_loss + self.student.settings.lm_weight * lm_loss
        return {"loss": loss, "label_loss": label_loss, "lm_loss": lm_loss}

    def row_losses(self, rows: np.ndarray) -> RowLosses:
        """`batch_losses` row by row, before its means."""
        nll, row, asks, share = self._token_losses(rows, rows)
        n = len(rows)
        owner = torch.tensor([k for k, _ in asks] + [n + k for k in range(n)], device=nll.device)
        sums = torch.zeros(2 * n, device=nll.device).index_add(0, owner[row], nll * share[row])
        predicted = [float(len(self.written[i]) - self.given[i]) for i in rows]
        return sums[:n], sums[n:], torch.tensor(predicted, device=nll.device)


def label_probs(lesson) -> list:
    return lesson["label_probs"] if "label_probs" in lesson.column_names else [None] * len(lesson)


def soft_label(row: tuple[int, Sequence[float] | None]) -> dict[int, float]:
    """{label: probability}, the negligible ones left out and the rest summing to 1; {label: 1} where it is certain."""
    label, probs = row
    kept = {label: 1.0} if probs is None else {c: p for c, p in enumerate(probs) if p >= MIN_LABEL_PROB}
    return {c: p / sum(kept.values()) for c, p in kept.items()}
