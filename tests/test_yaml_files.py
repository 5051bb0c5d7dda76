import re

import pytest

from symbiosis.settings import SettingsError
from symbiosis.yaml_files import read_params

MALFORMED = [
    (b"seed: 1\nmethod: [real\n", "line 3: not valid YAML"),
    (b"- real\n", "holds list; write one 'name: value' per line"),
    (b"", "holds nothing"),
    (b"# only words\n", "holds nothing"),
    (b"null\n", "holds nothing"),
    (b"method: real\nseed: 1\nmethod: static\n", "line 3: not valid YAML: 'method' comes a second time"),
    (b"cells:\n  - {alpha: 1, alpha: 2}\n", "line 2: not valid YAML: 'alpha' comes a second time"),
    (b"seed: 1\n---\nseed: 2\n", "line 2: not valid YAML"),
    (b"seed: 1\nmethod: r\xe9al\n", "line 2: not UTF-8 (byte 17)"),
    (b"seed: 1\n1: real\n", "line 2: '1' is no name of a parameter"),
    (b"true: real\n", "line 1: 'true' is no name of a parameter"),
    (b"class: real\n", "line 1: 'class' is no name of a parameter"),
    (b"\"__import__('os').getcwd();x\": 1\n", "line 1: \"__import__('os').getcwd();x\" is no name of"),
    (b"? [a, b]\n: 1\n", "line 1: not valid YAML"),
    (b"a: 1\nseed: " + b"1" * 5000 + b"\n", "line 2: not valid YAML: Exceeds the limit"),
    (b"a: 2024-99-99\n", "line 1: not valid YAML: month must be in 1..12"),
    (b"a: 1\nb: " + b"[" * 50_000 + b"]" * 50_000, "line 2: not valid YAML: nested too deeply"),
    (b"a: 1\0\n", "not valid YAML"),
    (b"a: !!python/object/apply:os.getcwd []\n", "line 1: not valid YAML: could not determine a constructor"),
]


def test_a_malformed_params_file_is_one_sentence_with_file_and_line(tmp_path):
    path = tmp_path / "own.yaml"
    with pytest.raises(SettingsError, match=r"own.yaml: no such params file"):
        read_params(path)
    for content, says in MALFORMED:
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=re.escape(says)) as told:
            read_params(path)
        assert str(told.value).startswith(f"{path}: ") and len(str(told.value)) < len(str(path)) + 260


def test_a_sound_params_file_may_have_a_mark_anchors_and_a_merge(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\xef\xbb\xbfa: &x {b: 1}\nc: *x\n<<: {a: 2, d: 3}\n")
    assert read_params(tmp_path / "own.yaml") == {"a": {"b": 1}, "c": {"b": 1}, "d": 3}
