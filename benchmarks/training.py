"""Fine-tuning beside HF Trainer and TRL's SFTTrainer: the same texts, weights and number of steps, 8 texts a step.

    python benchmarks/training.py --shape pythia-160m

`Trainer fixed 128` pads every text to 128 tokens in fp32, as most scripts do; `Trainer best` pads to the longest of a
batch, groups texts by length, and autocasts to bf16. `TRL` is SFTTrainer as it comes, `TRL best` the same with grouping
and without its gradient checkpointing. The last way, `both formats`, is the loop's own lesson: every text also asks for
its label. Rates are text tokens, never padding; the time of a call includes its optimizer's. The ceiling is the rate
at which the machine multiplies the same matrices in the way's precision, forward and twice backward.
"""

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import common
import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from symbiosis.data.world import LABEL_NAMES
from symbiosis.models import loading, scoring, training
from symbiosis.models.fast import malloc_without_trim
from symbiosis.models.loading import LanguageModel
from symbiosis.models.student import Student
from symbiosis.settings import RunSettings

TABLE = "training.csv"
WIDTH = 128  # tokens, the length texts are cut and, in the fixed way, padded to
BATCH = 8
RATE = 1e-4  # AdamW
FIXED, BEST, TRL, TRL_BEST = "Trainer fixed 128 fp32", "Trainer best bf16", "TRL default bf16", "TRL best bf16"
FP32, BF16, BOTH = "symbiosis fp32", "symbiosis bf16", "symbiosis bf16, both formats"
GOALS = {(BF16, FIXED): 5.0, (BF16, BEST): 1.3, (BF16, TRL): 2.0, (FP32, FIXED): None, (BF16, TRL_BEST): None}
PRODUCTS, SHARE_GOAL = "bf16 products", 0.6
Work = Callable[[], Any]


# --- the ways ------------------------------------------------------------------------------------------------------
def ours(model, tokenizer, rows, precision: str) -> Work:
    """symbiosis.models.training.fit on the texts alone: what Trainer learns from, token for token."""
    settings, lm = RunSettings(precision=precision, batch_size=BATCH), LanguageModel(model, tokenizer)

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        nll, _ = scoring.token_losses(lm, [rows[i] for i in some], [1] * len(some), settings)
        return {"loss": nll.sum() / sum(len(rows[i]) - 1 for i in batch)}

    batches = training.epochs_of([len(r) for r in rows], BATCH, 1, common.SEED)
    return lambda: training.fit(model, losses, batches, training.Steps("Student", RATE))


def both_formats(model, tokenizer, rows, precision: str) -> Work:
    """Student.learn: step B of the loop as it runs."""
    settings = RunSettings(precision=precision, batch_size=BATCH, epochs=1, learning_rate=RATE, max_length=WIDTH)
    student = Student(LanguageModel(model, tokenizer), LABEL_NAMES, settings)
    return lambda: student.learn(lesson(tokenizer, rows), seed=common.SEED)


def lesson(tokenizer, rows) -> Dataset:
    labels = [i % len(LABEL_NAMES) for i in range(len(rows))]
    return Dataset.from_dict({"text": tokenizer.batch_decode(rows), "label": labels, "weight": [1.0] * len(rows)})


def collate(tokenizer, width: int | None) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """Rows padded on the right to `width` (None: the longest of the batch), as a Trainer takes them."""

    def collated(rows: list[dict]) -> dict[str, torch.Tensor]:
        longest = width or max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
            mask[i, : len(row["input_ids"])] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}

    return collated


def quiet(device: torch.device) -> dict[str, Any]:
    """Arguments without influence on the arithmetic: one epoch, nothing saved, nothing reported."""
    return {
        "output_dir": tempfile.gettempdir(), "num_train_epochs": 1, "learning_rate": RATE,
        "per_device_train_batch_size": BATCH,
        "save_strategy": "no", "logging_strategy": "no", "report_to": [], "disable_tqdm": True,
        "use_cpu": device.type == "cpu",
    }  # fmt: skip


def trainer(model, tokenizer, rows, *, best: bool) -> Work:
    more = {"bf16": True, "train_sampling_strategy": "group_by_length"} if best else {}
    given = TrainingArguments(**quiet(model.device), **more)
    data = Dataset.from_dict({"input_ids": rows, "length": [len(r) for r in rows]})
    collator = collate(tokenizer, None if best else WIDTH)
    return silent(Trainer(model=model, args=given, train_dataset=data, data_collator=collator)).train


def trl(model, tokenizer, rows, *, best: bool) -> Work:
    from trl import SFTConfig, SFTTrainer

    more = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"} if best else {}
    given = SFTConfig(**quiet(model.device), max_length=WIDTH, **more)  # bf16 is its default
    data = Dataset.from_dict({"input_ids": rows})
    return silent(SFTTrainer(model=model, args=given, train_dataset=data, processing_class=tokenizer)).train


def silent(peer: Trainer) -> Trainer:
    peer.remove_callback(PrinterCallback)
    return peer


def ways(*, with_trl: bool) -> dict[str, tuple[Callable[..., Work], dict[str, Any]]]:
    found = {
        FIXED: (trainer, {"best": False}), BEST: (trainer, {"best": True}),
        TRL: (trl, {"best": False}), TRL_BEST: (trl, {"best": True}),
        FP32: (ours, {"precision": "fp32"}), BF16: (ours, {"precision": "bf16"}),
        BOTH: (both_formats, {"precision": "bf16"}),
    }  # fmt: skip
    return {name: way for name, way in found.items() if with_trl or way[0] is not trl}


