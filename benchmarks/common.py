"""What the benchmarks share: Students of true shapes, texts of news length, fair clocks, and tables.

Weights are random and texts are written here: how long the arithmetic takes depends on neither.
"""

import argparse
import gc
import importlib.metadata
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import linear
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from symbiosis.data.world import World
from symbiosis.models import loading
from symbiosis.models.loading import token_ids
from symbiosis.pretrain.miniature import word_tokenizer
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic

SEED = 7  # of weights, texts and order
FOLDER = "reports/local/benchmarks"  # the published tables: make bench BENCHMARKS=reports/benchmarks
REAL = "smollm2-135m-instruct"
SHAPES = {
    REAL: {},
    "tiny": {
        "vocab_size": 4096,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
    },
    "pythia-160m": {
        "vocab_size": 50304,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    },
}


def arguments(doc: str, *, with_model: bool = True, **more: Any) -> argparse.ArgumentParser:
    """The options every benchmark has, those of a model where it has one; `more` are defaults of integer options."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    if with_model:
        parser.add_argument("--shape", choices=SHAPES, default="tiny")
        parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--repeats", type=int, default=3, help="turns; the medians are written")
    parser.add_argument("--folder", default=FOLDER, help="where the table goes")
    for name, value in more.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser


# --- models and texts ----------------------------------------------------------------------------------------------
def student(shape: str, device: str = "cpu") -> tuple[Any, Any]:
    """(model, tokenizer): GPT-NeoX at a true shape, random fp32 weights; words of the miniature are its first ids.

    REAL is no shape but weights that `make weights` fetches, with their own tokenizer.
    """
    if shape == REAL:
        lm = loading.load(loading.find(shape), device=device)
        return lm.model.eval(), lm.tokenizer
    torch.manual_seed(SEED)
    tokenizer = word_tokenizer(World.make(SEED), "student")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = GPTNeoXConfig(rotary_pct=0.25, max_position_embeddings=2048, **SHAPES[shape], **ids)
    return GPTNeoXForCausalLM(config).to(loading.pick_device(device)).eval(), tokenizer


def lengths(n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) tokens per text, like AG News under GPT-NeoX's tokenizer: median 52, 1 in 20 above 80, 1 in 100 above 119.

    log length = log 52 + 0.183 t,   t of Student's distribution with 3 degrees of freedom; in [10, 248]
    """
    return np.clip(52 * np.exp(0.183 * rng.standard_t(3, size=n)), 10, 248).round().astype(int)


def texts(n: int, rng: np.random.Generator, size: np.ndarray | None = None) -> list[str]:
    """n texts of `size` words (`lengths`, where None): documents of the miniature, strung together and cut."""
    size = lengths(n, rng) if size is None else size
    words = [w for text in World.make(SEED).sample(int(size.sum()) // 8, rng).text for w in text.split()]
    ends = size.cumsum()
    return [" ".join(words[end - k : end]) for end, k in zip(ends, size, strict=True)]


def token_rows(tokenizer, n: int, rng: np.random.Generator, max_length: int = 128) -> list[list[int]]:
    """n texts as token rows of the lengths of `lengths`, cut at `max_length`."""
    size = lengths(n, rng)
    rows = token_ids(tokenizer, texts(n, rng, size))
    return [row[: min(k, max_length)] for row, k in zip(rows, size, strict=True)]


# --- clocks and ceilings -------------------------------------------------------------------------------------------
def clock(device: torch.device | str) -> float:
    """Seconds: of this process's CPU where it computes, so that other jobs count little; of the wall on a GPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def interleaved(ways: dict[str, Callable[[], Callable[[], Any]]], repeats: int, device: torch.device | str) -> dict:
    """{way: median seconds} over `repeats` turns, in each of which every way runs once.

    A way prepares itself (not timed) and returns the work that is timed.
    """
    seconds = {name: [] for name in ways}
    for _ in range(repeats):
        for name, prepare in ways.items():
            work = prepare()
            gc.collect()
            began = clock(device)
            work()
            seconds[name].append(clock(device) - began)
            del work
    return {name: float(np.median(s)) for name, s in seconds.items()}


def linear_flops(model) -> int:
    """Floating point operations of one token through all linear layers, head included: 2 per weight."""
    return 2 * sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))


@torch.inference_mode()
def gemm_flops(model, tokens: int, dtype: torch.dtype, repeats: int) -> float:
    """Floating point operations per second of the model's matrix products alone, `tokens` rows at a time: the ceiling.

    Every layer's own weights are multiplied, in turn, as in a forward pass.
    """
    weights = [m.weight.to(dtype) for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {w.shape[1]: torch.randn(tokens, w.shape[1], dtype=dtype, device=w.device) for w in weights}
    once = lambda: [linear(inputs[w.shape[1]], w) for w in weights] and None  # noqa: E731
    once()
    seconds = interleaved({"products": lambda: once}, repeats, model.device)["products"]
    return tokens * linear_flops(model) / seconds


def peak_gb(function: Callable, *arguments: Any) -> float:
    """Most resident memory [GB] of a process of its own that runs function(*arguments), its libraries included.

    Call it before this process grows: Linux counts the starting process's peak as the child's own.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        return child.submit(_peak, function, arguments).result()


def _peak(function: Callable, arguments: Sequence[Any]) -> float:
    loading.use_threads(1)
    function(*arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


# --- tables --------------------------------------------------------------------------------------------------------
def installed(name: str) -> bool:
    """Whether an optional peer is here; says so where it is not."""
    found = importlib.util.find_spec(name) is not None
    if not found:
        print(f"{name} is not installed: its ways are left out")
    return found


def about(device: torch.device | str, *packages: str) -> dict[str, str]:
    """The columns that say where a number came from."""
    gpu = torch.device(device).type == "cuda"
    where = torch.cuda.get_device_name() if gpu else f"CPU, {(n := torch.get_num_threads())} thread{'s' * (n > 1)}"
    names = [n for n in ("torch", "transformers", *packages) if importlib.util.find_spec(n.replace("-", "_"))]
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in names)
    return {"device": where, "clock": "wall" if gpu else "process CPU", "versions": versions}


def write(path: str, rows: Sequence[dict]) -> pd.DataFrame:
    """The table at `path` with these rows in place of those of the same shape and device; returns and prints them."""
    new = pd.DataFrame(rows).map(_short)
    file = resolve(path)
    whole = new
    if file.is_file():
        old = pd.read_csv(file, dtype=str, keep_default_na=False)
        same = (old["shape"] == new["shape"][0]) & (old["device"] == new["device"][0])
        whole = pd.concat([old[~same], new]).sort_values(["shape", "device"], kind="stable").map(_short)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, whole.to_csv(index=False, lineterminator="\n").encode())
    print(new.drop(columns=["device", "clock", "versions"]).to_string(index=False))
    return new


def _short(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)
