"""The published figures of small studies are those of the committed rows."""

import json

from symbiosis import small_studies
from symbiosis.analysis import figures, gallery, small_drawings


def test_the_figures_are_drawn_from_the_committed_rows():
    figures.use_style()
    for name in gallery.SMALL:
        fig, source = gallery.draw(name, gallery.Reports("reports"))
        published = json.loads((gallery.resolve("reports") / "figures" / "small_studies" / f"{name}.json").read_text())
        assert source == published and all(ax.has_data() for ax in fig.axes), name


def test_figures_say_what_made_their_rows():
    for study, rows in small_studies.by_study("reports").items():
        assert small_drawings.source_of(rows)["command"] == f"python -m symbiosis.small_studies {study}"
