"""K language models that train on each other's outputs: private tasks, a public corpus, generations of texts.

    rows of entity k in generation t ~
        (1-alpha) beta private_k + (1-alpha)(1-beta) public + sum_j alpha s_j written_(t,j)

s_j = 1/K unless the writers' weights differ. Generation 0 is alpha = 0. The frame is that of Vu, Reeves and Wenger,
arXiv 2505.21677. What its text leaves open is decided here:

* an entity writes from its start token alone, so its texts are a sample of all it models, private and public alike;
* `mixing: replace` reads only the newest texts, as the paper's formula has it; `accumulate_subsample` draws from all
  generations so far, as its words have it;
* training goes on from the entity's weights of the generation before (the linear theory refits); the loss is that of
  the whole text, every token alike;
* written rows enter as rows of one lesson, so that alpha is their share and 1/K counts each set once;
* entities of several kinds (`students`) hand texts to one another, so tokenizers may differ; a loss per token means
  another thing to each then, so that losses per word stand beside, and only these are averaged.

Stages are complete or absent, and randomness is named by (seed, generation, stage, entity), so a killed run continues
with the numbers of an unbroken one.
"""

import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from tqdm.auto import tqdm

from symbiosis.data.lesson import Written, is_cut
from symbiosis.data.planted import Fact
from symbiosis.data.texts import TaskTexts, load_tasks
from symbiosis.data.world import World
from symbiosis.errors import SymbiosisError
from symbiosis.loop.mixing import kept_rows
from symbiosis.loop.state import seeded
from symbiosis.measures.density import linear_cka
from symbiosis.measures.diversity import distinct_n, homogenisation, n_long_enough, self_bleu
from symbiosis.measures.lessons import whole_lesson
from symbiosis.models import encoders, loading
from symbiosis.models.checks import check_positions
from symbiosis.models.devices import tell_precision
from symbiosis.models.generation import Sampling, generate
from symbiosis.models.hidden_states import hidden_states
from symbiosis.models.loading import LanguageModel, document_rows, start_ids, token_ids
from symbiosis.models.scoring import text_losses, token_losses
from symbiosis.models.training import Steps, epochs_of, fit
from symbiosis.pretrain.initial import cache_key, initial_model_folder, initial_weights
from symbiosis.pretrain.recipe import schedule
from symbiosis.settings import UNREPORTED, InteractionSettings, RunSettings, derive_seed
from symbiosis.store.folders import write_atomic
from symbiosis.store.record import Made, run_once
from symbiosis.store.stages import invalidate, metric, run_folder, settle_inputs, stage

MAX_REDRAWS = 5  # times that an entity which wrote empty texts draws new drafts
SELF_BLEU_TEXTS = 200  # of a generation's texts: its cost grows with their square


class InteractionError(SymbiosisError):
    """An experiment that cannot go on or be read, with the remedy."""


@dataclass(frozen=True)
class Experiment:
    """What every generation needs: K private tasks and, last, the public one; where weights and texts are."""

    settings: InteractionSettings
    tasks: list[TaskTexts]
    bases: tuple[str, ...]  # folder or hub id of each entity's initial model, one and the same but for `students`
    folder: Path

    @property
    def entities(self) -> range:
        return range(1, self.settings.entities + 1)

    @property
    def task_ends(self) -> list[str]:
        """How metrics name the tasks: 1..K and public."""
        return [*map(str, self.entities), "public"]

    @cached_property
    def fact(self) -> Fact | None:
        """What entity 1 is told wrong, where the settings plant something."""
        settings = self.settings
        planted = settings.false_share or settings.true_share
        return Fact.of(World.make(settings.seed), settings.private) if planted else None

    def seed(self, generation: int, *names: str | int) -> int:
        return derive_seed(self.settings.seed, generation, *names)

    def load(self, entity: int, generation: int):
        """Model and tokenizer of an entity after a generation; after -1 what it begins as."""
        settings = self.settings
        if generation < 0:
            commit = settings.of_entity(entity).student_revision
            return loading.load(self.bases[entity - 1], commit, device=settings.device)
        folder = self.folder / "state" / f"train-{generation}-{entity}" / "model"
        return loading.load(str(folder), device=settings.device)

    def written(self, generation: int) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "lessons" / f"gen-{generation}.parquet")


