"""Scoring texts beside a plain evaluation loop: mean loss per text, and the likelihood of four label words.

    python benchmarks/scoring.py --shape pythia-160m             (smollm2-135m-instruct: real weights)

`file order` pads batches of 32 texts, as they come, to their longest, in fp32, and takes the logits of every position;
`fixed 128` pads all to 128 tokens. `transformers` are label words as one asks the library itself: batches of 32 in file
order, padded on the left, bf16 by autocast, and of each word its first token alone. The label words have 1, 1, 1 and 3
tokens, like those of AG News under GPT-NeoX's tokenizer. The ceiling is the rate at which the machine multiplies the
same matrices in the way's precision, over real tokens only. Random weights are the hardest case for `rank_correlation`
(Spearman, of a bf16 way with the same way in fp32): texts then differ least in their losses. It is measured once, on
`--ranked` texts: among 32, two neighbors that change places cost 0.0004, which says more of the 32 than of the
arithmetic.
"""

from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

from symbiosis.models import loading, scoring
from symbiosis.models.loading import LanguageModel
from symbiosis.settings import RunSettings

TABLE = "scoring.csv"
WIDTH = 128  # tokens, the length texts are cut and, in the fixed way, padded to
NAIVE_BATCH, BATCH = 32, 8  # sorted texts want small batches: less padding, and products are near their best rate
LABELS = [[20], [30], [40], [50, 60, 70]]
FIXED, NAIVE = "fixed 128 fp32", "file order fp32"
LOSS_FP32, LOSS_BF16 = "symbiosis fp32, text loss", "symbiosis bf16, text loss"
LABEL_FP32, LABEL_BF16 = "symbiosis fp32, label words", "symbiosis bf16, label words"
PLAIN_FP32, PLAIN_BF16 = "transformers fp32, first label tokens", "transformers bf16, first label tokens"
GOALS = {
    (LOSS_BF16, NAIVE): 2.5,
    (LOSS_BF16, FIXED): 5.0,
    (LABEL_BF16, NAIVE): 4.0,
    (LOSS_FP32, NAIVE): None,
    (LABEL_BF16, LABEL_FP32): None,
    (LABEL_BF16, PLAIN_FP32): 3.0,
    (LABEL_BF16, PLAIN_BF16): None,
}
SAME_ORDER = {LOSS_BF16: LOSS_FP32, LABEL_BF16: LABEL_FP32}  # whose ranks must agree with whose
ORDER_GOAL = 0.999


# --- the ways ------------------------------------------------------------------------------------------------------
@torch.inference_mode()
def naive(model, tokenizer, rows, *, width: int | None) -> np.ndarray:
    """(n,) mean loss per text [nats/token]: batches as they come, padded to `width` (None: to their longest)."""
    losses = []
    for i in range(0, len(rows), NAIVE_BATCH):
        batch = rows[i : i + NAIVE_BATCH]
        longest = width or max(map(len, batch))
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id)
        for j, row in enumerate(batch):
            ids[j, : len(row)] = torch.tensor(row)
        mask = torch.arange(longest)[None] < torch.tensor([len(row) for row in batch])[:, None]
        ids, mask = ids.to(model.device), mask.to(model.device)
        logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1]
        nll = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * mask[:, 1:]
        losses.append((nll.sum(1) / mask[:, 1:].sum(1)).cpu().numpy())
    return np.concatenate(losses)


