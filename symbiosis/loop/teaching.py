"""The Generator's side of the loop: write, explain, label (step A), and learn to teach (step D)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from symbiosis.data.lesson import is_cut
from symbiosis.models.generation import GenerationError
from symbiosis.models.generator import Generator
from symbiosis.settings import derive_seed


@dataclass(frozen=True)
class LabeledTexts:
    """Texts for a lesson, each (n,), with label and p(label | text) (n, C), and what the writer was asked and gave."""

    texts: list[str]
    labels: np.ndarray
    probs: np.ndarray
    counts: Counter


# --- step A --------------------------------------------------------------------------------------------------------
def write(generator: Generator, labels: Sequence[int], *, seed: int) -> LabeledTexts:
    """One new text per asked label. With `filter_share` n / filter_share are written, the surest of each label kept."""
    asked = np.resize(labels, round(len(labels) / generator.settings.filter_share))  # over again where it is longer
    texts = written(generator, asked, seed=seed)
    return texts if len(asked) == len(labels) else surest_of_each(texts, np.asarray(labels))


def written(generator: Generator, labels: Sequence[int], *, seed: int) -> LabeledTexts:
    """One new text per asked label. Of `candidates` drafts the one most clearly read back as its label is kept."""
    turns = generator.write_turns(labels)
    if generator.settings.attributes:
        turns = attribute_turns(generator, labels, seed=derive_seed(seed, 0, "attributes"))
    drafts, counts = sample_unique(generator, turns, seed=seed, samples=generator.settings.candidates)
    if generator.settings.attributes:
        counts["named"] += len(turns)
    texts = best_of_n(drafts, np.asarray(labels), generator.label_probs(drafts), counts)
    return texts if generator.settings.written_labels == "asked" else read_back(texts)


def read_back(texts: LabeledTexts) -> LabeledTexts:
    """The texts under the labels the Generator reads in them, whatever was asked for.

    With `attributes` the order is seed, text, label: instance seeds whose texts are labelled anew, as TarGEN corrects
    its own (Gupta et al. 2023, arXiv 2310.17876).
    """
    counts = Counter({**texts.counts, "read": max(texts.counts["read"], len(texts.texts))})
    return replace(texts, labels=texts.probs.argmax(1), counts=counts)


def attribute_turns(generator: Generator, labels: Sequence[int], *, seed: int) -> list[str]:
    """User turns that ask for texts with a subject the Generator names itself, a style and a length drawn at random.

    After AttrPrompt (Yu et al. 2023, arXiv 2306.15895), where a stronger model and a person name the attributes.
    """
    rng, names, prompts = np.random.default_rng(seed), generator.names(labels), generator.prompts
    subjects = generator.answers([prompts.name.format(label=name) for name in names], seed=seed)
    styles, lengths = rng.choice(prompts.styles, len(names)), rng.choice(prompts.lengths, len(names))
    return [prompts.write_about_turn(*each) for each in zip(names, subjects, styles, lengths, strict=True)]


def explain(
    generator: Generator, hard_texts: Sequence[str], labels: Sequence[int] | None = None, *, seed: int
) -> LabeledTexts:
    """One new text per hard text, on its topic, with the Generator's label of it, or the label given for it.

    With `candidates` m > 1 drafts the draft most clearly read as the label is kept, and where no label is given it is
    the vote of the hard text and its drafts, argmax_c of their mean probability; with one draft that draft's own label.
    """
    m = generator.settings.candidates
    drafts, counts = explanations(generator, hard_texts, seed=seed)
    probs = generator.label_probs(drafts)
    if labels is not None:
        return best_of_n(drafts, np.asarray(labels), probs, counts)
    vote = probs
    if m > 1:
        own = generator.label_probs(hard_texts)[:, None]
        vote = np.concatenate([own, probs.reshape(len(hard_texts), m, -1)], axis=1).mean(1)
        counts["read"] += len(hard_texts)
    else:
        counts["read"] += len(drafts)
    return best_of_n(drafts, vote.argmax(1), probs, counts)


def explanations(generator: Generator, hard_texts: Sequence[str], *, seed: int) -> tuple[list[str], Counter]:
    """`candidates` explanations of each hard text, side by side, and what was asked and given."""
    turns = explain_turns(generator, hard_texts)
    return sample_unique(generator, turns, seed=seed, samples=generator.settings.candidates)


def label(generator: Generator, texts: Sequence[str]) -> LabeledTexts:
    """Texts as they are, with the Generator's most likely label."""
    probs = generator.label_probs(texts)
    return LabeledTexts(list(texts), probs.argmax(1), probs, Counter(labelled=len(texts)))


