"""One writer of benchmarks/writers.py: llama.cpp by its batch API, in a Python of its own that has llama-cpp-python.

    python llama_writer.py write ORDER.json    then a seed per line of input, an answer per line of output
    python llama_writer.py quantize FROM.gguf TO.gguf TYPE

ORDER.json: file, prompts (token ids), limits (new tokens of each text), ends (token ids), batch, threads, temperature,
top_p. An answer: wall_s, cpu_s, peak_gb, texts (token ids, the end token not among them). Needs nothing of symbiosis.
"""

import ctypes
import json
import sys
import time

import llama_cpp as llama

REFILL_SHARE = 0.25  # share of the rows that must be free before new prompts are read, as in symbiosis.models.refill
READ_TOKENS = 512  # of prompts in one call


class Writer:
    """A model, its context of `batch` sequences, and a chain of samplers per text."""

    def __init__(self, order: dict):
        self.order, self.batch = order, min(order["batch"], len(order["prompts"]))
        self.vocabulary = llama.llama_model_get_vocab(self.load())
        longest = max(len(p) + n for p, n in zip(order["prompts"], order["limits"], strict=True))
        wanted = llama.llama_context_default_params()
        wanted.n_ctx = self.batch * -(-longest // 256) * 256  # a sequence's share is rounded up to 256 cells
        wanted.n_batch = wanted.n_ubatch = max(READ_TOKENS, self.batch)
        wanted.n_seq_max, wanted.kv_unified = self.batch, False
        wanted.n_threads = wanted.n_threads_batch = order["threads"]
        self.context = llama.llama_init_from_model(self.model, wanted)
        self.memory = llama.llama_get_memory(self.context)
        self.tokens = llama.llama_batch_init(wanted.n_batch, 0, 1)

    def load(self):
        llama.llama_backend_init()
        self.model = llama.llama_model_load_from_file(self.order["file"].encode(), llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"{self.order['file']}: llama.cpp cannot read it")
        return self.model

    def write(self, seed: int) -> list[list[int]]:
        prompts, self.texts = self.order["prompts"], [[] for _ in self.order["prompts"]]
        llama.llama_memory_clear(self.memory, True)
        waiting = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
        self.chains = [self.chain(seed * len(prompts) + i) for i in range(len(prompts))]
        self.live: dict[int, int] = {}  # sequence: its text
        while waiting or self.live:
            free = [s for s in range(self.batch) if s not in self.live]
            if waiting and len(free) >= max(1, REFILL_SHARE * self.batch):
                taken, waiting = waiting[: len(free)], waiting[len(free) :]
                self.read(list(zip(free, taken, strict=False)))
            else:
                ends = {s: (self.texts[i][-1], len(prompts[i]) + len(self.texts[i]) - 1) for s, i in self.live.items()}
                self.decode([(s, [token], position) for s, (token, position) in ends.items()])
        for chain in self.chains:
            llama.llama_sampler_free(chain)
        return self.texts

    def chain(self, seed: int):
        chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_temp(self.order["temperature"]))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_top_p(self.order["top_p"], 1))
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_dist(seed))
        return chain

    def read(self, new: list[tuple[int, int]]) -> None:
        """Prompts of (sequence, text), as many in one call as READ_TOKENS holds."""
        while new:
            room, n = READ_TOKENS, 0
            while n < len(new) and (n == 0 or room >= len(self.order["prompts"][new[n][1]])):
                room -= len(self.order["prompts"][new[n][1]])
                n += 1
            self.live |= dict(new[:n])
            self.decode([(s, self.order["prompts"][i], 0) for s, i in new[:n]])
            new = new[n:]

    def decode(self, rows: list[tuple[int, list[int], int]]) -> None:
        """One call for (sequence, tokens, position of the first) of each row, and one more token of each."""
        batch, k, last = self.tokens, 0, []
        for sequence, tokens, first in rows:
            for j, token in enumerate(tokens):
                batch.token[k], batch.pos[k], batch.n_seq_id[k], batch.logits[k] = token, first + j, 1, False
                batch.seq_id[k][0] = sequence
                k += 1
            batch.logits[k - 1] = True
            last.append((sequence, k - 1))
        batch.n_tokens = k
        if failed := llama.llama_decode(self.context, batch):
            sys.exit(f"llama_decode gave {failed} for {k} tokens")
        for sequence, at in last:
            i = self.live[sequence]
            token = llama.llama_sampler_sample(self.chains[i], self.context, at)
            self.texts[i] += [token] * (token not in self.order["ends"])
            if token in self.order["ends"] or len(self.texts[i]) == self.order["limits"][i]:
                del self.live[sequence]
                llama.llama_memory_seq_rm(self.memory, sequence, -1, -1)


def main(words: list[str]) -> None:
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    if words[0] == "quantize":
        how = llama.llama_model_quantize_default_params()
        how.ftype, how.allow_requantize, how.nthread = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{words[3]}"), True, 1
        sys.exit(llama.llama_model_quantize(words[1].encode(), words[2].encode(), ctypes.byref(how)))
    with open(words[1]) as file:
        writer = Writer(json.load(file))
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        texts = writer.write(int(line))
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        with open("/proc/self/status") as status:  # getrusage would count the process that started this one
            peak = sum(int(of.split()[1]) for of in status if of.startswith("VmHWM")) * 1024 / 1e9
        print(json.dumps(took | {"peak_gb": peak, "texts": texts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
