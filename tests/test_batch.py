"""Batches: what is planned, how each run stands, and pages that obey nothing a model wrote."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from symbiosis import batch
from symbiosis.analysis import verify
from symbiosis.batch import Run
from symbiosis.pretrain import initial
from symbiosis.settings import InteractionSettings, make_settings
from symbiosis.store import results

ROOT = Path(__file__).resolve().parents[1]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PLANTED = "<script>alert('from a lesson')</script>"


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository without runs: the files that say what a batch is."""
    for name in ("params", "profiles", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "Snakefile", tmp_path)
    monkeypatch.chdir(tmp_path)
    for cached in (batch.batches, batch.arm_files, batch.notebook_defaults):
        cached.cache_clear()
    return tmp_path


def executed(path, outputs=(), **notes):
    """A notebook as papermill leaves it."""
    cells = [
        nbformat.v4.new_markdown_cell("# A run"),
        nbformat.v4.new_code_cell("secret_input = 1", outputs=list(outputs)),
    ]
    state = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": notes, "widgets": state})
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def finish(repo, run, **changed):
    """A finished run's folder, as far as a batch looks into it."""
    folder = repo / run.folder
    settings = make_settings("a test", **run.given() | changed)
    executed(folder / "run.ipynb", start_time="2026-01-01T10:00:00", end_time="2026-01-01T10:01:00")
    (folder / "settings.json").write_text(settings.model_dump_json())
    record = {"run_id": settings.run_id, "wall_s": 41.7, "peak_memory_gib": 0.7, "commit": "c0ffee"}
    (folder / "record.json").write_text(json.dumps(record))
    return settings.run_id


def dry_run(repo, target, **config):
    """Of a dry run: the runs Snakemake would make, the seeds it would pre-train for, the runs it calls done."""
    words = [f"{key}={value}" for key, value in config.items()]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--workflow-profile",
        "profiles/default",
        "--config",
        *words,
        "-n",
        "--",
        target,
    ]
    ended = subprocess.run(
        command, cwd=repo, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120
    )
    told = ended.stdout + ended.stderr
    assert ended.returncode == 0, told
    runs = re.findall(r"^Job \d+: running (\S+)$", told, flags=re.M)
    return (
        runs,
        re.findall(r"pre-training .* (\S+), seed (\d+)", told),
        re.findall(r"^  (reports/runs/\S+)$", told, flags=re.M),
    )


# ---- what is planned


def test_snakemake_plans_the_runs_that_are_not_there(repo):
    plan = batch.plan("miniature", ["main", "labeller_weak"], seeds=2)
    for run in plan[1:4]:
        finish(repo, run)
    runs, made, done = dry_run(repo, "runs", scale="miniature", study="main labeller_weak", seeds=2)
    assert done == [run.folder for run in plan[1:4]]
    left = [run for run in plan if run not in plan[1:4]]
    assert (
        sorted(runs) == sorted(f"{r.scale}/{r.study}/{r.arm}-s{r.seed}" for r in left)
        and len(left) == 2 * 10 + 2 * 7 - 3
    )
    # a seed's models are made once for all arms; only the study with another Generator has its own
    assert sorted(made) == [(f"miniature/{s}", seed) for s in ("labeller_weak", "main") for seed in ("11", "12")]


def test_arms_groups_and_folders_can_be_named():
    arms = [run.arm for run in batch.plan("miniature", arms=["real", "no_pool", "mixing"], seeds=1)]
    assert arms[:3] == ["real", "static", "symbiosis-fresh_filtered"]
    assert set(arms[3:]) == {f"recursive-{path.stem}" for path in (ROOT / "params" / "mixing").glob("*.yaml")}


def test_seeds_begin_where_the_scale_reports():
    assert [run.seed for run in batch.plan("miniature", arms=["real"], seeds=2)] == [11, 12]
    assert [run.seed for run in batch.plan("paper", arms=["real"], seeds=2)] == [1, 2]
    assert [run.seed for run in batch.plan("paper", arms=["real"], seeds=1, first_seed="7")] == [7]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scale": "miniatur"}, "SCALE=miniatur: .*did you mean 'miniature'"),
        ({"scale": "real"}, "there is no params/real.yaml that names a scale"),
        ({"studies": ["rare_tial"]}, "STUDY=rare_tial: .*did you mean 'rare_tail'"),
        ({"seeds": "ten"}, "SEEDS=ten, FIRST_SEED=11: write whole numbers"),
        ({"seeds": 0}, "at least one seed"),
        ({"arms": ["symbiosis_bset"]}, "ARMS=symbiosis_bset: .*did you mean 'symbiosis_best'"),
    ],
)
def test_a_misspelt_batch_is_refused_with_the_nearest_name(given, said):
    with pytest.raises(batch.BatchError, match=said):
        batch.plan(**{"scale": "miniature"} | given)


