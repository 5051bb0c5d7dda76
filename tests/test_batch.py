"""Batches: what is planned, what a run is given, how each stands."""

import contextlib
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
from row_by_row import row_by_row

from symbiosis import batch, batch_summary, params
from symbiosis.analysis import verify
from symbiosis.batch import Run
from symbiosis.execute import known_names
from symbiosis.pretrain import initial
from symbiosis.settings import SettingsError, make_settings
from symbiosis.store import results
from symbiosis.store.worlds import WorldError

ROOT = Path(__file__).resolve().parents[1]
PLANTED = "<script>alert('from a lesson')</script>"


@pytest.fixture
def repo(tmp_path, monkeypatch):
    """A repository without runs: the files that say what a batch is."""
    for name in ("params", "profiles", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("own"))
    (tmp_path / "reports").mkdir()
    shutil.copy(ROOT / "Snakefile", tmp_path)
    monkeypatch.chdir(tmp_path)
    for cached in (params.files, params.all_arms, params.read_studies):
        cached.cache_clear()
    return tmp_path


def finish(repo, run):
    """A finished run's folder, as far as a batch looks into it."""
    folder = repo / run.folder
    folder.mkdir(parents=True)
    settings = make_settings("a test", **run.parameters())
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A run")]), folder / "run.ipynb")
    (folder / "settings.json").write_text(settings.model_dump_json())
    record = {"run_id": settings.run_id, "wall_s": 41.7, "peak_memory_gib": 0.7, "commit": "c0ffee", "written": "today"}
    (folder / "record.json").write_text(json.dumps(record))
    rows = [(0, "accuracy", 0.5), (1, "accuracy", 0.75), (1, "tail_mass", 0.1)]
    (folder / "rows.csv").write_text("generation,metric,value\n" + "".join(f"{g},{m},{v}\n" for g, m, v in rows))


def snakemake(*how, target="runs", fails=0, **config):
    """All that Snakemake says of a target, where it ends with `fails`."""
    words = [f"{key}={value}" for key, value in config.items()]
    profile = ["--workflow-profile", "profiles/default"]
    command = [sys.executable, "-m", "snakemake", *profile, *how, "--config", *words, "--", target]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == fails, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def runs_in(said):
    return re.findall(r"^Job \d+: running (\S+)$", said, flags=re.M)


# ---- what is planned


def test_snakemake_plans_the_runs_that_are_not_there(repo):
    plan = batch.plan("miniature", ["main", "labeller_weak"], seeds=2)
    shutil.copy(ROOT / "reports/records.csv", repo / "reports")
    for run in plan[1:4]:
        finish(repo, run)
    said = snakemake("-n", scale="miniature", study="main labeller_weak", seeds=2)
    assert re.search(rf"^3 of {len(plan)} runs are done; left: \d+, about \d+ minutes of one core$", said, flags=re.M)
    left = [run for run in plan if run not in plan[1:4]]
    assert sorted(runs_in(said)) == sorted(f"{r.scale}/{r.study}/{r.arm}-s{r.seed}" for r in left)
    assert len(left) == 2 * 10 + 2 * 7 - 3
    # a seed's models are made once for all arms; only the study with another Generator has its own
    made = re.findall(r"pre-training .* (\S+), seed (\d+)", said)
    assert sorted(made) == [(f"miniature/{s}", seed) for s in ("labeller_weak", "main") for seed in ("11", "12")]


def test_every_report_is_given_parameters_that_it_has(repo):
    for scale, study in (("miniature", "main"), ("interaction_miniature", "interaction"), ("paper", "main")):
        said = snakemake("-n", "-p", target="reports", scale=scale, study=study)
        calls = re.findall(r"symbiosis.execute (notebooks/\w+.ipynb) \S+(.*)", said)
        assert {Path(notebook).stem for notebook, _ in calls} == set(batch.report_notebooks(scale, {study}))
        for notebook, words in calls:
            assert set(re.findall(r"-p (\w+)", words)) <= known_names(str(repo / notebook)), notebook


