"""What the repository promises around the code: one set of versions, complete params files, links that lead on."""

import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from row_by_row import row_by_row

from symbiosis import params
from symbiosis.analysis import verify
from symbiosis.settings import InteractionSettings, RunSettings, SettingsError, make_settings
from symbiosis.yaml_files import read_params

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_THE_RUN = {"method", "variant", "study", "seed", "reports_dir", "keep_checkpoints"}  # no business of a scale
OF_THE_ARM = {  # what arms set, or leave at defaults that are the same at every size
    "dev_rows", "dev_rows_as", "dev_rows_in_turn", "dev_prompts_share", "label_keep", "choose_again", "static_size",
    "class_weights", "written_share",
    "attributes", "written_labels", "recursive_start", "mixing", "edit_threshold", "teaching_rows",
    "real_share", "real_rows_from", "weak_accuracy", "held_power", "subtopic_power",
    "label_noise", "probe_hidden_states", "first_lesson_sources", "teaching_share",
    "name_power", "explain_by", "students", "false_share", "true_share",
    "pool_share", "candidates", "filter_share", "soft_labels", "feedback",
    "feedback_student", "hard_examples", "scored_share", "skip_hardest_share", "max_similarity", "generator_update",
    "update_temperature", "dpo_beta", "dev_loss", "teach_when", "teach_rounds", "teach_drafts", "teach_speed",
    "teach_learned", "teach_layers", "teach_reward", "teach_held_out", "teach_label_weight", "teach_kl",
    "teach_snapshots", "generator_lora_rank",
    "entities", "alpha", "beta", "writer_weights", "symbiotic",
}  # fmt: skip
OF_THE_MACHINE = {"num_processes", "sharding", "gradient_accumulation_steps", "generation_engine"}
OF_REAL_WEIGHTS = {"schedule", "warmup_steps"}  # models made here are trained without


def kept_files(*also):
    """What git keeps; `--others --exclude-standard`: or would keep."""
    command = ["git", "ls-files", "--cached", *also, "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone: nothing tells the project's files from the others")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins():
    """Name -> the one version that holds on this machine."""
    return {r.name: str(r.specifier) for r in constraints() if not r.marker or r.marker.evaluate()}


# --- environment ---------------------------------------------------------------------------------------------------
def test_environment_constraints_and_hooks_name_the_versions_of_pyproject_and_what_is_installed():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, by_pip = environment["dependencies"]
    assert python == "python" + PROJECT["requires-python"] and pip == "pip"
    assert by_pip == {"pip": ["-e .[dev,batch]", "-c constraints.txt"]}

    pinned = pins()
    for line in itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        wanted = Requirement(line)
        version = pinned[wanted.name].removeprefix("==")
        assert wanted.specifier.contains(version), f"{line}: constraints.txt has {version}"

    checked, wrong = 0, []
    for name, specifier in pins().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # for another platform or extra
        checked += 1
        if not Requirement(f"{name}{specifier}").specifier.contains(version, prereleases=True):
            wrong.append(f"{name} {version} is not {specifier}")
    assert not wrong and checked > 50  # most of the file is installed wherever the tests run

    pinned, seen = pins(), set()
    for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]:
        for tool in map(Requirement, hook["additional_dependencies"]):
            assert str(tool.specifier).startswith("=="), f"{hook['id']}: pin {tool.name}"
            if tool.name in pinned:
                assert str(tool.specifier) == pinned[tool.name], f"{hook['id']}: {tool} against constraints.txt"
                seen.add(tool.name)
    assert seen == {"ruff", "nbstripout"}


# --- params --------------------------------------------------------------------------------------------------------
def params_of_the_project():
    paths = [path for path in kept_files() if path.suffix == ".yaml" and path.parent == ROOT / "params"]
    return {path.stem: read_params(path) for path in paths if path.stem != "studies"}


def test_every_scale_sets_all_that_has_a_smoke_size():
    scales = {name: given for name, given in params_of_the_project().items() if "scale" in given}
    assert len(scales) >= 6
    for name, given in scales.items():
        kind = InteractionSettings if name.startswith("interaction") else RunSettings
        own = {"mixing", "candidates"} if kind is InteractionSettings else set()
        assert given["scale"] == name
        may = OF_THE_MACHINE | OF_REAL_WEIGHTS
        assert set(given) - may == set(kind.model_fields) - OF_THE_RUN - may - (OF_THE_ARM - own)


def test_every_arm_can_run_at_every_scale_or_says_why_not():
    refused = {}
    for name, scale in params_of_the_project().items():
        for arm, given in params.all_arms().items() if "scale" in scale else []:
            kind = InteractionSettings if name.startswith("interaction") else RunSettings
            if arm.startswith("interaction") != (kind is InteractionSettings):
                continue
            differs = {key for key in given if key in scale and given[key] != scale[key]}
            imitates = given.get("teach_reward") == "rows"
            own = {"generator_epochs", "generator_learning_rate"} if imitates else set()  # tuned
            assert differs <= {"temperature", "top_p", "mixing"} | own, f"{arm} changes a size of {name}"
            try:
                chosen = make_settings(f"{name} + {arm}", kind, **scale | given)
                assert chosen.folder == f"{name}/{chosen.study}/{arm}-s0"
            except SettingsError as error:
                refused.setdefault(name, []).append(f"{arm}: {error}")
    others = {name: [line for line in lines if not line.startswith("world-")] for name, lines in refused.items()}
    assert set(others) == {"smollm", "paper", "interaction_smollm", "interaction_paper"}
    known = (
        "probe_hidden_states: need the known truth",
        "4 different tasks",
        "a class of the miniature that no entity has",
        "leaves no other row of lesson_size 120",
    )
    for lines in others.values():
        assert all(any(words in line for words in known) for line in lines), lines