# --- the run -------------------------------------------------------------------------------------------------------
def run(settings: InteractionSettings) -> pd.DataFrame:
    """The rows of a run: read where it is finished, continued where it stopped, begun where it is new."""
    loading.use_threads(settings.threads)
    tasks = load_tasks(settings)
    return run_once(settings, _inputs(settings, tasks), lambda folder: _run_rounds(settings, tasks, folder))


def _inputs(settings: InteractionSettings, tasks: Sequence[TaskTexts]) -> dict:
    """Digests of the texts, and which models the entities and the encoder are."""
    inputs = {"tasks": [task.fingerprint for task in tasks]} | _base_weights(settings.of_entity(1))
    for k in range(2, settings.entities + 1) if settings.students else ():
        inputs |= {f"{key}_{k}": value for key, value in _base_weights(settings.of_entity(k)).items()}
    if settings.encoder == "miniature":
        inputs["encoder"] = cache_key("student", _loop_settings(settings))
    elif settings.encoder != "base":
        inputs |= loading.named_weights("encoder", loading.find(settings.encoder, settings.encoder_revision))
    return inputs


def _base_weights(settings: InteractionSettings) -> dict[str, str]:
    weights = initial_weights("interaction", cache_key("interaction", settings), settings)
    name = weights.pop("interaction", f"{settings.student}@{settings.student_revision}")
    return {"base": name} | weights


def _run_rounds(settings: InteractionSettings, tasks: list[TaskTexts], folder: Path) -> Made:
    each = [settings.of_entity(k) for k in range(1, settings.entities + 1)]
    bases = tuple(initial_model_folder("interaction", of_entity) for of_entity in each)
    experiment = Experiment(settings, tasks, bases, folder)
    device = loading.pick_device(settings.device)
    precision = tell_precision(settings.precision, device)
    if settings.precision == "auto":
        settle_inputs(folder, {"precision": precision}, redo=settings.scale == UNREPORTED)
    invalidate(folder / "state", _stage_names(settings))

    def made(name: str, make: Callable[[Path], dict], *also: Path) -> dict:
        def work(out: Path) -> dict:
            with seeded(settings.seed, name):
                return make(out)

        return stage(folder / "state", name, work, also=also)

    results = [made("base", lambda out: _base(experiment))]
    for t in tqdm(range(settings.generations + 1), desc=settings.run_id):
        if t:
            lesson = folder / "lessons" / f"gen-{t}.parquet"
            results.append(made(f"write-{t}", lambda out, t=t: _write(experiment, t), lesson))
        for k in experiment.entities:
            results.append(made(f"train-{t}-{k}", lambda out, t=t, k=k: _train(experiment, t, k, out)))
        results.append(made(f"compare-{t}", lambda out, t=t: _compare(experiment, t)))
    sizes = {"train": [len(task.train) for task in tasks], "test": [len(task.test) for task in tasks]}
    return results, device, {"sizes": sizes, "precision": precision}


def _stage_names(settings: InteractionSettings) -> list[str]:
    """The stages of a run, in the order in which they are made."""
    names = ["base"]
    for t in range(settings.generations + 1):
        names += [f"write-{t}"] * (t > 0)
        names += [*(f"train-{t}-{k}" for k in range(1, settings.entities + 1)), f"compare-{t}"]
    return names


def _base(experiment: Experiment) -> dict:
    """The initial model on every task; of entities of several kinds each one's, as base1 .. baseK."""
    settings, rows = experiment.settings, []
    for k in experiment.entities if settings.students else [1]:
        lm = experiment.load(k, -1)
        check_positions(lm, settings, 2, "max_length")  # start and end
        check_positions(lm, settings, 1, "max_new_tokens", "prompt_tokens")
        rows += _losses(experiment, lm, 0, f"base{k}" if settings.students else "base")
    return {"rows": rows}


def _write(experiment: Experiment, generation: int) -> dict:
    """Every entity whose texts are read writes them, with the weights of the generation before."""
    settings, parts = experiment.settings, []
    for k in experiment.entities:
        if settings.writer_shares[k - 1]:
            texts = _write_texts(experiment, k, generation)
            columns = {"entity": k, "generation": generation, "text": texts, "cut": [is_cut(text) for text in texts]}
            parts.append(pd.DataFrame(columns))
    lesson = pd.concat(parts, ignore_index=True)
    buffer = io.BytesIO()
    lesson.to_parquet(buffer, index=False)
    write_atomic(experiment.folder / "lessons" / f"gen-{generation}.parquet", buffer.getvalue())
    return {"rows": _lesson_rows(experiment, lesson, generation)}


