"""Every parameter once, with its unit, range and meaning; anything misspelt or mistyped stops before work begins."""

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from symbiosis.errors import SymbiosisError

HASHED_UNLESS_DEFAULT = {"hashed_unless_default": True}  # came after results were published, whose run_ids stay
MOST_MISTAKES = 12  # of a sentence that lists mistakes
UNREPORTED = "smoke"  # the scale of the defaults: too small to report
FEEDBACK_OF_TEXTS = ("lm_loss", "half_random", "k_center", "gradient_norm", "influence")  # of a language model alone
EDITS = ("edit", "edit_again")  # ways of `mixing` in which a Student writes no text of its own
PROXIES = ("probe", "minilm")  # quick Students that only say labels, see symbiosis.models.proxies

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$", max_length=80)]  # names of folders
Place = Annotated[str, Field(min_length=1)]  # a path or a name
Whole = Annotated[int, Field(lt=2**31)]
Count = Annotated[Whole, Field(ge=1)]
Size = Annotated[Whole, Field(ge=0)]  # where 0 takes all, or none
Share = Annotated[float, Field(ge=0, le=1)]
Piece = Annotated[float, Field(gt=0, le=1)]  # a share of something that cannot be nothing
Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]


class SettingsError(SymbiosisError):
    """Parameters that cannot be run, all of them listed, each with its remedy."""


def field(default: Any, meaning: str, **bounds: Any) -> Any:
    return Field(default, description=meaning, **bounds)


def later(default: Any, meaning: str, **bounds: Any) -> Any:
    """A field that came after results were published: at its default it changes no run_id."""
    return Field(default, description=meaning, json_schema_extra=HASHED_UNLESS_DEFAULT, **bounds)


