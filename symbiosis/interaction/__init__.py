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
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from tqdm.auto import tqdm

from symbiosis.data.lesson import Written, is_cut
from symbiosis.data.texts import TaskTexts, load_tasks
from symbiosis.interaction import measured
from symbiosis.interaction.experiment import Experiment, InteractionError, loop_settings
from symbiosis.loop.mixing import kept_rows
from symbiosis.loop.state import seeded
from symbiosis.models import loading
from symbiosis.models.checks import check_positions
from symbiosis.models.devices import claim, tell_precision
from symbiosis.models.generation import generate
from symbiosis.models.loading import LanguageModel, document_rows, start_ids, token_ids
from symbiosis.models.sampling import Sampling
from symbiosis.models.scoring import text_losses, token_losses
from symbiosis.models.training import Steps, epochs_of, fit
from symbiosis.pretrain.initial import cache_key, initial_model_folder, initial_weights
from symbiosis.pretrain.recipe import schedule
from symbiosis.settings import UNREPORTED, InteractionSettings
from symbiosis.store.folders import write_atomic
from symbiosis.store.record import Made, run_once
from symbiosis.store.stages import invalidate, metric, run_folder, settle_inputs, stage

MAX_REDRAWS = 5  # times that an entity which wrote empty texts draws new drafts


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
        inputs["encoder"] = cache_key("student", loop_settings(settings))
    elif settings.encoder != "base":
        inputs |= loading.named_weights("encoder", loading.find(settings.encoder, settings.encoder_revision))
    return inputs


def _base_weights(settings: InteractionSettings) -> dict[str, str]:
    weights = initial_weights("interaction", cache_key("interaction", settings), settings)
    name = weights.pop("interaction", f"{settings.student}@{settings.student_revision}")
    return {"base": name} | weights


def _run_rounds(settings: InteractionSettings, tasks: list[TaskTexts], folder: Path) -> Made:
    if settings.device != "cpu":
        claim(wait=True)
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
    return {"rows": measured.lesson_rows(experiment, lesson, generation)}


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
    found = measured.mean_losses(rows, generation) + measured.similarities(experiment, answers, generation)
    if experiment.settings.probe_hidden_states:
        found += measured.alike_inside(experiment, generation)
    return {"rows": found}


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


# --- what is measured of one entity ----------------------------------------------------------------------------------
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
