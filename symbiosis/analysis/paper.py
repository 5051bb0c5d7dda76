"""What a paper quotes, as data: final accuracies and claims as CSV, every number as a LaTeX macro, and paper/'s PDF.

`python -m symbiosis.analysis.paper OUT.pdf` writes reports/paper/ and builds paper/paper.typ, which reads every number,
table and figure from reports/ and params/.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from symbiosis.analysis import claims, tables
from symbiosis.settings import root
from symbiosis.store.folders import write_atomic
from symbiosis.store.results import read_studies

SCALE = "miniature"
CLAIM_COLUMNS = [
    "scale", "claim", "study", "family", "evidence", "estimate", "low", "high", "n", "p", "p_holm",
    "corrected_low", "corrected_high", "margin", "p_equivalence", "verdict", "why",
]  # fmt: skip
TEX_HEAD = r"""% \symbiosis{key} prints the number of that key: \input{numbers}, then e.g. \symbiosis{regime-static}.
\newcommand{\symbiosis}[1]{\csname symbiosis@#1\endcsname}
\newcommand{\symbiosisnumber}[2]{\expandafter\def\csname symbiosis@#1\endcsname{#2}}
"""


def accuracies(studies: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Final test accuracy of every arm and study: study, arm, name, mean, low, high, n."""
    parts = []
    for study, rows in studies.items():
        final = tables.summarise(rows, "accuracy")
        final = final[final["generation"] == final.groupby("arm")["generation"].transform("max")]
        final = final.set_index("arm").loc[tables.order(final)].reset_index()
        parts.append(final.assign(study=study, name=final["arm"].map(tables.arm_name)))
    return pd.concat(parts)[["study", "arm", "name", "mean", "low", "high", "n"]]


def macros(accuracy: pd.DataFrame, ledger: pd.DataFrame, run_ids: pd.Series) -> str:
    """A LaTeX macro per claim and per final accuracy, each after a comment with the runs behind it."""
    lines = [TEX_HEAD]
    for row in ledger.itertuples():
        key = row.claim if row.scale == SCALE else f"{row.scale}/{row.claim}"
        number = tables.with_interval(row.estimate, row.low, row.high)
        lines.append(f"% n = {row.n}, {row.verdict}; all runs of {row.scale}/{row.study}\n")
        lines.append(f"\\symbiosisnumber{{{key}}}{{{number}}}\n")
    for row in accuracy.itertuples():
        number = tables.with_interval(row.mean, row.low, row.high)
        lines.append(f"% {' '.join(run_ids[row.study, row.arm])}\n")
        lines.append(f"\\symbiosisnumber{{{row.study}/{row.arm}}}{{{number}}}\n")
    return "".join(lines)


def write(reports: Path) -> list[Path]:
    """Write reports/paper/{accuracy.csv, claims.csv, numbers.tex}: the same bytes for the same results."""
    studies = {study: rows[rows["metric"] == "accuracy"] for study, rows in read_studies(reports, SCALE).items()}
    studies = {study: rows for study, rows in studies.items() if len(rows)}
    accuracy, ledger = accuracies(studies), claims.ledger(reports)
    ledger = ledger[ledger["n"].notna() & ledger["estimate"].notna()][CLAIM_COLUMNS].astype({"n": int})
    run_ids = pd.concat(studies.values()).groupby(["study", "arm"])["run_id"].unique()
    content = {
        "accuracy.csv": accuracy.to_csv(index=False, lineterminator="\n"),
        "claims.csv": ledger.to_csv(index=False, lineterminator="\n"),
        "numbers.tex": macros(accuracy, ledger, run_ids),
    }
    for name, text in content.items():
        write_atomic(reports / "paper" / name, text.encode())
    return [reports / "paper" / name for name in content]


def build(pdf: Path) -> None:
    """Compile paper/paper.typ; the same bytes for the same reports."""
    import typst  # only papers need it

    pdf.parent.mkdir(parents=True, exist_ok=True)
    typst.compile(root() / "paper/paper.typ", output=pdf, root=root(), timestamp=0)


if __name__ == "__main__":
    write(root() / "reports")
    build(Path(sys.argv[1]))