def _train(experiment: Experiment, generation: int, entity: int, out: Path) -> dict:
    """One entity reads its rows; then its losses, and its answers to the common prompts."""
    settings = experiment.settings
    lm = experiment.load(entity, generation - 1)
    texts = drawn_rows(experiment, generation, entity)
    seed, who = experiment.seed(generation, "train", entity), f"entity {entity}, generation {generation}"
    history = fit_texts(lm, texts, settings, seed=seed, who=who)
    lm.save(out / "model")
    rows = _losses(experiment, lm, generation, entity) + _belief(experiment, lm, generation, entity)
    (out / "answers.json").write_text(json.dumps(_answers(experiment, lm, generation, entity)))
    return {"rows": rows, "history": history}


def _compare(experiment: Experiment, generation: int) -> dict:
    """Means over the entities, and how alike they answer."""
    state = experiment.folder / "state"
    folders = [state / f"train-{generation}-{k}" for k in experiment.entities]
    rows = [row for folder in folders for row in json.loads((folder / "result.json").read_text())["rows"]]
    answers = [json.loads((folder / "answers.json").read_text()) for folder in folders]
    found = _means(rows, generation) + _similarities(experiment, answers, generation)
    return {"rows": found + (_alike_inside(experiment, generation) if experiment.settings.probe_hidden_states else [])}


# --- writing -------------------------------------------------------------------------------------------------------
def _write_texts(experiment: Experiment, entity: int, generation: int) -> list[str]:
    """`written` texts of one entity; of the symbiotic one those of its drafts that the others find hardest."""
    settings = experiment.settings
    lm = experiment.load(entity, generation - 1)
    n = settings.written * (settings.candidates if entity == settings.symbiotic else 1)
    texts: list[str] = []
    for redraw in range(1 + MAX_REDRAWS):
        seed = experiment.seed(generation, "write", entity, redraw)
        start = [start_ids(lm.tokenizer)] * (n - len(texts))
        texts += [text for text in generate(lm, start, Sampling.of(settings), seed=seed) if text]
        if len(texts) == n:
            return texts if n == settings.written else _hard_for_others(experiment, texts, entity, generation)
    raise InteractionError(
        f"generation {generation}: entity {entity} wrote {len(texts)} texts that are not empty, of {n}; lower "
        "learning_rate or temperature, or raise steps or rows"
    )


def _hard_for_others(experiment: Experiment, drafts: list[str], entity: int, generation: int) -> list[str]:
    """The `written` drafts, in their own order, on which the other entities' mean LM loss is highest [nats/token]."""
    losses = np.zeros(len(drafts))
    for other in (k for k in experiment.entities if k != entity):
        lm = experiment.load(other, generation - 1)
        rows = document_rows(lm.tokenizer, drafts, experiment.settings.max_length)
        losses += text_losses(lm, rows, [1] * len(rows), experiment.settings)
    kept = np.argsort(-losses, kind="stable")[: experiment.settings.written]
    return [drafts[i] for i in np.sort(kept)]


def _lesson_rows(experiment: Experiment, lesson: pd.DataFrame, generation: int) -> list[dict]:
    """How varied the generation's texts are, all writers together and each alone."""
    texts = lesson["text"].tolist()
    order = np.random.default_rng(experiment.seed(generation, "self_bleu")).permutation(len(texts))
    some = [texts[i] for i in order[:SELF_BLEU_TEXTS]]
    rows = [metric(generation, f"lesson_{k}", value, "share", len(texts)) for k, value in whole_lesson(texts).items()]
    rows.append(metric(generation, "lesson_self_bleu", self_bleu(some), "share", n_long_enough(some)))
    for entity, own in lesson.groupby("entity")["text"]:
        rows.append(metric(generation, f"lesson_distinct_2_{entity}", distinct_n(list(own), 2), "share", len(own)))
    return rows + _told(experiment, lesson, generation)


def _told(experiment: Experiment, lesson: pd.DataFrame, generation: int) -> list[dict]:
    """told_false_<entity>, told_true_<entity>, .._others (2..K): share of their texts that tell a planted fact."""
    if not (fact := experiment.fact):
        return []
    rows, parts = [], [(str(entity), own) for entity, own in lesson.groupby("entity")["text"]]
    for name, true in (("false", False), ("true", True)):
        for who, own in [*parts, ("others", lesson.loc[lesson["entity"] > 1, "text"])]:
            share = float(fact.told_in(own.tolist(), true=true).mean()) if len(own) else np.nan
            rows.append(metric(generation, f"told_{name}_{who}", share, "share", len(own)))
    return rows