def test_every_name_of_the_batches_file_leads_to_arms():
    groups, studies = batch.batches()["groups"], batch.batches()["studies"]
    for study in studies:
        scale = "interaction_miniature" if study == "interaction" else "miniature"
        assert batch.plan(scale, [study], seeds=1), study
    for group in groups:
        assert batch.plan("miniature", arms=[group], seeds=1), group


def test_committed_runs_are_those_batches_plan():
    by_study = results.read_studies(ROOT / "reports", "miniature")
    assert len(by_study) > 10
    for study, rows in by_study.items():
        arms = ["core", "controls"] if study == "main" else []
        assert set(rows["arm"]) == {run.arm for run in batch.plan("miniature", [study], arms, seeds=1)}, study


def test_interacting_models_have_scales_and_a_notebook_of_their_own():
    planned = batch.plan("interaction_miniature", ["interaction"], seeds=1)
    assert {run.notebook for run in planned} == {"notebooks/04_model_interaction.ipynb"}
    chosen = make_settings("a test", InteractionSettings, **planned[0].given())
    assert planned[0].folder == f"reports/runs/{chosen.scale}/{chosen.study}/{chosen.name}"
    for scale, study in (("interaction_miniature", "main"), ("miniature", "interaction")):
        with pytest.raises(batch.BatchError, match="go together"):
            batch.plan(scale, [study])


def test_models_made_here_are_those_the_bases_make():
    assert set(batch.MADE) == set(initial.RECIPES)
    assert Run("paper", "main", "real", 1).base == []
    assert Run("miniature", "pool_25", "real", 11).base == Run("miniature", "main", "static", 11).base != []
    assert Run("miniature", "labeller_weak", "real", 11).base != Run("miniature", "main", "real", 11).base


def test_what_a_run_asks_for_follows_its_scale():
    assert batch.needs("paper")["gpu"] == 1 and batch.needs("miniature")["gpu"] == 0
    assert batch.threads("miniature") == 1 and batch.threads("paper") > 1  # threads: 0, all cores


def test_laptop_and_cluster_treat_a_batch_alike():
    laptop, cluster = (yaml.safe_load((ROOT / f"profiles/{n}/config.yaml").read_text()) for n in ("default", "slurm"))
    same = {"keep-going", "retries", "rerun-incomplete", "rerun-triggers", "nolock"}
    assert {key: laptop[key] for key in same} == {key: cluster[key] for key in same}
    assert laptop["retries"] == 1 and laptop["keep-going"] and laptop["rerun-incomplete"]


# ---- steps of a run


def test_a_run_of_other_settings_is_kept_and_comes_back(repo):
    run = Run("miniature", "main", "static", 11)
    first = finish(repo, run)
    assert batch.set_aside(run) is None  # its own settings are no obstacle
    changed = ["-p", "temperature", "0.7"]
    kept = batch.set_aside(run, changed)
    assert kept == repo / "reports" / "replaced" / first and (kept / "record.json").is_file()
    assert (repo / run.folder).is_dir() and not list((repo / run.folder).iterdir())
    second = finish(repo, run, temperature=0.7)
    assert batch.set_aside(run) == repo / "reports" / "replaced" / second
    assert json.loads((repo / run.folder / "record.json").read_text())["run_id"] == first != second


def test_parameters_of_the_command_line_reach_the_step(repo, monkeypatch):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run, temperature=0.7)
    command = ["batch", "aside", "miniature", "main", "static", "11", "--"]
    monkeypatch.setattr(sys, "argv", [*command, "-p", "temperature", "0.7"])
    batch.main()
    assert run.finished and not (repo / "reports" / "replaced").exists()
    monkeypatch.setattr(sys, "argv", command)
    batch.main()
    assert not run.finished and (repo / "reports" / "replaced").is_dir()


def test_merging_prints_the_same_until_a_table_changed(repo, monkeypatch, capsys):
    (repo / "reports").mkdir()
    shutil.copy(ROOT / "reports" / "results.csv", repo / "reports")
    monkeypatch.setattr(sys, "argv", ["batch", "merge", "miniature", "main", "all", "0"])
    told = []
    for change in ("", "", "\n"):
        with open(repo / "reports" / "results.csv", "a") as file:
            file.write(change)
        batch.main()
        told.append(capsys.readouterr().out)
    assert "results.csv" in told[0] and told[0] == told[1] != told[2]


