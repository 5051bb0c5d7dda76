"""Studies that teach or ask the miniature's Students, outside of runs: their rows of reports/small_studies.csv.

`python -m symbiosis.analysis.student_studies STUDY FIRST LAST [FOLDER]` puts those of the seeds FIRST to LAST there,
seed by seed, in place of older ones. `... student_studies all SEEDS` makes the first seeds of each that are not in the
local table yet (`make studies`). CPU time of a seed: SECONDS.

    above_teacher   two minutes: what its labeller's labels teach a Student, by their number, kind and texts
    third_lever     half a minute: diversity, quality and complexity of a lesson, in and out of distribution
    sensitivity     two minutes: the share of real rows to Students of other tokenizers, sizes and architectures
    training_methods half a minute: the same to one Student, trained in four ways
    share_factorial four minutes: ways to train, tokenizers, sizes and architectures crossed
    composition     half a minute: texts of related parts against others of the very same sentences
    open_ended      seconds: last Students of the runs of study `main` below FOLDER go on with held-out text
"""

import copy
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig, MambaConfig, PreTrainedTokenizerFast

from symbiosis import params
from symbiosis.analysis.small_studies import TABLE, publish, table
from symbiosis.data.dialled import Dial
from symbiosis.data.lesson import make_lesson
from symbiosis.data.world import LABEL_NAMES, N_HEAD, World
from symbiosis.loop import runs, teaching
from symbiosis.loop.mixing import weak_labels
from symbiosis.measures.diversity import distinct_n, mauve
from symbiosis.models import loading
from symbiosis.models.generation import Sampling, generate
from symbiosis.models.hidden_states import hidden_states
from symbiosis.models.proxies import fit_head
from symbiosis.models.scoring import text_losses
from symbiosis.models.student import Student
from symbiosis.pretrain import miniature
from symbiosis.pretrain.recipe import INITIALIZER_RANGE, train
from symbiosis.settings import make_settings
from symbiosis.store.results import NotRun, select
from symbiosis.yaml_files import read_params

TAUGHT, TESTED = (300, 3_000, 10_000), 2_000  # labels, and test texts
SOURCES, STRENGTH = 300, 1.0  # texts that written ones explain; prior of the linear Student
EDGES = (0.0, 0.5, 0.7, 0.85, 0.95, 1.01)  # of the labeller's accuracy in a subtopic
DOUBTED = (0.5, 0.95)  # it is more often right than not, and not nearly always
LESSON, DRAWN, ASKED = 400, 3, 400  # texts of a lesson, drawn for each of it, of a test
DIVERSITY = {"narrow": 2.2, "even": 0.3}  # p(subtopic) ~ share^power
QUALITY = {"right": 1.0, "wrong": 0.6}  # share of labels that are right
COMPLEXITY = {
    "plain": {},
    "short": {"sentences": 1},
    "long": {"sentences": 4},
    "deep": {"deep": True},
    "easy": {},
    "hard": {},
}
SHIFTS = {"words": Dial(new_words=True), "templates": Dial(new_templates=True), "mix": Dial(0.0, uneven=True)}
KINDS = {  # one thing changed at a time
    "base": {},
    "bpe": {"tokenizer": "bpe"},
    "pieces": {"tokenizer": "pieces"},
    "small": {"hidden": 32},
    "large": {"hidden": 128},
    "llama": {"kind": "llama"},
    "recurrent": {"kind": "mamba"},
}
STEPS, LONGEST = 200, 320  # of pre-training; of a text, in tokens
TOKENS = {"bpe": 600, "pieces": 320}  # of a byte-level BPE: most words are two tokens, or one for two or three letters
REAL_SHARE, SAID_RIGHT = 0.75, 0.8
METHODS, HELD_OUT = ("real", "static", "recursive", "pseudo_label", "symbiosis"), 500


