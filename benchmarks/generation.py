"""What a written text costs: the refill engine against the library's generate on the same prompts and text lengths.

    python benchmarks/generation.py --shape miniature
    python benchmarks/generation.py --shape qwen2-0.5b --repeats 1

All ways share one model (random weights), one list of prompts and the same length for each text, in turns within one
process on one thread. Random weights draw no end token at a sensible place, so no token ends a text here: its length is
drawn from the lengths of news texts and enforced from outside, in the refill engine as the text's limit, in the library
by a stopping criterion per row, which leaves its batch running till the last row has ended, as an end token would.
Rates are texts' tokens per CPU second of the process, prompts included; a token that is computed for a row that has
ended counts as waste, not as a token. share_of_ceiling is the time the model's matrix products alone would take for the
tokens that are needed, over the time measured. The table goes to reports/benchmarks/generation.csv.
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

from symbiosis import models, sampling
from symbiosis.miniature import World
from symbiosis.miniature_models import SIZES, word_tokenizer
from symbiosis.pretraining import new_model
from symbiosis.sampling import Refill, weights_as

TABLE = f"{common.FOLDER}/generation.csv"
TOP_P = 0.95
READ_ROWS = 128  # tokens at a time in the ceiling of reading prompts


def miniature(tokenizer):
    return new_model("generator", tokenizer, **SIZES["generator"])


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
    model = SHAPES[shape][0](tokenizer).to(models.pick_device(device)).eval()
    model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id)
    prompts = [rng.integers(6, len(tokenizer), k).tolist() for k in rng.integers(16, 65, n)]
    limits = np.minimum(np.ceil(common.lengths(n, rng) * longest / 96), longest).astype(int)
    return Case(model, tokenizer, prompts, limits, batch)


# --- the ways ------------------------------------------------------------------------------------------------------
def by_refill(case: Case, top_p: float = TOP_P) -> None:
    how = {"temperature": 1.0, "top_p": top_p, "batch_size": case.batch, "seed": common.SEED}
    texts = sampling.sample(case.model, case.tokenizer, case.prompts, case.limits.tolist(), **how)
    assert [len(text) for text in texts] == case.limits.tolist()


class Ended(StoppingCriteria):
    """Each row at its own number of new tokens."""

    def __init__(self, width: int, limits: torch.Tensor):
        self.width, self.limits = width, limits

    def __call__(self, input_ids, scores, **kwargs):
        return input_ids.shape[1] - self.width >= self.limits


def by_library(case: Case, **how: Any) -> None:
    """generate() on batches in file order."""
    for i in range(0, len(case.prompts), case.batch):
        limits = torch.from_numpy(case.limits[i : i + case.batch]).to(case.model.device)
        inputs = models.pad(case.tokenizer, case.prompts[i : i + case.batch], left=True, device=case.model.device)
        width = inputs["input_ids"].shape[1]
        config = GenerationConfig(
            do_sample=True, max_new_tokens=int(limits.max()), pad_token_id=case.tokenizer.pad_token_id, **how
        )  # fmt: skip
        stop = StoppingCriteriaList([Ended(width, limits)])
        del inputs["position_ids"]
        with torch.inference_mode():
            case.model.generate(**inputs, generation_config=config, stopping_criteria=stop)


def by_library_nucleus(case: Case) -> None:
    by_library(case, top_p=TOP_P, top_k=0)


def by_library_default(case: Case) -> None:
    by_library(case, top_k=50)


def by_autocast(case: Case) -> None:
    with models.autocast(case.model, "bf16"):
        by_library_nucleus(case)


def everything(case: Case) -> None:
    by_refill(case, top_p=1.0)


FP32, BF16 = torch.float32, torch.bfloat16
WAYS = {  # way: (work, dtype of the weights, its peer)
    "refill fp32": (by_refill, FP32, "generate top_p fp32"),
    "generate top_p fp32": (by_library_nucleus, FP32, ""),
    "generate top_k=50 fp32": (by_library_default, FP32, ""),
    "refill bf16": (by_refill, BF16, "generate top_p bf16"),
    "refill bf16, top_p 1": (everything, BF16, "generate top_k=50 bf16"),
    "generate top_p bf16": (by_library_nucleus, BF16, ""),
    "generate top_k=50 bf16": (by_library_default, BF16, ""),
    "generate top_p, bf16 autocast": (by_autocast, FP32, ""),
}


# --- measuring -----------------------------------------------------------------------------------------------------
class Watch:
    """Counts rows of one-token passes, and the seconds of the refill engine's steps and draws within them."""

    def __init__(self, device):
        self.rows, self.step_s, self.draw_s, self.device = 0, 0.0, 0.0, device

    def count(self, module, args, kwargs) -> None:
        if kwargs["input_ids"].shape[1] == 1:
            self.rows += len(kwargs["input_ids"])

    @contextlib.contextmanager
    def on(self, model) -> Iterator[None]:
        step, draw, inside = Refill.step, sampling.draw, []

        def timed_draw(*args, **kwargs):
            began = common.clock(self.device)
            tokens = draw(*args, **kwargs)
            self.draw_s += (common.clock(self.device) - began) * len(inside)
            return tokens

        def timed_step(engine):
            began = common.clock(self.device)
            inside.append(True)
            step(engine)
            inside.pop()
            self.step_s += common.clock(self.device) - began

        hook = model.register_forward_pre_hook(self.count, with_kwargs=True)
        with mock.patch.object(Refill, "step", timed_step), mock.patch.object(sampling, "draw", timed_draw):
            yield
        hook.remove()


