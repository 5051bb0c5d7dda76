"""Every published figure, by the name of its file, and how they are saved.

A figure is drawn from the long tables alone, and beside its file stands a source: the runs, the commits and the sha256
of the rows it shows. The same rows give the same bytes. The notebooks say how each is read.
"""

import contextlib
import html
import io
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from symbiosis.analysis import claims, drawings, figures, small_drawings, studies, tables
from symbiosis.analysis import interaction as interaction_tables
from symbiosis.analysis import interaction_drawings as entities
from symbiosis.analysis.drawings import DEFAULT_SCALE, DEFAULT_STUDY, TRAINING_LOSSES, Reports
from symbiosis.analysis.interaction_drawings import plot_losses, plot_similarity  # noqa: F401 of one run, in notebook 04
from symbiosis.analysis.tables import STYLES, last_generation
from symbiosis.data.world import World
from symbiosis.measures.lessons import subtopic_shares
from symbiosis.params import LOCAL, PUBLISHED
from symbiosis.settings import resolve
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import NotRun, read_records, read_table, rows_digest

LESSON_MEASURES = ("lesson_tail_coverage", "lesson_label_purity", "lesson_distinct_2")
LEVER_PANELS = (  # quality, diversity, complexity of lessons; what was not measured gets no panel
    "lesson_label_purity", "log_likelihood", "distinct_2", "vendi", "word_tail_mass", "word_new_mass",
    "mean_words", "base_lm_loss",
)  # fmt: skip
RECURSION_PANELS = ("accuracy", "lm_loss", "word_tail_mass", "distinct_2_1k", "vendi", "mauve")


# ---- the figures
class Published(NamedTuple):
    """What draws a figure with which options, what it asks, and the folder of one that shows not one study of runs."""

    draw: Callable[..., tuple[Figure, pd.DataFrame | dict]]
    question: str
    folder: str
    options: Mapping[str, Any]


def asks(draw: Callable, question: str, folder: str = "", **options: Any) -> Published:
    return Published(draw, question, folder, options)


