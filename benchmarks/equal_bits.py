"""Which settings of the environment give the same bits under every instruction set, and what they cost.

    python benchmarks/equal_bits.py

A processor's libraries choose their kernels by its instructions and its vendor, so the last bit of a sum moves from
machine to machine. Each setting here stands for such a machine: `capability` is the instruction set torch's own kernels
are limited to (ATEN_CPU_CAPABILITY). Under each, a fresh process hashes what single operations give and the weights of
a small language model after twenty steps of training, and times the training. `pinned` adds the variables that keep
oneDNN (ONEDNN_MAX_CPU_ISA) and MKL (MKL_CBWR) to one path. `differs_from_first` names the operations whose bits are
not those of the first row. What another vendor's processor gives cannot be seen from one
machine: compare the column `digest` of two tables.
"""

import hashlib
import json
import os
import subprocess
import sys

import common
import numpy as np
import torch
from torch.nn import functional as f

TABLE = "equal_bits.csv"
PINNED = {"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
CAPABILITIES = ("", "avx2", "default")  # '' leaves the choice to torch: the widest there is
SETTINGS = {
    (capability or "free") + ", pinned" * bool(pinned): {"ATEN_CPU_CAPABILITY": capability} | pinned
    for pinned in ({}, PINNED)
    for capability in CAPABILITIES
}
STEPS, ROWS, TOKENS = 20, 16, 48


def operations() -> dict[str, str]:
    """{operation: sha256 of its result} on fixed numbers, and of the weights after `STEPS` steps of training."""
    torch.manual_seed(common.SEED)
    x, w, bias = torch.randn(64, 192), torch.randn(768, 192) / 14, torch.randn(768)
    q = torch.randn(4, 6, TOKENS, 32)
    weight, gradient = torch.nn.Parameter(torch.randn(400, 100)), torch.randn(400, 100)
    weight.grad = gradient
    torch.optim.AdamW([weight], lr=1e-3).step()
    results = {
        "linear": f.linear(x, w, bias),
        "softmax": x.softmax(-1),
        "log_softmax": x.log_softmax(-1),
        "layer_norm": f.layer_norm(x, (192,)),
        "gelu": f.gelu(x),
        "silu": f.silu(x),
        "exp": x.exp(),
        "sum": x.sum(1),
        "attention": f.scaled_dot_product_attention(q, q, q, is_causal=True),
        "adamw": weight.detach(),
    }
    return {name: digest([value]) for name, value in results.items()}


def trained() -> tuple[str, float]:
    """sha256 of a small language model's weights after `STEPS` steps, and the seconds of these."""
    torch.manual_seed(common.SEED)
    student = common.GPTNeoXForCausalLM(common.GPTNeoXConfig(**common.SHAPES["tiny"]))
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    ids = torch.randint(0, 4096, (STEPS, ROWS, TOKENS))
    start = common.clock("cpu")
    for batch in ids:
        student(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return digest(student.state_dict().values()), common.clock("cpu") - start


def digest(tensors) -> str:
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]


def measure(environment: dict[str, str]) -> dict:
    """What a fresh process under these variables gives: they are read when torch is imported."""
    given = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | environment
    known = ("ATEN_CPU_CAPABILITY", *PINNED)
    env = {name: value for name, value in given.items() if name not in known or environment.get(name)}
    told = subprocess.run([sys.executable, __file__, "--measure"], env=env, check=True, capture_output=True)
    return json.loads(told.stdout.splitlines()[-1])


def rows(repeats: int) -> list[dict]:
    """A row per setting."""
    found = {name: [measure(environment) for _ in range(repeats)] for name, environment in SETTINGS.items()}
    first, table = found[next(iter(SETTINGS))][0]["digests"], []
    for name, turns in found.items():
        digests = turns[0]["digests"]
        row = {"shape": "tiny", "setting": name, "capability": turns[0]["capability"], "n": repeats}
        row["repeats_equal"] = all(turn["digests"] == digests for turn in turns)
        row["differs_from_first"] = " ".join(op for op in digests if digests[op] != first[op])
        row["seconds"] = float(np.median([turn["seconds"] for turn in turns]))
        table.append(
            row | {"digest": hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:12]} | common.about("cpu")
        )
    return table


def main() -> None:
    args = common.arguments(__doc__, with_model=False).parse_args()
    common.write(f"{args.folder}/{TABLE}", rows(args.repeats))


if __name__ == "__main__":
    if "--measure" in sys.argv:
        weights, seconds = trained()
        told = {"digests": operations() | {"training": weights}, "seconds": seconds}
        print(json.dumps(told | {"capability": torch.backends.cpu.get_cpu_capability()}))
    else:
        main()