# --- what is measured ----------------------------------------------------------------------------------------------
def n_tokens(tokenizer, rows, name: str) -> tuple[int, int]:
    """Tokens a way reads and tokens it predicts, without padding."""
    if name != BOTH:
        n = sum(len(row) - 1 for row in rows)
        return n, n
    given = lesson(tokenizer, rows)
    student = Student(LanguageModel(None, tokenizer), LABEL_NAMES, RunSettings(max_length=WIDTH))
    words, asked = [student.label_words().first[i] for i in given["label"]], student.questions(given["text"])
    written, prompt_lengths = student.written_rows(given["text"], given["label"])
    read = sum(len(row) + len(word) - 1 for row, word in zip(asked, words, strict=True)) + sum(map(len, written))
    return read - len(written), sum(map(len, words)) + sum(map(len, written)) - sum(prompt_lengths)


def products_s(model, read: int, predicted: int, flops: float) -> float:
    """Seconds of a way's matrix products alone, forward and twice backward; the head is for predicted tokens only."""
    head = 2 * model.get_output_embeddings().weight.numel()
    return 3 * (read * (common.linear_flops(model) - head) + predicted * head) / flops


def run_once(shape: str, name: str, n_texts: int) -> None:
    """One call of a way, for its peak memory."""
    model, tokenizer = common.student(shape)
    make, how = ways(with_trl=name in (TRL, TRL_BEST))[name]
    make(model, tokenizer, common.token_rows(tokenizer, n_texts, np.random.default_rng(common.SEED)), **how)()


def held_out_loss(start, tokenizer, n_texts: int, precision: str) -> float:
    """Mean loss [nats/token], in fp32, on 32 texts never trained on, after one pass over `n_texts` others."""
    rng = np.random.default_rng(common.SEED)
    rows, held_out = common.token_rows(tokenizer, n_texts, rng), common.token_rows(tokenizer, 32, rng)
    model = copy.deepcopy(start)
    ours(model, tokenizer, rows, precision)()
    settings = RunSettings(generation_batch_size=8)
    return float(scoring.text_losses(LanguageModel(model, tokenizer), held_out, [1] * len(held_out), settings).mean())


def peaks(shape: str) -> dict[str, float]:
    """{way: peak memory [GB]} of one step on the CPU, each in a process of its own."""
    return {name: common.peak_gb(run_once, shape, name, BATCH) for name in ways(with_trl=common.installed("trl"))}


def measure(
    shape: str, *, n_texts: int, held_out: int, repeats: int, device: str, memory: dict[str, float]
) -> list[dict]:
    """The table's rows: one per way, then one per goal."""
    found = ways(with_trl=common.installed("trl"))
    start, tokenizer = common.student(shape, device)
    rows = common.token_rows(tokenizer, n_texts, np.random.default_rng(common.SEED))
    prepared = {
        name: lambda make=make, how=how: make(copy.deepcopy(start), tokenizer, rows, **how)
        for name, (make, how) in found.items()
    }
    seconds = common.interleaved(prepared, repeats, start.device)
    tokens = {name: n_tokens(tokenizer, rows, name) for name in seconds}
    rates = {name: tokens[name][0] / s for name, s in seconds.items()}
    per_batch = round(sum(map(len, rows)) / len(rows)) * BATCH
    with malloc_without_trim():  # as training has it
        flops = {p: common.gemm_flops(start, per_batch, getattr(torch, p), repeats) for p in ("float32", "bfloat16")}
    share = {
        name: products_s(start, *tokens[name], flops["float32" if "fp32" in name else "bfloat16"]) / s
        for name, s in seconds.items()
    }
    losses = {name: held_out_loss(start, tokenizer, held_out, name.split()[1]) for name in (FP32, BF16)}
    shared = {"stage": "training", "shape": shape}
    about = {"texts": n_texts, "n": repeats, **common.about(start.device, "trl", "accelerate")}
    table = [
        shared | {"way": name, "tokens_per_s": rate, "peer": "", "ratio": None, "goal": None,
                  "share_of_ceiling": share[name], "peak_gb": memory.get(name),
                  "held_out_loss": losses.get(name)} | about
        for name, rate in rates.items()
    ]  # fmt: skip
    goals = {pair: goal for pair, goal in GOALS.items() if pair[1] in rates}
    table += [ratio_row(shared, about, rates, way, peer, goal) for (way, peer), goal in goals.items()]
    return [
        *table,
        ratio_row(
            shared, about, rates | {"bf16 products": rates[BF16] / share[BF16]}, BF16, "bf16 products", SHARE_GOAL
        ),
    ]


def ratio_row(shared: dict, about: dict, rates: dict[str, float], way: str, peer: str, goal: float | None) -> dict:
    beside = {"way": way, "tokens_per_s": rates[way], "peer": peer, "ratio": rates[way] / rates[peer], "goal": goal}
    return shared | beside | {"share_of_ceiling": None, "peak_gb": None, "held_out_loss": None} | about


def main() -> None:
    given = common.arguments(__doc__, texts=96, held_out=48).parse_args()
    loading.use_threads(1)
    memory = peaks(given.shape) if loading.pick_device(given.device).type == "cpu" else {}
    sizes = {"n_texts": given.texts, "held_out": given.held_out, "repeats": given.repeats}
    rows = measure(given.shape, **sizes, device=given.device, memory=memory)
    common.write(f"{given.folder}/{TABLE}", rows)


if __name__ == "__main__":
    main()
