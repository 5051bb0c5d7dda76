"""Every text template, in one readable place. All models, from the miniature to Qwen2, meet exactly these words."""

# --- the Student: one causal LM that classifies and writes ---------------------------------------------------------
STUDENT_CLASSIFY = "{text}\nTopic:"  # the label word follows: " Sports"
STUDENT_WRITE = "{label} news:"  # the text follows: " The striker ..."

# --- the Generator: user turns of a chat --------------------------------------------------------------------------
GENERATOR_WRITE = "Write a short {label} news article."
GENERATOR_EXPLAIN = "This news article was hard to learn from: {text}\nWrite another short article on the same topic."
GENERATOR_LABEL = "{text}\nWhich topic is this news article about: {labels}?"

# Attribute prompts: first a narrow subject, then a text with that subject, a style and a length. The idea is AttrPrompt
# (Yu et al. 2023, arXiv 2306.15895); the words and the choice of attributes are ours.
GENERATOR_NAME = "Name one narrow subject of {label} news, in at most three words."
GENERATOR_WRITE_ABOUT = "Write {length} of {label} news about {subject}, {style}."
STYLES = (  # each ends the request: "..., as breaking news."
    "as breaking news",
    "in the dry style of a news agency",
    "as a local reporter on the scene",
    "with a quote from someone involved",
    "with exact numbers and dates",
    "as an analysis of what comes next",
)
LENGTHS = ("one long sentence", "two sentences", "three short sentences")


def chat(tokenizer, content: str) -> str:
    """One user turn in the tokenizer's chat template, up to where the answer begins; plain text where it has none."""
    if not tokenizer.chat_template:
        return f"{content}\n"
    turn = [{"role": "user", "content": content}]
    return tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)


def write_prompt(tokenizer, label: str) -> str:
    return chat(tokenizer, GENERATOR_WRITE.format(label=label))


def explain_prompt(tokenizer, text: str) -> str:
    return chat(tokenizer, GENERATOR_EXPLAIN.format(text=text))


def label_prompt(tokenizer, text: str, label_names: list[str]) -> str:
    labels = ", ".join(label_names[:-1]) + " or " + label_names[-1]
    return chat(tokenizer, GENERATOR_LABEL.format(text=text, labels=labels))


def name_prompt(tokenizer, label: str) -> str:
    """Asks for one narrow subject; the answer is a few words, such as "tennis"."""
    return chat(tokenizer, GENERATOR_NAME.format(label=label))


def write_about_prompt(tokenizer, label: str, subject: str, style: str, length: str) -> str:
    """Asks for a text on a subject; `style` is one of STYLES, `length` one of LENGTHS."""
    return chat(tokenizer, GENERATOR_WRITE_ABOUT.format(label=label, subject=subject, style=style, length=length))
