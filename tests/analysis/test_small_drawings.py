"""The published figures of small studies are those of the committed rows."""

import json

from symbiosis.analysis import figures, gallery, small_drawings, small_studies, student_studies


def test_the_figures_are_drawn_from_the_committed_rows():
    figures.use_style()
    for name in gallery.SMALL:
        fig, source = gallery.draw(name, gallery.Reports("reports"))
        published = json.loads((gallery.resolve("reports") / "figures" / "small_studies" / f"{name}.json").read_text())
        assert source == published and all(ax.has_data() for ax in fig.axes), name


def test_figures_say_what_made_their_rows():
    for study in small_studies.STUDIES[:2] + small_studies.OF_STUDENTS:
        made_by = small_drawings.source_of(small_studies.read("reports", study))["command"].rpartition(".")[2]
        module = student_studies if made_by == "student_studies" else small_studies
        assert callable(getattr(module, study)), study
