"""The parameters of K models that train on each other's outputs: InteractionSettings."""

import re
from collections.abc import Iterator
from typing import Literal

from symbiosis.settings.common import Count, Name, Place, Rate, Settings, Share, Size, Whole, field, later


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
