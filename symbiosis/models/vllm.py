"""Writing by vLLM, where it is installed: an environment of its own, as docs/clusters.md describes.

Tried against a stand-in of its interface only.
"""

import hashlib
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from symbiosis.errors import SymbiosisError
from symbiosis.models.devices import resolved_precision
from symbiosis.models.loading import LanguageModel, end_tokens
from symbiosis.settings import derive_seed

MEMORY = 0.4  # vLLM's share of the GPU; the rest is for the models that are trained and scored in this process

_engines: dict[str, Any] = {}  # weights' digest -> vLLM's engine, the last one only: starting one takes a minute


class EngineError(SymbiosisError):
    """An engine that this environment does not have, with the remedy."""


def require_engine(engine: str) -> None:
    """Raises EngineError where this environment does not have the `generation_engine`."""
    if engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise EngineError(
            "generation_engine: 'vllm' is not installed here; make the environment of its own that docs/clusters.md "
            "describes and run from there, or set generation_engine to transformers"
        )


def generate(lm: LanguageModel, prompts, sampling, *, seed: int, samples: int) -> list[list[int]]:
    """`generation.generate` by vLLM; every prompt has a seed of its own, or equal ones would get one text."""
    require_engine("vllm")
    from vllm import SamplingParams

    stops = end_tokens(lm, sampling.stops)
    asked = [
        SamplingParams(
            n=samples, temperature=sampling.temperature, top_p=sampling.top_p, max_tokens=sampling.max_new_tokens,
            seed=derive_seed(seed, i, "vllm") % 2**31, stop_token_ids=stops,
        )
        for i in range(len(prompts))
    ]  # fmt: skip
    rows = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    answers = _engine(lm, sampling.precision).generate(rows, asked, use_tqdm=False)
    return [list(output.token_ids) for answer in answers for output in answer.outputs]


def _engine(lm: LanguageModel, precision: str):
    """vLLM's engine over the weights as they stand: the last one, or, since they were trained, a new one."""
    from vllm import LLM

    digest = hashlib.sha256(precision.encode())
    for p in lm.model.parameters():
        digest.update(p.detach().cpu().contiguous().numpy().data)
    if digest.hexdigest() not in _engines:
        _engines.clear()  # gives its memory back first
        with tempfile.TemporaryDirectory(prefix="symbiosis-vllm-") as folder:
            lm.save(Path(folder) / "model")
            dtype = {"fp32": "float32", "bf16": "bfloat16"}[resolved_precision(precision, lm.device)]
            _engines[digest.hexdigest()] = LLM(
                model=f"{folder}/model", dtype=dtype, gpu_memory_utilization=MEMORY, trust_remote_code=False
            )
    return _engines[digest.hexdigest()]
