"""Rows as they stand in a file. What `labelled` makes of them, and every bad file, is tested there."""

from symbiosis.data.readers import read_table


def test_text_stays_as_it_is_written(tmp_path):
    # what readers that guess types turn into numbers, dates, truths or missing values
    odd = ["NA", "null", "NaN", "007", "1e5", "True", "2024-01-01", "1,5", "-0", "None", "#N/A"]
    (tmp_path / "x.csv").write_text("label,text\n" + "".join(f'"{text}","{text}"\n' for text in odd))
    assert [row for _, row in read_table(tmp_path / "x.csv").rows] == [{"label": text, "text": text} for text in odd]


def test_documents_are_blocks_where_lines_are_wrapped_and_lines_elsewhere(tmp_path):
    block = "A block of text that is\nwrapped over two lines."
    for text, documents in (
        (f"{block}\n\nToo short\n\n{block}\n", [block.replace("\n", " ")] * 2),
        (f"{'A line of its own, ' * 8}\n\n = A heading = \n It cost 1 @,@ 000 , all of it .\n",
         [("A line of its own, " * 8).strip(), "It cost 1,000, all of it."]),
    ):  # fmt: skip
        (tmp_path / "x.txt").write_text(text)
        table = read_table(tmp_path / "x.txt")
        assert [row["text"] for _, row in table.rows] == documents and table.where(2) == f"{tmp_path}/x.txt, document 2"
