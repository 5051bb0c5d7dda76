"""The refill engine: a decoding loop of our own that computes no row after its text has ended, and sorts no vocabulary.

Four things make it faster than the library's generate, none changes what is sampled: rows that have ended are dropped
at once and their places filled with the next prompts, the cache is allocated once instead of grown at every step,
tokens of the nucleus are drawn by rejection, and a CPU multiplies by packed bf16 weights.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from symbiosis.models.fast import packed
from symbiosis.models.loading import LanguageModel, end_tokens, pad
from symbiosis.models.sampling import Sampling, SamplingError, draw
from symbiosis.settings import derive_seed

READ_TOKENS = {"cpu": 512, "cuda": 8192}  # of prompts read in one pass: enough to keep the device busy, less padding
REFILL_SHARE = 0.25  # share of the rows that must be free before new prompts are read; ended rows leave at once anyway


# --- the cache -----------------------------------------------------------------------------------------------------
class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: (slots, heads, capacity, size), written in place and read up to the live length."""

    def __init__(self, like: DynamicLayer, slots: int, capacity: int):
        super().__init__()
        _, heads, _, size = like.keys.shape
        self.keys = like.keys.new_zeros(slots, heads, capacity, size)  # not empty: a NaN is not masked by a weight of 0
        self.values = like.values.new_zeros(slots, heads, capacity, like.values.shape[-1])
        self.is_initialized = True

    def lazy_initialization(self, key_states, value_states) -> None:
        """Nothing to do: the first batch of prompts gave the shapes."""

    def set_positions(self, rows: torch.Tensor, columns: torch.Tensor, width: int) -> None:
        """Where the next step writes, (n,) and (n,), and how many columns it reads."""
        self.rows, self.columns, self.width = rows, columns, width

    def update(self, key_states, value_states, *args, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
        """One new key and value per live row, (n, heads, 1, size); returns the live rows' (n, heads, width, size)."""
        n = len(self.rows)
        self.keys[self.rows, :, self.columns] = key_states[:, :, 0]
        self.values[self.rows, :, self.columns] = value_states[:, :, 0]
        return self.keys[:n, :, : self.width], self.values[:n, :, : self.width]

    def write_prompt(self, read: DynamicLayer, prompts: torch.Tensor, slot: int) -> None:
        """Copy what was read of `prompts`, rows of `read`, to the slots from `slot` on."""
        places, columns = slice(slot, slot + len(prompts)), slice(0, read.keys.shape[2])
        self.keys[places, :, columns], self.values[places, :, columns] = read.keys[prompts], read.values[prompts]

    def move(self, sources: torch.Tensor, holes: torch.Tensor, width: int) -> None:
        for states in (self.keys, self.values):
            states[holes, :, :width] = states[sources, :, :width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_seq_length(self) -> int:
        return self.width - 1  # what stood in the cache before this step, in the longest row

    def get_max_length(self) -> int:
        return self.keys.shape[2]


# --- the loop ------------------------------------------------------------------------------------------------------


LIVE_ROW = np.dtype([  # the number of its text, its last token (not yet read), that token's column, its first
    ("text", np.int64), ("token", np.int64), ("end", np.int64), ("start", np.int64)
])  # fmt: skip


class Refill:
    """Writes texts in a batch of `batch_size` rows; see `sample`."""

    def __init__(self, lm: LanguageModel, prompts, limits, sampling: Sampling, seed: int):
        (self.model, self.tokenizer), self.prompts, self.limits = lm, prompts, limits
        self.sampling, self.batch_size, self.seed = sampling, sampling.batch_size, seed
        self.stops = {*end_tokens(lm, sampling.stops)}
        self.live, self.cache = np.zeros(0, dtype=LIVE_ROW), None  # row i is slot i of the cache
        self.written: list[list[int]] = [[] for _ in prompts]
        self.uniforms: dict[int, np.ndarray] = {}  # of the live texts, (limit,) fp64 in [0, 1) each
        # longest first, as everywhere, and equal prompts side by side: they are read once
        self.waiting = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), tuple(prompts[i]), i))

    def run(self) -> list[list[int]]:
        while self.waiting or len(self.live):
            room = self.batch_size - len(self.live)
            if self.waiting and room >= max(1, REFILL_SHARE * self.batch_size):
                self.read(room)
            else:
                self.decode()
        return self.written

    def read(self, room: int) -> None:
        """Read the prompts of the next `room` texts, equal ones once, a few of like length at a time."""
        texts, self.waiting = self.waiting[:room], self.waiting[room:]
        groups = [list(equal) for _, equal in itertools.groupby(texts, key=lambda i: tuple(self.prompts[i]))]
        while groups:
            n = max(1, READ_TOKENS[self.model.device.type] // len(self.prompts[groups[0][0]]))
            self.prefill(groups[:n])
            groups = groups[n:]

    def prefill(self, groups: list[list[int]]) -> None:
        """Read one prompt per group of texts, and draw the first token of each text."""
        inputs = pad(self.tokenizer, [self.prompts[g[0]] for g in groups], left=True, device=self.model.device)
        read = self.model(**inputs, use_cache=True, logits_to_keep=1)
        which = self._tensor(np.repeat(np.arange(len(groups)), [len(g) for g in groups]))
        width, first = inputs["input_ids"].shape[1], len(self.live)
        if self.cache is None:
            self.cache = self._allocate(read.past_key_values)
        for layer, new in zip(self.cache.layers, read.past_key_values.layers, strict=True):
            layer.write_prompt(new, which, first)
        new = [(i, 0, width - 1, width - len(self.prompts[i])) for g in groups for i in g]
        self.live = np.concatenate([self.live, np.array(new, dtype=LIVE_ROW)])
        for i in itertools.chain(*groups):  # a text draws from its own, so that no neighbour in a batch changes it
            self.uniforms[i] = np.random.default_rng(derive_seed(self.seed, i)).random(self.limits[i])
        self.sample_next(read.logits[:, -1][which], slice(first, None))

    def decode(self) -> None:
        """One forward pass over the last token of every live row, and one more token each."""
        live, width = self.live, int(self.live["end"].max()) + 1
        rows, columns = torch.arange(len(live), device=self.model.device), self._tensor(live["end"])
        for layer in self.cache.layers:
            layer.set_positions(rows, columns, width)
        at = np.arange(width)
        mask = (at >= live["start"][:, None]) & (at <= live["end"][:, None])
        out = self.model(
            input_ids=self._tensor(live["token"][:, None]), attention_mask=self._tensor(mask.astype(np.int64)),
            position_ids=self._tensor((live["end"] - live["start"])[:, None]), past_key_values=self.cache,
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        self.sample_next(out.logits[:, -1], slice(None))

    def sample_next(self, logits: torch.Tensor, rows: slice) -> None:
        """Draw a token for each of the live rows; rows that have ended leave the batch."""
        live, texts = self.live, self.live["text"][rows]
        uniforms = [self.uniforms[i][len(self.written[i])] for i in texts]
        how = {"temperature": self.sampling.temperature, "top_p": self.sampling.top_p}
        live["token"][rows] = draw(logits, self._tensor(uniforms), **how).cpu().numpy()
        live["end"][rows] += 1
        ended = np.zeros(len(live), dtype=bool)
        for row, text in zip(range(len(live))[rows], texts, strict=True):
            self.written[text].append(int(live["token"][row]))
            ended[row] = live["token"][row] in self.stops or len(self.written[text]) == self.limits[text]
        if ended.any():
            self.evict(ended)

    def evict(self, ended: np.ndarray) -> None:
        """Forget the rows where `ended` (n,) is true; the last live ones move into their slots."""
        for text in self.live["text"][ended]:
            del self.uniforms[text]
        n, width = int((~ended).sum()), int(self.live["end"].max())
        holes, sources = np.flatnonzero(ended[:n]), n + np.flatnonzero(~ended[n:])
        self.live[holes] = self.live[sources]
        self.live = self.live[:n]
        if len(holes):
            for layer in self.cache.layers:
                layer.move(self._tensor(sources), self._tensor(holes), width)

    def _allocate(self, read: Cache) -> Cache:
        """Room for `batch_size` rows of the longest prompt, which was read first, and the longest text."""
        if any(type(layer) is not DynamicLayer for layer in read.layers):
            raise SamplingError(
                f"generation_engine: 'refill' needs plain attention in every layer, {self.model.config.model_type} has "
                "other ones; set generation_engine to transformers"
            )
        slots = min(self.batch_size, len(self.prompts))
        capacity = read.get_seq_length() + max(self.limits)
        return Cache(layers=[SlotLayer(layer, slots, capacity) for layer in read.layers])

    def _tensor(self, values) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), device=self.model.device)


def sample(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], limits: Sequence[int], sampling: Sampling, *, seed: int
) -> list[list[int]]:
    """One continuation of each prompt, token ids in the prompts' order, the end token included where it was drawn.

    prompts: n rows of token ids; equal ones that meet in a batch are read once. limits: (n,) new tokens at most.
    The batch size changes no text beyond rounding: text i draws from (seed, i) alone.
    Raises SamplingError for models with sliding or recurrent layers.
    """
    with torch.inference_mode(), packed(lm.model):
        return Refill(lm, prompts, limits, sampling, seed).run()