def test_papermill_starts_without_the_grammar_and_is_the_same_command():
    def said(*words):
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout

    ours, theirs = (said("-m", name, "--help").split("\n", 1)[1] for name in ("symbiosis.execute", "papermill"))
    assert ours == theirs and "-p, --parameters" in ours
    reads = "import sys, nbformat; print('lark' in sys.modules)"
    assert said("-c", reads) == "True\n"  # where this fails, `without_grammar` has nothing left to do
    assert said("-c", f"from symbiosis.execute import without_grammar; without_grammar(); {reads}") == "False\n"


def test_a_run_that_is_being_written_is_not_moved(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    with batch.locked(repo / run.folder / ".lock", wait=False):
        assert batch.set_aside(run, ["-p", "temperature", "0.7"]) is None
    assert batch.set_aside(run, ["-p", "temperature", "0.7"]) is not None


def test_a_second_batch_is_told_who_holds_the_first(repo):
    with batch.only_one(), pytest.raises(batch.BatchError, match=f"process {os.getpid()}"), batch.only_one():
        pass
    with batch.only_one():
        pass


# ---- how a batch stands


@pytest.fixture
def stood(repo):
    """One run each that is done, running, failed and missing."""
    done, running, failed, _ = plan = batch.plan("miniature", arms=["real", "static"], seeds=2)
    finish(repo, done)
    (repo / running.folder).mkdir(parents=True)
    (repo / failed.folder).mkdir(parents=True)
    log = [f"line {i}" for i in range(40)] + [f"\x1b[31mSettingsError\x1b[0m: {PLANTED}"]
    (repo / failed.folder / "run.log").write_text("\n".join(log))
    with batch.locked(repo / running.folder / ".lock", wait=False):
        yield repo, plan


def test_batch_csv_says_how_each_run_stands(stood, capsys):
    repo, plan = stood
    batch.report(plan)
    with open(repo / "reports" / "batch.csv") as file:
        table = {line["run_id"].split("@")[0]: line for line in csv.DictReader(file)}
    names = [f"{run.scale}/{run.study}/{run.arm}-s{run.seed}" for run in plan]
    assert [table[name]["status"] for name in names] == ["done", "running", "failed", "missing"]
    done = table[names[0]]
    assert (done["wall_s"], done["peak_memory_gib"], done["commit"]) == ("41.7", "0.7", "c0ffee")
    assert (done["started"], done["finished"]) == ("2026-01-01T10:00:00", "2026-01-01T10:01:00")
    assert table[names[3]]["wall_s"] == ""  # not measured is empty, never 0
    told = capsys.readouterr().out
    assert f"FAILED: {plan[2].folder}" in told and "SettingsError" in told
    assert "line 39" in told and "line 25\n" not in told  # the last lines only
    assert "1 done, 1 running, 1 failed, 1 missing" in told


def test_a_missing_run_has_the_run_id_it_will_have(repo):
    run = Run("miniature", "main", "recursive", 11)
    Run("miniature", "main", "static-attributes", 12).given()  # another arm of the same notebook leaves nothing behind
    (line,) = batch.table([run])
    committed = results.read_results(ROOT / "reports", "miniature").query("arm == 'recursive' and seed == 11")
    assert line["status"] == "missing" and {line["run_id"]} == set(committed["run_id"])


def test_a_run_without_valid_parameters_is_listed_all_the_same(repo):
    (repo / "params" / "static.yaml").write_text("# misspelt\nmethod: static\nvariant: plain\nepohcs: 3\n")
    (line,) = batch.table([Run("miniature", "main", "static", 11)])
    assert line["run_id"] == "miniature/main/static-s11" and line["status"] == "missing"


def test_a_finished_run_whose_last_attempt_failed_is_a_failure(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    assert run.finished
    executed(repo / run.folder / "run.part.ipynb", exception=True)
    assert not run.finished and batch.status(repo / run.folder) == "failed"


def test_a_run_finished_by_hand_is_not_a_failure_of_the_batch(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    folder = repo / run.folder
    (folder / "run.ipynb").unlink()
    (folder / "run.log").unlink(missing_ok=True)
    (folder / "settings.json").write_text("{}")
    assert batch.status(folder) == "missing"
    (folder / "record.json").unlink()
    assert batch.status(folder) == "failed"


def test_progress_is_one_line_with_the_time_left(stood):
    _, plan = stood
    line = batch.progress(plan, minutes=2.0, done=1, total=4)
    assert line == "batch: 1 of 4 runs done, 2.0 minutes so far, about 6.0 minutes left"


# ---- pages


def outputs():
    """What notebooks show: a table with a planted script in every shape, a figure, a widget, a script of their own."""
    data = nbformat.v4.new_output
    table = f"<style>#T_1 td {{color: red}}</style><table><tr><td onclick='x()'>{PLANTED}</td></tr></table>"
    return [
        data("stream", text=f"a lesson says {PLANTED}"),
        data("display_data", {"text/html": table, "text/plain": "a table"}),
        data("display_data", {"image/png": PNG, "text/plain": "a figure"}),
        data("display_data", {"application/javascript": "alert('own')", "text/plain": "fell back"}),
        data(
            "display_data",
            {"text/html": "<iframe src='https://far.example'></iframe><img src='https://far.example/x'>"},
        ),
        data("display_data", {"image/svg+xml": f"<svg>{PLANTED}</svg>", "text/plain": "no drawing"}),
        data("display_data", {"text/markdown": f"*said* {PLANTED}"}),
    ]


def obeyed(text):
    """Markup in a page that fetches or runs something."""
    active = re.findall(r"<(?:script|iframe|object|embed|link|svg)\b[^>]*>", text, flags=re.I)
    fetched = re.findall(r"<[^>]+\b(?:src|href)\s*=\s*[\"']?(?:https?:)?//[^>]*>", text, flags=re.I)
    return (
        active
        + fetched
        + re.findall(r"<[^>]+\son[a-z]+\s*=[^>]*>", text, flags=re.I)
        + re.findall(r"@import|url\(", text)
    )


def test_pages_work_offline_and_obey_nothing_a_model_wrote(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    executed(repo / run.folder / "run.ipynb", outputs())
    executed(repo / "reports" / "runs" / "miniature" / "06_analysis.ipynb", outputs())
    batch.report([run])
    index = repo / "reports" / "index.html"
    (link,) = re.findall(r'<a href="(html/[^"]+)">', index.read_text())
    for path in (index, index.parent / link):
        text = path.read_text()
        assert not obeyed(text) and "http" not in re.sub(r"https://far\.example|http-equiv", "", text)
        assert "&lt;script&gt;alert('from a lesson')" in text.replace("&#39;", "'")
        assert (
            re.search(r"<h1[^>]*>A run", text) and "<tr><td>&lt;script" in text
        )  # texts and tables stay what they are
        assert f"data:image/png;base64,{PNG}" in text and "secret_input" not in text and "color: red" not in text
    assert obeyed(PLANTED) and obeyed("<img src='https://far.example/x'>")  # and would have been seen


def test_failures_are_shown_escaped_with_their_last_lines(stood):
    repo, plan = stood
    batch.report(plan)
    text = (repo / "reports" / "index.html").read_text()
    assert f"Failed: {plan[2].folder}" in text and "&lt;script&gt;" in text and not obeyed(text)


def test_a_page_is_converted_again_only_when_its_notebook_is_new(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    batch.report([run])
    (shown,) = (repo / "reports" / "html").rglob("*.html")
    shown.write_text("kept")
    batch.report([run])
    assert shown.read_text() == "kept"
    os.utime(repo / run.folder / "run.ipynb", ns=(shown.stat().st_mtime_ns + 10**9,) * 2)
    batch.report([run])
    assert "A run" in shown.read_text()


# ---- verify


def test_verify_finds_every_planted_difference_and_no_other(tmp_path, monkeypatch, capsys):
    reports = tmp_path / "reports"
    shutil.copytree(ROOT / "reports", reports, ignore=shutil.ignore_patterns("runs", "html", "*.pdf", "*.png"))
    readme = (ROOT / "README.md").read_text()
    (tmp_path / "README.md").write_text(readme.replace("| Real data | 0.9", "| Real data | 0.8"))
    for name in ("claims.md", "tables/final_accuracy.csv"):
        text = (reports / name).read_text()
        assert "5" in text
        (reports / name).write_text(text.replace("5", "6", 1))
    rows = results.read_table(reports / "results.csv", results.COLUMNS, results.NUMBERS)
    for number, run_id in enumerate(rows["run_id"].unique()[:2]):
        own, folder = rows[rows["run_id"] == run_id], reports / "runs" / run_id.split("@")[0]
        folder.mkdir(parents=True)
        (folder / "record.json").touch()
        own.assign(value=own["value"] + 1e-15 * number).to_csv(folder / "rows.csv", index=False)
        changed = f"reports/runs/{run_id.split('@')[0]}/rows.csv"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "root", lambda: tmp_path)
    assert verify.main() == 1
    told = capsys.readouterr().out.splitlines()
    differing = {line.split(None, 1)[1] for line in told if line.startswith("DIFFERS")}
    expected = {"README.md: table of miniature", "reports/claims.md", "reports/tables/final_accuracy.csv", changed}
    assert differing == expected and sum(line.startswith("matches") for line in told) > 15
