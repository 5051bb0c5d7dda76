"""What others wrote is never run, the user's token never written down. Each test plants what it guards against."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kill_harness import TINY
from row_by_row import row_by_row

from symbiosis.loop import runs
from symbiosis.models import loading
from symbiosis.models.loading import ModelError
from symbiosis.settings import RunSettings
from symbiosis.store import record, stages

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_" + "PlantedTokenThatNobodyOwns"  # in two parts, so that no scanner takes this file for a leak


class Evil:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def planted(neox_folder, tmp_path):
    """A copy of a sound model, what to plant in it, and the file that would tell."""
    folder, marker = tmp_path / "model", tmp_path / "marker"
    shutil.copytree(neox_folder, folder)
    return folder, pickle.dumps(Evil(marker)), marker


PICKLES = (
    "pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl", "tokenizer.pkl", "adapter_model.bin",
)  # fmt: skip


def test_no_pickle_beside_the_weights_is_ever_loaded(planted):
    folder, evil, marker = planted
    for name in PICKLES:
        (folder / name).write_bytes(evil)
    loading.load(str(folder), device="cpu")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 2, "target_modules": ["dense"]})
    )
    with pytest.raises(ModelError, match="holds an adapter; merge it into its base model"):
        loading.load(str(folder), device="cpu")  # its adapter is a pickle
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors file; .* none is ever loaded here"):
        loading.load(str(folder), device="cpu")
    assert not marker.exists()
    pickle.loads(evil)
    assert marker.exists()  # and whoever loads it would have been seen


def test_a_run_loads_no_pickle_and_throws_out_those_it_finds(tmp_path, monkeypatch):
    def refused(*args, **keywords):
        raise AssertionError("a pickle is loaded")

    settings, marker = RunSettings(**TINY, method="recursive", reports_dir=str(tmp_path / "r")), tmp_path / "marker"
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, refused)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(record, "write_record", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        runs.run(settings)
    state = stages.run_folder(settings) / "state"
    for place in (state / "student-2" / "model" / "pytorch_model.bin", state / "lesson-1" / "so_far.pkl"):
        place.write_bytes(pickle.dumps(Evil(marker)))
    runs.run(settings)
    assert not marker.exists() and not list(state.rglob("*.bin")) and not list(state.rglob("*.pkl"))


CODE = "from pathlib import Path\nPath({marker!r}).touch()\nclass Remote: pass\n"


@row_by_row("model_type", ["gpt_neox", "evil"])
def test_code_that_comes_with_a_model_is_not_run(planted, model_type):
    folder, _, marker = planted
    (folder / "modeling_evil.py").write_text(CODE.format(marker=str(marker)))
    remote = {"AutoConfig": "modeling_evil.Remote", "AutoModelForCausalLM": "modeling_evil.Remote"}
    for name, extra in (
        ("config.json", {"auto_map": remote, "model_type": model_type}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["modeling_evil.Remote", None]}}),
    ):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | extra))
    if model_type == "gpt_neox":
        model, _ = loading.load(str(folder), device="cpu")
        assert type(model).__module__.startswith("transformers.")  # the library's class, not the planted one
    else:
        with pytest.raises(ModelError, match="could not be loaded"):
            loading.load(str(folder), device="cpu")
    assert not marker.exists()


@row_by_row("said", [f"401 for https://hub/x?token={TOKEN}", "403: Bearer some-other-secret of this user"])
def test_the_hubs_own_words_are_shown_without_the_token(monkeypatch, said):
    monkeypatch.setenv("HF_TOKEN", TOKEN if TOKEN in said else "some-other-secret")

    def fails(*args, **keywords):
        raise OSError(said)

    monkeypatch.setattr(loading, "snapshot_download", fails)
    with pytest.raises(ModelError, match=r"could not be fetched \(40[13].*\[token\]") as error:
        loading.load("EleutherAI/pythia-160m")
    assert TOKEN not in str(error.value) and "some-other-secret" not in str(error.value)
    assert error.value.__cause__ is None and error.value.__suppress_context__  # nor is the client's own error printed


def test_a_token_in_the_environment_reaches_no_file_of_a_notebook_run(tmp_path):
    given = TINY | {"method": "recursive", "generations": 1, "reports_dir": str(tmp_path)}
    words = [word for key, value in given.items() for word in ("-p", key, str(value))]
    notebook, out = ROOT / "notebooks" / "02_baselines.ipynb", tmp_path / "run.ipynb"
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), str(out), "--no-progress-bar", *words], cwd=ROOT,
        capture_output=True, env=os.environ | {"HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.ipynb", "record.json", "settings.json", "rows.csv"} <= {path.name for path in written}
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN.encode() not in done.stdout + done.stderr


def test_hub_telemetry_is_off_before_the_hub_client_is_there():
    code = "import symbiosis, huggingface_hub.constants as hub; print(hub.HF_HUB_DISABLE_TELEMETRY)"
    free = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name and name != "DO_NOT_TRACK"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=free)
    assert done.stdout.strip() == "True", done.stderr
    without = subprocess.run(
        [sys.executable, "-c", code.replace("symbiosis, ", "")], capture_output=True, text=True, env=free
    )
    assert without.stdout.strip() == "False", without.stderr  # it is this package that turns it off