NAMED_WORLD = {
    "arms": ("real", *studies.RIVALS, studies.BEST, "symbiosis-best_foreign", "symbiosis-label_hard_300"),
    "study": claims.REGIME_STUDY,
}
MIXING = {"arms": tuple(STYLES["mixing"]), "study": "mixing", "styles": "mixing"}
OF_METHODS = {
    "accuracy_comparison": asks(drawings.accuracy, "Do the methods differ in test accuracy?"),
    "accuracy_controls": asks(drawings.accuracy, "And the controls, which each change one thing?", arms="controls"),
    "loss_curves": asks(drawings.metrics, "What does training show of it?", names=TRAINING_LOSSES, height=2.7),
    "lesson_measures": asks(drawings.metrics, "What were the Students taught?", names=LESSON_MEASURES, height=2.5),
    "lesson_levers": asks(
        drawings.lesson_levers, "Quality, diversity and complexity of the lessons.", panels=LEVER_PANELS
    ),
    "ablation_effects": asks(drawings.ablation, "Which part of the loop matters?", "ablation"),
    "regime_map": asks(drawings.regime_map, "Where does symbiosis overtake its rivals?", "regimes"),
    "accuracy_named": asks(drawings.accuracy, "The world that was named before its seeds were run.", **NAMED_WORLD),
    "accuracy_long": asks(drawings.accuracy, "Does it last?", study="long"),
    "accuracy_long_rare": asks(drawings.accuracy, "And where the pool rarely shows the tails?", study="long_rare"),
    "choice_and_writing": asks(
        drawings.choice_and_writing, "What is a choice worth, by pool and by what follows?", "choice_and_writing"
    ),
    "curriculum": asks(small_drawings.curriculum, "What does the loop teach when?"),
    "curriculum_rare": asks(small_drawings.curriculum, "And where the pool rarely shows it?", study="long_rare"),
    "held_share": asks(small_drawings.held_share, "The share of real rows or diversity, under recursion?"),
    "seeds_and_editing": asks(
        small_drawings.seeds_and_editing, "Seeds first, retrieval, and editing of real rows?", "seeds_and_retrieval"
    ),
    "label_ladder": asks(drawings.label_ladder, "What are labels worth, and spent how?", "ladder"),
    "real_lessons": asks(drawings.real_lessons, "What is worth teaching, on real weights?", "real_lessons"),
    "dev_rows": asks(drawings.dev_rows, "Are dev labels better taught or asked?", "dev"),
    "which_moves_first": asks(
        drawings.which_moves_first, "What does a recursion lose first, and what by sampling alone?"
    ),
    "ratio_or_diversity": asks(
        drawings.ratio_or_diversity, "The share of real rows, and the diversity or quality of others."
    ),
    "mixing_regimes": asks(drawings.accuracy, "Which way of mixing keeps a recursion alive?", **MIXING),
    "recursion_real_text": asks(
        drawings.recursion_real_text, "Five generations of recursion on real text.", panels=RECURSION_PANELS
    ),
    "hidden_states_of_students": asks(drawings.inside_students, "Do rare patterns lose their dense representation?"),
}
OF_RUNS = {  # drawn where runs are kept
    "loss_by_step": asks(drawings.training_steps, "And step by step, where lessons change?")
}
INTERACTION = {
    "interaction_alpha": asks(entities.by_alpha, "What do models learn from one another?"),
    "interaction_similarity": asks(entities.similarity, "Do they become alike?"),
    "interaction_matrices": asks(entities.matrices, "Whose task does who learn? Three entities, alpha = 0.5."),
    "interaction_trends": asks(entities.trends, "Do the trends follow the linear theory?"),
    "interaction_beyond": asks(entities.beyond, "And if the entities are not equal?"),
    "interaction_unequal": asks(entities.unequal, "And if they are unlike in size, tokenizer, architecture?"),
    "interaction_planted": asks(entities.planted, "Who believes a lie that one language model was told?"),
    "interaction_inside": asks(entities.alike_inside, "Do they become alike inside?", "inside"),
    "interaction_beta": asks(entities.draw_by_beta, "How many of the real rows should be private? Two entities."),
}
THEORY = {
    "relative_efficiency": asks(entities.efficiency, "Which mixture is best? Theory alone.", "theory"),
    "whose_data": asks(entities.whose_data, "Whose data is in whose mean? Theory alone.", "theory"),
}
SMALL = {
    "beyond_language": asks(
        small_drawings.beyond_language,
        "What does a recursion lose where the model speaks no language?",
        "small_studies",
    ),
    "planted_error": asks(small_drawings.planted_error, "Who repeats a lie that one was told?", "small_studies"),
    "above_teacher": asks(small_drawings.above_teacher, "Can a Student end above its labeller?", "small_studies"),
    "third_lever": asks(
        small_drawings.third_lever,
        "What are diversity, quality and complexity worth, in and out of distribution?",
        "small_studies",
    ),
    "sensitivity": asks(small_drawings.sensitivity, "To whom does the share of real rows matter?", "small_studies"),
    "composition": asks(
        small_drawings.composition, "Do related parts, or plans, make better texts of the same words?", "small_studies"
    ),
    "training_methods": asks(small_drawings.training_methods, "And however it is trained?", "small_studies"),
    "share_factorial": asks(small_drawings.share_factorial, "And all of that crossed?", "small_studies"),
    "open_ended": asks(small_drawings.open_ended, "How do Students go on with held-out text?", "small_studies"),
    "real_ratio": asks(small_drawings.real_ratio, "Share or variety, on real text?", "small_studies"),
    "pool_map": asks(small_drawings.pool_map, "Where does writing beat labelling, on real text?", "small_studies"),
}
FIGURES = OF_METHODS | OF_RUNS | INTERACTION | THEORY | SMALL


def draw(name: str, reports: Reports, **options: Any) -> tuple[Figure, pd.DataFrame | dict]:
    """A figure of FIGURES and the rows it shows, or the source of one that is theory alone; NotRun where none are."""
    return FIGURES[name].draw(reports, **FIGURES[name].options | options)


# ---- in a notebook
@contextlib.contextmanager
def section(title: str = "", *, named: str = "") -> Iterator[None]:
    """A part about runs: where they have not been made, it ends with a line that says so, of what is `named`."""
    if title:
        print(title)
    try:
        yield
    except NotRun as reason:
        print(f"{named}: {reason}" if named else reason)