def turn(case: Case, way: str) -> dict[str, float]:
    work, dtype, _ = WAYS[way]
    watch, device = Watch(case.model.device), case.model.device
    with weights_as(case.model, dtype) if dtype != FP32 else contextlib.nullcontext(), watch.on(case.model):
        began = common.clock(device)
        work(case)
        seconds = common.clock(device) - began
    needed = case.new - len(case.prompts)  # each text's first token comes with its prompt
    share = watch.draw_s / watch.step_s if watch.step_s else np.nan
    print(f"{way}: {case.new / seconds:.4g} tokens/s", flush=True)  # a turn at a true shape takes a minute
    return {"s": seconds, "wasted_rows": 1 - needed / watch.rows, "sampler_share": share}


def ceiling_s(case: Case, dtype: torch.dtype, repeats: int) -> float:
    """Seconds of the matrix products alone: prompts READ_ROWS tokens at a time without the head, then `batch` rows."""
    read, write = (common.gemm_flops(case.model, n, dtype, repeats) for n in (READ_ROWS, case.batch))
    every = common.linear_flops(case.model)
    body = every - 2 * case.model.get_output_embeddings().weight.numel()
    prompt_tokens = sum(map(len, case.prompts))
    return prompt_tokens * body / read + len(case.prompts) * (every - body) / write + case.new * every / write


def table(case: Case, shape: str, ways: Sequence[str], repeats: int, peaks: dict[str, float]) -> list[dict]:
    turns = pd.DataFrame([{"way": way, **turn(case, way)} for _ in range(repeats) for way in ways])
    median = turns.groupby("way").median()
    ceilings = {dtype: ceiling_s(case, dtype, repeats) for dtype in (FP32, BF16)}
    about = common.about(case.model.device)
    rows = []
    for way in ways:
        _, dtype, peer = WAYS[way]
        s, peer = median.loc[way, "s"], peer if peer in ways else ""
        dtype = BF16 if "bf16" in way else dtype
        rows.append({
            "stage": "generation", "shape": shape, "way": way, "tokens_per_s": case.new / s, "peer": peer,
            "ratio": median.loc[peer, "s"] / s if peer else None, "share_of_ceiling": ceilings[dtype] / s,
            "sampler_share": none(median.loc[way, "sampler_share"]), "wasted_rows": median.loc[way, "wasted_rows"],
            "peak_gb": peaks.get(way), "texts": len(case.prompts), "batch": case.batch, "new_tokens": case.new,
            "n": repeats, **about,
        })  # fmt: skip
    return rows


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
    parser.add_argument("--texts", type=int, help="prompts, one text each")
    parser.add_argument("--batch", type=int, help="rows at a time")
    parser.add_argument("--longest", type=int, help="tokens a text has at most")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--memory", action="store_true", help="peak memory, too: each way once more, in its own process"
    )
    given = parser.parse_args()
    models.use_threads(1)
    sizes = tuple(vars(given)[k] or default for k, default in SHAPES[given.shape][1].items())
    asked = given.ways if given.memory else []
    peaks = {w: common.peak_gb(few_tokens, w, given.shape, sizes, given.device) for w in asked}
    one = case(given.shape, *sizes, given.device)
    common.write(TABLE, table(one, given.shape, given.ways, given.repeats, peaks))


if __name__ == "__main__":
    main()
