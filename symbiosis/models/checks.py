"""What must hold of a model before a run spends time on it; each refusal is one sentence.

Before its weights are read: that config.json names a causal model whose weights the files can hold. Once loaded: that
no weight was made up or left out, that the vocabulary is the model's, and that texts, prompts and labels fit it.
"""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub import get_token
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from symbiosis.errors import SymbiosisError
from symbiosis.models.tokens import token_ids

FLOATS = ("F64", "F32", "F16", "BF16")
STEERING = ("quantization_config", "fusion_config", "transformers_weights")  # other weights than the folder's own
OTHER_HEAD = re.compile(r"For(?!CausalLM|ConditionalGeneration)\w+$|Encoder\w*$|Discriminator$")
MEANINGLESS = re.compile(  # of what transformers only warns: then its numbers are not the checkpoint's
    r"is_decoder=True|of type .+ to instantiate|`rope_parameters`'s|not implemented for|seem corrupted"
)
SLACK = 2  # tokens that a cut text may gain where it meets its prompt
TEXT = "a text that is nowhere else"


class ModelError(SymbiosisError):
    """A model that cannot be had, with the remedy."""


COPY = "copy or download it again, or delete it if it was pre-trained here: then it is made anew"


@contextlib.contextmanager
def library_errors(folder: Path | str, remedy: str = COPY) -> Iterator[None]:
    """Inside, whatever transformers raises or only warns of, where numbers would be meaningless, is a ModelError."""
    logger, told = logging.getLogger("transformers"), []
    before, propagate = logger.handlers, logger.propagate
    keep = logging.Handler(logging.WARNING)
    keep.emit = told.append
    transformers_logging.warning_once.cache_clear()  # or the second folder of a kind would pass
    logger.handlers, logger.propagate = [keep], False
    try:
        yield
    except SymbiosisError:
        raise
    except Exception as error:  # of any class: the library leaves most damage to whatever line it meets first
        raise ModelError(f"{folder}: could not be loaded ({in_a_line(error)}); {remedy}") from error
    finally:
        logger.handlers, logger.propagate = before, propagate
    for record in told:
        message = record.getMessage()
        if MEANINGLESS.search(message):
            raise ModelError(f"{folder}: transformers warns of it ({in_a_line(message)}); correct its config.json")
        if "LOAD REPORT" not in message:  # of weights missing or left over, which are looked at here
            logger.handle(record)


def in_a_line(error: object) -> str:
    """What an error says, in one line of at most 120 characters, without hub tokens."""
    kind = "" if isinstance(error, str | OSError | ValueError) else f"{type(error).__name__}: "
    token, text = get_token(), " ".join(str(error).split())
    said = kind + re.sub(r"hf_[A-Za-z0-9]{16,}", "[token]", text.replace(token, "[token]") if token else text)
    return said if len(said) <= 120 else f"{said[:117]}..."


