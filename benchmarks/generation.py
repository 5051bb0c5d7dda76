"""What a written text costs: the refill engine against the library's generate on the same prompts and text lengths.

    python benchmarks/generation.py --shape miniature
    python benchmarks/generation.py --shape qwen2-0.5b --memory

All ways share one model (random weights), one list of prompts and the same length for each text, in turns within one
process on one thread. Random weights draw no end token at a sensible place, so no token ends a text here: its length is
drawn from the lengths of news texts and enforced from outside, in the refill engine as the text's limit, in the library
by a stopping criterion per row, which leaves its batch running till the last row has ended, as an end token would.
Rates are texts' tokens per CPU second of the process, prompts included; a token that is computed for a row that has
ended counts as waste, not as a token. A model's weights are rounded to bf16 before the clock starts, for every way
alike; the refill engine packs them within its time. share_of_ceiling is the time torch's own matrix products alone
would take for the tokens that are needed, over the time measured. decode_share is that of one token for each row of a
full batch, over the median of the refill engine's steps of so many rows, draws included; packed products, and noise,
can take it above 1. After the ways come the comparisons, each with its goal where it has one.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import common
import numpy as np
import pandas as pd
import torch
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, StoppingCriteria, StoppingCriteriaList

from symbiosis.data.world import World
from symbiosis.models import loading, refill
from symbiosis.models.fast import weights_as
from symbiosis.models.loading import LanguageModel
from symbiosis.models.refill import Refill
from symbiosis.models.sampling import Sampling
from symbiosis.pretrain.miniature import SIZES, word_tokenizer
from symbiosis.pretrain.recipe import new_model

TABLE = "generation.csv"
TOP_P = 0.95
READ_ROWS = 128  # tokens at a time in the ceiling of reading prompts


def miniature(tokenizer):
    return new_model("generator", tokenizer, SIZES["generator"])


def tiny(_tokenizer):
    size = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=2048, num_key_value_heads=2, **size))


def qwen2(_tokenizer):
    """The architecture of Qwen/Qwen2-0.5B-Instruct."""
    size = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=151936, num_key_value_heads=2, tie_word_embeddings=True, **size))


SHAPES: dict[str, tuple[Callable, dict[str, int]]] = {  # model, and the defaults of the sizes below
    "miniature": (miniature, {"texts": 512, "batch": 128, "longest": 40}),
    "tiny": (tiny, {"texts": 256, "batch": 64, "longest": 96}),
    "qwen2-0.5b": (qwen2, {"texts": 32, "batch": 32, "longest": 48}),
}


@dataclass
class Case:
    """One model, and the texts it is to write."""

    model: Any
    tokenizer: Any
    prompts: list[list[int]]
    limits: np.ndarray  # tokens of each text
    batch: int

    @property
    def new(self) -> int:
        return int(self.limits.sum())


def case(shape: str, n: int, batch: int, longest: int, device: str) -> Case:
    """Prompts of 16 to 64 tokens; texts as long as news scaled by longest / 96, none above `longest`: 4 in 10 rows of a
    batch that runs till its last row has ended are wasted."""
    rng = np.random.default_rng(common.SEED)
    tokenizer = word_tokenizer(World.make(common.SEED), "generator")
    torch.manual_seed(common.SEED)
    model = SHAPES[shape][0](tokenizer).to(loading.pick_device(device)).eval()
    model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id)
    prompts = [rng.integers(6, len(tokenizer), k).tolist() for k in rng.integers(16, 65, n)]
    limits = np.minimum(np.ceil(common.lengths(n, rng) * longest / 96), longest).astype(int)
    return Case(model, tokenizer, prompts, limits, batch)


# --- the ways ------------------------------------------------------------------------------------------------------
def by_refill(case: Case, top_p: float = TOP_P) -> None:
    sampling = Sampling(1.0, top_p, max(case.limits.tolist()), case.batch)
    lm = LanguageModel(case.model, case.tokenizer)
    texts = refill.sample(lm, case.prompts, case.limits.tolist(), sampling, seed=common.SEED)
    assert [len(text) for text in texts] == case.limits.tolist()


class Ended(StoppingCriteria):
    """Each row at its own number of new tokens."""

    def __init__(self, width: int, limits: torch.Tensor):
        self.width, self.limits = width, limits

    def __call__(self, input_ids, scores, **kwargs):
        return input_ids.shape[1] - self.width >= self.limits


def by_library(case: Case, **how: Any) -> list[list[int]]:
    """generate() on batches in file order: the new tokens of each text."""
    texts = []
    for i in range(0, len(case.prompts), case.batch):
        limits = torch.from_numpy(case.limits[i : i + case.batch]).to(case.model.device)
        inputs = loading.pad(case.tokenizer, case.prompts[i : i + case.batch], left=True, device=case.model.device)
        width = inputs["input_ids"].shape[1]
        config = GenerationConfig(
            do_sample=True, max_new_tokens=int(limits.max()), pad_token_id=case.tokenizer.pad_token_id, **how
        )  # fmt: skip
        stop = StoppingCriteriaList([Ended(width, limits)])
        del inputs["position_ids"]
        with torch.inference_mode():
            out = case.model.generate(**inputs, generation_config=config, stopping_criteria=stop)
        texts += [row[:n] for row, n in zip(out[:, width:].tolist(), limits.tolist(), strict=True)]
    return texts


def by_library_nucleus(case: Case) -> None:
    by_library(case, top_p=TOP_P, top_k=0)


def by_library_default(case: Case) -> None:
    by_library(case, top_k=50)


def by_autocast(case: Case) -> None:
    with loading.autocast(case.model, "bf16"):
        by_library_nucleus(case)


def everything(case: Case) -> None:
    by_refill(case, top_p=1.0)


FP32, BF16 = torch.float32, torch.bfloat16
WAYS = {  # way: (work, dtype of the weights)
    "refill fp32": (by_refill, FP32),
    "generate top_p fp32": (by_library_nucleus, FP32),
    "generate top_k=50 fp32": (by_library_default, FP32),
    "refill bf16": (by_refill, BF16),
    "refill bf16, top_p 1": (everything, BF16),
    "generate top_p bf16": (by_library_nucleus, BF16),
    "generate top_k=50 bf16": (by_library_default, BF16),
    "generate top_p, bf16 autocast": (by_autocast, FP32),
}
GOALS = {  # (way, its peer): the ratio of tokens per second asked for at GOAL_SHAPE
    ("refill bf16", "generate top_p bf16"): 2.5,
    ("refill bf16", "generate top_p fp32"): 4.0,
    ("refill bf16", "generate top_k=50 bf16"): None,
    ("refill bf16, top_p 1", "generate top_k=50 bf16"): None,
    ("refill fp32", "generate top_p fp32"): None,
}
SHARE_GOALS = {  # of "refill bf16" at GOAL_SHAPE: the first two at most, the last at least
    "sampler_share": 0.1,
    "wasted_rows": 0.1,
    "decode_share": 0.85,
}
GOAL_SHAPE = "qwen2-0.5b"


# --- measuring -----------------------------------------------------------------------------------------------------
class Watch:
    """Counts rows of one-token passes, and the seconds of the refill engine's steps and of the draws within them."""

    def __init__(self, device):
        self.rows, self.draw_s, self.device = 0, 0.0, device
        self.step_s: list[tuple[int, float]] = []  # (rows, seconds)

    def count(self, module, args, kwargs) -> None:
        if kwargs["input_ids"].shape[1] == 1:
            self.rows += len(kwargs["input_ids"])

    @contextlib.contextmanager
    def on(self, model) -> Iterator[None]:
        decode, draw, inside = Refill.decode, refill.draw, []

        def timed_draw(*args, **kwargs):
            began = common.clock(self.device)
            tokens = draw(*args, **kwargs)
            self.draw_s += (common.clock(self.device) - began) * len(inside)
            return tokens

        def timed_decode(engine):
            began, rows = common.clock(self.device), len(engine.live)
            inside.append(True)
            decode(engine)
            inside.pop()
            self.step_s.append((rows, common.clock(self.device) - began))

        hook = model.register_forward_pre_hook(self.count, with_kwargs=True)
        with mock.patch.object(Refill, "decode", timed_decode), mock.patch.object(refill, "draw", timed_draw):
            yield
        hook.remove()


