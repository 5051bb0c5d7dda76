"""What each rank runs: `torchrun -m symbiosis.models.launch FOLDER`, started by `models.ranks.train` alone."""

import json
import os
import sys
import threading
from pathlib import Path

import torch
import torch.distributed as dist

from symbiosis.data.lesson import load_lesson
from symbiosis.errors import SymbiosisError
from symbiosis.models import loading, ranks, training
from symbiosis.settings import RunSettings, make_settings

TRAINERS = {f.__name__: f for f in (training.train_student, training.train_generator, training.train_preferences)}


def main(folder: Path) -> int:
    """Train as the folder's job.json says; the first rank leaves weights.safetensors and history.json there.

    Returns 0, or 1 where the training was refused: the sentence is then in the file `error`.
    """
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    job = json.loads((folder / "job.json").read_text())
    settings = make_settings(str(folder / "job.json"), **job["settings"])
    join(settings)
    try:
        model, history = _train(folder, job, settings)
        ranks.write_weights(model, folder / "weights.safetensors")
        if dist.get_rank() == 0:
            (folder / "history.json").write_text(json.dumps(history))
    except SymbiosisError as error:  # every rank sees the same sums, so all of them stop here
        if dist.get_rank() == 0:
            (folder / "error").write_text(str(error))
        return 1
    finally:
        dist.destroy_process_group()
    return 0


def join(settings: RunSettings) -> None:
    """Enter the process group torchrun describes: a GPU per rank and nccl, or a share of the CPU's threads and gloo."""
    loading.use_threads(settings.threads or max(1, (os.cpu_count() or 1) // settings.num_processes))
    cuda = loading.pick_device(settings.device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")


def _train(folder: Path, job: dict, settings: RunSettings):
    model, tokenizer = loading.load(str(folder / "model"), device=settings.device)
    arguments = job["arguments"]
    if (folder / "lesson.parquet").exists():
        arguments["lesson"] = load_lesson(folder / "lesson.parquet")
    torch.manual_seed(job["seed"])  # adapters start from torch's random state
    trainer = TRAINERS[job["trainer"]]
    return model, trainer(model, tokenizer, settings=settings, seed=job["seed"], **arguments)


def _end_with_the_starter() -> None:
    """Nobody writes to this pipe: it ends when the process that holds its other end does, however it was killed."""
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read(): its lock would be held when this process ends by itself
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