def settings_of(arm: str, seed: int, **changes):
    return make_settings(f"arm {arm}", **params.of_run("miniature", "main", arm, seed) | changes)


# ---- a Student above its labeller


def above_teacher(seed: int) -> pd.DataFrame:
    """What the labeller and its Students get right of the same test texts.

    Students learn labels alone, one lesson each: `student`, the loop's; `words`, a linear one over counts of the
    world's words. variant: texts, labels and number, as fresh_hard_300. Metrics: accuracy; accuracy_tail; `rescued`,
    the share right of what the labeller has wrong, and `kept`, of what it has right; accuracy_doubted and
    accuracy_at_0 .. 4, in subtopics in which it is right on so much (DOUBTED, EDGES) of the most texts it labelled.
    """
    state = runs.prepare(settings_of("pseudo_label", seed, lm_weight=0.0, generation_engine="refill"))
    world, rng = World.make(seed), np.random.default_rng([seed, 40])
    test, fresh = world.sample(TESTED, rng), world.sample(max(TAUGHT), rng)
    named = teaching.label(state.generator, fresh["text"].tolist())
    sources = fresh["text"].tolist()[:SOURCES] * (TAUGHT[1] // SOURCES)
    given = {"fresh": named, "written": teaching.explain(state.generator, sources, seed=state.seed(1, "explain"))}
    bins = bins_of(test, accuracy_by_subtopic(fresh, named.labels))
    said = {("labeller", "plain"): state.generator.label_probs(test["text"].tolist()).argmax(1)}
    for name, n, kind in [(name, n, kind) for name in given for n in TAUGHT for kind in ("hard", "soft")]:
        texts, belief = given[name].texts[:n], given[name].probs[:n]
        if len(texts) < n or (name == "written" and n < len(given[name].texts)):
            continue
        variant, labels = f"{name}_{kind}_{n}", np.eye(len(LABEL_NAMES))[belief.argmax(1)]
        head = fit_head(
            count_words(texts, world), belief if kind == "soft" else labels, np.ones(n), STRENGTH, standardise=False
        )
        said["words", variant] = head.log_probs(count_words(test["text"], world)).argmax(1)
        if kind == "hard" or n == TAUGHT[1]:
            student = state.student.load(state.student.folder)
            lesson = make_lesson(
                texts, belief.argmax(1), "real", 1, "label", label_probs=belief if kind == "soft" else None
            )
            student.learn(lesson, seed=state.seed(1, "student"))
            said["student", variant] = student.label_log_probs(test["text"].tolist()).argmax(1)
    lines = [
        (*arm, seed, 1, metric, value, n)
        for arm, s in said.items()
        for metric, value, n in scores(s, said["labeller", "plain"], test, bins)
    ]
    for name, texts in given.items():
        right = (texts.labels == world.posterior(texts.texts).argmax(1)).mean()
        lines.append(("labeller", "plain", seed, 1, f"labels_right_{name}", right, len(texts.texts)))
    return table("above_teacher", lines).dropna(subset="value")


def count_words(texts: Sequence[str], world: World) -> np.ndarray:
    """(n, words) how often a text has each word that the world writes in a slot."""
    counts = np.zeros((len(texts), len(world.places)))
    for row, text in zip(counts, texts, strict=True):
        np.add.at(row, [world.places[word] for word in re.findall("[a-z]+", text) if word in world.places], 1)
    return counts


def accuracy_by_subtopic(texts: pd.DataFrame, labels: np.ndarray) -> pd.Series:
    """Share of right labels by (class, subtopic); texts as `World.sample` gives them."""
    return (texts["label"] == labels).groupby([texts["label"], texts["subtopic"]]).mean()


def bins_of(test: pd.DataFrame, accuracy: pd.Series) -> dict[str, np.ndarray]:
    """{end of a metric's name: (n,) which texts are of subtopics of such accuracy}."""
    own = accuracy.reindex(pd.MultiIndex.from_frame(test[["label", "subtopic"]])).to_numpy()
    found = {f"at_{i}": (low <= own) & (own < high) for i, (low, high) in enumerate(itertools.pairwise(EDGES))}
    return found | {"doubted": (DOUBTED[0] <= own) & (own < DOUBTED[1]), "tail": test["subtopic"].to_numpy() >= N_HEAD}


def scores(said: np.ndarray, labeller: np.ndarray, test: pd.DataFrame, bins: dict[str, np.ndarray]) -> list[tuple]:
    """(metric, value, texts) of what was said (n,) of the test texts; nan where there are none."""
    right, its = said == test["label"].to_numpy(), labeller == test["label"].to_numpy()
    parts = {"accuracy": right | True, "rescued": ~its, "kept": its} | {f"accuracy_{k}": v for k, v in bins.items()}
    return [(name, right[part].mean() if part.any() else np.nan, int(part.sum())) for name, part in parts.items()]


# ---- an open-ended task


def open_ended(seed: int, folder: str | Path) -> pd.DataFrame:
    """How the last Students of finished runs go on after the first sentence of held-out texts, asked for their class.

    continuation_loss: of the true second sentence and its end [nats/token], given class and first sentence;
    on_topic: share of continuations whose words, with nothing else read, speak of the text's subtopic; repetition:
    1 less the share of different word pairs; words: of a continuation; mauve: likeness of the continuations to the
    truth's, by the hidden states of the Student before any lesson, for no sentence encoder knows the world's words. Arm
    `world`: the truth's own second sentences, their exact loss, and the likeness of those of as many other texts.
    """
    world, rng = World.make(seed), np.random.default_rng([seed, 41])
    held_out, lines = world.sample(HELD_OUT, rng), []
    firsts, seconds = halves(held_out["text"])
    untaught = runs.prepare(settings_of("real", seed)).student
    true, drawn = vectors(untaught, seconds), np.random.default_rng([seed, 50])
    for method in METHODS:
        settings = settings_of(method, seed, generation_engine="refill")
        weights = Path(folder) / "runs" / settings.folder / "state" / f"student-{settings.generations}" / "model"
        if not weights.is_dir():
            raise NotRun(f"{weights}: no such weights; run study main, arm {method}, seed {seed}, first")
        student = Student(loading.load(str(weights), device="cpu"), LABEL_NAMES, settings)
        heads, loss, tokens = continuation_losses(student, held_out, firsts)
        texts = generate(student.lm, heads, Sampling.of(settings), seed=seed)
        nats = float((loss * tokens).sum() / tokens.sum())
        measured = [*continued(texts, held_out, world, nats), likeness(untaught, texts, true, seed)]
        lines += [(method, "plain", seed, settings.generations, *line) for line in measured]
    nats = float(-conditional_log_p(held_out, firsts, world).sum() / tokens.sum())
    others = likeness(untaught, halves(world.sample(HELD_OUT, drawn)["text"])[1], true, seed)
    measured = [*continued(seconds, held_out, world, nats), others]
    lines += [("world", "plain", seed, settings.generations, *line) for line in measured]
    return table("open_ended", lines).dropna(subset="value")  # who writes nothing repeats nothing


def halves(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """First sentences, and what follows them."""
    firsts = [text[: text.index(".") + 1] for text in texts]
    return firsts, [text[len(first) + 1 :] for text, first in zip(texts, firsts, strict=True)]


def vectors(reader: Student, texts: Sequence[str]) -> np.ndarray:
    """(n, d) mean hidden states of each text; zeros of an empty one."""
    written = [i for i, text in enumerate(texts) if text.strip()]
    found = np.zeros((len(texts), reader.lm.model.config.hidden_size))
    if written:
        found[written] = hidden_states(reader.lm, [texts[i] for i in written], reader.settings)
    return found


def likeness(reader: Student, texts: Sequence[str], true: np.ndarray, seed: int) -> tuple:
    """(metric, value, n): MAUVE of texts and as many true ones by what the reader makes of them."""
    return "mauve", mauve(vectors(reader, texts), true, rng=np.random.default_rng([seed, 51])), len(texts)


def continuation_losses(
    student: Student, texts: pd.DataFrame, firsts: Sequence[str]
) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Token rows of class and first sentence, the loss of what follows [nats/token], its tokens: (n,) each."""
    rows, _ = student.written_rows(texts["text"].tolist(), texts["label"])
    heads = [row[:-1] for row in student.written_rows(firsts, texts["label"])[0]]  # without an end
    loss = text_losses(student.lm, rows, [len(head) for head in heads], student.settings)
    return heads, loss, np.array([len(row) - len(head) for row, head in zip(rows, heads, strict=True)])


def continued(texts: Sequence[str], held_out: pd.DataFrame, world: World, nats: float) -> list[tuple]:
    """(metric, value, n) of continuations of held-out texts; see `open_ended`."""
    topic = held_out["label"].to_numpy() * len(world.shares) + held_out["subtopic"].to_numpy()
    values = {
        "continuation_loss": nats,
        "on_topic": (world.subtopic(texts) == topic).mean(),
        "repetition": 1 - distinct_n(texts, 2),
        "words": np.mean([len(text.split()) for text in texts]),
    }
    return [(metric, value, len(texts)) for metric, value in values.items()]


def conditional_log_p(texts: pd.DataFrame, firsts: Sequence[str], world: World) -> np.ndarray:
    """(n,) log p(second sentence | first sentence, class) [nats], exact.

        log sum_k share_k p(first | k) p(second | k)  -  log sum_k share_k p(first | k)

    Two sentences are independent given their subtopic, so p(first | k) is the root of p(first first | k).
    """
    own, shares = np.arange(len(texts)), np.log(world.shares)
    both = world.log_likelihood(texts["text"])[own, texts["label"]]
    first = world.log_likelihood([f"{first} {first}" for first in firsts])[own, texts["label"]] / 2
    return logsumexp(both + shares, axis=1) - logsumexp(first + shares, axis=1)


# ---- diversity, quality and complexity, in and out of distribution


def third_lever(seed: int) -> pd.DataFrame:
    """What each lever of a lesson is worth to the Student where a text is like the lesson's, and where it is not.

    A lesson of LESSON texts for every combination of DIVERSITY, QUALITY and COMPLEXITY; hard and easy are the thirds of
    what is drawn that the untaught Student predicts worst and best. accuracy: in distribution, plain texts with the
    lesson's own shares of subtopics. Out of it, from the true shares, accuracy_words: with entities that no lesson
    has; accuracy_templates: in frames that none has; accuracy_mix: uneven classes of even subtopics. accuracy_ood is
    the mean of the three, generalisation accuracy_ood - accuracy. Arms: a level of a lever, mean over the others;
    `crossed`, a diversity with a complexity.
    """
    state = runs.prepare(settings_of("real", seed, lm_weight=0.0))
    world, rng = World.make(seed), np.random.default_rng([seed, 42])
    tests = {f"accuracy_{name}": dial.texts(world, ASKED, rng) for name, dial in SHIFTS.items()}
    cells = []
    for diversity, complexity in itertools.product(DIVERSITY, COMPLEXITY):
        own = {"accuracy": Dial(DIVERSITY[diversity]).texts(world, ASKED, np.random.default_rng([seed, 43]))}
        dial = Dial(DIVERSITY[diversity], **COMPLEXITY[complexity])
        texts = of_loss(complexity, state.student, dial.texts(world, DRAWN * LESSON, rng))
        for quality, right in QUALITY.items():
            labels = weak_labels(texts["label"], right, len(LABEL_NAMES), np.random.default_rng([seed, 44]))
            student = state.student.load(state.student.folder)
            student.learn(
                make_lesson(texts["text"].tolist(), labels, "world", 1, "world"), seed=state.seed(1, "lesson")
            )
            found = {"diversity": diversity, "quality": quality, "complexity": complexity}
            cells.append(found | {name: accuracy(student, rows) for name, rows in (own | tests).items()})
    return table("third_lever", [(*arm, seed, 1, *line) for arm, line in main_effects(pd.DataFrame(cells))])


def of_loss(complexity: str, student: Student, texts: pd.DataFrame) -> pd.DataFrame:
    """LESSON of the texts, balanced over classes: of the Student's lowest or highest loss, else the first."""
    loss = student.text_losses(texts["text"].tolist()) if complexity in ("easy", "hard") else np.arange(len(texts))
    order = pd.Series(-loss if complexity == "hard" else loss, index=texts.index)
    return texts[order.groupby(texts["label"]).rank() <= LESSON / len(LABEL_NAMES)]


def accuracy(student: Student, rows: pd.DataFrame) -> float:
    return float((student.label_log_probs(rows["text"].tolist()).argmax(1) == rows["label"]).mean())


def main_effects(cells: pd.DataFrame) -> Iterator[tuple[tuple[str, str], tuple]]:
    """(method, variant), (metric, value, n) of every level of a lever, mean over the others; see `third_lever`."""
    away = [f"accuracy_{name}" for name in SHIFTS]
    cells = cells.assign(accuracy_ood=cells[away].mean(axis=1))
    cells["generalisation"] = cells["accuracy_ood"] - cells["accuracy"]
    crossed = cells["diversity"] + "_" + cells["complexity"]
    for method, level in {**cells[["diversity", "quality", "complexity"]], "crossed": crossed}.items():
        for variant, part in cells.groupby(level):
            for metric in ("accuracy", *away, "accuracy_ood", "generalisation"):
                yield (method, str(variant)), (metric, part[metric].mean(), ASKED * len(part))


# ---- how much the share of real rows matters to whom


def sensitivity(seed: int) -> pd.DataFrame:
    """Accuracy after a lesson of LESSON rows, none or REAL_SHARE of them real, of Students of every kind in KINDS.

    Each was pre-trained here on STEPS batches of the world's text, the same for all. Rows that are not real have narrow
    subtopics and SAID_RIGHT right labels. method: which Student, variant: share of real rows; `weights`: how many.
    """
    world, lines, settings = World.make(seed), [], settings_of("real", seed, lm_weight=0.0, max_length=LONGEST)
    rng = np.random.default_rng([seed, 45])
    test, real = (Dial().texts(world, n, rng) for n in (ASKED, LESSON))
    narrow = Dial(DIVERSITY["narrow"]).texts(world, LESSON, rng)
    narrow["label"] = weak_labels(narrow["label"], SAID_RIGHT, len(LABEL_NAMES), rng)
    for kind, how in KINDS.items():
        student = Student(pretrained(world, seed, **how), LABEL_NAMES, settings)
        for share in (0.0, REAL_SHARE):
            taught = replace(student, lm=student.lm._replace(model=copy.deepcopy(student.lm.model)))
            rows = pd.concat([real[: round(share * LESSON)], narrow[round(share * LESSON) :]])
            taught.learn(make_lesson(rows["text"].tolist(), rows["label"], "world", 1, "world"), seed=seed)
            lines.append((kind, f"r{share:04.0%}"[:4], seed, 1, "accuracy", accuracy(taught, test), ASKED))
        lines.append((kind, "plain", seed, 1, "weights", student.n_weights, 1))
    return table("sensitivity", lines)


def pretrained(world: World, seed: int, *, tokenizer: str = "words", kind: str = "neox", hidden: int = 64):
    """A LanguageModel of two layers that has read the world's text, with a tokenizer made of other such text."""
    made, rng = tokenizer_of(world, tokenizer), np.random.default_rng([seed, 46])
    batches = miniature.student_batches(world, made, STEPS, miniature.STUDENT_BATCH, rng)
    ids = {f"{name}_token_id": getattr(made, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    sizes = {
        "vocab_size": len(made),
        "hidden_size": hidden,
        "num_hidden_layers": 2,
        "initializer_range": INITIALIZER_RANGE,
    }
    attention = {"num_attention_heads": 4, "intermediate_size": 4 * hidden, "max_position_embeddings": 2 * LONGEST}
    config = {
        "neox": lambda: GPTNeoXConfig(rotary_pct=0.25, **sizes, **attention, **ids),
        "llama": lambda: LlamaConfig(**sizes, **attention, **ids),
        "mamba": lambda: MambaConfig(state_size=8, **sizes, **ids),
    }[kind]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    train(model, batches, miniature.RECIPES["student"], desc=f"pre-training {kind}")
    return loading.LanguageModel(model, made)


def tokenizer_of(world: World, kind: str) -> PreTrainedTokenizerFast:
    """Whole words, or byte-level BPE of TOKENS tokens, learned from the world's text; NAME_labels: and the labels."""
    name, _, labels = kind.partition("_")
    if name == "words":
        return miniature.word_tokenizer(world, "student")
    made = miniature.bpe_tokenizer(world, TOKENS[name])
    made.add_tokens([f" {label}" for label in LABEL_NAMES] if labels else [])
    return made


# ---- and however it is trained


def training_methods(seed: int) -> pd.DataFrame:
    """See the module of that name."""
    from symbiosis.analysis import training_methods as module  # which stands on this one

    return module.training_methods(seed)


def share_factorial(seed: int) -> pd.DataFrame:
    """See the module `training_methods`."""
    from symbiosis.analysis import training_methods as module  # which stands on this one

    return module.share_factorial(seed)


def composition(seed: int) -> pd.DataFrame:
    """See the module of that name."""
    from symbiosis.analysis import composition as module  # which stands on this one

    return module.composition(seed)


MAKE = {
    "training_methods": training_methods,
    "share_factorial": share_factorial,
    "composition": composition,
    "above_teacher": above_teacher,
    "third_lever": third_lever,
    "sensitivity": sensitivity,
    "open_ended": open_ended,
}


SECONDS = {  # CPU of a seed, about
    "training_methods": 30, "share_factorial": 200, "composition": 30, "above_teacher": 120, "third_lever": 30,
    "sensitivity": 120, "open_ended": 5,
}  # fmt: skip
FIRST_SEED = 401  # of the published rows, but for
OTHER_FIRST_SEEDS = {"training_methods": 431, "share_factorial": 451, "composition": 411}


def left(seeds: int) -> list[tuple[str, int]]:
    """(study, seed) of what the local table lacks: the first `seeds` of each; of `open_ended` those of the runs."""
    rows = select(params.LOCAL, TABLE)
    there = {*zip(rows["study"], rows["seed"].astype(int), strict=True)}
    of_runs = read_params("profiles/scales.yaml")["miniature"]["first_seed"]
    firsts = dict.fromkeys(MAKE, FIRST_SEED) | OTHER_FIRST_SEEDS | {"open_ended": of_runs}
    return [pair for study in MAKE for k in range(seeds) if (pair := (study, firsts[study] + k)) not in there]


def make_here(seeds: int) -> None:
    """What is `left`, into the local table, from the local runs."""
    for study, seed in left(seeds):
        print(f"{study}, seed {seed}", flush=True)
        try:
            publish(MAKE[study](seed, *[params.LOCAL] * (study == "open_ended")), params.LOCAL)
        except NotRun as reason:
            print(f"left out: {reason}")


def main(study: str, first: str, *last_and_folder: str) -> None:
    if study == "all":
        return make_here(int(first))
    last, *folder = last_and_folder
    for seed in range(int(first), int(last) + 1):
        publish(MAKE[study](seed, *folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
