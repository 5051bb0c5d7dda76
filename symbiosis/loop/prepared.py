"""What a run begins with: its task, the initial Student and, where the method has one, the Generator."""

from symbiosis.data.task import Task, load_task
from symbiosis.loop.methods import NEEDS_GENERATOR
from symbiosis.loop.state import LoopState
from symbiosis.models import encoders, loading
from symbiosis.models.checks import check_sizes
from symbiosis.models.devices import claim
from symbiosis.models.generator import Generator
from symbiosis.models.loading import LanguageModel
from symbiosis.models.proxies import ProxyStudent
from symbiosis.models.student import Student
from symbiosis.models.vllm import require_engine
from symbiosis.pretrain.initial import cache_key, initial_model_folder, initial_weights
from symbiosis.settings import PROXIES, RunSettings


def prepare(settings: RunSettings, task: Task | None = None) -> LoopState:
    """Task, initial Student and (where the method has one) Generator, as every method of this seed starts with them."""
    require_engine(settings.generation_engine)
    loading.use_threads(settings.threads)
    if settings.device != "cpu":
        claim(settings.num_processes, wait=True)
    task = task or load_task(settings)
    student, generator = initial_student(settings, task), None
    if "generator" in roles(settings):
        generator = Generator(load_initial("generator", settings), task.label_names, settings)
    check_sizes(student if isinstance(student, Student) else student.asker, generator)
    return LoopState(settings, task, student, generator)


def initial_student(settings: RunSettings, task: Task) -> Student | ProxyStudent:
    """The Student before any lesson; the probe's vectors come of a Generator of its own, which step D never trains."""
    if settings.student not in PROXIES:
        return Student(load_initial("student", settings), task.label_names, settings)
    asker = None
    if settings.student == "probe":
        asker = Student(load_initial("generator", settings), task.label_names, settings)
    splits = [part["text"][:] for part in (task.pool, task.dev, task.test)]
    return ProxyStudent.make(task.label_names, settings, splits, asker)


def load_initial(role: str, settings: RunSettings) -> LanguageModel:
    """The model that 'student' or 'generator' begins with."""
    folder, revision = initial_model_folder(role, settings), getattr(settings, f"{role}_revision")
    return loading.load(folder, revision, device=settings.device)


def roles(settings: RunSettings) -> tuple[str, ...]:
    """The models of a run."""
    return ("student", "generator") if settings.method in NEEDS_GENERATOR else ("student",)


def weights_named(role: str, settings: RunSettings) -> dict[str, str]:
    """Which weights a role begins with, before any are loaded; of a proxy those that make its vectors."""
    proxy = settings.student if role == "student" else ""
    if proxy == "minilm":
        return loading.named_weights(role, loading.find(encoders.SENTENCES))
    named = "generator" if proxy == "probe" else role
    found = initial_weights(named, cache_key(named, settings), settings)
    return {key.replace(named, role): value for key, value in found.items()}