def turn(case: Case, way: str) -> dict[str, float]:
    work, dtype = WAYS[way]
    watch, device = Watch(case.model.device), case.model.device
    with weights_as(case.model, dtype) if dtype != FP32 else contextlib.nullcontext(), watch.on(case.model):
        began = common.clock(device)
        work(case)
        seconds = common.clock(device) - began
    needed = case.new - len(case.prompts)  # each text's first token comes with its prompt
    full = [s for rows, s in watch.step_s if rows == case.batch]
    print(f"{way}: {case.new / seconds:.4g} tokens/s", flush=True)  # a turn at a true shape takes a minute
    return {
        "s": seconds, "wasted_rows": 1 - needed / watch.rows, "full_step_s": np.median(full) if full else np.nan,
        "sampler_share": watch.draw_s / sum(s for _, s in watch.step_s) if watch.step_s else np.nan,
    }  # fmt: skip


def ceilings_s(case: Case, dtype: torch.dtype, repeats: int) -> tuple[float, float]:
    """Seconds of the matrix products alone, of all texts and of one token for each row of a full batch.

    Prompts READ_ROWS tokens at a time without the head, then `batch` rows.
    """
    read, write = (common.gemm_flops(case.model, n, dtype, repeats) for n in (READ_ROWS, case.batch))
    every = common.linear_flops(case.model)
    body = every - 2 * case.model.get_output_embeddings().weight.numel()
    prompt_tokens = sum(map(len, case.prompts))
    heads = len(case.prompts) * (every - body) / write
    return prompt_tokens * body / read + heads + case.new * every / write, case.batch * every / write


