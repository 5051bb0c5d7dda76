"""The whole loop, stage by stage: what one turn of `symbiosis` costs at a shape, in time, memory and share of the peak.

    python benchmarks/loop.py                       # two tiny models, seconds
    python benchmarks/loop.py --shape paper         # Pythia-160M's and Qwen2-0.5B's shapes, a batch per stage: CPU
    python benchmarks/loop.py --shape paper --full  # with the sizes of params/paper.yaml, end to end: a GPU

What runs is loop.runs.run itself, on params/paper.yaml with params/symbiosis.yaml (batch sizes, lengths, bf16,
refill engine, no LoRA) and sizes from the options; it needs all of the package's requirements, `datasets` among them.
Both models have random weights and are saved as folders, with tokenizers of which every id is a word: a random model
hardly ever draws an end token, so every text is written to its `max_new_tokens`. The task's texts are as long as news.

A part is a function of the package that is watched while the run calls it. `tokens` are those that went through a model
in it, read or written, padding left out. `share_of_ceiling` is the time that the matrix products alone would take for
them (three times a pass, where it is differentiated), over the time measured; on a GPU this is the MFU, against a rate
measured here rather than the vendor's. `peak_gb`: on a GPU the most memory allocated during the part, both models
included; on a CPU, where every stage is made by a process of its own that continues the run, the most that process held
meanwhile, libraries included.
"""

import argparse
import contextlib
import functools
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import common
import numpy as np
import pandas as pd
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Qwen2Config, Qwen2ForCausalLM

from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.loop import runs, teaching
from symbiosis.models import loading, refill
from symbiosis.models.generator import Generator
from symbiosis.models.student import Student
from symbiosis.pretrain.miniature import word_tokenizer
from symbiosis.settings import RunSettings, make_settings
from symbiosis.store import stages
from symbiosis.yaml_files import read_params

TABLE = "loop.csv"
SHAPES = {
    "tiny": {
        "student": common.SHAPES["tiny"],
        "generator": {
            "vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 128,
        },
    },
    "paper": {
        "student": common.SHAPES["pythia-160m"],
        "generator": {
            "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "intermediate_size": 4864,
        },
    },
}  # fmt: skip
# Two steps of every training at least: AdamW's moments come with the first, so the second is where memory peaks.
CUT = {  # sizes without --full; `stages` from the first on: student-0, lesson-1, student-1, teach-1
    "tiny": {"generations": 2, "lesson_size": 32, "pool_size": 128, "hard_examples": 16, "test_size": 32, "stages": 4},
    "paper": {"generations": 2, "lesson_size": 64, "pool_size": 128, "hard_examples": 8, "test_size": 64, "stages": 4},
}
FEW = {"dev_size": 16, "train_size": 16, "epochs": 1}  # besides, without --full
SIZES = (
    "lesson_size", "pool_size", "hard_examples", "test_size", "batch_size", "generation_batch_size", "max_length",
    "max_new_tokens",
)  # fmt: skip
ROLES = {"gpt_neox": "student", "qwen2": "generator"}
PARTS = {  # what is watched: where the caller looks the function up
    "write": (runs, "next_lesson"),
    "train the Student": (Student, "learn"),
    "evaluate": (runs, "evaluation"),
    "find hard texts": (runs, "mine_hard_texts"),
    "explain": (teaching, "explain"),  # in step D; as a part of a lesson it counts as writing
    "train the Generator": (Generator, "fine_tune"),
}
CLEAR = Path("/proc/self/clear_refs")
REST = "the rest (saving, the Generator's accuracy and drift)"


# --- the run -------------------------------------------------------------------------------------------------------
def prepare(folder: Path, shape: str, device: str, **sizes: Any) -> RunSettings:
    """Models and task in `folder`, and the settings of a run on them; `sizes` are parameters of the run."""
    world, rng = World.make(common.SEED), np.random.default_rng(common.SEED)
    for role, size in SHAPES[shape].items():
        write_model(role, size, word_tokenizer(world, role), folder / role)
    changed = {
        "task": str(folder / "task"), "task_revision": "", "student": str(folder / "student"), "student_revision": "",
        "generator": str(folder / "generator"), "generator_revision": "", "reports_dir": str(folder / "reports"),
        "device": device, "threads": 1,
    }  # fmt: skip
    settings = make_settings(
        **read_params("params/paper.yaml") | read_params("params/symbiosis.yaml") | changed | sizes
    )
    write_task(settings, rng, folder / "task")
    return settings


