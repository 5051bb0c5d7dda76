"""From texts to token ids. A text is only ever text: no token that controls a model comes out of it."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from symbiosis.data.lesson import is_cut


def start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token a document begins with: bos, or, in models without one, the end token that separates documents."""
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [] if first is None else [first]


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Plain token ids of texts, without special tokens, cut at `max_length`. Those that a text spells out stay text."""
    if not texts:
        return []
    texts = list(texts[:])  # a data set's column is slow by the row
    rows, control = tokenizer(texts, add_special_tokens=False)["input_ids"], set(control_tokens(tokenizer))
    rows = [ids if control.isdisjoint(ids) else spelled_out(tokenizer, t) for t, ids in zip(texts, rows, strict=True)]
    return [ids[:max_length] for ids in rows]


def ended(ids: list[int], text: str, max_length: int | None, end: list[int]) -> list[int]:
    """A text's token row with its end. What is cut, here or by its writer, has none: nobody learns to stop there."""
    body = ids[:max_length]
    return body if body and (len(body) < len(ids) or is_cut(text)) else body + end


def cut_share(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> float:
    """Share of the texts that are longer than `max_length` tokens; of 2,000 of them where there are more."""
    some = texts[:: -(-len(texts) // 2000)] if texts else []
    rows = token_ids(tokenizer, some)
    return sum(len(ids) > max_length for ids in rows) / max(1, len(rows))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """The tokens that are no text: the special ones, and those (as <think>) that only the chat template writes.

    The unknown token is text, unless it also is one of the others.
    """
    template = str(tokenizer.chat_template or "")
    added = tokenizer.added_tokens_decoder.items()
    found = {i: t.content for i, t in added if t.special or (t.content.strip() and t.content in template)}
    found |= {i: tokenizer.convert_ids_to_tokens(i) for i in tokenizer.all_special_ids}
    others = {token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"}
    return {i: token for i, token in found.items() if token != tokenizer.unk_token or token in others}


def spelled_out(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that names control tokens, read letter by letter like any other word."""
    control = control_tokens(tokenizer)
    template = "{% set names = " + json.dumps(list(control.values())) + " %}{{ messages[0]['content'] }}"
    try:
        return sanitized(tokenizer, text, chat_template=template)
    except ValueError:  # a vocabulary that reads one of them as a word: whatever is left of it is left out
        ids = tokenizer(apart(tokenizer, text), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [i for i in ids if i not in control]


def sanitized(tokenizer: PreTrainedTokenizerBase, turn: str, **how) -> list[int]:
    """Token ids of a user turn in a chat template; control tokens come from the template alone."""
    turns, how = [{"role": "user", "content": turn}], how | {"add_generation_prompt": True, "return_dict": False}
    return tokenizer.apply_chat_template(turns, sanitize_control_tokens=True, **how)


@lru_cache(maxsize=4)
def tokens_that_hold(tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...]) -> tuple[int, ...]:
    """Ids of the tokens in which one of the texts stands: of a line end also the one that begins with a full stop."""
    said = tokenizer.batch_decode([[i] for i in range(len(tokenizer))]) if texts else []
    return tuple(i for i, token in enumerate(said) if any(text in token for text in texts))


def apart(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a blank behind the first letter of every control token that it names."""
    names = sorted(control_tokens(tokenizer).values(), key=len, reverse=True)
    return re.sub("|".join(map(re.escape, names)) or "(?!)", lambda found: found[0][0] + " " + found[0][1:], text)


def continued(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[str], texts: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of what stands before each text, and of each text as it goes on: those of both in one, less the former.

    Where a token spans the border, those after a new line: read alone, a text begins with a blank to many a tokenizer.
    """
    given = token_ids(tokenizer, before)
    both = token_ids(tokenizer, [a + b for a, b in zip(before, texts, strict=True)])
    return given, [
        ids[len(first) :] if ids[: len(first)] == first else after_newline(tokenizer, text)
        for first, ids, text in zip(given, both, texts, strict=True)
    ]


def after_newline(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a text that does not begin a document."""
    newline, both, alone = token_ids(tokenizer, ["\n", "\n" + text, text])
    return both[len(newline) :] if both[: len(newline)] == newline else alone
