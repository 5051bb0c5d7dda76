"""The parameters of one run of one method: RunSettings."""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from symbiosis.settings.common import (
    Count,
    Name,
    Piece,
    Place,
    Positive,
    Rate,
    Settings,
    Share,
    Size,
    Weight,
    Whole,
    field,
    fingerprint,
    later,
    root,
)  # fmt: skip

FEEDBACK_OF_TEXTS = ("lm_loss", "half_random", "k_center", "gradient_norm", "influence")  # of a language model alone
EDITS = ("edit", "edit_again")  # ways of `mixing` in which a Student writes no text of its own
PROXIES = ("probe", "minilm")  # quick Students that only say labels, see symbiosis.models.proxies


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