def test_seeds_begin_where_the_scale_reports_and_what_a_run_asks_for_follows_its_scale():
    assert [run.seed for run in batch.plan("miniature", arms=["real"], seeds=2)] == [11, 12]
    assert [run.seed for run in batch.plan("paper", arms=["real"], seeds=2)] == [1, 2]
    assert [run.seed for run in batch.plan("paper", arms=["real"], seeds=1, first_seed="7")] == [7]

    assert batch.needs("paper")["gpu"] == 1 and batch.needs("miniature")["gpu"] == 0
    assert batch.needs("miniature")["threads"] == 1 and batch.needs("paper")["threads"] > 1  # threads: 0, all cores


@row_by_row(
    ("given", "said"),
    [
        ({"seeds": "1e3"}, "SEEDS=1e3, "),
        ({"arms": ["a 'quote"]}, "ARMS=a 'quote: no such arm"),
        ({"scale": "miniatur"}, "SCALE=miniatur: .*did you mean 'miniature'"),
        ({"scale": "real"}, "SCALE=real: no params/real.yaml says `scale: real`"),
        ({"studies": ["rare_tial"]}, "STUDY=rare_tial: .*did you mean 'rare_tail'"),
        ({"seeds": "ten"}, "SEEDS=ten, FIRST_SEED=11: write whole numbers"),
        ({"seeds": 0}, "at least one seed"),
        ({"arms": ["symbiosis_bset"]}, "ARMS=symbiosis_bset: .*did you mean 'symbiosis_best'"),
    ],
)
def test_a_misspelt_batch_is_refused_with_the_nearest_name(given, said):
    with pytest.raises((batch.BatchError, SettingsError), match=said):
        batch.plan(**{"scale": "miniature"} | given)


def test_interacting_models_have_scales_and_a_notebook_of_their_own():
    planned = batch.plan("interaction_miniature", ["interaction"], seeds=1)
    assert {run.notebook for run in planned} == {"notebooks/04_model_interaction.ipynb"}
    for scale, study in (("interaction_miniature", "main"), ("miniature", "interaction")):
        with pytest.raises(batch.BatchError, match="go together"):
            batch.plan(scale, [study])


def test_models_made_here_are_those_the_bases_make():
    assert set(batch.MADE) == {name for name, roles in initial.RECIPES.items() if "generator" in roles}
    assert Run("paper", "main", "real", 1).base == []
    assert Run("miniature", "pool_25", "real", 11).base == Run("miniature", "main", "static", 11).base != []
    assert Run("miniature", "labeller_weak", "real", 11).base != Run("miniature", "main", "real", 11).base


def test_laptop_and_cluster_treat_a_batch_alike():
    laptop, cluster = (yaml.safe_load((ROOT / f"profiles/{n}/config.yaml").read_text()) for n in ("default", "slurm"))
    same = {"keep-going", "retries", "rerun-incomplete", "rerun-triggers", "nolock"}
    assert {key: laptop[key] for key in same} == {key: cluster[key] for key in same}
    assert laptop["retries"] == 1 and laptop["keep-going"] and laptop["rerun-incomplete"]


WORDS = dict(SCALE="paper", STUDY="main", ARMS="real", SEEDS="1", FIRST_SEED="", ARGS="")


def asked(**words):
    """What `make` hands over by the environment."""
    return batch.request({"make": 1}, {f"BATCH_{name}": value for name, value in (WORDS | words).items()})


@row_by_row(
    ("words", "given"),
    [
        ("-p task '/data/my news'", {"task": "/data/my news"}),
        (r"-p task /data/my\ news", {"task": "/data/my news"}),
        ("""-p task "it's: #1 $HOME {x} naïve" -p device cpu""", {"task": "it's: #1 $HOME {x} naïve", "device": "cpu"}),
        ("-p task_revision 12345678 -p pool_skew none", {"task_revision": "12345678", "pool_skew": "none"}),
        ("-p learning_rate 1e-3 -p epochs 3", {"learning_rate": 0.001, "epochs": 3}),
        ("-p task [a]", {"task": "[a]"}),
    ],
)
def test_words_reach_a_run_as_they_were_written(words, given):
    scale, (run,), args = asked(ARGS=words)
    assert scale == "paper" and batch.passed(args) == given
    assert getattr(run.settings(args), next(iter(given))) == next(iter(given.values()))