def show(name: str, reports: Reports | None = None) -> None:
    """A figure in a notebook; NotRun where there is none."""
    draw(name, reports)
    plt.show()


def show_table(table: pd.DataFrame, digits: int = 3) -> None:
    """A table in a notebook: so many decimals, or whole numbers, p to two digits, a dash for unknown.

    Arms and metrics, known by the names of their columns or levels, have the names of figures.
    """
    from IPython.display import display

    table = _by_names(table).rename(columns={"p_holm": "Holm's p"})
    floats = table.select_dtypes(float).items()
    whole = [name for name, column in floats if column.max() > 1 and not column.dropna().mod(1).any()]
    forms = dict.fromkeys(whole, "{:.0f}") | {name: "{:.2g}" for name in ("p", "Holm's p") if name in table}
    shown = table.style.format(forms, precision=digits, na_rep="-").set_table_attributes('class="dataframe"')
    for axis in (0, 1):
        shown = shown.format_index(lambda label: f"{label:g}" if isinstance(label, float) else label, axis=axis)
    shown = shown.set_table_styles([{"selector": "td", "props": [("padding", "2px 8px"), ("text-align", "right")]}])
    numbered = table.index.name is None and pd.api.types.is_integer_dtype(table.index)
    display(shown.hide() if numbered else shown)


def _by_names(table: pd.DataFrame) -> pd.DataFrame:
    """Arms and metrics by the names that figures give them, in columns and in the heads of lines and columns."""
    parts = ("real_lessons", "ladder", "mixing", "arms")
    arms = {arm.rpartition("/")[2]: style["name"] for part in parts for arm, style in STYLES[part].items()}
    arms |= {arm: f"K = {k}, alpha = {alpha:g}" for arm, (k, alpha) in interaction_tables.CELLS.items()}
    arms |= interaction_tables.BEYOND
    metrics = figures.METRIC_NAME
    named = {"arm": arms, "baseline": arms, "rival": arms, "metric": metrics, "measure": metrics}
    table = table.assign(**{name: table[name].replace(names) for name, names in named.items() if name in table})
    for name, names in named.items():
        for axis in ("index", "columns"):
            if name in getattr(table, axis).names:
                table = table.rename(**{axis: names}, level=name)
    return table


def paired(rows: pd.DataFrame, *baselines: str) -> pd.DataFrame:
    """`tables.paired_table` of accuracy; NotRun where no arm stands beside a baseline."""
    table = tables.paired_table(rows, baselines=baselines)
    return drawings.some(table, f"No arm was run beside {' or '.join(baselines)}: nothing to compare.")