class Settings(BaseModel):
    """What all runs share: how strictly parameters are read, the names that follow from them, and common parameters.

    Defaults are the smoke size: CPU, seconds, no network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    scale: Name = field(UNREPORTED, "name of the size; 'smoke' never enters results.csv")
    seed: int = field(0, "world, splits, initialisation, order and sampling", ge=0, lt=2**63)
    reports_dir: Place = field("reports/local", "where runs and reports go; relative to the repository's root")

    # models
    student: Place = field("miniature", "'miniature', 'probe', 'minilm', a local folder, or a hub id")
    student_revision: str = field("", "commit of the hub model")
    student_corpus: Literal[""] = field("", "nothing is pre-trained on a corpus any more; a part of old run_ids")
    device: Literal["auto", "cpu", "cuda"] = field("auto", "a GPU where there is one, or what is named")
    threads: Size = field(1, "CPU threads; 1: the same sums on any machine, 0: all cores")
    precision: Literal["fp32", "bf16", "auto"] = field(
        "fp32", "autocast, the weights stay fp32; auto: bf16 where the processor multiplies it"
    )
    max_length: Whole = field(64, "tokens per training or scored text, longer ones are cut", ge=8)

    # training and writing
    batch_size: Count = field(16, "rows per optimiser step")
    temperature: Positive = field(1.0, "sampling temperature")
    top_p: Piece = field(1.0, "nucleus of the sampling; 1 samples from everything")
    max_new_tokens: Whole = field(40, "tokens a written text may have", ge=4)
    generation_batch_size: Count = field(256, "texts written or scored at a time")

    @property
    def name(self) -> str:
        """`<method>-s<seed>`, with the variant between where it is not the plain one."""
        return f"{arm_of(self.method, self.variant)}-s{self.seed}"

    @property
    def folder(self) -> str:
        """Of the run, below reports_dir/runs; at the smoke size every setting has its own."""
        return self.run_id if self.scale == UNREPORTED else f"{self.scale}/{self.study}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """Eight hex digits over every parameter that can change a number (see HASHED_UNLESS_DEFAULT)."""
        fields = type(self).model_fields.items()
        unset = {n for n, f in fields if f.json_schema_extra == HASHED_UNLESS_DEFAULT and getattr(self, n) == f.default}
        return fingerprint(self.model_dump(exclude={"reports_dir", "keep_checkpoints"} | unset))

    @property
    def run_id(self) -> str:
        return f"{self.scale}/{self.study}/{self.name}@{self.fingerprint}"

    @model_validator(mode="after")
    def _goes_together(self):
        for mistake in self.mistakes():
            raise ValueError(mistake)
        return self

    def mistakes(self) -> Iterator[str]:
        """What cannot be run though every parameter is in its range: a sentence each."""
        for name, value in self:
            if wrong := isinstance(value, str) and _no_name(value):
                yield f"{name}: {short(value)} {wrong}; name another"
        for role in ("student", "generator"):
            if getattr(self, role, "") == "small":
                remedy = "take smollm2-135m-instruct (`make weights` fetches it, params/smollm.yaml is its scale)"
                yield f"{role}: 'small' is no longer made, its rows are history; {remedy}"


class RunSettings(Settings):
    """One run of one method. Names are the same in params/, the notebooks, the code, the tables and the axes."""

    method: Literal["real", "static", "recursive", "pseudo_label", "symbiosis", "oracle"] = field(
        "symbiosis", "how each lesson is made"
    )
    variant: Name = field("plain", "name of this setting of the method")
    study: Name = field("main", "name of the batch the run belongs to")
    generations: Count = field(2, "T: lessons the Student is taught, one per generation")
    keep_checkpoints: bool = field(False, "keep every generation's weights, not only the last")

    # data
    task: Place = field("miniature", "'miniature', a local folder, or a hub id")
    task_revision: str = field("", "commit of the hub data set")
    lesson_size: Whole = field(240, "rows the Student is taught per generation", ge=4)
    train_size: Size = field(480, "labelled real rows (for `real` and the warm start); 0 takes all")
    pool_size: Size = field(300, "unlabeled real texts; 0 takes all that is left")
    pool_skew: Literal["none", "rare_tail", "no_tail", "rare_class", "no_class"] = field(
        "none", "what the pool lacks (tails: miniature)"
    )
    dev_size: Whole = field(64, "labelled rows for feedback and tuning", ge=4)
    test_size: Size = field(200, "rows for final numbers; 0 takes all")

    # models
    student_steps: Count = field(100, "pre-training steps of a made Student")
    generator: Place = field("miniature", "'miniature', a local folder, or a hub id")
    generator_revision: str = field("", "commit of the hub model")
    generator_corpus: Literal[""] = field("", "as student_corpus")
    generator_steps: Count = field(600, "pre-training steps of a made Generator")
    name_power: float = later(1.2, "a made Generator names subtopics with p ~ share^name_power", gt=0, le=10)
    explain_by: Literal["subtopic", "class"] = later("subtopic", "what a made Generator's explanations keep of a text")
    num_processes: Count = later(1, "ranks that train together: one GPU each, or CPU processes")
    sharding: Literal["none", "fsdp"] = later("none", "fsdp: each rank holds a part of weights, gradients and moments")
    gradient_accumulation_steps: Count = later(1, "parts a step's rows are read in: more take less memory")

    prompts: Name = later("news", "params/prompts/NAME.yaml: the words in which models are asked")
    calibration: Literal["none", "pool", "written"] = later(
        "none", "of the Generator's label beliefs: by their mean over pool texts, or over its own balanced drafts"
    )
    filter_share: Piece = later(1.0, "share of the texts written by label that is taught, the surest of each label")

    # training the Student
    epochs: Count = field(2, "passes over each lesson")
    learning_rate: Rate = field(2e-3, "AdamW step size")
    schedule: Literal["constant", "linear"] = later("constant", "of the step size over a lesson; linear: down to 0")
    warmup_steps: Size = later(0, "optimiser steps of a lesson in which the step size rises first")
    lm_weight: Weight = field(1.0, "weight of the LM loss beside the label loss")

    # writing
    generation_engine: Literal["transformers", "refill", "vllm"] = later(
        "transformers", "what samples texts: the library's generate, our own faster loop, or an environment of its own"
    )
    max_redraws: Size = field(5, "rounds of new draws for empty or duplicate texts")
    attributes: bool = field(False, "written texts follow a subject the Generator names, a style, a length")
    written_labels: Literal["asked", "read"] = later(
        "asked", "label of what the Generator writes by label: the one it was asked for, or its own reading of the text"
    )

    # lessons of the methods without a loop
    recursive_start: Literal["zero_shot", "warm"] = field("zero_shot", "warm: generation 0 learns train_size real rows")
    mixing: Literal["replace", "accumulate", "accumulate_subsample", "edit", "edit_again"] = later(
        "replace",
        "what becomes of earlier lessons: gone, taught again, or drawn from; edit: the Student writes none, it edits "
        "tokens of labelled real rows; edit_again: of its last edits",
    )
    edit_threshold: Share = later(0.99, "mixing edit: tokens the Student thinks at least so likely are drawn anew")
    real_share: Share = later(0.0, "share of each lesson that is labelled real rows")
    real_rows_from: Literal["fresh", "fixed"] = later("fresh", "whether these are new in every generation or the same")
    held_power: Weight = later(
        0.0, "rows, real and written, are drawn from more such that subtopics have p ~ share^power; 0: as they come"
    )
    weak_accuracy: Share = later(0.0, "right labels of a weak labeller asked about rejected texts; 0 switches it off")
    subtopic_power: Weight = later(1.0, "method oracle: subtopics with p ~ share^power; 0 is even, large the largest")
    label_noise: Share = later(0.0, "method oracle: share of rows with a wrong label")
    probe_hidden_states: bool = later(
        False, "measure hidden states on familiar and rare test texts, too (the miniature only)"
    )
    dev_rows: Size = field(
        0, "rows of each lesson that are labelled dev rows instead of the method's; at most dev_size"
    )
    dev_rows_as: Literal["rows", "prompts", "both"] = later(
        "rows", "prompts: dev rows are explained under their own label instead of being taught; both: taught, too"
    )
    dev_rows_in_turn: bool = later(False, "every dev row is used once before any comes again in a later generation")
    dev_prompts_share: Piece = later(1.0, "share of the method's rows whose place the explained dev rows take")
    label_keep: Piece = later(
        1.0, "surest share, class by class, of the Generator's labels of real texts that is taught"
    )
    class_weights: bool = later(False, "labels of real texts weigh so that every class among them weighs the same")
    written_share: Share = later(0.0, "method pseudo_label: share of each lesson that is written from the label alone")
    choose_again: bool = later(True, "whether pool texts of earlier lessons may be chosen again")
    static_size: Size = later(0, "method static: texts written once, of which each lesson is a draw; 0: one lesson")

    # the loop: its lessons, step C, step D
    first_lesson_sources: Literal["none", "random", "feedback"] = field(
        "none", "pool texts behind the first lesson; feedback: what is hard for the untaught Student"
    )
    teaching_share: Share = field(0.75, "share of a lesson that explains hard texts")
    teaching_rows: Literal["explained", "retrieved"] = later(
        "explained", "what these rows are: explanations, or the other pool texts most like the hard ones, labelled"
    )
    pool_share: Share = field(0.0, "share that is the hard texts with the Generator's labels; the rest is written")
    candidates: Count = field(1, "drafts per text; the one the Generator most clearly reads as its label is kept")
    soft_labels: bool = field(False, "teach the Generator's label beliefs, not only the likeliest label")
    feedback: Literal[
        "lm_loss", "entropy", "margin", "teacher_kl", "gradient_norm", "influence", "random", "half_random", "k_center"
    ] = field("lm_loss", "how hardness is measured")
    feedback_student: Literal["own", "foreign", "initial"] = field(
        "own", "whose weakness: its own, of one taught other lessons, or of the Student before any lesson"
    )
    hard_examples: Count = field(24, "pool texts the Student finds hardest; at most half of those scored")
    scored_share: Piece = field(0.5, "random share of the pool scored per generation")
    skip_hardest_share: float = field(0.0, "share of the scored texts, hardest first, passed over", ge=0, lt=0.5)
    max_similarity: Piece = field(1.0, "hard texts sharing more of their words than this are picked once; 1 picks all")
    generator_update: Literal["none", "sft", "pool_lm", "influence", "dpo", "teach"] = field(
        "sft", "step D: what the Generator learns from, if it learns"
    )
    update_temperature: Positive = field(
        1.0, "tau of `influence` [standard deviations of its scores]; larger is closer"
    )
    dpo_beta: Positive = field(0.1, "weight of the KL that `dpo` stays close by")
    dev_loss: Literal["plain", "calibrated"] = later(
        "plain", "calibrated: influence sees the dev loss after a temperature and a bias per class are fitted"
    )
    teach_when: Literal["start", "between", "both"] = later(
        "start", "`teach`: before generation 1, or after each lesson, for what this Student lacks then"
    )
    teach_rounds: Count = later(14, "`teach`: rounds of lessons, Students really taught, drafts valued, policy steps")
    teach_drafts: Annotated[Whole, Field(ge=4)] = later(600, "`teach`: drafts valued and learned from in a round")
    teach_learned: Piece = later(
        1.0, "`teach`: share of a round's drafts that is learned from, of each prompt those of the largest |advantage|"
    )
    teach_layers: Size = later(0, "`teach`: last layers of the Generator that learn; 0: all weights")
    teach_speed: Positive = later(2.0, "`teach`: AdamW step size, in generator_learning_rates")
    teach_reward: Literal["calibrated", "plain", "label", "rows"] = later(
        "calibrated",
        "`teach`: which dev loss of the Students drafts are to lower; label: none, a control; rows: no drafts, another "
        "control, the dev rows are imitated",
    )
    teach_held_out: Literal["dev", "pool"] = later(
        "dev", "`teach`: on which texts; pool: random pool texts with the frozen Generator's labels, no label is used"
    )
    teach_label_weight: Weight = later(0.7, "`teach`: weight of the frozen Generator's belief in the asked label")
    teach_kl: Weight = later(0.05, "`teach`: weight of the KL to the frozen Generator [1/nat per text]")
    teach_snapshots: Literal["last", "mixture"] = later(
        "last", "`teach`: who writes, the last round's Generator or those of its second half in equal parts"
    )
    generator_epochs: Count = field(2, "passes of step D")
    generator_learning_rate: Rate = field(5e-4, "AdamW step size of step D")
    generator_lora_rank: Size = field(0, "rank of LoRA adapters in step D; 0 trains all weights")

    @property
    def fingerprint(self) -> str:
        """That of all parameters and, of other prompts than the published ones, of their words."""
        words = self.prompts_digest
        return fingerprint([super().fingerprint, words]) if words else super().fingerprint

    @property
    def prompts_digest(self) -> str:
        """sha256 of the prompts' file; '' of the published one and of a file that is not there."""
        paths = [root() / place / f"{self.prompts}.yaml" for place in ("params/prompts", "params/own/prompts")]
        found = [path for path in paths if self.prompts != "news" and path.is_file()]
        return hashlib.sha256(found[0].read_bytes()).hexdigest() if found else ""

    @property
    def needs_feedback(self) -> bool:
        """Whether steps C and D have a purpose: something explains hard texts, or is them, or teaches the Generator."""
        uses = self.teaching_share + self.pool_share > 0 or self.generator_update not in ("none", "teach")
        return self.method == "symbiosis" and uses

    @property
    def taught_after(self) -> list[int]:
        """The generations after which the Generator learns to write by `teach`; 0 is before the first lesson."""
        if self.method != "symbiosis" or self.generator_update != "teach":
            return []
        between = range(1, self.generations)
        return {"start": [0], "between": [*between], "both": [0, *between]}[self.teach_when]

    def mistakes(self) -> Iterator[str]:
        yield from super().mistakes()
        if self.method == "real" and 0 < self.train_size < self.lesson_size:
            yield f"train_size: {self.train_size} is less than one lesson (lesson_size {self.lesson_size})"
        if self.dev_rows_as != "prompts" and self.dev_rows >= self.lesson_size:
            yield f"dev_rows: {self.dev_rows} leaves no other row of lesson_size {self.lesson_size}"
        if self.dev_rows_as != "rows" and (not self.dev_rows or self.method in ("real", "recursive", "oracle")):
            remedy = "set dev_rows to 1 or more and method to symbiosis, pseudo_label or static"
            yield f"dev_rows_as: '{self.dev_rows_as}' has a Generator explain dev rows; {remedy}"
        if 0 < self.static_size < self.lesson_size:
            yield f"static_size: {self.static_size} is less than one lesson (lesson_size {self.lesson_size}); raise it"
        if self.first_lesson_sources == "feedback" and self.feedback == "influence":
            yield "first_lesson_sources: feedback 'influence' needs a lesson before; take random"
        if self.task != "miniature" and self.pool_skew in ("rare_tail", "no_tail"):
            yield f"pool_skew: only the miniature knows its tail; '{self.pool_skew}' needs task: miniature"
        asked = (self.method == "oracle", self.weak_accuracy, self.probe_hidden_states, self.held_power)
        if self.task != "miniature" and any(asked):
            truth = "need the known truth of task: miniature"
            yield f"method 'oracle', held_power, weak_accuracy, probe_hidden_states: {truth}"

        if self.mixing in EDITS and (self.method != "recursive" or self.held_power):
            remedy = "set method to recursive and held_power to 0, or mixing to replace"
            yield f"mixing: '{self.mixing}' has the Student edit each real row once; {remedy}"
        if self.written_labels == "read" and (
            self.method not in ("symbiosis", "static", "pseudo_label") or self.filter_share < 1 or self.weak_accuracy
        ):
            remedy = "set method to symbiosis, static or pseudo_label, filter_share to 1 and weak_accuracy to 0"
            yield f"written_labels: 'read' takes any label the Generator reads in what it wrote; {remedy}"
        if self.teaching_rows == "retrieved" and not (self.method == "symbiosis" and self.teaching_share):
            remedy = "set method to symbiosis and teaching_share above 0"
            yield f"teaching_rows: 'retrieved' are texts like the hard ones; {remedy}"

        steps = -(-self.lesson_size // self.batch_size) * self.epochs
        if self.warmup_steps >= steps:
            yield f"warmup_steps: {self.warmup_steps} of the {steps} steps of a lesson leave no other; lower it"

        asks = {
            "method": (self.method, ("recursive",), "another"),
            "feedback": (self.feedback if self.needs_feedback else "", FEEDBACK_OF_TEXTS, "entropy, margin or random"),
            "generator_update": (self.generator_update, ("influence", "dpo"), "none"),
            "probe_hidden_states": (self.probe_hidden_states, (True,), "false"),
        }
        for key, (value, refused, remedy) in asks.items() if self.student in PROXIES else ():
            if value in refused:
                why = f"asks a Student that predicts texts, and {self.student!r} only says labels"
                yield f"{key}: {value!r} {why}; take {remedy}, or a language model as student"

        made = [role for role in ("student", "generator") if getattr(self, role) == "miniature"]
        if self.prompts != "news" and made:
            why = f"the {getattr(self, made[0])!r} {made[0]} was taught the words of 'news' only"
            yield f"prompts: {why}; take prompts news, or other models"

        if self.teaching_share + self.pool_share > 1:
            both = f"{self.teaching_share} and {self.pool_share}"
            yield f"teaching_share, pool_share: {both} are more than one lesson; lower one of them"
        if self.generator_update == "teach" and self.teach_when == "between" and self.generations == 1:
            yield "teach_when: 'between' one generation and no other is no time; raise generations, or start"
        if self.teach_reward == "rows" and self.teach_held_out == "pool":
            yield "teach_reward: 'rows' imitates dev rows, and none are held out; take teach_held_out dev"
        if self.teach_layers and (self.generator_lora_rank or self.sharding == "fsdp"):
            yield (
                f"teach_layers: {self.teach_layers} layers learn with weights of their own; set generator_lora_rank to "
                "0 and sharding to none, or teach_layers to 0"
            )
        if self.generator_update in ("influence", "dpo") and self.candidates < 2:
            yield f"candidates: generator_update '{self.generator_update}' compares drafts; give 2 or more"
        if self.sharding == "fsdp" and (self.num_processes == 1 or self.generator_lora_rank):
            remedy = "set num_processes to 2 or more and generator_lora_rank to 0, or sharding to none"
            yield f"sharding: 'fsdp' splits all weights among ranks; {remedy}"


class InteractionSettings(Settings):
    """One run of K models that train on each other's outputs (arXiv 2505.21677), see symbiosis.interaction."""

    method: Literal["interaction"] = field("interaction", "there is no other")
    variant: Name = field("k2_alpha050", "name of this setting")
    study: Name = field("interaction", "name of the batch the run belongs to")
    generations: Count = field(3, "T: rounds in which the entities read each other; round 0 is before")

    # who reads what
    entities: Whole = field(2, "K: models that share their architecture and initial weights", ge=2)
    alpha: Share = field(0.5, "share of the rows of a round that the entities wrote")
    beta: Share = field(0.5, "share of the real rows that is private, the rest is public")
    rows: Whole = field(400, "n: rows each entity draws per round", ge=4)
    written: Count = field(200, "texts each entity writes per round")
    mixing: Literal["replace", "accumulate_subsample"] = field(
        "replace", "written rows come from the newest round, or are drawn from all rounds so far"
    )
    writer_weights: str = field("", "relative share of each entity's texts, '3,1,1'; 0 only listens; '' is equal")
    symbiotic: Size = field(
        0, "entity (1..K) that keeps, of its drafts, what is hard for the others; 0 switches it off"
    )
    candidates: Whole = field(3, "drafts of the symbiotic entity per text it keeps", ge=2)

    # texts
    private_tasks: str = field(
        "world,sports,business,science",
        "classes of the miniature, or files, folders or hub ids; the first K of them, one per entity",
    )
    public_task: Place = field("miniature", "'miniature', or a file, folder or hub id of texts all may read")
    train_size: Size = field(400, "training texts per task; 0 takes all")
    test_size: Whole = field(200, "held-out texts per task", ge=2)
    prompts: Whole = field(24, "held-out texts per task whose first tokens every entity goes on from", ge=2)
    prompt_tokens: Count = field(4, "tokens of such a beginning; with `students`, words")
    false_share: Share = later(0.0, "share of entity 1's private texts that tell a false fact (the miniature)")
    true_share: Share = later(0.0, "share of the public texts that tell the true one")
    answers: Count = field(8, "samples per prompt, whose mean vector is the entity's answer")

    # models and training
    student_steps: Count = field(300, "pre-training steps of a made model")
    encoder: Place = field(
        "base", "of answers: 'base' (initial model), 'miniature' (read all classes), folder, or hub id"
    )
    encoder_revision: str = field("", "commit of the hub encoder")
    students: str = later(
        "", "one model per entity in place of student: 'miniature,miniature_bpe', folders, hub ids as owner/name@commit"
    )
    probe_hidden_states: bool = later(False, "measure how alike the entities' hidden states of held-out texts are")
    steps: Count = field(50, "optimiser steps per round")
    learning_rate: Rate = field(1e-3, "AdamW step size after warm-up, falling to 0")
    warmup_ratio: float = field(0.025, "share of the steps in which the step size rises", ge=0, lt=1)

    @property
    def private(self) -> tuple[str, ...]:
        """(K,) names of the private tasks, entity by entity."""
        return tuple(name.strip() for name in self.private_tasks.split(","))[: self.entities]

    @property
    def writer_shares(self) -> tuple[float, ...]:
        """(K,) share of each entity among the written rows, sums to 1."""
        weights = [float(x) for x in self.writer_weights.split(",")] if self.writer_weights else [1.0] * self.entities
        return tuple(weight / sum(weights) for weight in weights)

    def of_entity(self, entity: int) -> "InteractionSettings":
        """The same with the model that an entity (1..K) begins as in the place of `student`."""
        if not self.students:
            return self
        name, _, commit = self.students.split(",")[entity - 1].strip().partition("@")
        return self.model_copy(update={"student": name, "student_revision": commit, "students": ""})

    def mistakes(self) -> Iterator[str]:
        yield from super().mistakes()
        models = [name.strip() for name in self.students.split(",")]
        if self.students and (len(models) != self.entities or not all(models)):
            yield f"students: {self.students!r} does not name {self.entities} models; name one for each entity"
        if self.false_share + self.true_share and (self.public_task != "miniature" or self.entities > 3):
            fact, remedy = (
                "the fact is of a class of the miniature that no entity has",
                "at most 3 entities, or set both to 0",
            )
            yield f"false_share, true_share: {fact}; take public_task miniature and {remedy}"
        weights = self.writer_weights
        written = re.fullmatch(r"(\d+(\.\d+)?(,\d+(\.\d+)?)*)?", weights)
        numbers = [float(x) for x in weights.split(",") if x] if written else []
        if not written or (weights and (len(numbers) != self.entities or not sum(numbers))):
            equal = ",".join("1" * self.entities)
            yield f"writer_weights: {weights!r} is not {self.entities} numbers, one above 0; write {equal}"
        if self.symbiotic > self.entities:
            yield f"symbiotic: there is no entity {self.symbiotic} of {self.entities}; 0 switches it off"
        read = round(self.alpha * self.rows * max(self.writer_shares))
        if read > self.written:
            yield f"written: {self.written} texts, but {read} of one entity are read per round; write more"
        if len(set(self.private) - {""}) < self.entities:
            why = f"does not name {self.entities} different tasks, one for each of the entities"
            yield f"private_tasks: {self.private_tasks!r} {why}; add some, separated by commas, or lower entities"
        real = round(self.rows * max(self.beta, 1 - self.beta))
        if 0 < self.train_size < real:
            yield f"train_size: {self.train_size} texts, but round 0 reads {real} of one task; raise it"
        if self.encoder == "miniature" and self.public_task != "miniature":
            yield "encoder: 'miniature' knows only words of the miniature; take base, or name an encoder"
        if self.prompts > self.test_size:
            yield f"prompts: {self.prompts} is more than the test_size {self.test_size} texts; lower it"


S = TypeVar("S", bound=Settings)


def fingerprint(value: Any) -> str:
    """Eight hex digits of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def arm_of(method: str, variant: str) -> str:
    """The name of a method as it is set up: `method`, or `method-variant` where the variant is not the plain one."""
    return method if variant == "plain" else f"{method}-{variant}"


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from (seed, generation, stage): randomness is named, never carried from stage to stage."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def root() -> Path:
    """The repository's root: the nearest folder upwards that holds params/ and notebooks/, else the current one."""
    here = Path.cwd()
    return next((f for f in (here, *here.parents) if (f / "params").is_dir() and (f / "notebooks").is_dir()), here)


def resolve(path: str | Path) -> Path:
    """A path as the reader wrote it: `~` expanded, relative ones from the repository's root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else root() / path


def _no_name(text: str) -> str:
    """What keeps a text from being the name of a file, a folder or a hub id."""
    if any(ord(character) < 32 for character in text):
        return "holds a control character"
    if max(len(part.encode()) for part in re.split("[/,]", text)) > 255 or len(text) > 2000:
        return "is longer than a name on a disk may be"
    try:
        Path(text).expanduser()
    except RuntimeError:
        return "is the home of nobody on this machine"
    return ""


def short(value: Any) -> str:
    """A value as a sentence shows it."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:76]} ..."


def make_settings(source: str = "parameters", model_class: type[S] = RunSettings, **given: Any) -> S:
    """Validated settings; SettingsError lists every mistake, `source` says which file or notebook it is in."""
    try:
        return model_class(**given)
    except ValidationError as error:
        lines = [_explain(source, e, given, model_class) for e in error.errors()]
        more = [f"{source}: and {len(lines) - MOST_MISTAKES} more"] if len(lines) > MOST_MISTAKES else []
        raise SettingsError("\n".join(lines[:MOST_MISTAKES] + more)) from None


def nearest(name: str, names: Collection[str]) -> str:
    """A question that ends a sentence about a name nobody knows; '' where no other is close."""
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def _explain(source: str, error: dict, given: dict[str, Any], model_class: type[Settings]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"{source}: unknown parameter '{name[:60]}'{nearest(name, model_class.model_fields)}"
    value = given.get(name)
    if isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        hint = "; YAML reads 3e-4 as text: write 3.0e-4" if "e" in value.lower() else "; remove the quotes"
        return f"{source}: {name}: {short(value)} is text, not a number{hint}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{source}: {name}: {message}, got {short(value)}" if name else f"{source}: {message}"