@row_by_row(
    ("words", "said"),
    [
        ({"ARGS": "-p task '/data/my news"}, "No closing quotation; a value with spaces stands in quotes"),
        ({"ARGS": "-p task"}, "write -p KEY VALUE"),
        ({"ARGS": "task news"}, "write -p KEY VALUE"),
        ({"ARGS": "-p epohcs 3"}, "did you mean 'epochs'"),
        ({"ARGS": "-p epochs many"}, "epochs: 'many' is text, not a number"),
        *(({"ARGS": f"-p {key} 7"}, f"ARGS: {key} says which run it is") for key in batch.NAMES_A_RUN),
        ({"SCALE": "a: b"}, "SCALE=a: b"),
    ],
)
def test_words_that_make_no_run_are_refused_before_any(words, said):
    with pytest.raises((batch.BatchError, SettingsError), match=re.escape(said)):
        asked(**words)


def test_of_a_study_what_its_scale_cannot_run_is_left_out_and_told(capsys):
    _, planned, _ = asked(SCALE="interaction_paper", STUDY="interaction", ARMS="", SEEDS="2")
    assert {run.arm[:14] for run in planned} == {"interaction-k2", "interaction-k3"}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("left out, as interaction_paper cannot run it: ")
    with pytest.raises(SettingsError, match="does not name 4 different tasks"):
        asked(SCALE="interaction_paper", STUDY="interaction", ARMS="interaction_k4_alpha000")


@row_by_row(
    ("words", "said"),
    [
        ({"ARGS": "-p task data/news"}, "task is 'miniature' in the runs of scale 'miniature' in reports/results.csv"),
        (
            {"ARGS": "-p epochs 1", "SEEDS": "10"},
            "epochs is 2 .* and 1 here; copy the scale's file to params/own/NAME.yaml",
        ),
        ({"ARGS": "-p student_steps 3", "STUDY": "pool_25", "ARMS": "recursive"}, "student_steps is 300"),
        ({"ARGS": "-p device cpu -p epochs 2 -p keep_checkpoints true"}, ""),  # changes no number
        ({"ARGS": "-p task data/news", "SCALE": "paper"}, ""),  # nothing is published
    ],
)
def test_args_replace_nothing_that_is_published(published, words, said):
    words = {"SCALE": "miniature"} | words
    with pytest.raises(batch.BatchError, match=said) if said else contextlib.nullcontext():
        asked(**words)


def test_a_scale_of_ones_own_stays_beside_the_published_ones(published, monkeypatch):
    monkeypatch.setattr(params, "PLACES", ("params", params.OWN))
    (published / "params/own").mkdir()
    (published / "params/own/mine.yaml").write_text("scale: mine\ntask: data/news\nepochs: 1\n")
    params.files.cache_clear()
    _, (run,), _ = asked(SCALE="mine", ARGS="-p epochs 3")
    assert run.folder == "reports/local/runs/mine/main/real-s1" and run.settings().reports_dir == params.LOCAL
    batch_summary.report([run])
    batch_summary.report(batch.plan("miniature", arms=["real"], seeds=1))
    index = (published / "reports/local/index.html").read_text()
    assert re.findall(r'href="([^"#]+)"', index) == ["mine.html", "miniature.html"]
    (published / "params/odd.yaml").write_text("scale: odd\nreports_dir: elsewhere\n")
    params.files.cache_clear()
    with pytest.raises(batch.BatchError, match=r"odd\.yaml: the batch sets study, method, variant, seed, reports_dir"):
        asked(SCALE="odd")


# ---- steps of a run


