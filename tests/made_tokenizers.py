"""Small tokenizers of the kinds that are met outside: byte-level BPE, SentencePiece's two forms, whole words."""

from conftest import NEWS, bpe
from transformers import PreTrainedTokenizerFast

WORDS = [
    *(text for texts in NEWS.values() for text in texts), *NEWS, *(f"{label} news: " for label in NEWS), "\nTopic: ",
    "Write a short article", "Which topic is this news article about",
]  # fmt: skip
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level(*more: str, template: str | None = None, **names) -> PreTrainedTokenizerFast:
    """As GPT-NeoX and Qwen2 have it."""
    names = {"bos_token": "<s>", "eos_token": "</s>"} | names
    made = PreTrainedTokenizerFast(tokenizer_object=bpe([*dict.fromkeys(names.values()), *more]), **names)
    made.chat_template = template
    return made


def sentencepiece(kind: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """As Llama 2 ('prepend') and Mistral ('metaspace') have it: a blank before the text is part of the first word."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    replaced, stripped = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([replaced, decoders.Fuse(), stripped])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)  # no token spans two words
    letters = sorted({letter for text in WORDS for letter in text} | set("</>s|_▁"))
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*SPECIALS.values()], max_token_length=8, initial_alphabet=letters,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(WORDS, trainer)
    if kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.pre_tokenizer = None
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIALS)
    made.chat_template = template
    return made


def whole_words(*words: str, lowercase: bool = False) -> PreTrainedTokenizerFast:
    """Words between blanks, unknown where they are not in the list; it reads `</s>` in a text as a word, too."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIALS.values(), *words])}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIALS)
