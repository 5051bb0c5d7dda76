"""Every parameter once, with its unit, range and meaning; anything misspelt or mistyped stops before work begins."""

import ast
import difflib
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from symbiosis.errors import SymbiosisError

LATER = {"later": True}  # a parameter that came after results were published; at its default it changes nothing


class SettingsError(SymbiosisError):
    """Parameters that cannot be run, all of them listed, each with its remedy."""


class Settings(BaseModel):
    """What all settings of a run share: how strictly they are read, and the names that follow from them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @property
    def name(self) -> str:
        """`<method>-s<seed>`, with the variant between where it is not the plain one."""
        middle = "" if self.variant == "plain" else f"-{self.variant}"
        return f"{self.method}{middle}-s{self.seed}"

    @property
    def fingerprint(self) -> str:
        """Eight hex digits over every parameter that can change a number.

        A LATER parameter counts only where it is not at its default, so that earlier runs keep their ids.
        """
        fields = type(self).model_fields
        unset = {n for n, f in fields.items() if f.json_schema_extra is LATER and getattr(self, n) == f.default}
        return fingerprint(self.model_dump(exclude={"reports_dir", "keep_checkpoints"} | unset))

    @property
    def run_id(self) -> str:
        return f"{self.scale}/{self.study}/{self.name}@{self.fingerprint}"


class RunSettings(Settings):
    """One run of one method. Names are the same in params/, the notebooks, the code, the tables and the axes."""

    # what runs, and where its rows belong
    method: Literal["real", "static", "recursive", "pseudo_label", "symbiosis", "world"] = "symbiosis"
    variant: str = Field("plain", pattern=r"^[a-z0-9_]+$", description="name of this setting of the method")
    study: str = Field("main", pattern=r"^[a-z0-9_]+$", description="name of the batch the run belongs to")
    scale: str = Field(
        "smoke", pattern=r"^[a-z0-9_]+$", description="name of the size; 'smoke' never enters results.csv"
    )
    seed: int = Field(0, ge=0, description="world, splits, initialisation, order and sampling")
    generations: int = Field(3, ge=1, description="T: lessons the Student is taught, one per generation")
    reports_dir: str = Field("reports", description="where runs and reports go; relative to the repository's root")
    keep_checkpoints: bool = Field(False, description="keep every generation's weights, not only the last")

    # data
    task: str = Field("miniature", description="'miniature', a local folder, or a hub id")
    task_revision: str = Field("", description="commit of the hub data set")
    lesson_size: int = Field(300, ge=4, description="rows the Student is taught per generation")
    train_size: int = Field(900, ge=0, description="labelled real rows (for `real` and the warm start); 0 takes all")
    pool_size: int = Field(2000, ge=0, description="unlabeled real texts; 0 takes all that is left")
    pool_skew: Literal["none", "rare_tail", "no_tail", "no_class"] = Field(
        "none", description="what the pool shows less of than the test (rare_tail, no_tail: the miniature only)"
    )
    dev_size: int = Field(128, ge=4, description="labelled rows for feedback and tuning")
    test_size: int = Field(1000, ge=0, description="rows for final numbers; 0 takes all")

    # models
    student: str = Field("miniature", description="'miniature', 'small', a local folder, or a hub id")
    student_revision: str = Field("", description="commit of the hub model")
    student_corpus: str = Field("", description="folder of plain .txt a 'small' Student is pre-trained on")
    student_steps: int = Field(300, ge=1, description="pre-training steps of a made Student")
    generator: str = Field("miniature", description="'miniature', 'small', a local folder, or a hub id")
    generator_revision: str = Field("", description="commit of the hub model")
    generator_corpus: str = Field("", description="labelled CSV that teaches a 'small' Generator the three prompts")
    generator_steps: int = Field(1300, ge=1, description="pre-training steps of a made Generator")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=0, description="CPU threads; 1: the same sums on any machine, 0: all cores")
    num_processes: int = Field(
        1, ge=1, description="ranks that train together: one GPU each, or CPU processes", json_schema_extra=LATER
    )
    sharding: Literal["none", "fsdp"] = Field(
        "none", description="fsdp: each rank holds a part of weights, gradients and moments", json_schema_extra=LATER
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="parts a step's rows are read in: more take less memory", json_schema_extra=LATER
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="autocast; the weights stay fp32")
    max_length: int = Field(64, ge=8, description="tokens per training or scored text, longer ones are cut")

    # training the Student
    epochs: int = Field(2, ge=1, description="passes over each lesson")
    batch_size: int = Field(16, ge=1, description="lesson rows per optimiser step")
    learning_rate: float = Field(2e-3, gt=0, lt=1, description="AdamW step size")
    lm_weight: float = Field(1.0, ge=0, description="weight of the LM loss beside the label loss")

    # writing
    temperature: float = Field(1.0, gt=0, description="sampling temperature of Generator and Student")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling; 1 samples from everything")
    max_new_tokens: int = Field(40, ge=4, description="tokens a written text may have")
    generation_batch_size: int = Field(256, ge=1, description="texts written or scored at a time")
    generation_engine: Literal["transformers", "refill", "vllm"] = Field(
        "transformers",
        description="what samples texts: the library's generate, our own faster loop, or an environment of its own",
        json_schema_extra=LATER,
    )
    max_redraws: int = Field(5, ge=0, description="rounds of new draws for empty or duplicate texts")

    # methods
    recursive_start: Literal["zero_shot", "warm"] = Field(
        "zero_shot", description="warm lets generation 0 learn train_size real rows"
    )
    mixing: Literal["replace", "accumulate", "accumulate_subsample"] = Field(
        "replace",
        description="what becomes of earlier lessons: gone, taught again, or drawn from",
        json_schema_extra=LATER,
    )
    real_share: float = Field(
        0.0, ge=0, le=1, description="share of each lesson that is labelled real rows", json_schema_extra=LATER
    )
    real_rows: Literal["fresh", "fixed"] = Field(
        "fresh", description="whether these are new real rows in every generation or the same", json_schema_extra=LATER
    )
    weak_accuracy: float = Field(
        0.0,
        ge=0,
        le=1,
        description="right labels of a weak labeller asked about rejected texts; 0: nobody is asked",
        json_schema_extra=LATER,
    )
    subtopic_power: float = Field(
        1.0,
        ge=0,
        description="method world: subtopics with p ~ share^power; 0 is even, large only the largest",
        json_schema_extra=LATER,
    )
    label_noise: float = Field(
        0.0, ge=0, le=1, description="method world: share of rows with a wrong label", json_schema_extra=LATER
    )
    inside: bool = Field(
        False,
        description="measure hidden states on familiar and rare test texts, too (the miniature only)",
        json_schema_extra=LATER,
    )
    dev_rows: int = Field(
        0, ge=0, description="rows of each lesson that are labelled dev rows instead of the method's; dev_size at most"
    )
    attributes: bool = Field(False, description="written texts follow a subject the Generator names, a style, a length")
    first_sources: Literal["none", "random"] = Field(
        "none", description="pool texts behind the first lesson, before any feedback: none (all is written) or random"
    )
    feedback: Literal["lm_loss", "entropy", "margin", "teacher_kl", "gradient_norm", "influence", "random"] = Field(
        "lm_loss", description="how hardness is measured"
    )
    feedback_student: Literal["own", "foreign"] = Field(
        "own", description="whose weakness is measured: this Student's, or one that was taught other lessons"
    )
    hard_examples: int = Field(
        50, ge=1, description="pool texts the Student finds hardest; at most half of those scored"
    )
    scored_share: float = Field(0.5, gt=0, le=1, description="random share of the pool scored per generation")
    hardest_skipped: float = Field(
        0.0, ge=0, lt=0.5, description="share of the scored texts, hardest first, passed over"
    )
    max_similarity: float = Field(
        1.0, gt=0, le=1, description="hard texts sharing more of their words than this are picked once; 1 picks all"
    )
    teaching_share: float = Field(0.75, ge=0, le=1, description="share of a lesson that explains hard texts")
    pool_share: float = Field(
        0.0, ge=0, le=1, description="share that is the hard texts with the Generator's labels; the rest is written"
    )
    candidates: int = Field(
        1, ge=1, description="drafts per text; the one the Generator most clearly reads as its label is kept"
    )
    soft_labels: bool = Field(False, description="teach the Generator's label beliefs, not only the likeliest label")
    generator_update: Literal["none", "sft", "pool_lm", "influence", "dpo"] = Field(
        "sft", description="step D: what the Generator learns from, if it learns"
    )
    update_temperature: float = Field(
        1.0, gt=0, description="tau of `influence`, in standard deviations of the scores; larger stays closer"
    )
    dpo_beta: float = Field(0.1, gt=0, description="weight of the KL that `dpo` stays close by")
    generator_epochs: int = Field(2, ge=1, description="passes of step D")
    generator_learning_rate: float = Field(5e-4, gt=0, lt=1, description="AdamW step size of step D")
    generator_lora_rank: int = Field(0, ge=0, description="rank of LoRA adapters in step D; 0 trains all weights")

    @model_validator(mode="after")
    def _possible_together(self):
        if self.teaching_share + self.pool_share > 1:
            raise ValueError(
                f"teaching_share, pool_share: {self.teaching_share} and {self.pool_share} are more than one lesson; "
                "lower one of them"
            )
        if self.dev_rows >= self.lesson_size:
            raise ValueError(f"dev_rows: {self.dev_rows} leaves no other row of lesson_size {self.lesson_size}")
        if self.attributes and self.generator == "small":
            raise ValueError("attributes: the 'small' Generator was not taught to name subjects; set it to false")
        if self.generator_update in ("influence", "dpo") and self.candidates < 2:
            raise ValueError(f"candidates: generator_update '{self.generator_update}' compares drafts; give 2 or more")
        if self.pool_skew in ("rare_tail", "no_tail") and self.task != "miniature":
            raise ValueError(f"pool_skew: only the miniature knows its tail; '{self.pool_skew}' needs task: miniature")
        if self.task != "miniature" and (self.method == "world" or self.weak_accuracy or self.inside):
            raise ValueError("method 'world', weak_accuracy, inside: need the known truth of task: miniature")
        if self.method == "real" and self.train_size and self.train_size < self.lesson_size:
            raise ValueError(f"train_size: {self.train_size} is less than one lesson (lesson_size {self.lesson_size})")
        if self.sharding == "fsdp" and (self.num_processes == 1 or self.generator_lora_rank):
            raise ValueError(
                "sharding: 'fsdp' splits all weights among ranks; set num_processes to 2 or more and "
                "generator_lora_rank to 0, or sharding to none"
            )
        for role in ("student", "generator"):
            if getattr(self, role) == "small" and not getattr(self, f"{role}_corpus"):
                raise ValueError(f"{role}_corpus: needed to pre-train the 'small' {role}; name a local path")
        return self

    @property
    def looks_at_pool(self) -> bool:
        """Whether steps C and D have a purpose: something explains hard texts, or is them, or the Generator learns."""
        uses = self.teaching_share + self.pool_share > 0 or self.generator_update != "none"
        return self.method == "symbiosis" and uses


class InteractionSettings(Settings):
    """One run of K models that train on each other's outputs (arXiv 2505.21677), see symbiosis.interaction."""

    # what runs, and where its rows belong
    method: Literal["interaction"] = "interaction"
    variant: str = Field("k2_alpha050", pattern=r"^[a-z0-9_]+$", description="name of this setting")
    study: str = Field("interaction", pattern=r"^[a-z0-9_]+$", description="name of the batch the run belongs to")
    scale: str = Field(
        "smoke", pattern=r"^[a-z0-9_]+$", description="name of the size; 'smoke' never enters results.csv"
    )
    seed: int = Field(0, ge=0, description="world, splits, initialisation, order and sampling")
    generations: int = Field(3, ge=1, description="T: rounds in which the entities read each other; round 0 is before")
    reports_dir: str = Field("reports", description="where runs and reports go; relative to the repository's root")

    # who reads what
    entities: int = Field(2, ge=2, description="K: models that share their architecture and initial weights")
    alpha: float = Field(0.5, ge=0, le=1, description="share of the rows of a round that the entities wrote")
    beta: float = Field(0.5, ge=0, le=1, description="share of the real rows that is private, the rest is public")
    rows: int = Field(400, ge=4, description="n: rows each entity draws per round")
    written: int = Field(200, ge=1, description="texts each entity writes per round")
    mixing: Literal["replace", "accumulate_subsample"] = Field(
        "replace", description="written rows come from the newest round, or are drawn from all rounds so far"
    )
    restart: bool = Field(False, description="each round starts from the initial weights, not from the last round's")
    talk: str = Field("", description="relative share of each entity's texts, '3,1,1'; 0 only listens; '' is equal")
    symbiotic: int = Field(0, ge=0, description="entity (1..K) that keeps, of its drafts, what is hard for the others")
    candidates: int = Field(3, ge=2, description="drafts of the symbiotic entity per text it keeps")

    # texts
    private_tasks: str = Field(
        "world,sports,business,science",
        description="classes of the miniature, or files, folders or hub ids; the first K of them, one per entity",
    )
    public_task: str = Field("miniature", description="'miniature', or a file, folder or hub id of texts all may read")
    train_size: int = Field(400, ge=0, description="training texts per task; 0 takes all")
    test_size: int = Field(200, ge=2, description="held-out texts per task")
    prompts: int = Field(24, ge=2, description="held-out texts per task whose first tokens every entity goes on from")
    prompt_tokens: int = Field(4, ge=1, description="tokens of such a beginning")
    answers: int = Field(8, ge=1, description="samples per prompt, whose mean vector is the entity's answer")

    # models
    student: str = Field("miniature", description="'miniature', 'small', a local folder, or a hub id")
    student_revision: str = Field("", description="commit of the hub model")
    student_corpus: str = Field("", description="folder of plain .txt a 'small' model is pre-trained on")
    student_steps: int = Field(300, ge=1, description="pre-training steps of a made model")
    encoder: str = Field(
        "base", description="of answers: 'base' (initial model), 'miniature' (has read all classes), folder, or hub id"
    )
    encoder_revision: str = Field("", description="commit of the hub encoder")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=0, description="CPU threads; 1: the same sums on any machine, 0: all cores")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="autocast; the weights stay fp32")
    max_length: int = Field(64, ge=8, description="tokens per training or scored text, longer ones are cut")

    # training
    steps: int = Field(50, ge=1, description="optimiser steps per round")
    batch_size: int = Field(16, ge=1, description="rows per optimiser step")
    learning_rate: float = Field(1e-3, gt=0, lt=1, description="AdamW step size after warm-up, falling to 0")
    warmup_ratio: float = Field(0.025, ge=0, lt=1, description="share of the steps in which the step size rises")

    # writing
    temperature: float = Field(1.0, gt=0, description="sampling temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling; 1 samples from everything")
    max_new_tokens: int = Field(40, ge=4, description="tokens a written text may have")
    generation_batch_size: int = Field(256, ge=1, description="texts written or scored at a time")

    @property
    def private(self) -> tuple[str, ...]:
        """(K,) names of the private tasks, entity by entity."""
        return tuple(name.strip() for name in self.private_tasks.split(","))[: self.entities]

    @property
    def talk_shares(self) -> tuple[float, ...]:
        """(K,) share of each entity among the written rows, sums to 1."""
        weights = [float(x) for x in self.talk.split(",")] if self.talk else [1.0] * self.entities
        return tuple(weight / sum(weights) for weight in weights)

    @model_validator(mode="after")
    def _possible_together(self):
        if len(self.private) < self.entities or "" in self.private or len(set(self.private)) < self.entities:
            raise ValueError(
                f"private_tasks: {self.private_tasks!r} does not name {self.entities} different tasks, one for each of "
                "the entities; add some, separated by commas, or lower entities"
            )
        if not re.fullmatch(r"(\d+(\.\d+)?(,\d+(\.\d+)?)*)?", self.talk) or (
            self.talk and (len(self.talk.split(",")) != self.entities or not sum(map(float, self.talk.split(","))))
        ):
            raise ValueError(
                f"talk: {self.talk!r} is not {self.entities} numbers, one above 0; write for example "
                + ",".join("1" * self.entities)
            )
        if self.symbiotic > self.entities:
            raise ValueError(f"symbiotic: there is no entity {self.symbiotic} of {self.entities}; 0 is nobody")
        read = round(self.alpha * self.rows * max(self.talk_shares))
        if read > self.written:
            raise ValueError(f"written: {self.written} texts, but {read} of one entity are read per round; write more")
        real = round(self.rows * max(self.beta, 1 - self.beta))
        if 0 < self.train_size < real:
            raise ValueError(f"train_size: {self.train_size} texts, but round 0 reads {real} of one task; raise it")
        if self.encoder == "miniature" and self.public_task != "miniature":
            raise ValueError("encoder: 'miniature' knows only words of the miniature; take base, or name an encoder")
        if self.prompts > self.test_size:
            raise ValueError(f"prompts: {self.prompts} is more than the test_size {self.test_size} texts; lower it")
        if self.student == "small" and not self.student_corpus:
            raise ValueError("student_corpus: needed to pre-train the 'small' student; name a local path")
        return self