def surest(texts: LabeledTexts, n: int) -> np.ndarray:
    """Positions, in order, of the n texts the Generator is surest of, class by class in the proportion of its labels.

    A text at rank r (from 0, the surest first) of the n_c texts of its class stands at (r + 1/2) / n_c; the n lowest
    are taken. A plain threshold would empty the classes it knows less well (class-balanced self-training: Zou et al.
    2018, arXiv 1810.07911).
    """
    place, belief = np.zeros(len(texts.labels)), texts.probs.max(1)
    for label in np.unique(texts.labels):
        members = np.flatnonzero(texts.labels == label)
        order = members[np.argsort(-belief[members], kind="stable")]
        place[order] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(place, kind="stable")[:n])


def best_of_n(drafts: list[str], labels: np.ndarray, probs: np.ndarray, counts: Counter) -> LabeledTexts:
    """Of each label's drafts, side by side, the one that is most clearly read as that label.

    Counts the drafts passed over, the texts kept, and those of the kept that are read back as their label; as `read`
    the drafts whose reading chose one of them.
    """
    m, rows = len(drafts) // len(labels), np.arange(len(labels))
    best = rows * m + probs.reshape(len(labels), m, -1)[rows, :, labels].argmax(1)
    agreed = int((probs[best].argmax(1) == labels).sum())
    kept = {"filtered": len(drafts) - len(labels), "kept": len(labels), "agreed": agreed}
    counts = {**counts, **kept} | ({"read": counts["read"] + len(drafts)} if m > 1 else {})
    return LabeledTexts([drafts[i] for i in best], labels, probs[best], Counter(counts))  # Counter | loses zeros


# --- step D --------------------------------------------------------------------------------------------------------
# Each update changes the Generator in place and returns the losses per step. drafts: (n m,) explanations, `candidates`
# of each hard text, side by side; scores: (n m,) first-order change of the Student's dev loss from each.


def update_pool_lm(generator: Generator, hard_texts: Sequence[str], *, seed: int) -> list[dict]:
    """The Generator learns to write the hard pool texts, asked for the label it gives them."""
    turns = generator.write_turns(label(generator, hard_texts).labels)
    return generator.fine_tune(turns, hard_texts, seed=seed)


def update_sft(generator: Generator, hard_texts: Sequence[str], *, seed: int) -> tuple[LabeledTexts, list[dict]]:
    """The paper's step D: explain the hard texts, then fine-tune on the explanations, which come back, too."""
    explained = explain(generator, hard_texts, seed=seed)
    return explained, generator.fine_tune(explain_turns(generator, hard_texts), explained.texts, seed=seed)


def update_influence(
    generator: Generator, hard_texts: Sequence[str], drafts: list[str], scores: np.ndarray, *, seed: int
) -> list[dict]:
    """Expert iteration. The Generator learns its drafts, weighted by what they do.

        w_i proportional to exp(-s_i / (tau * sd(s)))       sum_i w_i = n

    Drafts are draws from the Generator p0, so this fits p proportional to p0 exp(-s / tau'), the minimiser of
    <p, s> + tau' KL(p || p0): without the KL term a first-order objective is linear in p and ends on a single draft.
    """
    weights = exponential_weights(scores, generator.settings.update_temperature)
    asked = explain_turns(generator, hard_texts, generator.settings.candidates)
    return generator.fine_tune(asked, drafts, seed=seed, weights=weights)


def update_dpo(
    generator: Generator, hard_texts: Sequence[str], drafts: list[str], scores: np.ndarray, *, seed: int
) -> list[dict]:
    """Of each hard text's drafts the most helpful (lowest score) is preferred to the least helpful one."""
    m = generator.settings.candidates
    first, scores = np.arange(len(hard_texts)) * m, scores.reshape(-1, m)
    best, worst = ([drafts[i] for i in first + order] for order in (scores.argmin(1), scores.argmax(1)))
    return generator.prefer(explain_turns(generator, hard_texts), best, worst, seed=seed)


