"""Asking a Generator: a user turn in the chat template of its tokenizer, and the answer behind it.

What a template leaves open is decided here: no thinking, always the same day. Control tokens are the template's own.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from symbiosis.errors import SymbiosisError
from symbiosis.models.tokens import after_newline, apart, control_tokens, sanitized, start_ids, token_ids

DAY = {  # what a template is told when it asks for the date: one day for ever, or tomorrow's prompts would be others
    "%Y": "2024", "%y": "24", "%m": "07", "%B": "July", "%b": "Jul", "%d": "26", "%-d": "26", "%e": "26", "%j": "208",
    "%A": "Friday", "%a": "Fri", "%H": "12", "%I": "12", "%p": "PM", "%M": "00", "%S": "00", "%F": "2024-07-26",
    "%D": "07/26/24", "%T": "12:00:00", "%x": "07/26/24", "%X": "12:00:00", "%c": "Fri Jul 26 12:00:00 2024",
    "%-m": "7", "%-I": "12", "%-H": "12", "%Z": "UTC", "%z": "+0000",
}  # fmt: skip
THINKING = {  # what opens a block of thinking, and what closes it
    "<think>": "</think>", "<thinking>": "</thinking>", "<thought>": "</thought>", "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>", "[THINK]": "[/THINK]", "<|START_THINKING|>": "<|END_THINKING|>",
}  # fmt: skip
REMEDY = "correct it in tokenizer_config.json or chat_template.jinja, or name another model in generator"
ASKED, ANSWER, ASKED_NEXT = 'Is "This" <kept> & whole?\nYes, 1.', "Seven swans swam.", "Eight eels ate."


class ChatError(SymbiosisError):
    """A chat template that cannot ask what it is given, with the remedy."""


class Frame(NamedTuple):
    """How a chat template asks and ends; without a template, plain lines."""

    template: str = ""  # the tokenizer's, with all that it writes in front of an answer
    lead: str = ""  # blank space between the prompt and an answer
    end: str = ""  # what follows an answer
    header: str = ""  # what follows an answer when the next turn comes


def chat(tokenizer: PreTrainedTokenizerBase, turn: str, answer: str = "") -> str:
    """A user turn as the Generator reads it, up to where the answer begins, and then the answer."""
    template = frame(tokenizer).template
    if not template:
        return f"{turn}\n{answer}"
    return _render(template, tokenizer.special_tokens_map, [turn], answer=answer)


def chat_ids(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], answers: Sequence[str] | None = None
) -> list[list[int]]:
    """Token rows of `chat`; what the turns and answers say stays text."""
    answers = [""] * len(turns) if answers is None else answers
    template = frame(tokenizer).template
    if not template:
        both = [chat(tokenizer, turn, answer) for turn, answer in zip(turns, answers, strict=True)]
        return [start_ids(tokenizer) + ids for ids in token_ids(tokenizer, both)]
    pairs = list(zip(turns, answers, strict=True))
    ids = {pair: _chat_ids(tokenizer, template, *pair) for pair in dict.fromkeys(pairs)}  # many ask the same
    return [list(ids[pair]) for pair in pairs]


def answer_ids(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """Token ids of each answer where it stands behind its turn: those of both in one, less those of the turn."""
    lead = frame(tokenizer).lead
    asked, both = chat_ids(tokenizer, turns), chat_ids(tokenizer, turns, [lead + answer for answer in answers])
    return [
        ids[len(turn) :] if ids[: len(turn)] == turn else after_newline(tokenizer, answer)
        for turn, ids, answer in zip(asked, both, answers, strict=True)
    ]


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What ends an answer: the first control token that the chat template writes behind one, else the end token."""
    control = control_tokens(tokenizer)
    ids = tokenizer(frame(tokenizer).end, add_special_tokens=False)["input_ids"]
    return [i for i in ids if i in control][:1] or [tokenizer.eos_token_id]


def stops(tokenizer: PreTrainedTokenizerBase) -> tuple[set[int], str]:
    """Tokens and text after which nothing is read. The text is '' but where a chat template ends turns by words.

    With a broken template, as Students may have, texts end as documents do.
    """
    try:
        ids, header = {tokenizer.eos_token_id, *end_ids(tokenizer)}, frame(tokenizer).header
    except ChatError:
        return {tokenizer.eos_token_id}, ""
    by_token = set(tokenizer(header, add_special_tokens=False)["input_ids"]) & control_tokens(tokenizer).keys()
    return ids, header if header.strip() and not by_token else ""


