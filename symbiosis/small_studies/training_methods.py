"""Is what real rows are worth to a Student alike however it is trained? One lesson, four ways: half a minute a seed.

Of a text x, and the label y of its row, a step lowers

    sft      -log p(y | x)
    dpo      -log sigmoid(beta [log p(y|x)/p(z|x) - log p0(y|x)/p0(z|x)]),   z another label, drawn once for each row
    policy   -mean_s A_s log pi(a_s | x),   a_s ~ pi of the labels alone;  A_s = r_s - the mean r of the other draws,
             r_s = 1 where a_s = y
    replay   as sft, + the LM loss of as many texts of its pre-training, read again

p0 is the Student before the lesson. Preferences: Rafailov et al. 2023, arXiv 2305.18290; policy gradients: Williams
1992, with the baseline of Kool et al. 2019; replay: Rolnick et al. 2019, arXiv 1811.11682.
"""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from symbiosis.data.dialled import Dial
from symbiosis.data.world import LABEL_NAMES, World
from symbiosis.models.loading import document_rows, pad
from symbiosis.models.scoring import token_losses
from symbiosis.models.student import Student
from symbiosis.models.training import Steps, epochs_of, fit
from symbiosis.pretrain.miniature import STUDENT_BATCH
from symbiosis.small_studies import table
from symbiosis.small_studies.students import LESSON, LONGEST, STEPS, accuracy, lessons_of, pretrained, settings_of

LESSONS, TESTED = 2, 1_000  # lessons drawn for each seed, and test texts: of single lessons the outcome varies much
DRAWS, BETA = 4, 0.1  # of `policy`, labels drawn for a text at every step; of `dpo`


@dataclass(frozen=True)
class Method:
    """How a lesson is learned: passes over it, AdamW step size. Found on seeds 1 and 2."""

    epochs: int
    learning_rate: float


METHODS = {"sft": Method(4, 2e-3), "dpo": Method(4, 2e-3), "policy": Method(8, 2e-3), "replay": Method(4, 2e-3)}


def training_methods(seed: int) -> pd.DataFrame:
    """Accuracy after a lesson, none or REAL_SHARE of its rows real, learned by each of METHODS: a mean over LESSONS.

    Rows and base Student are those of `sensitivity`: the others are narrow and a fifth of them mislabelled. All arms of
    a seed begin as one pre-trained Student and are tested on the same texts. method: how, variant: share of real rows.
    """
    world, rng = World.make(seed), np.random.default_rng([seed, 47])
    settings = settings_of("real", seed, lm_weight=0.0, max_length=LONGEST)
    base = Student(pretrained(world, seed), LABEL_NAMES, settings)
    test, read = Dial().texts(world, TESTED, rng), np.random.default_rng([seed, 46])
    read = world.sample(STEPS * STUDENT_BATCH, read)["text"].tolist()[:LESSON]
    found: dict[tuple[str, str], list[float]] = {}
    for lesson in range(LESSONS):
        for share, rows in lessons_of(world, rng).items():
            for name in METHODS:
                student = learn(base, rows, name, read=read, seed=seed * LESSONS + lesson)
                found.setdefault((name, share), []).append(accuracy(student, test))
    lines = [(*arm, seed, 1, "accuracy", np.mean(values), TESTED * LESSONS) for arm, values in found.items()]
    return table("training_methods", lines)


def learn(
    base: Student, rows: pd.DataFrame, name: str, *, read: list[str], seed: int, how: Method | None = None
) -> Student:
    """A copy of the Student after one lesson; rows: text, label. Label words are one token each."""
    student = replace(base, lm=base.lm._replace(model=copy.deepcopy(base.lm.model)))
    asked, how, lm = student.questions(rows["text"].tolist()), how or METHODS[name], student.lm
    words = torch.tensor([word for (word,) in student.label_words().rows])
    given, rng = torch.tensor(rows["label"].tolist()), np.random.default_rng([seed, 48])

    def logits(some: np.ndarray) -> torch.Tensor:
        return lm.model(
            **pad(lm.tokenizer, [asked[i] for i in some], left=True, device="cpu"), logits_to_keep=1
        ).logits[:, -1]

    if name == "dpo":
        other = (given + torch.from_numpy(rng.integers(1, len(words), size=len(rows)))) % len(words)
        with torch.no_grad():
            before = preference(logits(np.arange(len(rows))), words[given], words[other])
    documents = document_rows(lm.tokenizer, read)

    def losses(some: np.ndarray, batch: np.ndarray) -> dict[str, torch.Tensor]:
        found = logits(some)
        if name == "dpo":
            margin = preference(found, words[given[some]], words[other[some]]) - before[some]
            return {"loss": -logsigmoid(BETA * margin).mean()}
        if name == "policy":
            return {"loss": policy_loss(found[:, words].log_softmax(1), given[some], rng)}
        loss = cross_entropy(found, words[given[some]])
        if name == "replay":
            again = [documents[i] for i in rng.choice(len(documents), size=len(some), replace=False)]
            loss = loss + token_losses(lm, again, [1] * len(again), student.settings)[0].mean()
        return {"loss": loss}

    batches = epochs_of([len(row) for row in asked], student.settings.batch_size, how.epochs, seed)
    fit(lm.model, losses, batches, Steps("Student", how.learning_rate))
    return student


def preference(logits: torch.Tensor, better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
    """(b,) log p(better) - log p(worse) of logits (b, V)."""
    return (logits.gather(1, better[:, None]) - logits.gather(1, worse[:, None]))[:, 0]


def policy_loss(log_p: torch.Tensor, given: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """REINFORCE's loss of one batch, whose gradient is minus that of the expected reward, on average.

    log_p: (b, C) over the labels; given: (b,). DRAWS labels a row, each against the mean reward of the row's others.
    """
    up_to = log_p.detach().exp().double().cumsum(1)
    drawn = (up_to[:, None] < torch.from_numpy(rng.random((len(given), DRAWS, 1))) * up_to[:, None, -1:]).sum(2)
    reward = (drawn == given[:, None]).float()
    advantage = (reward - reward.mean(1, keepdim=True)) * DRAWS / (DRAWS - 1)  # reward less the mean of the others
    return -(advantage * log_p.gather(1, drawn)).mean()
