"""What the repository promises around the code: one set of versions, complete params files, clean notebooks."""

import ast
import itertools
import os
import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement

from symbiosis import batch
from symbiosis.analysis import verify
from symbiosis.settings import RunSettings, SettingsError, make_settings, read_params

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCALES = ["miniature", "agnews_small", "paper"]
ARMS = sorted(
    {path.stem for path in (ROOT / "params").glob("*.yaml") if not path.stem.startswith("interaction_")} - set(SCALES)
)  # the scales of 04_model_interaction are tested in test_interaction.py
OF_THE_RUN = {"study", "seed", "reports_dir", "keep_checkpoints"}  # set by hand or with -p, not by a params file
STUDIES = sorted(path.stem for path in (ROOT / "params" / "studies").glob("*.yaml"))
ABLATION = sorted(path.stem for path in (ROOT / "params" / "ablation").glob("*.yaml"))
STEP_C = {"feedback", "hard_examples", "scored_share", "teaching_share", "generator_update"}  # symbiosis only
NEUTRAL = {  # may be left out: the notebooks' default and the package's are the same
    "dev_rows", "attributes", "first_sources", "feedback_student", "hardest_skipped", "max_similarity", "pool_share",
    "candidates", "soft_labels", "update_temperature", "dpo_beta", "generator_lora_rank",
    "mixing", "real_share", "real_rows", "weak_accuracy", "subtopic_power", "label_noise", "inside",
    "num_processes", "sharding", "gradient_accumulation_steps", "generation_engine",
}  # fmt: skip


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins():
    """Name -> the one version that holds on this machine."""
    return {r.name: str(r.specifier) for r in constraints() if not r.marker or r.marker.evaluate()}


# --- environment ---------------------------------------------------------------------------------------------------
def test_environment_yml_adds_nothing_to_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    python, pip, by_pip = environment["dependencies"]
    assert python == "python" + PROJECT["requires-python"] and pip == "pip"
    assert by_pip == {"pip": ["-e .[dev,batch]", "-c constraints.txt"]}


def test_every_dependency_is_pinned_within_its_range():
    pinned = pins()
    for line in itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        wanted = Requirement(line)
        version = pinned[wanted.name].removeprefix("==")
        assert wanted.specifier.contains(version), f"{line}: constraints.txt has {version}"


def test_installed_versions_obey_the_constraints():
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


def test_pre_commit_uses_the_pinned_tools():
    pinned, seen = pins(), set()
    for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]:
        for tool in map(Requirement, hook["additional_dependencies"]):
            assert str(tool.specifier).startswith("=="), f"{hook['id']}: pin {tool.name}"
            if tool.name in pinned:
                assert str(tool.specifier) == pinned[tool.name], f"{hook['id']}: {tool} against constraints.txt"
                seen.add(tool.name)
    assert seen == {"ruff", "nbstripout"}


# --- params --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("arm", ARMS)
def test_scale_and_method_file_are_complete_together(scale, arm):
    first, second = read_params(f"params/{scale}.yaml"), read_params(f"params/{arm}.yaml")
    given = first | second
    if (arm, scale) == ("static_attributes", "agnews_small"):
        with pytest.raises(SettingsError, match="was not taught to name subjects"):
            make_settings(arm, **given)
        return
    chosen = make_settings(f"{scale} + {arm}", **given)
    assert chosen.scale == scale and arm.replace("_", "-") == chosen.name.rsplit("-s", 1)[0].replace("_", "-")
    own = STEP_C if chosen.method == "symbiosis" else set()
    own |= {"recursive_start"} if chosen.method == "recursive" else set()
    elsewhere = (STEP_C | {"recursive_start"}) - own
    assert set(given) - NEUTRAL == set(RunSettings.model_fields) - OF_THE_RUN - elsewhere - NEUTRAL
    assert set(first) & set(second) <= {"temperature", "top_p"}  # a method changes a scale's value nowhere else


