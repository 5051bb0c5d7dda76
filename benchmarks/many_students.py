"""Several Students of one shape taught in one program, beside one after the other.

`python benchmarks/many_students.py` teaches the miniature's Student, on one thread (`--device cuda`: on a GPU), in
fp32: every Student a lesson of its own, the same number of steps. Stacked weights go through one forward pass
(`torch.func.stack_module_state`, `vmap`), so that each operation is called once for all Students, its matrix products
as one batched product; all rows of a step are padded alike. Both ways end with the same losses, to rounding. The last
way is the matrix products of one after the other and nothing else: what no program of one thread can be ahead of.
"""

import copy
from collections.abc import Callable, Sequence

import common
import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models import loading
from symbiosis.models.fast import malloc_without_trim
from symbiosis.models.loading import LanguageModel
from symbiosis.models.student import LessonRows, Student
from symbiosis.models.training import MAX_GRAD_NORM, WEIGHT_DECAY, epochs_of
from symbiosis.pretrain.miniature import RECIPES, word_tokenizer
from symbiosis.pretrain.recipe import new_model
from symbiosis.settings import RunSettings

TABLE = "many_students.csv"
STUDENTS = (2, 4, 8)
ONE, ALL, DENSE = "one after the other", "stacked", "one after the other, padded alike"
PRODUCTS = "the products alone"
GOAL = 2.5  # four Students for the time of 1.6
SETTINGS = RunSettings(precision="fp32")
Work = Callable[[], np.ndarray]  # the Students' label losses at their last step, (s,) [nats]


def miniature_student() -> LanguageModel:
    """A fresh Student of the miniature's sizes: how long a step takes does not depend on its weights."""
    torch.manual_seed(common.SEED)
    tokenizer = word_tokenizer(World.make(common.SEED), "student")
    return LanguageModel(new_model("student", tokenizer, RECIPES["student"].sizes), tokenizer)


def students_and_lessons(n: int, rows: int, device: str) -> list[tuple[Student, object]]:
    """n copies of the Student, and of each a lesson of its own."""
    lm, found = miniature_student(), []
    for i in range(n):
        frame = World.make(common.SEED).sample(rows, np.random.default_rng(common.SEED + i))
        lesson = make_lesson(frame["text"].tolist(), frame["label"].to_numpy(), "real", 0, "real")
        own = lm._replace(model=copy.deepcopy(lm.model).to(device))
        found.append((Student(own, LABEL_NAMES, SETTINGS), lesson))
    return found


def one_after_the_other(n: int, rows: int, device: str) -> Work:
    """Step B as the loop takes it, n times."""
    pairs = students_and_lessons(n, rows, device)
    return lambda: np.array(
        [student.learn(lesson, seed=i)[-1]["label_loss"] for i, (student, lesson) in enumerate(pairs)]
    )


# --- all in one program --------------------------------------------------------------------------------------------
def dense(rows: LessonRows, batches: Sequence[np.ndarray], width: int, pad_id: int) -> tuple[torch.Tensor, ...]:
    """Every step's token rows (steps, 2b, width), first questions, then texts, and what each token weighs in its means.

    The weights of label words and of texts are two tensors (steps, 2b, width - 1): loss = sum of nll times both.
    """
    most = 2 * max(map(len, batches))
    ids = torch.full((len(batches), most, width), pad_id)
    label, text = torch.zeros(2, len(batches), most, width - 1)
    for step, batch in enumerate(batches):
        n_text = sum(len(rows.written[i]) - rows.given[i] for i in batch)
        for k, i in enumerate(batch):
            (word,) = (rows.words[c] for c in rows.labels[i])
            asked, k_text = [*rows.asked[i], *word], len(batch) + k
            ids[step, k, : len(asked)] = torch.tensor(asked)
            ids[step, k_text, : len(rows.written[i])] = torch.tensor(rows.written[i])
            label[step, k, len(rows.asked[i]) - 1 : len(asked) - 1] = 1 / len(batch)
            text[step, k_text, rows.given[i] - 1 : len(rows.written[i]) - 1] = 1 / n_text
    return ids, label, text