@torch.inference_mode()
def plain_labels(model, tokenizer, rows, *, precision: str) -> np.ndarray:
    """(n, C) log p of each label's first token: batches as they come, padded on the left, all logits computed."""
    found, dtype = [], {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    first = [label[0] for label in LABELS]
    with torch.autocast(model.device.type, dtype, enabled=precision == "bf16"):
        for i in range(0, len(rows), NAIVE_BATCH):
            inputs = loading.pad(tokenizer, rows[i : i + NAIVE_BATCH], left=True, device=model.device)
            found.append(model(**inputs).logits[:, -1].float().log_softmax(-1)[:, first].cpu().numpy())
    return np.concatenate(found)


def text_loss(model, tokenizer, rows, *, precision: str) -> np.ndarray:
    settings = RunSettings(precision=precision, generation_batch_size=BATCH)
    return scoring.text_losses(LanguageModel(model, tokenizer), rows, [1] * len(rows), settings)


def label_words(model, tokenizer, rows, *, precision: str) -> np.ndarray:
    settings = RunSettings(precision=precision, generation_batch_size=BATCH)
    return scoring.label_log_probs(LanguageModel(model, tokenizer), rows, LABELS, settings)


WAYS: dict[str, tuple[Callable[..., np.ndarray], dict[str, Any]]] = {
    FIXED: (naive, {"width": WIDTH}),
    NAIVE: (naive, {"width": None}),
    LOSS_FP32: (text_loss, {"precision": "fp32"}),
    LOSS_BF16: (text_loss, {"precision": "bf16"}),
    PLAIN_FP32: (plain_labels, {"precision": "fp32"}),
    PLAIN_BF16: (plain_labels, {"precision": "bf16"}),
    LABEL_FP32: (label_words, {"precision": "fp32"}),
    LABEL_BF16: (label_words, {"precision": "bf16"}),
}


# --- what is measured ----------------------------------------------------------------------------------------------
def run_once(shape: str, name: str, n_texts: int) -> None:
    """One call of a way, for its peak memory."""
    model, tokenizer = common.student(shape)
    score, how = WAYS[name]
    score(model, tokenizer, common.token_rows(tokenizer, n_texts, np.random.default_rng(common.SEED)), **how)


def needed_flops(model, rows, name: str) -> int:
    """Floating point operations that the linear layers cannot do without, for all rows: no padding, each text once."""
    trunk, whole = common.linear_flops(model.base_model), common.linear_flops(model)
    heads = len(rows) if WAYS[name][0] in (label_words, plain_labels) else sum(len(row) - 1 for row in rows)
    return trunk * sum(map(len, rows)) + (whole - trunk) * heads


def measure(
    shape: str, *, n_texts: int, n_ranked: int, repeats: int, device: str, memory: dict[str, float]
) -> list[dict]:
    """The table's rows: one per way, then one per goal."""
    model, tokenizer = common.student(shape, device)
    rows = common.token_rows(tokenizer, n_texts, np.random.default_rng(common.SEED))

    def work(name: str) -> Callable[[], np.ndarray]:
        score, how = WAYS[name]
        return lambda: score(model, tokenizer, rows, **how)

    seconds = common.interleaved({name: lambda name=name: work(name) for name in WAYS}, repeats, model.device)
    per_batch = round(sum(map(len, rows)) / len(rows)) * BATCH
    ceiling = {p: common.gemm_flops(model, per_batch, getattr(torch, p), repeats) for p in ("float32", "bfloat16")}
    shared, about = {"stage": "scoring", "shape": shape}, {"texts": n_texts, "n": repeats, **common.about(model.device)}
    rates = {name: len(rows) / s for name, s in seconds.items()}
    ranked = common.token_rows(tokenizer, n_ranked, np.random.default_rng(common.SEED))
    table = []
    for name, s in seconds.items():
        best = ceiling["float32" if "fp32" in name else "bfloat16"]
        table.append(
            shared | {"way": name, "texts_per_s": rates[name], "peer": "", "ratio": None, "goal": None}
            | {"share_of_ceiling": needed_flops(model, rows, name) / s / best, "peak_gb": memory.get(name)}
            | order_columns(model, tokenizer, ranked, name) | about
        )  # fmt: skip
    for (way, peer), goal in GOALS.items():
        beside = {"way": way, "texts_per_s": rates[way], "peer": peer, "ratio": rates[way] / rates[peer], "goal": goal}
        table.append(shared | beside | about)
    return table


def order_columns(model, tokenizer, rows, name: str) -> dict[str, float | None]:
    """Of a bf16 way: Spearman's rank correlation of its scores with fp32's, the smallest over labels."""
    if name not in SAME_ORDER:
        return {"rank_correlation": None, "goal_rank_correlation": None, "ranked": None}
    ways = (WAYS[name], WAYS[SAME_ORDER[name]])
    low, full = (score(model, tokenizer, rows, **how).reshape(len(rows), -1) for score, how in ways)
    lowest = min(spearmanr(a, b).statistic for a, b in zip(low.T, full.T, strict=True))
    return {"rank_correlation": float(lowest), "goal_rank_correlation": ORDER_GOAL, "ranked": len(rows)}


def main() -> None:
    given = common.arguments(__doc__, texts=32, ranked=128).parse_args()
    loading.use_threads(1)
    on_cpu = loading.pick_device(given.device).type == "cpu"
    memory = {name: common.peak_gb(run_once, given.shape, name, given.texts) for name in WAYS} if on_cpu else {}
    sizes = {"n_texts": given.texts, "n_ranked": given.ranked, "repeats": given.repeats}
    rows = measure(given.shape, **sizes, device=given.device, memory=memory)
    common.write(f"{given.folder}/{TABLE}", rows)


if __name__ == "__main__":
    main()