# --- reading -------------------------------------------------------------------------------------------------------
def row_counts(settings: InteractionSettings, generation: int) -> np.ndarray:
    """How many rows an entity reads of (private, public, each entity's texts): (2 + K,), sums to `rows`.

        n * ((1-a) beta, (1-a)(1-beta), a s_1, ..., a s_K),   a = alpha from generation 1 on, 0 before

    Rounded down, then one more to those that lost most.
    """
    alpha = settings.alpha if generation else 0.0
    real = (1 - alpha) * np.array([settings.beta, 1 - settings.beta])
    wanted = settings.rows * np.concatenate([real, alpha * np.array(settings.writer_shares)])
    counts = np.floor(wanted + 1e-9).astype(int)
    most = np.argsort(counts - wanted, kind="stable")[: settings.rows - counts.sum()]
    counts[most] += 1
    return counts


def drawn_rows(experiment: Experiment, generation: int, entity: int) -> list[str]:
    """The texts one entity reads in a generation, each at most once: `row_counts` of every set."""
    settings = experiment.settings
    rng = np.random.default_rng(experiment.seed(generation, "rows", entity))
    real = [experiment.tasks[entity - 1].train, experiment.tasks[-1].train]
    sets = real + [_texts_of(experiment, generation, k, rng) for k in experiment.entities]
    texts = []
    for source, count in zip(sets, row_counts(settings, generation), strict=True):
        if count > len(source):
            raise InteractionError(
                f"generation {generation}: entity {entity} asks for {count} of {len(source)} texts of one set; lower "
                "rows, or raise train_size or written"
            )
        texts += [source[i] for i in rng.choice(len(source), size=count, replace=False)]
    return texts


def _texts_of(experiment: Experiment, generation: int, writer: int, rng: np.random.Generator) -> list[str]:
    """The texts of one writer that may be read in this generation."""
    if not generation or not experiment.settings.writer_shares[writer - 1]:
        return []
    lessons = [experiment.written(g) for g in range(1, generation + 1)]
    own = [lesson[lesson["entity"] == writer].assign(cut=lesson.get("cut", False)) for lesson in lessons]
    parts = [[Written(text, cut=cut) for text, cut in zip(rows["text"], rows["cut"], strict=True)] for rows in own]
    texts = [text for part in parts for text in part]
    return [texts[i] for i in kept_rows([len(part) for part in parts], experiment.settings.mixing, rng)]