def write_model(role: str, size: dict[str, int], tokenizer, folder: Path) -> None:
    """A model of random weights, and a tokenizer whose vocabulary is as large as the model's."""
    torch.manual_seed(common.SEED)
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    if role == "student":
        model = GPTNeoXForCausalLM(GPTNeoXConfig(rotary_pct=0.25, max_position_embeddings=2048, **size, **ids))
    else:
        model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **size, **ids))
    loading.LanguageModel(model, tokenizer).save(folder)
    path = folder / "tokenizer.json"
    known = json.loads(path.read_text())
    known["model"]["vocab"] |= {f"w{i}": i for i in range(len(tokenizer), size["vocab_size"])}
    path.write_text(json.dumps(known))


def write_task(settings: RunSettings, rng: np.random.Generator, folder: Path) -> None:
    """train.csv and test.csv with as many texts as the run asks for; a test_size of 0 means AG News' 7,600."""
    folder.mkdir()
    sizes = {"train": settings.dev_size + settings.train_size + settings.pool_size, "test": settings.test_size or 7600}
    for name, n in sizes.items():
        labels = [LABEL_NAMES[i % len(LABEL_NAMES)] for i in range(n)]
        pd.DataFrame({"text": common.texts(n, rng), "label": labels}).to_csv(folder / f"{name}.csv", index=False)


class StageMade(Exception):
    """A stage is whole, and this process is to make no other."""


def run_stages(settings: RunSettings, *, last: str = "", alone: bool = False) -> list[dict]:
    """Continue the run up to the stage `last` ('': to its end), or by one stage where `alone`; what was watched."""
    watch = Watch(loading.pick_device(settings.device), PARTS)
    make_stage = stages.stage

    def stage(state: Path, name: str, make: Callable[[Path], dict], **more: Any) -> dict:
        made = []
        watch.stage = name
        result = make_stage(state, name, lambda out: made.append(name) or watch.timed(REST, make)(out), **more)
        if name == last or (alone and made):
            raise StageMade
        return result

    with watch.on(), mock.patch.object(runs, "stage", stage), contextlib.suppress(StageMade):
        runs.run(settings)
    return watch.rows


def one_stage(given: dict) -> list[dict]:
    """What a process of its own does: the next stage of the run."""
    return run_stages(make_settings(**given), alone=True)


def in_processes(settings: RunSettings, names: list[str]) -> list[dict]:
    """The stages `names`, each made by a new process."""
    found = []
    for _ in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            found += child.submit(one_stage, settings.model_dump()).result()
        print(f"{found[-1]['stage']}: {found[-1]['seconds']:.4g} s", flush=True)  # minutes at a true shape
    return found


