"""What the parameters of every experiment share: their types, how strictly they are read, names that follow."""

import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from symbiosis.errors import SymbiosisError

HASHED_UNLESS_DEFAULT = {"hashed_unless_default": True}  # came after results were published, whose run_ids stay
UNREPORTED = "smoke"  # the scale of the defaults: too small to report

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


class Checked(BaseModel):
    """What is read strictly, stays as it was read, and is refused by the first of its `mistakes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="after")
    def _goes_together(self):
        for mistake in self.mistakes():
            raise ValueError(mistake)
        return self

    def mistakes(self) -> Iterator[str]:
        """What is wrong though every part is in its range: a sentence each."""
        yield from ()


class Settings(Checked):
    """What all runs share: how strictly parameters are read, the names that follow from them, and common parameters.

    Defaults are the smoke size: CPU, seconds, no network.
    """

    model_config = ConfigDict(allow_inf_nan=False)

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

    def mistakes(self) -> Iterator[str]:
        """What cannot be run though every parameter is in its range: a sentence each."""
        for name, value in self:
            if wrong := isinstance(value, str) and _no_name(value):
                yield f"{name}: {short(value)} {wrong}; name another"
        for role in ("student", "generator"):
            if getattr(self, role, "") == "small":
                remedy = "take smollm2-135m-instruct (`make weights` fetches it, params/smollm.yaml is its scale)"
                yield f"{role}: 'small' is no longer made, its rows are history; {remedy}"


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


def nearest(name: str, names: Collection[str]) -> str:
    """A question that ends a sentence about a name nobody knows; '' where no other is close."""
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