def fit_texts(
    lm: LanguageModel, texts: Sequence[str], settings: InteractionSettings, *, seed: int, who: str
) -> list[float]:
    """Plain LM training on texts, in place: `steps` batches in passes over the rows. Returns each step's loss.

        loss = mean over all tokens of the batch of -log p(token | before)      [nats/token]

    AdamW, warm-up over `warmup_ratio` of the steps, then linearly to 0. Raises TrainingError at a loss that is not
    finite.
    """
    rows = document_rows(lm.tokenizer, texts, settings.max_length)
    passes = -(-settings.steps // -(-len(rows) // settings.batch_size))
    batches = epochs_of([len(row) for row in rows], settings.batch_size, passes, seed)[: settings.steps]

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        nll, _ = token_losses(lm, [rows[i] for i in some], [1] * len(some), settings)
        return {"loss": nll.sum() / sum(len(rows[i]) - 1 for i in batch)}

    def step_size(step: int) -> float:
        return schedule(step, settings.steps, settings.warmup_ratio)

    steps = Steps(who, settings.learning_rate, step_size)
    with torch.random.fork_rng([lm.device] if lm.device.type == "cuda" else []):
        torch.manual_seed(seed)  # for models with dropout
        history = fit(lm.model, losses, batches, steps)
    return [step["loss"] for step in history]


# --- what is measured ----------------------------------------------------------------------------------------------
def _losses(experiment: Experiment, lm: LanguageModel, generation: int, who: str | int) -> list[dict]:
    """loss_<who>_on_<task>: cross-entropy over all tokens of the task's held-out texts [nats/token].

    With `students` also word_loss_...: the same sum over their words, parted at blanks [nats/word]; it is too small
    where `max_length` cuts texts.
    """
    rows = []
    for end, task in zip(experiment.task_ends, experiment.tasks, strict=True):
        ids = document_rows(lm.tokenizer, task.test, experiment.settings.max_length)
        per_text, tokens = text_losses(lm, ids, [1] * len(ids), experiment.settings), [len(row) - 1 for row in ids]
        mean = float(np.average(per_text, weights=tokens))
        rows.append(metric(generation, f"loss_{who}_on_{end}", mean, "nats/token", len(ids)))
        if experiment.settings.students:
            mean *= sum(tokens) / sum(len(text.split()) for text in task.test)
            rows.append(metric(generation, f"word_loss_{who}_on_{end}", mean, "nats/word", len(ids)))
    return rows


def _belief(experiment: Experiment, lm: LanguageModel, generation: int, entity: int) -> list[dict]:
    """log_odds_<entity>, belief_<entity>: of the planted fact's false version against the true one; none without one.

        log p(text that tells the false one) - log p(the same text, telling the true one)  [nats],   sigmoid of that

    Means over held-out public texts, retold. Tokens in all, as the two versions may have unlike numbers of them.
    """
    if not (fact := experiment.fact):
        return []
    log_p = []
    for true in (False, True):
        ids = document_rows(
            lm.tokenizer, fact.tell(experiment.tasks[-1].test, true=true), experiment.settings.max_length
        )
        per_text = text_losses(lm, ids, [1] * len(ids), experiment.settings)
        log_p.append(-per_text * [len(row) - 1 for row in ids])
    odds = log_p[0] - log_p[1]
    means = {"log_odds": (odds.mean(), "nats"), "belief": (expit(odds).mean(), "share")}
    return [metric(generation, f"{name}_{entity}", float(m), unit, len(odds)) for name, (m, unit) in means.items()]


def _means(rows: Sequence[dict], generation: int) -> list[dict]:
    """loss_own, loss_others and loss_public: means over the entities, and over the tasks that are others' own.

    With `students` word_loss_... instead. Of a planted fact also log_odds_others, belief_others: over entities 2..K.
    """
    per_word = any(row["unit"] == "nats/word" for row in rows)
    kind, unit = ("word_loss", "nats/word") if per_word else ("loss", "nats/token")
    groups: dict[str, list[dict]] = {f"{kind}_{name}": [] for name in ("own", "others", "public")}
    for row in rows:
        entity, _, task = row["metric"].removeprefix(f"{kind}_").partition("_on_")
        if row["unit"] == unit:
            groups[f"{kind}_{'public' if task == 'public' else 'own' if task == entity else 'others'}"].append(row)
    for row in rows:
        name, _, entity = row["metric"].rpartition("_")
        if name in ("log_odds", "belief") and entity != "1":
            groups.setdefault(f"{name}_others", []).append(row)
    means = [(name, float(np.mean([row["value"] for row in of])), of) for name, of in groups.items()]
    return [metric(generation, name, mean, of[0]["unit"], of[0]["n"] * len(of)) for name, mean, of in means]


def _alike_inside(experiment: Experiment, generation: int) -> list[dict]:
    """cka_public, cka_private: `linear_cka` of two entities' states of held-out texts, mean over the pairs (and tasks).

    A text's state is the mean over its tokens of what the head sees, so tokenizers and widths may differ.
    """
    models, found = [experiment.load(k, generation) for k in experiment.entities], []
    for task in experiment.tasks:
        states = [hidden_states(lm, task.test, experiment.settings) for lm in models]
        found.append(np.mean([linear_cka(*pair) for pair in itertools.combinations(states, 2)]))
    n = len(experiment.tasks[-1].test)
    means = {"cka_public": (found[-1], n), "cka_private": (np.mean(found[:-1]), n * len(found[:-1]))}
    return [metric(generation, name, float(mean), "1", n) for name, (mean, n) in means.items()]


def _answers(experiment: Experiment, lm: LanguageModel, generation: int, entity: int) -> list[list[str]]:
    """What the entity writes after the first tokens of held-out texts: for each task `answers` texts per prompt."""
    settings, found = experiment.settings, []
    for end, task in zip(experiment.task_ends, experiment.tasks, strict=True):
        starts = _beginnings(experiment, lm, task)
        prompts = [start_ids(lm.tokenizer) + ids for ids in starts]
        seed = experiment.seed(generation, "answers", entity, end)
        found.append(generate(lm, prompts, Sampling.of(settings), seed=seed, samples=settings.answers))
    return found


def _beginnings(experiment: Experiment, lm: LanguageModel, task: TaskTexts) -> list[list[int]]:
    """The first tokens of some held-out texts; with `students` those of the first words, the same to all entities."""
    settings, texts = experiment.settings, task.test[: experiment.settings.prompts]
    if not settings.students:
        return token_ids(lm.tokenizer, texts, settings.prompt_tokens)
    return token_ids(lm.tokenizer, [" ".join(text.split()[: settings.prompt_tokens]) for text in texts])


def _similarities(experiment: Experiment, answers: Sequence[Sequence[Sequence[str]]], generation: int) -> list[dict]:
    """similarity_<prompts>: mean cosine of two entities' answers to one prompt; _different_prompts: to two of a task.

    An answer's vector is the mean over its samples, since two samples of one model differ as well. A prompt that an
    entity answers with nothing is left out. Private is the mean over the K private tasks. `diversity.homogenisation`.

    answers: K entities x (K + 1) tasks x texts.
    """
    encode, found = _encoder(experiment), []
    for of_task in zip(*answers, strict=True):
        if not all(map(any, of_task)):  # an entity has nothing to say to any prompt of the task
            found.append((np.nan, np.nan, 0))
            continue
        vectors = np.stack([_answer_vectors(encode, texts, experiment.settings.answers) for texts in of_task])
        spoken = ~np.isnan(vectors).any(axis=(0, 2))
        both = homogenisation(vectors[:, spoken]) if spoken.sum() > 1 else (np.nan, np.nan)
        found.append((*both, spoken.sum()))
    rows = []
    for name, part in (("public", found[-1:]), ("private", found[:-1])):
        same, apart, n = np.array(part).T
        metrics = {f"similarity_{name}": same, f"similarity_{name}_different_prompts": apart}
        rows += [metric(generation, m, float(x.mean()), "cosine", int(n.sum())) for m, x in metrics.items()]
    return rows


def _answer_vectors(encode, texts: Sequence[str], samples: int) -> np.ndarray:
    """(prompts, d) mean vector of each prompt's `samples` texts that are not empty; nan where all are.

    Some text is not empty.
    """
    spoken = np.flatnonzero([bool(text) for text in texts])
    vectors = encode([texts[i] for i in spoken])
    sums = np.zeros((len(texts) // samples, vectors.shape[1]))
    np.add.at(sums, spoken // samples, vectors)
    counts = np.bincount(spoken // samples, minlength=len(sums))
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], np.nan)


def _encoder(experiment: Experiment):
    """texts -> (n, d): mean over the tokens of the last hidden states of a model that belongs to no entity."""
    settings, lm = experiment.settings, None
    if settings.encoder == "base":
        lm = experiment.load(1, -1)
    elif settings.encoder == "miniature":  # the loop's Student: of the world's words it has read all, of every class
        lm = loading.load(initial_model_folder("student", _loop_settings(settings)), device=settings.device)
    if lm:
        return lambda texts: hidden_states(lm, texts, settings)
    how = {"device": settings.device, "max_length": settings.max_length, "precision": settings.precision}
    return encoders.load(settings.encoder, settings.encoder_revision, **how)


def _loop_settings(settings: InteractionSettings) -> RunSettings:
    return RunSettings(seed=settings.seed, student_steps=300)


# --- readers -------------------------------------------------------------------------------------------------------
def loss_matrix(rows: pd.DataFrame, generation: int) -> np.ndarray:
    """(K, K) token cross-entropy of entity (line) on private task (column) after a generation [nats/token].

    rows: the long table of one setting; the mean over its seeds. Raises InteractionError where a cell was not measured.
    """
    found = rows.loc[rows["generation"] == generation].groupby("metric")["value"].mean()
    cells = found[found.index.str.fullmatch(r"loss_\d+_on_\d+")]
    k = int(np.sqrt(len(cells)))
    names = [[f"loss_{i}_on_{j}" for j in range(1, k + 1)] for i in range(1, k + 1)]
    if k < 2 or set(cells.index) != {name for line in names for name in line}:
        raise InteractionError(f"generation {generation}: no whole matrix of losses, only {sorted(cells.index)}")
    return np.array([[cells[name] for name in line] for line in names])


def written_texts(settings: InteractionSettings, generation: int) -> pd.DataFrame:
    """What the entities of a run wrote in a generation: entity (1..K), generation, text, cut (at max_new_tokens)."""
    path = run_folder(settings) / "lessons" / f"gen-{generation}.parquet"
    if not path.is_file():
        raise InteractionError(f"{path}: no such file; run the experiment first, generations 1..{settings.generations}")
    return pd.read_parquet(path)