# --- watching ------------------------------------------------------------------------------------------------------
class Watch:
    """Time, tokens, arithmetic and memory of some functions ({part: (where the caller looks it up, name)})."""

    def __init__(self, device: torch.device, parts: dict[str, tuple[Any, str]]):
        self.device, self.parts, self.stage, self.rows = device, parts, "", []
        self.within = []  # the parts that are running, outermost first
        self.tokens, self.flops = 0, defaultdict(int)  # so far

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        with contextlib.ExitStack() as patches:
            for name, (module, function) in self.parts.items():
                patches.enter_context(mock.patch.object(module, function, self.timed(name, getattr(module, function))))
            patches.enter_context(mock.patch.object(loading, "load", self.counted(loading.load)))
            yield

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, which leaves a row; within another part than the rest it is left alone."""

        @functools.wraps(function)
        def watched(*args, **kwargs):
            if self.within not in ([], [REST]):
                return function(*args, **kwargs)
            self.within.append(name)
            self.peak(fresh=True)
            before = self.now()
            try:
                return function(*args, **kwargs)
            finally:
                self.within.pop()
                self.note(name, before)

        return watched

    def now(self) -> dict[str, Any]:
        return {"seconds": common.clock(self.device), "tokens": self.tokens, **self.flops}

    def note(self, name: str, before: dict[str, Any]) -> None:
        now = self.now()
        spent = {k: float(now[k] - before.get(k, 0)) for k in now}
        self.rows.append({"stage": self.stage, "way": name, **spent, "peak_gb": self.peak(fresh=False)})

    def peak(self, *, fresh: bool) -> float:
        """Most memory held [GB] since it was last asked for as `fresh`; on a CPU Linux alone can tell."""
        if self.device.type == "cuda":
            if fresh:
                torch.cuda.reset_peak_memory_stats()
            return torch.cuda.max_memory_allocated() / 1e9
        if not CLEAR.exists():
            return np.nan
        if fresh:
            CLEAR.write_text("5")  # see proc(5)
        resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
        return int(resident.split()[1]) * 1024 / 1e9

    def counted(self, load: Callable) -> Callable:
        """models.load, whose models count what passes through them, and so do copies of theirs."""

        def loaded(*args, **kwargs):
            lm = load(*args, **kwargs)
            model, tokenizer = lm
            role, trunk, head = ROLES[model.config.model_type], model.base_model, model.get_output_embeddings()
            per_token, per_row = common.linear_flops(trunk), common.linear_flops(head)
            passes = lambda: 3 if torch.is_grad_enabled() else 1  # noqa: E731

            def count_tokens(module, args, kwargs):
                ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
                real = (ids != tokenizer.pad_token_id).sum()
                self.tokens = self.tokens + real
                self.flops[role] = self.flops[role] + passes() * per_token * real

            def count_rows(module, args):
                self.flops[role] = self.flops[role] + passes() * per_row * (args[0].numel() // args[0].shape[-1])

            trunk.register_forward_pre_hook(count_tokens, with_kwargs=True)
            head.register_forward_pre_hook(count_rows)
            return lm

        return loaded


# --- the table -----------------------------------------------------------------------------------------------------
def ceilings(settings: RunSettings, repeats: int) -> dict[str, float]:
    """{role: operations per second of its matrix products alone}, bf16."""
    rates = {}
    for role in ROLES.values():
        model, _ = loading.load(getattr(settings, role), device=settings.device)
        tokens = refill.READ_TOKENS[model.device.type]  # many: the best rate it has
        rates[role] = common.gemm_flops(model, tokens, torch.bfloat16, repeats)
    return rates


def table(watched: list[dict], settings: RunSettings, shape: str, rates: dict[str, float]) -> list[dict]:
    """A row per part over all its calls, and one for the rest of the stages."""
    rows = pd.DataFrame(watched).reindex(columns=["way", "seconds", "tokens", *rates, "peak_gb"])
    parts = rows.drop(columns="peak_gb").groupby("way").sum().join(rows.groupby("way")["peak_gb"].max())
    of_stages = parts.loc[REST]
    named = parts.loc[[name for name in PARTS if name in parts.index]]
    rest = (of_stages - named.sum()).to_frame(REST).T.assign(peak_gb=np.nan)
    parts = pd.concat([named, rest])
    parts["tokens_per_s"] = parts["tokens"] / parts["seconds"]
    parts["share_of_ceiling"] = sum(parts[role] / rate for role, rate in rates.items()) / parts["seconds"]
    parts["of_all"] = parts["seconds"] / of_stages["seconds"]
    parts["tokens"] = parts["tokens"].astype(int)
    shared = {"stage": "loop", "shape": shape, "stages": len({row["stage"] for row in watched})}
    known = {name: getattr(settings, name) for name in SIZES} | common.about(loading.pick_device(settings.device))
    columns = ["seconds", "of_all", "tokens", "tokens_per_s", "share_of_ceiling", "peak_gb"]
    return [shared | {"way": name} | row | known for name, row in parts[columns].to_dict("index").items()]


def measure(
    shape: str, sizes: dict[str, int], *, stages: int, device: str, repeats: int, apart: bool, label: str
) -> list[dict]:
    """The table's rows; `apart`: each stage in a process of its own. `label` is the shape's name in the table."""
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(Path(folder), shape, device, **sizes)
        names = runs.stage_names(settings)[: stages or None]
        watched = in_processes(settings, names) if apart else run_stages(settings, last=names[-1])
        return table(watched, settings, label, ceilings(settings, repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--full", action="store_true", help="sizes of params/paper.yaml, and every stage")
    for name in CUT["paper"]:
        parser.add_argument(f"--{name}", type=int, help="from the first on, 0 for all" if name == "stages" else None)
    parser.add_argument("--repeats", type=int, default=3, help="of the matrix products; the loop runs once")
    parser.add_argument("--folder", default=common.FOLDER, help="where the table goes")
    given = parser.parse_args()
    loading.use_threads(1)
    sizes = {"stages": 0} if given.full else CUT[given.shape] | FEW
    sizes |= {name: value for name in CUT["paper"] if (value := vars(given)[name]) is not None}
    on_cpu = loading.pick_device(given.device).type == "cpu"
    label = f"{given.shape}, full" if given.full else given.shape
    how = {"device": given.device, "repeats": given.repeats, "apart": on_cpu, "label": label}
    common.write(f"{given.folder}/{TABLE}", measure(given.shape, sizes, stages=sizes.pop("stages"), **how))


if __name__ == "__main__":
    main()