def show_folded(title: str, text: str) -> None:
    """Plain text in a notebook that opens where its title is clicked."""
    from IPython.display import HTML, display

    display(HTML(f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"))


def plot_subtopics(texts: Sequence[str], world: World | None) -> Figure:
    """Share of texts of every subtopic, class by class; the tail in vermilion. NotRun where no world tells them."""
    if world is None:
        raise NotRun("The truth behind these texts is not known: no figure.")
    shares = subtopic_shares(texts, world)
    fig, (ax,) = figures.new_figure(height=0.17 * len(shares) + 0.6)
    tail, head = "#d55e00", "#0072b2"
    ax.barh(shares["class"] + ": " + shares["subtopic"], shares["share"], color=np.where(shares["tail"], tail, head))
    ax.set(xlabel="share of the texts")
    ax.invert_yaxis()
    return fig


def interacting(reports_dir: str | Path) -> list[Reports]:
    """Every scale that has runs of models that train on each other's outputs; a line where none has."""
    scales = interaction_tables.read_scales(reports_dir)
    if not scales:
        print("results.csv holds no run of models that train on each other's outputs.")
    return [Reports(reports_dir, scale, interaction_tables.STUDY) for scale in scales]


# ---- saving
def save(name: str, reports: Reports, into: str | Path = "") -> tuple[Path, pd.DataFrame | dict]:
    """[folder/]name.pdf, .png and their source name.json; returns the PDF and what it was drawn from.

    into: folder of the figures; `figures` of the reports where none is named. The same bytes for the same data. NotRun
    where there is nothing to draw.
    """
    fig, used = draw(name, reports)
    folder, sourced = FIGURES[name].folder, isinstance(used, dict)
    source = used if sourced else source_of(used, reports.folder)
    place = Path(folder) if sourced else _place(used, folder)
    stem = (resolve(into) if into else resolve(reports.folder) / "figures") / place / name
    with plt.rc_context({"pdf.fonttype": 42}):  # TrueType: text stays text, as journals ask
        for suffix, metadata in {"pdf": {"CreationDate": None}, "png": {"Software": None}}.items():
            buffer = io.BytesIO()
            fig.savefig(buffer, format=suffix, metadata=metadata)
            write_atomic(stem.with_suffix(f".{suffix}"), buffer.getvalue())
    plt.close(fig)
    _write_source(stem, source)
    return stem.with_suffix(".pdf"), used


def save_tables(reports: Reports) -> dict[Path, pd.DataFrame]:
    """All of `tables.TABLES` that can be made of the main study and of the named world: {.tex: rows it shows}."""
    written = {}
    for study, name in itertools.product((DEFAULT_STUDY, claims.REGIME_STUDY), tables.TABLES):
        if study not in reports.by_study or (study != DEFAULT_STUDY and name not in tables.PAIRED_TESTS):
            continue
        table = tables.table(name, reports.by_study, study)
        if len(table.numbers):
            written[save_table(table, name, reports.folder)] = table.rows
    return written


def save_table(table: tables.Table, name: str, reports_dir: str | Path) -> Path:
    """tables/[folder/]name.csv (all digits), .md and .tex (as people read it), .json (its source); returns the .tex."""
    folder = "worlds" if table.rows["study"].nunique() > 1 else ""
    stem = resolve(reports_dir) / "tables" / _place(table.rows, folder) / name
    for suffix, text in table.formats().items():
        write_atomic(stem.with_suffix(f".{suffix}"), text.encode())
    _write_source(stem, source_of(table.rows, reports_dir))
    return stem.with_suffix(".tex")


def source_of(rows: pd.DataFrame, reports_dir: str | Path) -> dict:
    """Where numbers come from: the runs, how many rows of results.csv, their sha256, and the commits that made them."""
    run_ids = sorted(set(rows["run_id"]))
    records = read_records(reports_dir, run_ids)
    marks = records["dirty"].map({"True": "-dirty"}).fillna("")  # tracked files differed from the commit
    return {
        "scale": sorted(set(rows["scale"])),
        "study": sorted(set(rows["study"])),
        "metrics": sorted(set(rows["metric"])),
        "generations": last_generation(rows),
        "rows": len(rows),
        "rows_sha256": rows_digest(rows),
        "commits": sorted(set(records["commit"] + marks) - {""}),
        "runs_without_record": sorted(set(run_ids) - set(records["run_id"])),
        "run_ids": run_ids,
    }


def _place(rows: pd.DataFrame, folder: str = "") -> Path:
    """Nothing for the main study of the miniature, else <scale> (main study), <scale>/<study> or <scale>/<folder>."""
    shown = sorted({(scale, folder or study) for scale, study in zip(rows["scale"], rows["study"], strict=True)})
    if len(shown) != 1:
        raise ValueError(f"rows of {' and '.join(map('/'.join, shown))}; save one scale and study at a time")
    scale, study = shown[0]
    if study != DEFAULT_STUDY:
        return Path(scale, study)
    return Path("" if scale == DEFAULT_SCALE else scale)


def _write_source(stem: Path, source: dict) -> None:
    write_atomic(stem.with_suffix(".json"), (json.dumps(source, indent=1) + "\n").encode())


def main(width: str, reports_dir: str = PUBLISHED) -> None:
    """Every figure that reports have rows for, in another width, into a folder of its own: nothing is replaced."""
    figures.use_style(width)
    into, scales = f"{LOCAL}/figures_{width}", set(read_table(resolve(reports_dir) / "results.csv")["scale"])
    for scale, name in itertools.product(sorted(scales), FIGURES):
        study = interaction_tables.STUDY if name in INTERACTION else DEFAULT_STUDY
        with contextlib.suppress(NotRun):
            print(save(name, Reports(reports_dir, scale, study), into)[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
