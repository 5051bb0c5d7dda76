"""The paper's numbers come from reports/ and params/, and its PDF can be built."""

import re
from pathlib import Path

import pytest

from symbiosis.analysis import paper

ROOT = Path(__file__).resolve().parents[1]
PROSE = (ROOT / "paper/paper.typ").read_text()


def prose_of(text: str) -> str:
    """What a reader reads as text: without settings, code, formulas, and calls that fetch a number."""
    text = re.sub(r"^#(set|show|import|let|bibliography).*$", "", text, flags=re.M)
    text = re.sub(r"\$[^$]*\$|//.*$|@[a-z0-9]+", "", text, flags=re.M)
    for _ in range(6):  # innermost calls first
        text = re.sub(r"#?[a-z.-]+\((?:[^()\[\]]|\"[^\"]*\")*\)", "", text)
    return text


def test_no_number_of_the_paper_is_typed_by_hand():
    start = PROSE.index("*Abstract.*")
    tables = re.sub(r"#figure\(\n.*?\n\)", "", PROSE[start:], flags=re.S)
    assert not re.findall(r"\S*\d\S*", prose_of(tables))
    assert re.findall(r"\d", prose_of("It leads by 12.3 points."))  # what it would find


def test_a_number_is_followed_by_all_that_is_written_behind_it():
    """A bare semicolon would end the call that fetches the number, and be gone."""
    assert not re.findall(r"#[a-z-]+\([^()]*\);", PROSE) and "\\;" in PROSE


def test_what_the_paper_reads_is_that_of_the_committed_results(tmp_path):
    for name in ("results.csv", "measures.csv", "mixtures.csv", "small_studies.csv"):
        (tmp_path / name).symlink_to(ROOT / "reports" / name)
    for path in paper.write(tmp_path):
        assert path.read_bytes() == (ROOT / "reports/paper" / path.name).read_bytes(), path.name


def test_the_paper_compiles_and_a_claim_that_is_not_there_stops_it(tmp_path, monkeypatch):
    typst = pytest.importorskip("typst")
    paper.build(tmp_path / "paper.pdf")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(typst.TypstError, match="no claim miniature/no-such-claim"):
        typst.compile(b'#import "/paper/lib.typ": *\n#points("no-such-claim")', root=ROOT, format="pdf")
