"""The Generator as a labeller: what its beliefs are calibrated by, and how far they can be trusted."""

from pathlib import Path

import numpy as np
from datasets import Dataset
from scipy.special import logsumexp
from tqdm.auto import tqdm

from symbiosis.data.lesson import save_lesson
from symbiosis.errors import SymbiosisError
from symbiosis.loop.policy import write
from symbiosis.loop.state import LoopState
from symbiosis.measures.beliefs import calibration_curve, calibration_error, label_counts, mean_entropy, one_sided
from symbiosis.models.generator import Generator

POOL_TEXTS = 200  # texts of the pool whose mean belief calibrates; on real news 25 do nearly as well
DRAFTS = 240  # texts of the Generator's own that do


class LabellerError(SymbiosisError):
    """A labeller that cannot be calibrated, with the remedy."""


def reference(state: LoopState, folder: Path) -> list[float]:
    """(C,) log of the mean belief over a batch of texts [nats], by which `calibration` calibrates every other belief.

        pool:     over up to POOL_TEXTS texts of the pool
        written:  over the DRAFTS that the Generator writes when it is asked for each class in turn, as they come, with
                  equal weight for every class: balanced whatever the pool lacks. They are kept in the folder.

    Made once, by the Generator as it begins, and shared by all who ask it for a label.
    """
    if state.settings.calibration == "pool":
        log_p = state.generator.label_log_probs(pool_texts(state))
        state.counts["read"] += len(log_p)
        return log_mean(log_p, np.ones(len(log_p))).tolist()
    drafts = own_drafts(state)
    state.counts.update(asked=DRAFTS, read=len(drafts))
    save_lesson(drafts, folder / "drafts.parquet")
    return written_reference(state.generator, drafts).tolist()


def pool_texts(state: LoopState) -> list[str]:
    """Up to POOL_TEXTS random texts of the pool."""
    pool = state.task.pool
    if not len(pool):
        raise LabellerError("calibration: 'pool' of an empty pool; set pool_size, or calibration to written")
    return pool.select(state.rng(0, "calibration").permutation(len(pool))[:POOL_TEXTS])["text"][:]


def own_drafts(state: LoopState) -> Dataset:
    """What the Generator writes when it is asked for DRAFTS texts, balanced over the classes; empty ones are left out.

    Raises LabellerError where a class has none left.
    """
    drafts = write(state.generator, state.balanced_labels(DRAFTS), seed=state.seed(0, "calibration"))
    missing = set(range(state.n_classes)) - set(drafts.labels.tolist())
    if missing:
        name = state.generator.label_names[min(missing)]
        raise LabellerError(
            f"calibration: 'written', but the Generator wrote nothing for {name!r}; raise temperature or "
            "max_new_tokens, or set calibration to pool"
        )
    return drafts.lesson


def written_reference(generator: Generator, drafts: Dataset) -> np.ndarray:
    """(C,) log of the mean belief over drafts, each class of which has equal weight [nats]."""
    labels = np.array(drafts["label"])
    return log_mean(generator.label_log_probs(drafts["text"][:]), 1 / np.bincount(labels)[labels])


def log_mean(log_p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(C,) log of the weighted mean of p over texts; log_p (n, C), weights (n,)."""
    return logsumexp(log_p, axis=0, b=(weights / weights.sum())[:, None])


def report(state: LoopState) -> dict:
    """How the Generator labels the dev texts, told in a line: its counts, entropy, accuracy, and calibration."""
    generator, dev = state.generator, state.task.dev
    probs, labels = generator.label_probs(dev["text"][:]), np.array(dev["label"])
    counts, curve = label_counts(probs), calibration_curve(probs, labels)
    found = {
        "n": len(labels),
        "counts": dict(zip(generator.label_names, counts.tolist(), strict=True)),
        "entropy": round(mean_entropy(probs), 4),
        "accuracy": round(float((probs.argmax(1) == labels).mean()), 4),
        "calibration_error": round(calibration_error(probs, labels), 4),
        "calibration_curve": [[n, round(sure, 4), round(right, 4)] for n, sure, right in curve],
    }
    tell(found, labels)
    return found


def tell(found: dict, labels: np.ndarray) -> None:
    """A `report` in a line; warns where one class takes nearly all texts of a task that is not nearly all of it.

    labels: (n,) of the dev texts.
    """
    names, counts = list(found["counts"]), np.array(list(found["counts"].values()))
    said = ", ".join(f"{name} {n}" for name, n in found["counts"].items())
    tqdm.write(
        f"labeller: {said} of {len(labels)} dev texts; accuracy {found['accuracy']:.2f}, entropy "
        f"{found['entropy']:.2f} nats, calibration error {found['calibration_error']:.2f}"
    )
    if (c := one_sided(counts, labels)) is not None:
        tqdm.write(
            f"WARNING: the Generator calls {counts[c]} of {len(labels)} dev texts {names[c]!r}: "
            "whatever it labels or filters is lost; take prompts with label_format completion and several label_words, "
            "as news_completion has them, or calibration written"
        )