def test_every_line_of_a_params_file_says_what_it_sets():
    for name in params_of_the_project():
        lines = (ROOT / "params" / f"{name}.yaml").read_text().splitlines()
        assert lines[0].startswith("# ")
        for line in lines:
            assert not line or line.startswith("#") or re.fullmatch(r"[a-z0-9_]+: \S+  # .+", line), f"{name}: {line}"


def test_the_paper_scale_is_the_published_setting():
    chosen = make_settings(**read_params("params/paper.yaml") | read_params("params/symbiosis.yaml"))
    assert (chosen.generations, chosen.epochs, chosen.hard_examples) == (3, 2, 50)
    assert (chosen.feedback, chosen.generator_update) == ("lm_loss", "sft")
    for name in ("task", "student", "generator"):
        assert re.fullmatch(r"[0-9a-f]{40}", getattr(chosen, f"{name}_revision")), name


# --- make ----------------------------------------------------------------------------------------------------------
def make(*words, fails=False):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert bool(run.returncode) is fails, run.stderr
    return run.stdout


def test_lab_starts_in_the_root_where_params_and_reports_can_be_opened():
    told = make("--dry-run", "--old-file=.venv/.ready", "lab")
    assert f'--ServerApp.root_dir="{ROOT}"' in told and "/lab/tree/notebooks/03" in told


@pytest.fixture
def handed_over(tmp_path):
    """What each call of Snakemake by a target of make finds in its environment, where all of them end with a code."""

    def calls(target, *words, code=0):
        lines = [
            f"#!{sys.executable}",
            "import json, os, sys",
            "print(json.dumps(dict(os.environ)))",
            f"sys.exit({code})",
        ]
        (tmp_path / "snakemake").write_text("\n".join(lines))
        (tmp_path / "snakemake").chmod(0o755)
        told = make("--old-file=.venv/.ready", target, f"SNAKEMAKE={tmp_path / 'snakemake'}", *words, fails=code > 0)
        return [json.loads(line) for line in told.splitlines()]

    return calls


def test_make_hands_words_over_as_they_were_written(handed_over):
    args = """-p task "it's/my: #news $HOME {x} naïve" -p epochs 3"""
    runs, reports = handed_over("batch", "SCALE=paper", "ARMS=real static", "SEEDS=2", f"ARGS={args}")
    given = {"SCALE": "paper", "STUDY": "main", "ARMS": "real static", "SEEDS": "2", "FIRST_SEED": "", "ARGS": args}
    for call in (runs, reports):
        assert {name: call[f"BATCH_{name}"] for name in given} == given
    cluster = make("--dry-run", "runs", "PROFILE=profiles/slurm")
    assert "--workflow-profile profiles/slurm --config make=1 -- runs" in cluster  # the profile says how many
    assert "--workflow-profile profiles/default --cores all" in make("--dry-run", "runs")


@row_by_row(("ended", "calls"), [(1, 2), (2, 1)])
def test_make_tells_by_its_exit_code_and_makes_reports_unless_refused(handed_over, ended, calls):
    assert len(handed_over("batch", code=ended)) == calls


def test_make_studies_leaves_no_arm_and_no_study_out(handed_over):
    first, second, _ = handed_over("studies", "PRICES=true", "SMALL_STUDIES=true")
    arms = params.named_arms(first["BATCH_ARMS"].split())
    studies = params.read_studies()["studies"]
    of_studies = [arm for name in studies for arm in (*params.study_cells(name), *params.arms_of(name))]
    assert {*arms, *of_studies} == set(params.all_arms())
    interacting = {name for name in studies if name.startswith("interaction")}
    of_real_text = {name for name in studies if name.startswith("real_weights")} | {"recursion_5", "recursion_real"}
    assert set(second["BATCH_STUDY"].split()) == set(studies) - {"main"} - interacting - of_real_text


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_pages_name_make_targets_that_exist():
    targets = set(re.findall(r"^  make ([a-z-]+)", make("help"), flags=re.M))
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:`|^)make ([a-z]+(?:-[a-z]+)*)", text, flags=re.M))
    assert {"reproduce", "test", "batch"} <= named <= targets


@row_by_row("page", PAGES)
def test_links_of_a_page_lead_to_files_of_the_project(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert not [link for link in links if link[0] != "#" and not (page.parent / link.split("#")[0]).exists()]


def test_every_page_stands_in_the_site_and_the_readme_is_read_in_five_minutes():
    listed = (ROOT / "docs/index.md").read_text().split()
    assert {page.stem for page in PAGES if page.parent.name == "docs"} - {"index"} <= set(listed)

    assert 600 <= len((ROOT / "README.md").read_text().split()) <= 900


def test_committed_tables_and_claims_are_those_of_the_committed_results():
    checks = dict(verify.verify())
    assert not [what for what, matches in checks.items() if not matches]
    assert {f"docs/results.md: table of {scale}" for scale in ("miniature", "agnews_small")} < set(checks)
    assert "reports/claims.md" in checks


# --- files ---------------------------------------------------------------------------------------------------------
def test_no_file_names_a_place_on_one_machine():
    hosts = ["pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org", "anaconda" + ".org"]
    folder = re.compile(r"(?<![\w./~-])/(?:work|root|home)" + r"/")
    files = kept_files("--others", "--exclude-standard")
    assert len(files) > 20
    for path in files:
        if path.suffix in {".pdf", ".png", ".parquet"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}, line {number}"
            assert not folder.search(line), f"{where} names an absolute path"
            assert not [host for host in hosts if host in line], f"{where} names a registry"