def test_a_run_is_given_all_its_parameters_in_one_flat_file(repo, monkeypatch, capsys):
    run = Run("miniature", "ablation", "symbiosis-margin_none_3", 12)
    command = ["batch", "params", "miniature", "ablation", "symbiosis_margin_none_3", "12", "--"]
    monkeypatch.setattr(sys, "argv", [*command, "-p", "temperature", "0.7", "-p", "task_revision", "abc"])
    batch.main()
    printed = capsys.readouterr().out
    assert printed.startswith("# papermill notebooks/03_symbiosis_loop.ipynb ")
    given = yaml.safe_load(printed)
    assert given == run.parameters() | {"temperature": 0.7, "task_revision": "abc"}
    chosen = make_settings("a test", **given)
    assert (chosen.pool_skew, chosen.feedback, chosen.seed, chosen.lesson_size) == ("rare_tail", "margin", 12, 300)
    monkeypatch.setattr(sys, "argv", [*command, "-p", "temprature", "0.7"])
    with pytest.raises(SettingsError, match="did you mean 'temperature'"):
        batch.main()


def test_a_run_is_made_again_where_its_parameters_changed_and_only_there(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    (ready,) = run.base
    (repo / ready).parent.mkdir(parents=True)
    (repo / ready).touch()
    asked = {"scale": "miniature", "arms": "static", "seeds": 1}
    snakemake("--touch", "--forceall", **asked)  # Snakemake notes the parameters, as after a run
    studies = repo / "params" / "studies.yaml"
    studies.write_text(studies.read_text().replace("pool_size: 25}", "pool_size: 26}"))  # another study's
    assert runs_in(snakemake("-n", **asked)) == []
    assert runs_in(snakemake("-n", **asked, args="-p temperature 0.7")) == ["miniature/main/static-s11"]
    static = repo / "params" / "static.yaml"
    static.write_text(static.read_text() + "epochs: 3  # passes over each lesson\n")
    assert runs_in(snakemake("-n", **asked)) == ["miniature/main/static-s11"]


@pytest.fixture
def published(repo):
    """A repository with the published tables."""
    for name in ("results.csv", "records.csv"):
        shutil.copy(ROOT / "reports" / name, repo / "reports")
    return repo


def tiny_lines(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def test_a_scale_is_out_of_step_when_a_run_or_a_line_changed_whatever_the_dates(published, monkeypatch, capsys):
    """Another scale's lines, a run's other files and touched files change nothing."""
    for name in ("results.csv", "records.csv"):  # one seed, and another scale: a merge reads all there is
        kept = re.compile("-s11@|agnews_small|smollm/|^run_id|^study")
        tiny_lines(published / "reports" / name, lambda lines, kept=kept: [one for one in lines if kept.search(one)])
    rows = results.read_table(published / "reports/results.csv", results.COLUMNS, results.NUMBERS)
    own = rows[rows["run_id"].str.startswith("miniature/main/real-s11@")]
    run = Run("miniature", "main", "real", 11)
    record = {
        "run_id": own["run_id"].iloc[0],
        "commit": "c",
        "dirty": False,
        "device": "cpu",
        "threads": 1,
        "wall_s": 9,
    }
    record |= {"peak_memory_gib": 1, "versions": {"torch": "2", "transformers": "5"}, "settings": run.parameters()}
    (published / run.folder).mkdir(parents=True)
    own.to_csv(published / run.folder / "rows.csv", index=False)
    (published / run.folder / "record.json").write_text(json.dumps(record))
    here = published / "reports/local"
    for name in ("results.csv", "records.csv"):  # of many runs whose folders are gone
        shutil.copy(published / "reports" / name, here)
    tables = {name: (here / name).read_bytes() for name in ("results.csv", "records.csv")}

    def merged():
        monkeypatch.setattr(sys, "argv", ["batch", "merge", "miniature", "main", "all", "0"])
        batch.main()
        (here / "runs/miniature/merged.txt").write_text(capsys.readouterr().out)

    def is_in_step(of="miniature"):
        return batch.in_step(of)

    def is_merged_by_snakemake():
        return "merging the runs of miniature" in snakemake("-n", target="reports/local/runs/miniature/merged.txt")

    assert not is_in_step()
    merged()
    assert is_in_step() and not is_in_step("agnews_small") and not is_merged_by_snakemake()
    for name, before in tables.items():  # the very rows that are published: their records stay, too
        assert (here / name).read_bytes() == before
    os.utime(published / run.folder / "rows.csv", (1, 1))
    os.utime(here / "results.csv")
    tiny_lines(here / "results.csv", lambda lines: [one for one in lines if "agnews_small" not in one])
    assert is_in_step()
    for name in tables:  # a deleted line comes back
        tiny_lines(here / name, lambda lines: [one for one in lines if "/main/real-s11@" not in one])
        assert not is_in_step()
        merged()
        assert is_in_step() and "/main/real-s11@" in (here / name).read_text()
    whole = (published / run.folder / "rows.csv").read_text()
    for text in (whole.replace("0.", "0.1", 1), whole):  # another run there, then the first one brought back
        (published / run.folder / "rows.csv").write_text(text)
        os.utime(published / run.folder / "rows.csv", (1, 1))
        assert not is_in_step() and is_merged_by_snakemake()
        merged()
        assert is_in_step()
    for damage in ("a,line,of,too,many,fields" * 3, "short\n", "\0"):
        whole = (here / "results.csv").read_text()
        (here / "results.csv").write_text(damage + whole)
        assert not is_in_step()
        (here / "results.csv").write_text(whole + damage)
        batch.in_step("miniature")  # of another scale or of none: merging reads the whole table strictly
        (here / "results.csv").write_text(whole)
    assert is_in_step()
    shutil.move(published / run.folder, published / "elsewhere")
    assert not is_in_step()


def test_papermill_starts_without_the_grammar_and_is_the_same_command():
    def said(*words):
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout

    ours, theirs = (said("-m", name, "--help").split("\n", 1)[1] for name in ("symbiosis.execute", "papermill"))
    assert ours == theirs and "-p, --parameters" in ours
    reads = "import sys, nbformat; print('lark' in sys.modules)"
    assert said("-c", reads) == "True\n"  # where this fails, `skip_rfc3987_import` has nothing left to do
    assert said("-c", f"from symbiosis.warm import skip_rfc3987_import; skip_rfc3987_import(); {reads}") == "False\n"


def test_a_second_batch_is_told_who_holds_the_first_in_one_sentence(repo):
    with batch.batch_lock():
        ended = snakemake("--cores", "1", fails=2, scale="miniature", arms="real", seeds=1)
    assert f"BatchError: another batch is running here (process {os.getpid()}" in ended
    assert 'File "' not in ended and "Traceback" not in ended
    with batch.batch_lock(), pytest.raises(batch.BatchError, match=f"process {os.getpid()}"), batch.batch_lock():
        pass
    with batch.batch_lock():
        pass


# ---- how a batch stands


@pytest.fixture
def stood(repo):
    """One run each that is done, running, failed and missing."""
    done, running, failed, _ = plan = batch.plan("miniature", arms=["real", "static"], seeds=2)
    finish(repo, done)
    (repo / running.folder).mkdir(parents=True)
    (repo / failed.folder).mkdir(parents=True)
    (repo / failed.folder / "run.log").write_text(f"a bar\n\x1b[31mSettingsError\x1b[0m: {PLANTED}\n")
    with batch.locked(repo / running.folder / ".lock", wait=False):
        yield repo, plan


def test_a_batch_ends_with_its_result_beside_the_published_rows(repo):
    plan = batch.plan("miniature", arms=["real", "static"], seeds=2)
    for run in plan:
        finish(repo, run)
    lines = ["run_id,scale,generation,metric,value"]
    for run in plan[:3]:
        final, run_id = 0.75 if run != plan[1] else 0.5, run.settings().run_id
        lines += [f"{run_id},miniature,{g},{m},{v}" for g, m, v in ((0, "accuracy", 0.5), (1, "tail_mass", 0.1))]
        lines.append(f"{run_id},miniature,1,accuracy,{final}")
    (repo / "reports/results.csv").write_text("\n".join(lines))
    (head, real, static), (last,) = (by_arm := batch_summary.summary(plan)[0]).values(), batch_summary.summary(plan)[1]
    assert batch_summary.brief(by_arm) == [head, real, static]
    assert head.split()[-2:] == ["here", "published"]
    assert real.split() == ["Real", "data", "0.750", "0.625"] and static.split()[-2:] == ["0.750", "0.750"]
    off = "accuracies differ by at most 0.2500, see docs/faq.md"
    assert last == f"2 of 3 runs equal the published rows, digit by digit; {off}"
    (repo / "reports/results.csv").unlink()  # only what is here
    by_arm, said = batch_summary.summary(plan)
    assert by_arm["real"].split() == ["Real", "data", "0.750"] and len(by_arm) == 3 and said == []
    assert batch_summary.summary(batch.plan("miniature", arms=["recursive"], seeds=1)) == ({}, [])


def test_a_batch_of_many_arms_ends_in_about_ten_lines(repo):
    """Those of the main figures; of arms without any of these the first."""
    by_arm = {"": "head"} | {arm: arm for arm in params.arms_of("main")}
    shown = batch_summary.brief(by_arm)
    assert len(by_arm) == 11 and len(shown) == batch_summary.MOST_LINES == 8
    assert {"head", "real", "static", "symbiosis-best"} <= set(shown) and "symbiosis-frozen" not in shown
    odd = {"": "head"} | {f"symbiosis-{i}": str(i) for i in range(20)}
    assert batch_summary.brief(odd) == list(odd.values())[:8]


def test_a_batch_ends_with_how_many_of_its_verdicts_are_the_published_ones(published):
    """The published rows of the main study, and rows in which Students who read real data do not learn."""
    for name, study in (("results.csv", "^main,"), ("records.csv", "/main/")):
        kept = re.compile(f"^run_id|^study|{study}")
        tiny_lines(published / "reports" / name, lambda lines, kept=kept: [one for one in lines if kept.search(one)])
    (published / "reports/local").mkdir()
    assert batch_summary.agreement("miniature") == []  # nothing was merged yet
    rows = results.read_table(published / "reports/results.csv", results.COLUMNS, results.NUMBERS)
    for method, differs in (("none", False), ("real", True)):
        changed = rows.assign(
            value=rows["value"].mask((rows["method"] == method) & (rows["metric"] == "accuracy"), 0.1)
        )
        (published / "reports/local/results.csv").write_bytes(results.csv_bytes(changed, results.COLUMNS))
        same, decided = map(int, re.findall(r"^(\d+) of the (\d+) claims", batch_summary.agreement("miniature")[0])[0])
        assert (same < decided) == differs and decided > 10


def test_local_runs_touch_nothing_published_and_publishing_is_refused_across_processors(published, capsys):
    """What a user's merge leaves, and what the author's does with a run of the same seed on another processor."""
    before = {path: path.read_bytes() for path in (published / "reports").glob("*.csv")}
    rows = results.read_table(published / "reports/results.csv", results.COLUMNS, results.NUMBERS)
    records = results.read_records(published / "reports")
    run_id = records.loc[
        records["hardware"].ne("") & records["run_id"].str.contains("/main/static-s11@"), "run_id"
    ].item()
    run, own = Run("miniature", "main", "static", 11), rows[rows["run_id"] == run_id]
    record = {"run_id": run_id, "commit": "c", "dirty": False, "device": "cpu", "threads": 1, "wall_s": 9}
    record |= {"peak_memory_gib": 1, "versions": {"torch": "2", "transformers": "5"}, "hardware": "Another CPU"}
    (published / run.folder).mkdir(parents=True)
    own.assign(value=own["value"] * 0.999).to_csv(published / run.folder / "rows.csv", index=False)
    (published / run.folder / "record.json").write_text(json.dumps(record | {"settings": run.parameters()}))
    batch.merge(run)
    assert {path: path.read_bytes() for path in before} == before
    here = results.read_table(published / "reports/local/results.csv", results.COLUMNS, results.NUMBERS)
    assert set(here["run_id"]) == {run_id}
    with pytest.raises(WorldError, match=r"static-s11@\w+: ran on .* so their difference is not of the methods alone"):
        batch.publish(run)
    assert {path: path.read_bytes() for path in before} == before
    assert results.collect(params.PUBLISHED) == []  # notebooks that read the published tables never merge into them


def test_batch_csv_and_its_page_say_how_each_run_stands(stood, capsys):
    repo, plan = stood
    batch_summary.report(plan)
    with open(repo / "reports/local/batch.csv") as file:
        table = {line["run_id"].split("@")[0]: line for line in csv.DictReader(file)}
    names = [f"{run.scale}/{run.study}/{run.arm}-s{run.seed}" for run in plan]
    assert [table[name]["status"] for name in names] == ["done", "running", "failed", "missing"]
    done = table[names[0]]
    assert [done[name] for name in batch_summary.COLUMNS[2:]] == ["0.75", "41.7", "0.7", "today", "c0ffee"]
    assert table[names[3]]["wall_s"] == ""  # not measured is empty, never 0
    printed = capsys.readouterr().out
    assert f"FAILED: {plan[2].folder}\nSettingsError: {PLANTED}\n\n" in printed  # the sentence alone
    assert "1 done, 1 running, 1 failed, 1 missing" in printed
    page = (repo / "reports/local/miniature.html").read_text()
    assert f"Failed: {plan[2].folder}" in page and "&lt;script&gt;" in page and "<script" not in page
    (link,) = re.findall(r'href="(html/[^"]+)"', page)
    assert "A run" in (repo / "reports/local" / link).read_text() and "<td>0.75</td>" in page
    index = (repo / "reports/local/index.html").read_text()  # every scale by its result
    assert '<a href="miniature.html">' in index and re.search(r"mean final test accuracy.*\nReal data +0\.750", index)


def test_of_a_log_without_a_sentence_the_last_lines_are_shown(tmp_path):
    lines = ["Traceback (most recent call last):", *(f"line {i}" for i in range(40)), "KeyError: 'label'"]
    (tmp_path / "run.log").write_text("\n".join(lines))
    assert batch_summary.last_lines(tmp_path) == "\n".join(lines[-batch_summary.LAST_LINES :])


def test_the_page_links_the_reports_of_the_scale(repo):
    (repo / "reports/local/runs/miniature").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(), repo / "reports/local/runs/miniature/06_analysis.ipynb")
    batch_summary.report(batch.plan("miniature", arms=["real"], seeds=1))
    assert '<a href="html/miniature/06_analysis.html">' in (repo / "reports/local/miniature.html").read_text()


def test_a_report_on_one_study_is_made_where_that_study_was_run(repo):
    """All of them are made of the published rows."""
    planned = batch.plan("miniature", arms=["real"], seeds=1)
    assert batch.studies_here(planned) == {"main"}
    assert "05_ratio_or_diversity" not in batch.report_notebooks("miniature", {"main"})
    assert "06_analysis" in batch.report_notebooks("miniature", {"main"})
    finish(repo, Run("miniature", "mixing", "recursive-replace", 11))
    assert batch.studies_here(planned) == {"main", "mixing"}
    assert "05_ratio_or_diversity" in batch.report_notebooks("miniature", {"main", "ratio_or_diversity"})
    assert set(batch.report_notebooks("miniature")) == set(batch.REPORTS["miniature"])


def test_a_finished_run_whose_last_attempt_failed_is_a_failure(repo):
    run = Run("miniature", "main", "static", 11)
    finish(repo, run)
    assert run.finished
    (repo / run.folder / "run.part.ipynb").touch()
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


def test_progress_is_one_line_with_the_time_left_which_moves_on_a_terminal(stood, monkeypatch, capsys):
    _, plan = stood
    for terminal, expected in ((False, "a\nb\n"), (True, "\r\x1b[Ka\r\x1b[Kb")):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        for line in "ab":
            batch_summary.say(line)
        assert capsys.readouterr().err == expected
    assert batch_summary.progress(plan, 0, 0, 1) == "1 of 4 runs done, 0.0 minutes so far"
    line = batch_summary.progress(plan, minutes=2.0, done=1, total=4)
    assert line == "1 of 4 runs done, 2.0 minutes so far, about 6.0 minutes left"


def test_a_plan_says_how_long_it_will_take(repo):
    plan = batch.plan("miniature", arms=["real", "static"], seeds=3)
    finish(repo, plan[0])
    (repo / "reports" / "records.csv").write_text("run_id,wall_s,device\n" + "".join(
        f"{scale}/main/real-s{seed}@0,{wall},{device}\n"
        for scale, seed, wall, device in (
            ("miniature", 1, 60, "cpu"), ("miniature", 2, 84, "cpu"), ("miniature", 3, 1, "cuda:0"),  # of no CPU
            ("paper", 1, 9999, "cuda:0"),
        )
    ))  # fmt: skip
    assert batch_summary.expected(plan).startswith("1 of 6 runs are done; left: 5, about 6 minutes of one core\n")
    told = f"left: 15, about {15 * batch.needs('smollm')['minutes']:.0f} minutes of one core"
    assert told in batch_summary.expected(batch.plan("smollm", arms=["real"], seeds=15))
    assert "minutes" not in batch_summary.expected(batch.plan("paper", arms=["static"]))


def test_every_study_is_priced_before_it_starts_those_that_are_no_runs_too(repo):
    plan = batch.plan("miniature", ["main", "held", "mixing"], ["real", "static"], seeds=3)
    finish(repo, plan[0])
    (repo / "reports" / "records.csv").write_text("run_id,wall_s,cpu_s,device\n" + "".join(
        f"miniature/{study}/real-s1@0,{wall},{cpu},cpu\n"
        for study, wall, cpu in (("main", 60, ""), ("held", 9999, 120))
    ))  # fmt: skip
    lines = [
        line.split() for line in batch_summary.prices(plan, [("third_lever", 401), ("third_lever", 402), ("new", 1)])
    ]
    told = {line[0]: line[1:] for line in lines}
    assert told["main"][:3] == ["5", "of", "6"] and told["main"][-3:] == ["5.0", "CPU", "minutes"]
    assert told["held"][-3] == "12.0"  # CPU time goes before that of a clock
    assert told["mixing"][-3] == "9.0"  # none of it is published: what a run of the scale takes
    assert told["third_lever"] == ["2", "seeds", "left", "1.0", "CPU", "minutes"] and told["new"][-2:] == [
        "not",
        "measured",
    ]
    assert told["all"][-3] == "27.0"


# ---- verify


def test_verify_finds_every_planted_difference_and_no_other(tmp_path, monkeypatch, capsys):
    reports = tmp_path / "reports"
    shutil.copytree(ROOT / "reports", reports, ignore=shutil.ignore_patterns("runs", "local", "*.pdf", "*.png"))
    page = (ROOT / "docs/results.md").read_text()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/results.md").write_text(page.replace("| Real data | 0.9", "| Real data | 0.8"))
    for name in ("claims.md", "tables/final_accuracy.csv"):
        text = (reports / name).read_text()
        assert "5" in text
        (reports / name).write_text(text.replace("5", "6", 1))
    rows = results.read_table(reports / "results.csv", results.COLUMNS, results.NUMBERS)
    for number, run_id in enumerate(rows["run_id"].unique()[:2]):
        own, folder = rows[rows["run_id"] == run_id], reports / "local/runs" / run_id.split("@")[0]
        folder.mkdir(parents=True)
        (folder / "record.json").touch()
        own.assign(value=own["value"] + 1e-15 * number).to_csv(folder / "rows.csv", index=False)
        changed = f"reports/local/runs/{run_id.split('@')[0]}/rows.csv"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verify, "root", lambda: tmp_path)
    assert verify.main() == 1
    told = capsys.readouterr().out.splitlines()
    differing = {line.split(None, 1)[1] for line in told if line.startswith("DIFFERS")}
    tables = {"docs/results.md: table of miniature", "reports/tables/final_accuracy.csv"}
    assert (
        differing == tables | {"reports/claims.md", changed} and sum(line.startswith("matches") for line in told) > 15
    )
