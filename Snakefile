# Batches: one notebook run per (scale, study, arm, seed), then the reports; the same graph on a laptop and a cluster.
# `make batch` calls it; by hand: snakemake --workflow-profile profiles/slurm --config scale=paper seeds=3 -- runs
#
# A run declares only its executed notebook, and that as `update`: Snakemake deletes what is declared before it runs a
# job again and after a failed one. What else the folder holds (stages, record, rows) the run guards itself.
import atexit
import json
import logging
import os
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from symbiosis import batch, warm
from symbiosis import batch_summary as summary
from symbiosis import params as params_of

PYTHON = shlex.join(warm.command("")[:-1])  # then a module and its words
with batch.one_sentence():
    SCALE, PLAN, ARGS = batch.request(config, os.environ)
REPORTS = params_of.LOCAL
STUDY = summary.report_study(PLAN)
HELD = ExitStack()  # the batch's lock and its warm Python, till this process ends
atexit.register(HELD.close)
BEGAN = time.monotonic()
DRY = bool({"-n", "--dry-run", "--dryrun"} & set(sys.argv))
if DRY:
    print(summary.expected(PLAN), file=sys.stderr)


wildcard_constraints:
    scale="[a-z0-9_]+",
    study="[a-z0-9_]+",
    arm="[a-z0-9_]+(-[a-z0-9_]+)?",
    seed="[0-9]+",


def of(wildcards):
    return batch.Run(wildcards.scale, wildcards.study, wildcards.arm, int(wildcards.seed))


def ask(name):
    return lambda wildcards: batch.needs(wildcards.scale)[name]


def args(wildcards):  # a function, as Snakemake would look for wildcards in a text
    return shlex.join(ARGS)


# Ends the command of a rule: what it said goes to its log; where it failed, its sentence or the traceback's end is shown.
OR_FAIL = (
    "> {log} 2>&1 || {{ echo >&2; tail -n $(grep -q Traceback {log} && echo 15 || echo 1) {log} >&2; "
    "echo 'FAILED (all of it: {log})' >&2; exit 1; }}"
)


localrules:
    runs,
    reports,


rule runs:
    input:
        [f"{run.folder}/run.ipynb" for run in PLAN],
    message:
        "all runs are there"


rule reports:
    input:
        [f"{REPORTS}/runs/{SCALE}/{name}.ipynb" for name in batch.report_notebooks(SCALE, batch.studies_here(PLAN))],
    message:
        "all reports are there"


# The models that all arms of a seed begin with, pre-trained once: without this, parallel runs would wait for another.
rule base:
    output:
        touch(".cache/symbiosis/ready/{scale}-{study}-s{seed}"),
    message:
        "pre-training the models of {wildcards.scale}/{wildcards.study}, seed {wildcards.seed}"
    priority: 2
    log:
        ".cache/symbiosis/ready/{scale}-{study}-s{seed}.log",
    threads: ask("threads")
    resources:
        mem_mb=ask("mem_mb"),
        gpu=ask("gpu"),
        runtime=ask("runtime"),
    params:
        args=args,
    shell:
        "{PYTHON} symbiosis.batch bases {wildcards.scale} {wildcards.study} all {wildcards.seed} -- {params.args} "
        + OR_FAIL


# What a run sets stands in params.yaml beside its notebook, and Snakemake remembers it: a run whose parameters changed is
# run again, and refuses where its folder holds another setting. The executed notebook appears only when all of it ran;
# until then the folder holds the finished stages, and the next attempt continues there.
rule run:
    input:
        notebook=lambda wildcards: ancient(of(wildcards).notebook),
        base=lambda wildcards: [] if of(wildcards).finished else of(wildcards).base,
    output:
        update(REPORTS + "/runs/{scale}/{study}/{arm}-s{seed}/run.ipynb"),
    message:
        "running {wildcards.scale}/{wildcards.study}/{wildcards.arm}-s{wildcards.seed}"
    log:
        REPORTS + "/runs/{scale}/{study}/{arm}-s{seed}/run.log",
    threads: ask("threads")
    resources:
        mem_mb=ask("mem_mb"),
        gpu=ask("gpu"),
        runtime=ask("runtime"),
    params:
        run="{scale} {study} {arm} {seed}",
        folder=REPORTS + "/runs/{scale}/{study}/{arm}-s{seed}",
        args=args,
        all=lambda wildcards: json.dumps(of(wildcards).parameters(ARGS)),
    shell:
        "{{ {PYTHON} symbiosis.batch params {params.run} -- {params.args} > {params.folder}/params.yaml && "
        "{PYTHON} symbiosis.execute --run-alone {input.notebook} {params.folder}/run.part.ipynb -f {params.folder}/params.yaml && "
        "test -f {params.folder}/record.json; }} " + OR_FAIL + "; mv {params.folder}/run.part.ipynb {output}"