# --- before the weights are read -----------------------------------------------------------------------------------
def read_config(folder: Path) -> PreTrainedConfig:
    """The folder's config.json; which kernels compute attention and experts is not the folder's to say."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder}: holds an adapter; merge it into its base model (peft: merge_and_unload), save that"
        )
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config._attn_implementation = config._experts_implementation = None
    for key, value in config.to_dict().items():
        if key in STEERING and value:
            raise ModelError(f"{folder}: {key} in config.json; only plain fp32, fp16 or bf16 weights are read here")
        if key.endswith(("dropout", "pdrop")) and isinstance(value, float) and not 0 <= value < 1:
            raise ModelError(f"{folder}: {key} in config.json is {value}, no share of 1; correct it")
    return config


def check_causal(folder: Path, config: PreTrainedConfig) -> dict[str, str]:
    """The type of each stored weight, by its name.

    Raises ModelError for another kind of model, and where the files cannot hold the weights config.json asks for.
    """
    heads = [name for name in config.architectures or () if OTHER_HEAD.search(name)]
    if heads or config.is_encoder_decoder:
        what = heads[0] if heads else "an encoder with a decoder"
        raise ModelError(f"{folder}: {what} in config.json is no causal language model; name another folder")
    layers = getattr(config.get_text_config(), "num_hidden_layers", 1)
    sizes, types = {}, {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                stored = file.get_slice(name)
                sizes[name], types[name] = math.prod(stored.get_shape()), stored.get_dtype()
    if not 1 <= layers <= len(sizes):
        raise ModelError(
            f"{folder}: num_hidden_layers is {layers} in config.json, for {len(sizes)} tensors in the safetensors "
            "files; correct it, or copy the folder again"
        )
    with torch.device("meta"), no_init_weights():
        skeleton = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    skeleton.tie_weights()
    asked, stored = sum(p.numel() for p in skeleton.parameters()), sum(sizes.values())
    if asked > 2 * stored:  # where fewer are missing, they are made up in no time, and named afterwards
        raise ModelError(
            f"{folder}: config.json (vocab_size, num_hidden_layers, ...) asks for {asked:,} weights, the safetensors "
            f"files hold {stored:,}; correct it, or copy the folder again"
        )
    return types


# --- once they are -------------------------------------------------------------------------------------------------
def check_weights(folder: Path, model, told: dict, types: dict[str, str]) -> None:
    """Raise ModelError where a weight is not the checkpoint's, or is no number.

    told: transformers' loading info. types: of the stored weights.
    """
    missing, left_out = sorted(told["missing_keys"]), sorted(told["unexpected_keys"])
    other = sorted(str(key[0]) for key in told["mismatched_keys"])
    for keys, what in ((missing, "are missing"), (other, "have another shape"), (left_out, "have no place in it")):
        if keys:
            raise ModelError(
                f"{folder}: {len(keys)} weights of a {type(model).__name__} {what} ({', '.join(keys[:2])}...); "
                "copy the folder again, or correct config.json"
            )
    for name, _ in model.named_parameters():
        if types.get(name, "F32") not in FLOATS:
            raise ModelError(f"{folder}: {name} is stored as {types[name]}, quantized; name a folder of plain weights")
    check_numbers(folder, model)


def check_numbers(folder: Path, model) -> None:
    """Raise ModelError where a weight is nan or inf, or a matrix is 0, as in a file that was not written whole."""
    for name, weight in model.named_parameters():
        total = torch.linalg.vector_norm(weight.detach(), 1).item()
        idle = weight.dim() < 2 or "token_type" in name  # RoBERTa has a matrix of 0 there
        if not math.isfinite(total) or not (total or idle):
            what = "holds nan or inf" if total else "is all 0"
            raise ModelError(f"{folder}: {name} {what}; copy the folder again, or train it at a lower rate")


def check_vocabulary(folder: Path, model, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where a text does not come back, or its tokens, or what ends it, are not the model's."""
    rows, ids = model.get_input_embeddings().num_embeddings, tokenizer.get_vocab()
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no end token; set eos_token in tokenizer_config.json")
    for name in ("eos_token", "bos_token"):
        if getattr(tokenizer, name) == "":
            raise ModelError(f"{folder}: {name} in tokenizer_config.json is empty; write the token, or null")
    encoded = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    back = "".join(tokenizer.decode(encoded).lower().split())
    if not encoded or (tokenizer.unk_token_id not in encoded and back != TEXT.replace(" ", "")):
        raise ModelError(f"{folder}: its tokenizer makes {back[:40]!r} of {TEXT!r}; copy its tokenizer's files again")
    for token, i in sorted(ids.items(), key=lambda item: item[1]):
        if i >= rows and "pad" not in token.lower():  # padding is told by the attention mask, never by the id
            raise ModelError(
                f"{folder}: token {token[:40]!r} of its tokenizer is number {i}, the model has embeddings for 0 to "
                f"{rows - 1}; copy the tokenizer's files that belong to it, or correct eos_token and bos_token"
            )
    for stop in as_list(model.generation_config.eos_token_id):
        if stop is not None and (type(stop) is not int or not 0 <= stop < rows):
            raise ModelError(
                f"{folder}: eos_token_id {str(stop)[:40]!r} in generation_config.json or config.json is no token of "
                f"the model (0 to {rows - 1}); correct it"
            )


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


# --- sizes ---------------------------------------------------------------------------------------------------------
def positions(model) -> int | None:
    """Tokens the model can read at once; None where nothing limits them (ALiBi, recurrent models)."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def check_positions(lm, settings, around: int, *keys: str) -> None:
    """Raise ModelError where the settings `keys` and `around` more tokens are longer than the model can read."""
    most, values = positions(lm.model), [getattr(settings, key) for key in keys]
    if most is None or sum(values) + around <= most:
        return
    room = most - around - sum(values[1:])
    remedy = f"{keys[0]} may be at most {room}" if room > 0 else "name a model that reads longer texts"
    raise ModelError(
        f"{' + '.join(keys)}: {' + '.join(map(str, values))} and {around} tokens around them do not fit the "
        f"{most} positions of {Path(lm.model.config._name_or_path).name or type(lm.model).__name__}; {remedy}"
    )


def check_sizes(student=None, generator=None) -> None:
    """Raise ModelError where a text with the words around it is longer than the model that is to read or write it."""
    if student:
        cue = max(map(len, student.cues(range(len(student.label_names)))))
        asked = len(student.questions([""])[0]) + max(map(len, student.label_words().rows))
        check_positions(student.lm, student.settings, max(cue + 1, asked), "max_length")
        if student.settings.method == "recursive":
            check_positions(student.lm, student.settings, cue, "max_new_tokens")
    if generator:
        lm, settings, around = generator.lm, generator.settings, _prompt_lengths(generator)
        check_positions(lm, settings, around["write"], "max_new_tokens")
        check_positions(lm, settings, around["label"], "max_length")
        if settings.needs_feedback or settings.dev_rows_as != "rows":
            check_positions(lm, settings, around["explain"], "max_length", "max_new_tokens")


def _prompt_lengths(generator) -> dict[str, int]:
    """Tokens of the longest prompt of each kind beside its text, and of the end or the label that follows."""
    tokenizer, names, settings = generator.lm.tokenizer, list(generator.label_names), generator.settings
    prompts, write = generator.prompts, generator.write_turns(range(len(names)))
    if settings.attributes:
        longest = (max(phrases, key=len) for phrases in (prompts.styles, prompts.lengths))
        write = [prompts.write_about_turn(max(names, key=len), TEXT, *longest)]
    turns = [prompts.explain.format(text=TEXT), generator.label_turn(TEXT), *write]
    explain, label, *write = (len(generator.asked_ids([turn])[0]) for turn in turns)
    text, longest_label = len(token_ids(tokenizer, [TEXT])[0]), max(map(len, generator.label_words().rows))
    subject = settings.max_new_tokens if settings.attributes else 0  # the Generator's own answer
    return {
        "explain": explain - text + 1 + SLACK,
        "label": label - text + longest_label + SLACK,
        "write": max(write) + subject + 1,
    }