def stacked(n: int, rows: int, device: str, *, together: bool = True) -> Work:
    """n Students in one program, or, not `together`, the same program for each of them alone."""
    pairs, pad_id = students_and_lessons(n, rows, device), miniature_student().tokenizer.pad_token_id
    read = [LessonRows(student, lesson) for student, lesson in pairs]
    width = max(max(map(len, [*r.written, *r.asked])) for r in read) + 2
    steps = [epochs_of(r.lengths, SETTINGS.batch_size, SETTINGS.epochs, i) for i, r in enumerate(read)]
    made = [dense(r, batches, width, pad_id) for r, batches in zip(read, steps, strict=True)]
    data = [tuple(part.to(device) for part in parts) for parts in made]
    models = [student.lm.model for student, _ in pairs]
    for model in models:
        model.set_attn_implementation("eager")  # vmap takes torch's fused attention row by row
        model.train()
    groups = [range(n)] if together else [[i] for i in range(n)]

    def work() -> np.ndarray:
        return np.concatenate([teach([models[i] for i in g], [data[i] for i in g]) for g in groups])

    return work


@malloc_without_trim()
def teach(models: Sequence[torch.nn.Module], data: Sequence[tuple[torch.Tensor, ...]]) -> np.ndarray:
    """`training.fit` of several models at once: the same AdamW, each model's gradients clipped by their own norm."""
    weights, _ = stack_module_state(models)
    base, made = models[0], list(weights.values())
    optimizer = torch.optim.AdamW(made, lr=SETTINGS.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    ids, label, text = (torch.stack(parts, dim=1) for parts in zip(*data, strict=True))  # (steps, s, 2b, width)

    def losses(weights, ids, label, text):
        logits = functional_call(base, weights, (ids,), {"use_cache": False}).logits[:, :-1]
        nll = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view_as(label)
        return (nll * label).sum(), (nll * text).sum()

    for step in range(len(ids)):
        optimizer.zero_grad(set_to_none=True)
        label_loss, lm_loss = vmap(losses)(weights, ids[step], label[step], text[step])
        (label_loss + SETTINGS.lm_weight * lm_loss).sum().backward()
        norm = torch.stack([w.grad.flatten(1).norm(dim=1) for w in made]).norm(dim=0)  # (s,)
        factor = (MAX_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0)
        for w in made:
            w.grad.mul_(factor.view(-1, *[1] * (w.dim() - 1)))
        optimizer.step()
    return label_loss.detach().cpu().numpy()


# --- what is measured ----------------------------------------------------------------------------------------------
def products_s(n: int, rows: int, repeats: int, device: str) -> float:
    """Seconds of the matrix products of n lessons, forward and twice backward; the head's of predicted tokens alone."""
    operations = 0
    for student, lesson in students_and_lessons(n, rows, device):
        read, model = LessonRows(student, lesson), student.lm.model
        words = sum(len(read.words[c]) for labels in read.labels for c in labels)
        head = 2 * model.get_output_embeddings().weight.numel()
        tokens = sum(map(len, read.asked)) + sum(map(len, read.written)) + words
        predicted = sum(map(len, read.written)) - sum(read.given) + words
        operations += 3 * SETTINGS.epochs * (tokens * (common.linear_flops(model) - head) + predicted * head)
    at_once = tokens // rows * SETTINGS.batch_size
    with malloc_without_trim():
        return operations / common.gemm_flops(model, at_once, torch.float32, repeats)


def measure(*, rows: int, repeats: int, device: str = "cpu", students: Sequence[int] = STUDENTS) -> list[dict]:
    """The table's rows: for each number of Students both ways' seconds, their ratio, and how far their losses part."""
    table, about = [], {"lesson": rows, "n": repeats, **common.about(device)}
    for s in students:
        ways = {ONE: lambda s=s: one_after_the_other(s, rows, device), ALL: lambda s=s: stacked(s, rows, device)}
        ways[DENSE] = lambda s=s: stacked(s, rows, device, together=False)
        seconds = common.interleaved(ways, repeats, device)
        ends = {way: make()() for way, make in ways.items()}
        seconds[PRODUCTS] = products_s(s, rows, repeats, device)
        table += [
            {"stage": "many students", "shape": "miniature", "students": s, "way": way, "seconds": taken,
             "ratio": seconds[ONE] / taken, "goal": GOAL if (s, way) == (4, ALL) else None,
             "largest_difference": float(np.abs(ends[way] - ends[ONE]).max()) if way in ends else None} | about
            for way, taken in seconds.items()
        ]  # fmt: skip
    return table


def main() -> None:
    parser = common.arguments(__doc__, with_model=False, rows=96)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    given = parser.parse_args()
    loading.use_threads(1)
    device = str(loading.pick_device(given.device))
    common.write(f"{given.folder}/{TABLE}", measure(rows=given.rows, repeats=given.repeats, device=device))


if __name__ == "__main__":
    main()