S = TypeVar("S", bound=Settings)


def fingerprint(value: Any) -> str:
    """Eight hex digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from (seed, generation, stage): randomness is named, never carried from stage to stage."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def root() -> Path:
    """The repository's root: the nearest folder upwards that holds params/ and notebooks/, else the current one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    return here


def resolve(path: str | Path) -> Path:
    """A path as the reader wrote it: `~` expanded, relative ones from the repository's root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else root() / path


def make_settings(source: str = "parameters", model_class: type[S] = RunSettings, **given: Any) -> S:
    """Validated settings; SettingsError lists every mistake, `source` says which file or notebook it is in."""
    try:
        return model_class(**given)
    except ValidationError as error:
        lines = [_explain(source, e, given, model_class) for e in error.errors()]
        raise SettingsError("\n".join(lines)) from None


def notebook_settings(namespace: dict[str, Any], model_class: type[S] = RunSettings, **fixed: Any) -> S:
    """Settings of a notebook: `notebook_settings(globals())` in the cell after the parameters.

    `fixed` adds what the notebook itself decides.
    """
    given = notebook_parameters(namespace, model_class) | fixed
    return make_settings(_where_from(given, model_class), model_class, **given)


def notebook_parameters(namespace: dict[str, Any], model_class: type[Settings] = RunSettings) -> dict[str, Any]:
    """What a notebook's parameters cell, and the one papermill injects after it, have set; unknown names included.

    Unknown names are found in the history of cells that hold nothing but literal assignments; where a runner keeps no
    history (nbval), the known names are taken from the namespace.
    """
    known = {name: namespace[name] for name in model_class.model_fields if name in namespace}
    plain = {name: value for name, value in known.items() if isinstance(value, (str, int, float))}
    return plain | literal_parameters(namespace.get("In", []))


def literal_parameters(cells: list[str]) -> dict[str, Any]:
    """Names and values of the cells that only assign literals; later cells win."""
    values: dict[str, Any] = {}
    for cell in cells:
        try:
            body = ast.parse(cell).body
            pairs = {_target(node): ast.literal_eval(node.value) for node in body}
        except (SyntaxError, ValueError, AttributeError):
            continue  # not a parameters cell
        values |= pairs
    return values


def read_params(path: str | Path) -> dict[str, Any]:
    """One params file as a dictionary; SettingsError names the file and line of malformed YAML."""
    path = resolve(path)
    if not path.is_file():
        raise SettingsError(f"{path}: no such params file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: holds a {type(values).__name__}; write one 'name: value' per line")
    return values


def _target(node: ast.stmt) -> str:
    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
    return target.id


def _where_from(given: dict[str, Any], model_class: type[Settings]) -> str:
    """The params files that hold a name no setting has, else 'parameters'."""
    unknown = set(given) - set(model_class.model_fields)
    for path in sorted(root().glob("params/**/*.yaml")) if unknown else []:
        if unknown & set(read_params(path)):
            return str(path.relative_to(root()))
    return "parameters"


def _explain(source: str, error: dict, given: dict[str, Any], model_class: type[Settings]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, model_class.model_fields, n=1)
        return f"{source}: unknown parameter '{name}'" + (f" (did you mean '{near[0]}'?)" if near else "")
    value = given.get(name)
    if isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        hint = "; YAML reads 3e-4 as text: write 3.0e-4" if "e" in value.lower() else "; remove the quotes"
        return f"{source}: {name}: {value!r} is text, not a number{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {name}: {message}, got {value!r}" if name else f"{source}: {message}"
