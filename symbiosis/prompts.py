"""Every text template, in one readable place. All models, from the miniature to Qwen2, meet exactly these words."""

from collections.abc import Sequence

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


def label_turn(text: str, label_names: Sequence[str]) -> str:
    """The user turn that asks for the label of a text."""
    labels = ", ".join(label_names[:-1]) + " or " + label_names[-1]
    return GENERATOR_LABEL.format(text=text, labels=labels)


def write_about_turn(label: str, subject: str, style: str, length: str) -> str:
    """The user turn that asks for a text on a subject; `style` is one of STYLES, `length` one of LENGTHS."""
    return GENERATOR_WRITE_ABOUT.format(label=label, subject=subject, style=style, length=length)