# The longest runs first, so that no core waits for one of them at the end.
use rule run as teaching with:
    wildcard_constraints:
        arm="symbiosis.*",
    priority: 1


ruleorder: teaching > run


# What the reports read: rows of the runs in results.csv, measures of their lessons in measures.csv. Merged again where
# a run or the tables are not as the last merge left them, whatever their dates; the reports follow.
rule merged:
    input:
        lambda wildcards: batch.out_of_step(wildcards.scale),
    output:
        REPORTS + "/runs/{scale}/merged.txt",
    message:
        "merging the runs of {wildcards.scale}"
    log:
        REPORTS + "/runs/{scale}/merged.log",
    shell:
        "{{ {PYTHON} symbiosis.batch merge {wildcards.scale} {STUDY} all 0 > {output}; }} " + OR_FAIL


rule report:
    input:
        notebook="notebooks/{report}.ipynb",
        merged=REPORTS + "/runs/{scale}/merged.txt",
    output:
        REPORTS + "/runs/{scale}/{report}.ipynb",
    wildcard_constraints:
        report="05_ratio_or_diversity|06_analysis|09_theory_many_models|11_regimes|12_recursion",
    message:
        "running {wildcards.report} of {wildcards.scale}"
    log:
        REPORTS + "/runs/{scale}/{report}.log",
    params:
        study=lambda wildcards: f"-p study {STUDY}" if wildcards.report[:2] in ("06", "07") else "",  # the others ask more
    shell:
        "{PYTHON} symbiosis.execute {input.notebook} {output} -p scale {wildcards.scale} -p reports_dir {REPORTS} "
        "{params.study} " + OR_FAIL


use rule report as figures with:
    wildcard_constraints:
        report="07_paper_figures",
    priority: 1  # the longest first, so that no core waits for it at the end


# Models that train on each other's outputs: the notebook that makes the runs also reads them.
rule interaction:
    input:
        notebook="notebooks/04_model_interaction.ipynb",
        merged=REPORTS + "/runs/{scale}/merged.txt",
    output:
        REPORTS + "/runs/{scale}/04_model_interaction.ipynb",
    wildcard_constraints:
        scale="interaction_[a-z0-9_]+",
    message:
        "analysing {wildcards.scale}"
    log:
        REPORTS + "/runs/{scale}/04_model_interaction.log",
    params:
        run=lambda wildcards: f"{wildcards.scale} interaction interaction-k2_alpha050 {ask('first_seed')(wildcards)}",
        file=REPORTS + "/runs/{scale}/params.yaml",
        args=args,
    shell:
        "{{ {PYTHON} symbiosis.batch params {params.run} -- {params.args} > {params.file} && "
        "{PYTHON} symbiosis.execute {input.notebook} {output} -f {params.file}; }} " + OR_FAIL


class Line(logging.Handler):
    """The whole batch in one line, which moves with each step; what Snakemake says of steps goes to its log alone."""

    def emit(self, record):
        if getattr(record, "event", None) == LogEvent.PROGRESS:
            minutes = (time.monotonic() - BEGAN) / 60
            summary.say(summary.progress(PLAN, minutes, record.done, record.total))


LOG = logging.getLogger("snakemake.logging")
TERMINAL = [handler for handler in LOG.handlers if handler.name == "DefaultStreamHandler" and not DRY]
for handler in TERMINAL:
    handler.setLevel(logging.ERROR)


def end():
    summary.say("")
    if "BATCH_MORE" not in os.environ:  # nothing follows that would say it again
        summary.report(PLAN)


onstart:
    with batch.one_sentence():
        HELD.enter_context(batch.batch_lock())
    if workflow.local_exec and not workflow.touch:  # runs here
        HELD.enter_context(warm.serving())
    LOG.addHandler(Line())
    summary.say(summary.progress(PLAN, 0, 0, 1))
    for handler in TERMINAL:
        handler.setLevel(logging.CRITICAL)  # a step that fails says so itself, and its log has the rest


onsuccess:
    end()


onerror:
    end()
    print(f"a step failed; all that Snakemake said: {log[0]}", file=sys.stderr)