def decoded_answer(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of an answer; of its special tokens those around thoughts stay."""
    tags = [*THINKING, *THINKING.values()]
    around = dict(zip(tokenizer.convert_tokens_to_ids(tags), tags, strict=True))
    around = {i: tag for i, tag in around.items() if i not in (None, tokenizer.unk_token_id)}
    if around.keys().isdisjoint(ids):
        return tokenizer.decode(ids, skip_special_tokens=True)
    parts = []
    for kept, run in itertools.groupby(ids, key=lambda i: i in around):
        of_run = list(run)
        parts += [around[i] for i in of_run] if kept else [tokenizer.decode(of_run, skip_special_tokens=True)]
    return "".join(parts)


def without_thinking(text: str) -> str:
    """The text behind the thoughts it begins with; '' where they never end."""
    for begin, close in THINKING.items():
        if close in text:
            return text.rpartition(close)[2]
        if text.lstrip().startswith(begin):
            return ""
    return text


def check_chat(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises ChatError where the chat template fails, drops or changes what the user says, or draws at random."""
    long = ASKED * 200
    prompts = [chat(tokenizer, long) for _ in range(8)]
    if long not in prompts[0]:
        raise ChatError(f"{tokenizer.name_or_path}: its chat_template drops or changes what the user says; {REMEDY}")
    if len(set(prompts)) > 1:
        raise ChatError(f"{tokenizer.name_or_path}: its chat_template says something else every time; {REMEDY}")


def switches(template: str) -> dict:
    """What a template is told beside the turns: to answer without thinking, by whichever name it knows that."""
    effort = "none" if re.search("""["']none["']""", template) else "low"
    return {"enable_thinking": False, "thinking": False, "thinking_budget": 0, "reasoning_effort": effort}


# --- templates -----------------------------------------------------------------------------------------------------
def frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Raises ChatError where the chat template cannot be rendered."""
    if not tokenizer.chat_template:
        return Frame()
    try:
        tokens = tuple((name, str(token)) for name, token in tokenizer.special_tokens_map.items())
        return _frame(tokenizer.get_chat_template(), tokens)
    except Exception as error:  # a template is a program that others wrote
        reason = " ".join(str(error).split())[:100]
        message = f"{tokenizer.name_or_path}: its chat_template cannot ask a question ({reason}); {REMEDY}"
        raise ChatError(message) from None


@lru_cache(maxsize=16)
def _frame(template: str, tokens: tuple[tuple[str, str], ...]) -> Frame:
    """Found by asking for a question, for its answer, and for a question after that."""
    template = _dated(template.removesuffix("\n"))  # which jinja leaves out at the end of a template only
    prompt = _render(template, tokens, [ASKED])
    opening = _closed_thinking(prompt)
    lead = end = header = ""
    with contextlib.suppress(Exception):  # a template that knows no answers: they end as documents do
        before, found, end = _render(template, tokens, [ASKED, ANSWER]).partition(ANSWER)
        lead = before.removeprefix(prompt) if found and before.startswith(prompt) else ""
        header = _render(template, tokens, [ASKED, ANSWER, ASKED_NEXT]).partition(ANSWER)[2].partition(ASKED_NEXT)[0]
    if lead.strip():  # more than blank space, as the header of the answer's channel: the prompt has it, too
        opening, lead = opening or lead, ""
    return Frame(template + "{{ " + json.dumps(opening) + " + (symbiosis_answer or '') }}", lead, end, header.rstrip())


def _render(template: str, tokens, turns: Sequence[str], answer: str = "") -> str:
    """User turns and answers in turn; where a user has the last word, up to the answer, and `answer`."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    variables = dict(tokens) | switches(template) | {"symbiosis_answer": answer}
    asks = len(turns) == 1
    return render_jinja_template([messages], chat_template=template, add_generation_prompt=asks, **variables)[0][0]


def _chat_ids(tokenizer: PreTrainedTokenizerBase, template: str, turn: str, answer: str) -> list[int]:
    how = switches(template) | {"chat_template": template}
    try:
        return sanitized(tokenizer, turn, symbiosis_answer=answer, **how)
    except ValueError:  # a vocabulary that reads a control token as a word
        return sanitized(tokenizer, apart(tokenizer, turn), symbiosis_answer=apart(tokenizer, answer), **how)


def _dated(template: str) -> str:
    """The template with a calendar that knows one DAY only."""
    if "strftime_now" not in template:
        return template
    day = "".join(f" | replace({json.dumps(code)}, {json.dumps(value)})" for code, value in DAY.items())
    return "{% macro strftime_now(format) %}{{ format" + day + " }}{% endmacro %}\n" + template


def _closed_thinking(prompt: str) -> str:
    """What closes the block of thinking that a prompt ends in; '' where it ends in none."""
    for begin, close in THINKING.items():
        if prompt.rstrip().endswith(begin):
            return ("\n" if prompt.endswith("\n") else "\n\n") + close + "\n\n"
    return ""