@pytest.mark.parametrize("cell", ABLATION)
def test_every_cell_of_the_ablation_is_an_arm_of_its_own_name(cell):
    given = read_params("params/miniature.yaml") | read_params(f"params/ablation/{cell}.yaml")
    chosen = make_settings(cell, **given)
    assert chosen.method == "symbiosis" and chosen.variant == cell
    assert cell.startswith(f"{chosen.feedback}_{chosen.generator_update}_{chosen.candidates}")
    best = read_params("params/symbiosis_best.yaml")
    factors = {"feedback", "generator_update", "candidates", "soft_labels", "max_similarity", "hardest_skipped"}
    own = read_params(f"params/ablation/{cell}.yaml")
    assert {key for key in own if own[key] != best.get(key)} <= factors | {"variant"}


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_changes_the_world_for_every_arm_alike(study):
    neutral = {name: RunSettings.model_fields[name].default for name in NEUTRAL}
    scale, own = neutral | read_params("params/miniature.yaml"), read_params(f"params/studies/{study}.yaml")
    assert own.pop("study") == study and set(own) <= set(scale)
    assert all(own[key] != scale[key] for key in own)
    make_settings(study, **scale | read_params("params/symbiosis_best.yaml") | own)


@pytest.mark.parametrize("notebook", ["02_baselines", "03_symbiosis_loop"])
def test_what_params_files_may_leave_out_is_neutral_in_the_notebooks(notebook):
    cell = parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    assert {name: cell[name] for name in NEUTRAL} == {n: RunSettings.model_fields[n].default for n in NEUTRAL}


@pytest.mark.parametrize(
    "name",
    [str(path.relative_to(ROOT / "params").with_suffix("")) for path in sorted((ROOT / "params").rglob("*.yaml"))],
)
def test_every_line_of_a_params_file_says_what_it_sets(name):
    lines = (ROOT / "params" / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    for line in lines:
        assert not line or line.startswith("#") or re.fullmatch(r"[a-z0-9_]+: \S+  # .+", line), line


def test_the_paper_scale_is_the_published_setting():
    chosen = make_settings(**read_params("params/paper.yaml") | read_params("params/symbiosis.yaml"))
    assert (chosen.generations, chosen.epochs, chosen.hard_examples) == (3, 2, 50)
    assert (chosen.feedback, chosen.generator_update) == ("lm_loss", "sft")
    for name in ("task", "student", "generator"):
        assert re.fullmatch(r"[0-9a-f]{40}", getattr(chosen, f"{name}_revision")), name


def test_arms_differ_from_their_control_in_the_lines_that_name_it():
    loop, control = read_params("params/symbiosis.yaml"), read_params("params/symbiosis_random.yaml")
    assert {key for key in loop if loop[key] != control[key]} == {"variant", "feedback"}
    warm, warm_t1 = read_params("params/recursive_warm.yaml"), read_params("params/recursive_warm_t1.yaml")
    assert {key for key in warm if warm[key] != warm_t1[key]} == {"variant", "top_p"}


# --- notebooks -----------------------------------------------------------------------------------------------------
def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def parameters(path):
    """Name -> default of a notebook's parameters cell."""
    body = ast.parse(code_cells(path)[0].source).body
    return {(n.target if isinstance(n, ast.AnnAssign) else n.targets[0]).id: ast.literal_eval(n.value) for n in body}


def test_the_notebooks_of_the_story_are_there():
    names = [path.name for path in NOTEBOOKS]
    for name in (
        "01_data", "02_baselines", "03_symbiosis_loop", "05_ratio_or_diversity", "06_analysis", "07_paper_figures",
    ):  # fmt: skip
        assert f"{name}.ipynb" in names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_begins_with_its_parameters_and_stores_no_output(path):
    cells = code_cells(path)
    assert "parameters" in cells[0].metadata.get("tags", []) and parameters(path)
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]
    assert "papermill" not in nbformat.read(path, as_version=4).metadata


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("scale", SCALES)
def test_params_files_fit_the_notebook_that_runs_them(scale, arm):
    notebook = "03_symbiosis_loop" if arm.startswith("symbiosis") else "02_baselines"
    known = parameters(ROOT / "notebooks" / f"{notebook}.ipynb")
    given = read_params(f"params/{scale}.yaml") | read_params(f"params/{arm}.yaml")
    assert set(given) <= set(known), f"{notebook} has no {sorted(set(given) - set(known))}"
    wrong = [name for name, value in given.items() if type(value) is not type(known[name])]
    assert not wrong, f"{notebook}: other types than the params files have: {wrong}"


