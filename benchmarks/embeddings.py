"""Vectors of texts by a sentence encoder, beside the `encode` of sentence-transformers and a plain loop.

    python benchmarks/embeddings.py --shape all-MiniLM-L6-v2

The encoder has the shapes of sentence-transformers/all-MiniLM-L6-v2, random weights and a tokenizer of the texts' own
words; one folder holds it for every way. `encode` is left as it comes: batches of 32, texts of like length together,
fp32; `encode, bf16 weights` is what its users turn to for speed. `file order` pads batches of 32 as they come. The
ceiling is the rate at which the machine multiplies the same matrices in the way's precision, over real tokens only.
`distance` is 1 - cosine to the plain loop's vector, the largest over the texts. `distance_of_others` is that loop's
mean over pairs of different texts: how far apart vectors are here at all.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from symbiosis.data.world import World
from symbiosis.models import encoders, loading

TABLE = "embeddings.csv"
SHAPES = {
    "tiny": {"vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 256},
    "all-MiniLM-L6-v2": {"vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
}
HEADS = {"tiny": 4, "all-MiniLM-L6-v2": 12}
MAX_LENGTH = 256  # tokens, longer texts are cut
NAIVE_BATCH = 32
PEER = "sentence-transformers"
NAIVE, FP32, BF16 = "file order fp32", "symbiosis fp32", "symbiosis bf16"
ENCODE, ENCODE_BF16 = f"{PEER} encode fp32", f"{PEER} encode, bf16 weights"
GOALS = {(BF16, ENCODE): 2.0, (BF16, ENCODE_BF16): None, (BF16, NAIVE): None, (FP32, NAIVE): None, (FP32, ENCODE): None}
DISTANCE_GOAL = 0.001
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
Encode = Callable[[Sequence[str]], np.ndarray]


def write_encoder(shape: str, folder: Path) -> None:
    """A BERT at a true shape with random weights, as a folder that every way loads."""
    words = [*SPECIAL_TOKENS, ".", ",", *sorted(World.make(common.SEED).vocabulary())]
    tokenizer = Tokenizer(WordPiece({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, **names)
    torch.manual_seed(common.SEED)
    config = BertConfig(num_attention_heads=HEADS[shape], max_position_embeddings=512, **SHAPES[shape])
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


# --- the ways ------------------------------------------------------------------------------------------------------
def naive(folder: str, device: str) -> Encode:
    """Mean of the last hidden states over each text's tokens: batches as they come, padded to their longest."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    model.to(loading.pick_device(device))

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> np.ndarray:
        found = []
        for i in range(0, len(texts), NAIVE_BATCH):
            some = list(texts[i : i + NAIVE_BATCH])
            inputs = tokenizer(some, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
            inputs = inputs.to(model.device)
            mask = inputs["attention_mask"][:, :, None]
            found.append((model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1))
        return torch.cat(found).cpu().numpy()

    return encode


def ours(folder: str, device: str, *, precision: str) -> Encode:
    return encoders.load(folder, device=device, max_length=MAX_LENGTH, precision=precision)


def peer(folder: str, device: str, *, dtype: torch.dtype) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=str(loading.pick_device(device)), model_kwargs={"dtype": dtype})
    return lambda texts: model.encode(list(texts), show_progress_bar=False)


def ways(*, with_peer: bool) -> dict[str, tuple[Callable[..., Encode], dict[str, Any]]]:
    found = {
        NAIVE: (naive, {}),
        ENCODE: (peer, {"dtype": torch.float32}),
        ENCODE_BF16: (peer, {"dtype": torch.bfloat16}),
        FP32: (ours, {"precision": "fp32"}),
        BF16: (ours, {"precision": "bf16"}),
    }
    return {name: way for name, way in found.items() if with_peer or way[0] is not peer}


# --- what is measured ----------------------------------------------------------------------------------------------
def run_once(folder: str, name: str, texts: list[str]) -> None:
    """One call of a way, for its peak memory."""
    make, how = ways(with_peer=True)[name]
    make(folder, "cpu", **how)(texts)


def products(folder: str, device: str, texts: Sequence[str], repeats: int) -> dict[str, float]:
    """{precision: texts per second of the matrix products alone}, no padding."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    model.to(loading.pick_device(device))
    tokens = sum(map(len, tokenizer(list(texts))["input_ids"])) / len(texts)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {p: common.gemm_flops(model, round(tokens * NAIVE_BATCH), dtype, repeats) for p, dtype in dtypes.items()}
    return {p: rate / common.linear_flops(model) / tokens for p, rate in rates.items()}


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) 1 - cosine of the rows of a and of b."""
    a, b = (x / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (a, b))
    return 1 - a @ b.T


def measure(
    shape: str, folder: str, texts: list[str], *, repeats: int, device: str, memory: dict[str, float]
) -> list[dict]:
    """The table's rows: one per way, then one per goal."""
    found = ways(with_peer=common.installed("sentence_transformers"))
    encodes = {name: make(folder, device, **how) for name, (make, how) in found.items()}
    vectors: dict[str, np.ndarray] = {}
    work = {name: lambda name=name: lambda: vectors.update({name: encodes[name](texts)}) for name in encodes}
    seconds = common.interleaved(work, repeats, loading.pick_device(device))
    rates, ceiling = {name: len(texts) / s for name, s in seconds.items()}, products(folder, device, texts, repeats)
    others = distances(vectors[NAIVE], vectors[NAIVE])[~np.eye(len(texts), dtype=bool)].mean()
    shared = {"stage": "embeddings", "shape": shape}
    about = {"texts": len(texts), "n": repeats, **common.about(loading.pick_device(device), PEER)}
    table = [
        shared | {"way": name, "texts_per_s": rate, "peer": "", "ratio": None, "goal": None}
        | {"share_of_ceiling": rate / ceiling["bf16" if "bf16" in name else "fp32"], "peak_gb": memory.get(name)}
        | {"distance": float(distances(vectors[name], vectors[NAIVE]).diagonal().max()), "goal_distance": DISTANCE_GOAL}
        | {"distance_of_others": float(others)} | about
        for name, rate in rates.items()
    ]  # fmt: skip
    for (way, other), goal in GOALS.items():
        if other in rates:
            beside = {"way": way, "texts_per_s": rates[way], "peer": other, "ratio": rates[way] / rates[other]}
            table.append(shared | beside | {"goal": goal} | about)
    return table


def main() -> None:
    parser = common.arguments(__doc__, with_model=False, texts=512)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    given = parser.parse_args()
    loading.use_threads(1)
    texts = common.texts(given.texts, np.random.default_rng(common.SEED))
    with tempfile.TemporaryDirectory() as folder:
        write_encoder(given.shape, Path(folder))
        found = ways(with_peer=common.installed("sentence_transformers"))
        on_cpu = loading.pick_device(given.device).type == "cpu"
        longest = sorted(texts, key=len)[-128:]  # two batches at least: more would hold no more
        memory = {name: common.peak_gb(run_once, folder, name, longest) for name in found} if on_cpu else {}
        rows = measure(given.shape, folder, texts, repeats=given.repeats, device=given.device, memory=memory)
    common.write(f"{given.folder}/{TABLE}", rows)


if __name__ == "__main__":
    main()