def table(case: Case, shape: str, ways: Sequence[str], repeats: int, peaks: dict[str, float]) -> list[dict]:
    """The table's rows: one per way, then one per comparison."""
    turns = pd.DataFrame([{"way": way, **turn(case, way)} for _ in range(repeats) for way in ways])
    median = turns.groupby("way").median()
    ceilings = {dtype: ceilings_s(case, dtype, repeats) for dtype in (FP32, BF16)}
    rates = {way: case.new / median.loc[way, "s"] for way in ways}
    about = {"texts": len(case.prompts), "batch": case.batch, "new_tokens": case.new, "n": repeats}
    about |= common.about(case.model.device)
    rows = []
    for way in ways:
        all_s, step_s = ceilings[BF16 if "bf16" in way else FP32]
        shares = {
            "share_of_ceiling": all_s / median.loc[way, "s"],
            "decode_share": step_s / median.loc[way, "full_step_s"],
        }
        shares |= median.loc[way, ["sampler_share", "wasted_rows"]].to_dict()
        rows.append(
            row(shape, way, rates[way]) | beside_goals(shape, way, shares) | {"peak_gb": peaks.get(way)} | about
        )
    compared = [(pair, goal) for pair, goal in GOALS.items() if set(pair) <= set(ways)]
    for (way, peer), goal in compared:
        ratio = {"peer": peer, "ratio": rates[way] / rates[peer], "goal": goal if shape == GOAL_SHAPE else None}
        rows.append(row(shape, way, rates[way]) | ratio | about)
    return rows


def row(shape: str, way: str, rate: float) -> dict:
    one = {"stage": "generation", "shape": shape, "way": way, "tokens_per_s": rate}
    return one | {"peer": "", "ratio": None, "goal": None}


def beside_goals(shape: str, way: str, shares: dict[str, float]) -> dict[str, float | None]:
    """The shares, those that have a goal with it beside them."""
    asked = way == "refill bf16" and shape == GOAL_SHAPE
    cells = {}
    for name, share in shares.items():
        cells[name] = none(share)
        if name in SHARE_GOALS:
            cells[f"goal_{name}"] = SHARE_GOALS[name] if asked else None
    return cells


def none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def few_tokens(way: str, shape: str, sizes: tuple[int, ...], device: str) -> None:
    """What a child process does to show its peak: all of the way, but texts of a few tokens."""
    small = case(shape, *sizes, device)
    small.limits = np.minimum(small.limits, 4)
    turn(small, way)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="miniature")
    parser.add_argument("--repeats", type=int, default=3, help="turns; the medians are written")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--folder", default=common.FOLDER, help="where the table goes")
    parser.add_argument("--texts", type=int, help="prompts, one text each")
    parser.add_argument("--batch", type=int, help="rows at a time")
    parser.add_argument("--longest", type=int, help="tokens a text has at most")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--memory", action="store_true", help="peak memory, too: each way once more, in its own process"
    )
    given = parser.parse_args()
    loading.use_threads(1)
    sizes = tuple(vars(given)[k] or default for k, default in SHAPES[given.shape][1].items())
    asked = given.ways if given.memory else []
    peaks = {w: common.peak_gb(few_tokens, w, given.shape, sizes, given.device) for w in asked}
    one = case(given.shape, *sizes, given.device)
    common.write(f"{given.folder}/{TABLE}", table(one, given.shape, given.ways, given.repeats, peaks))


if __name__ == "__main__":
    main()