def test_committed_runs_are_those_the_params_files_ask_for_today():
    rows = pd.read_csv(ROOT / "reports" / "results.csv").query("scale == 'miniature'")
    committed = set(rows["run_id"])
    cells = {n: parameters(ROOT / "notebooks" / f"{n}.ipynb") for n in ("02_baselines", "03_symbiosis_loop")}
    arms = [*ARMS, *(f"{folder}/{path.stem}" for folder in ("ablation", "factorial", "mixing")
                     for path in (ROOT / "params" / folder).glob("*.yaml"))]  # fmt: skip
    asked = set()
    for study, arm in itertools.product(rows["study"].unique(), arms):
        world = {} if study == "main" else read_params(f"params/studies/{study}.yaml")
        own = read_params(f"params/{arm}.yaml")
        notebook = cells["03_symbiosis_loop" if own["method"] == "symbiosis" else "02_baselines"]
        given = notebook | read_params("params/miniature.yaml") | own | world
        asked |= {make_settings(arm, **given | {"seed": int(seed)}).run_id for seed in rows["seed"].unique()}
    assert committed <= asked, sorted(committed - asked)[:3]


# --- make ----------------------------------------------------------------------------------------------------------
def make(*words):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("study", ["main", *STUDIES])
def test_every_planned_run_has_the_folder_the_run_chooses(study):
    planned = batch.plan("miniature", [study], seeds=2)
    assert [run.seed for run in planned[:2]] == [11, 12]
    assert len(planned) == 2 * len({tuple(run.files) for run in planned}) >= 2
    for run in planned:
        chosen = make_settings(run.folder, **{k: v for path in run.files for k, v in read_params(path).items()})
        assert run.folder == f"reports/runs/{chosen.scale}/{chosen.study}/{chosen.name[:-1]}{run.seed}"
        assert chosen.study == study and run.given()["seed"] == run.seed
        assert (
            run.notebook == f"notebooks/{'03_symbiosis_loop' if chosen.method == 'symbiosis' else '02_baselines'}.ipynb"
        )


def test_make_gives_a_batch_what_it_was_told():
    told = make("--dry-run", "batch", "SCALE=paper", "STUDY=main", "ARMS=real static", "SEEDS=2", "ARGS=-p task x")
    assert re.search(r'scale=paper seeds=2 args="-p task x" study="main" arms="real static" -- runs', told)
    assert "--workflow-profile profiles/default --cores all" in told and told.index("-- runs") < told.index(
        "-- reports"
    )
    cluster = make("--dry-run", "runs", "PROFILE=profiles/slurm", "FIRST_SEED=5")
    assert (
        "--workflow-profile profiles/slurm --config" in cluster and "first_seed=5" in cluster
    )  # the profile says how many


def test_make_studies_leaves_no_params_file_out():
    told = make("--dry-run", "studies", "SCALE=miniature")
    arms = re.search(r'arms="([^"]+)" -- runs', told)[1].split()
    files = {Path(run.files[1]).stem for run in batch.plan("miniature", arms=arms, seeds=1)}
    assert files == {arm for arm in ARMS if "method" in read_params(f"params/{arm}.yaml")}
    assert set(re.search(r'study="([^"]+)" -- runs', told)[1].split()) == set(STUDIES) - {"recursion_5"}
    for study, folder in (("ablation", "ablation"), ("ratio_or_diversity", "factorial"), ("mixing", "mixing")):
        cells = {Path(run.files[1]).stem for run in batch.plan("miniature", [study], seeds=1)}
        assert cells == {path.stem for path in (ROOT / "params" / folder).glob("*.yaml")} and len(cells) > 5


def test_readme_names_make_targets_that_exist():
    targets = set(re.findall(r"^  make ([a-z]+)", make("help"), flags=re.M))
    named = set(re.findall(r"`make ([a-z]+)|^make ([a-z]+)", (ROOT / "README.md").read_text(), flags=re.M))
    named = {a or b for a, b in named}
    assert {"reproduce", "test"} <= named <= targets


def test_committed_tables_and_claims_are_those_of_the_committed_results():
    checks = dict(verify.verify())
    assert not [what for what, matches in checks.items() if not matches]
    assert {"README.md: table of miniature", "README.md: table of agnews_small", "reports/claims.md"} < set(checks)


# --- files ---------------------------------------------------------------------------------------------------------
def kept_files():
    """What git keeps or would keep."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone: nothing tells the project's files from the others")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_place_on_one_machine():
    hosts = ["pypi" + ".org", "python" + "hosted.org", "download." + "pytorch.org", "anaconda" + ".org"]
    folder = re.compile(r"(?<![\w./~-])/(?:work|root|home)" + r"/")
    files = kept_files()
    assert len(files) > 20
    for path in files:
        if path.suffix in {".pdf", ".png", ".parquet"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            where = f"{path.relative_to(ROOT)}, line {number}"
            assert not folder.search(line), f"{where} names an absolute path"
            assert not [host for host in hosts if host in line], f"{where} names a registry"