def exponential_weights(scores: np.ndarray, tau: float) -> np.ndarray:
    """(n,) weights proportional to exp(-s / (tau * sd(s))), mean 1; all 1 where the scores do not differ."""
    spread = scores.std()
    z = np.zeros_like(scores) if spread == 0 else -(scores - scores.min()) / (tau * spread)
    return np.exp(z) / np.exp(z).mean()


def explain_turns(generator: Generator, hard_texts: Sequence[str], times: int = 1) -> list[str]:
    """The user turns that ask for explanations, each `times` times, side by side."""
    return [generator.prompts.explain.format(text=text) for text in generator.shorten(hard_texts) for _ in range(times)]


# --- texts that can be used ----------------------------------------------------------------------------------------
def sample_unique(
    generator: Generator, turns: Sequence[str], *, seed: int, samples: int = 1
) -> tuple[list[str], Counter]:
    """`samples` new texts per user turn, side by side; empty and duplicate ones are drawn again, see `redraw`."""

    def draw(some: Sequence[str], seed: int, samples: int) -> list[str]:
        return generator.answers(some, seed=seed, samples=samples)

    texts = draw(turns, seed, samples)
    return redraw(texts, [turn for turn in turns for _ in range(samples)], draw, generator.settings.max_redraws, seed)


def redraw(
    texts: list[str], prompts: Sequence, draw: Callable, max_redraws: int, seed: int, *, duplicates: bool = True
) -> tuple[list[str], Counter]:
    """The texts, one per prompt, with empty ones (and `duplicates`) drawn anew, up to `max_redraws` times.

    draw(prompts, seed, 1) gives new texts. Duplicates that remain then stay, as the little variety the writer has. The
    counts are asked, empty, duplicate, redrawn, cut and repeated (the duplicates that stay). Raises GenerationError
    where empty texts remain.
    """
    texts, counts = list(texts), Counter(asked=len(texts))
    for attempt in range(max_redraws + 1):
        empty, repeated = invalid(texts)
        counts["empty"] += len(empty)
        counts["cut"] = sum(map(is_cut, texts))
        counts["duplicate"] += len(repeated)
        again = sorted(empty + repeated) if duplicates else empty
        if not again:
            return texts, counts
        if attempt < max_redraws:
            counts["redrawn"] += len(again)
            redrawn = draw([prompts[i] for i in again], derive_seed(seed, attempt, "redraw"), 1)
            for i, text in zip(again, redrawn, strict=True):
                texts[i] = text
    if empty:
        raise GenerationError(
            f"{len(empty)} of {len(texts)} texts are still empty after max_redraws={max_redraws}; raise max_redraws, "
            "temperature or top_p, or check the model: it may end every text at once"
        )
    counts["repeated"] += len(repeated)
    return texts, counts


def invalid(texts: Sequence[str]) -> tuple[list[int], list[int]]:
    """Indices of the empty texts and of the repeats of an earlier one."""
    seen, empty, repeated = set(), [], []
    for i, text in enumerate(texts):
        if not text:
            empty.append(i)
        elif text in seen:
            repeated.append(i)
        seen.add(text)
    return empty, repeated


def surest_of_each(texts: LabeledTexts, labels: np.ndarray) -> LabeledTexts:
    """Of the texts of each label as many as `labels` has of it, those most clearly read as it, in their order."""
    rows = np.arange(len(texts.labels))
    belief, kept = texts.probs[rows, texts.labels], []
    for label, n in zip(*np.unique(labels, return_counts=True), strict=True):
        own = rows[texts.labels == label]
        kept.extend(own[np.argsort(-belief[own], kind="stable")[:n]])
    kept = np.sort(kept)
    probs, own = texts.probs[kept], texts.labels[kept]
    counts = {**texts.counts, "kept": len(kept), "agreed": int((probs.argmax(1) == own).sum())}
    counts |= {"filtered": counts["filtered"] + len(rows) - len(kept), "read": max(counts.get("read", 0), len(rows))}
    return LabeledTexts([texts.texts[i] for i in kept], own, probs, Counter(counts))
