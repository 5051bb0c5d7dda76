#!/usr/bin/env bash
# A Slurm of one node on this machine, for as long as this takes: 2 arms x 2 seeds of a tiny size through
# profiles/slurm, one running job canceled; it must be submitted again, continue at its first missing stage, and end
# well. Needs root, slurm-wlm and munge (installed from Debian's packages where absent) and the [batch] extra. Works in
# a copy of the repository; the machine's own /etc/slurm/slurm.conf, if it has one, is never touched.
# Usage: tests/slurm_smoke.sh [PYTHON]    exit code 77: cannot be done here, the reason in the last line
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD
python=$(realpath -s "${1:-.venv/bin/python}")
arms="static symbiosis_best"
seeds=2

skip() { echo "skipped: $*"; exit 77; }
say() { echo "[$(date +%T)] $*"; }

[ "$(id -u)" = 0 ] || skip "needs root to start slurmctld, slurmd and munged"
"$python" -c 'import snakemake_executor_plugin_slurm' 2>/dev/null || skip "the slurm plugin is absent: pip install -e '.[batch]'"
[ ! -e /etc/slurm/slurm.conf ] || skip "this machine has a Slurm of its own (/etc/slurm/slurm.conf)"
if ! command -v slurmctld slurmd munged >/dev/null; then
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } \
    >/dev/null 2>&1 || skip "slurm-wlm and munge could not be installed"
fi
for daemon in slurmctld slurmd munged; do
  ! pgrep -x "$daemon" >/dev/null || skip "$daemon already runs here"
done

# --- the cluster: one node, the loopback ---------------------------------------------------------------------------
work=$(mktemp -d)
daemons=()
stop() {
  status=$?
  set +e
  [ -z "${batch:-}" ] || kill "$batch" 2>/dev/null
  scancel --user root 2>/dev/null
  for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do kill "${daemons[i]}"; wait "${daemons[i]}"; done 2>/dev/null
  rm -f /etc/slurm/slurm.conf /etc/slurm/cgroup.conf
  [ "$status" = 0 ] && rm -rf "$work" || say "kept for a look: $work"
  exit "$status"
}
trap stop EXIT

node=$(hostname -s)
cat > /etc/slurm/slurm.conf <<CONF
ClusterName=smoke
SlurmctldHost=$node(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
PartitionName=smoke Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
mkdir -p "$work/state" "$work/spool" /run/munge
chown munge: /run/munge
setpriv --reuid munge --regid munge --clear-groups munged --foreground > "$work/munged.log" 2>&1 & daemons+=($!)
for _ in $(seq 50); do munge -n >/dev/null 2>&1 && break; sleep 0.2; done
slurmctld -D > "$work/slurmctld.out" 2>&1 & daemons+=($!)
slurmd -D > "$work/slurmd.out" 2>&1 & daemons+=($!)
for _ in $(seq 50); do [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break; sleep 0.5; done
[ "$(sinfo -h -o %T)" = idle ] || { tail -n 5 "$work"/slurm*.log; say "the node did not come up"; exit 1; }
say "slurm $(sinfo --version | cut -d' ' -f2): node $node with $(nproc) CPUs is idle"

# --- the batch, in a copy of the repository ------------------------------------------------------------------------
copy=$work/repo
mkdir "$copy"
git -C "$repo" ls-files --cached --others --exclude-standard -z | (cd "$repo" && xargs -0 ls -d 2>/dev/null) \
  | tar -C "$repo" -c -T - | tar -C "$copy" -x
cd "$copy"
"$python" - <<'PY'
import re
from pathlib import Path

tiny = dict(scale="tiny", generations=3, lesson_size=400, train_size=400, pool_size=400, dev_size=64, test_size=400,
             student_steps=60, generator_steps=200)  # fmt: skip
text = Path("params/miniature.yaml").read_text()
for key, value in tiny.items():
    text, n = re.subn(rf"^{key}: \S+", f"{key}: {value}", text, flags=re.MULTILINE)
    assert n == 1, key
Path("params/own").mkdir()
Path("params/own/tiny.yaml").write_text(text)
with open("profiles/scales.yaml", "a") as scales:
    scales.write("tiny: {first_seed: 1, mem_mb: 2000, gpu: 0, runtime: 20}\n")
PY
export PYTHONPATH=$copy OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 TQDM_DISABLE=1
log=$work/snakemake.log
say "2 arms x 2 seeds: $arms"
quick="--slurm-init-seconds-before-status-checks 5 --latency-wait 5"  # jobs of seconds, on a disk of this machine
# shellcheck disable=SC2086
"$python" -m snakemake --workflow-profile profiles/slurm $quick --config scale=tiny "arms=$arms" seeds=$seeds -- runs \
  > "$log" 2>&1 & batch=$!

# Cancel the first job that has taught its first lesson.
folder=reports/local/runs/tiny/main
stages() { (cd "$1/state" && stat -c '%n %i %Y' */result.json | sort); }  # name, inode, time: a stage made again differs
until first=$(ls -d $folder/*/state/student-1/result.json 2>/dev/null | head -n 1) && [ -n "$first" ]; do
  kill -0 "$batch" 2>/dev/null || { tail -n 40 "$log"; say "the batch ended before anything could be canceled"; exit 1; }
  sleep 0.3
done
run=${first%/state/*}
name=${run##*/}
job=$(squeue -h -t RUNNING -o '%i %k' | awk -v arm="${name%-s*}" -v seed="${name##*-s}" \
  '$2 ~ "rule_run_" && $2 ~ arm && $2 ~ (seed "$") {print $1}' | head -n 1)
[ -n "$job" ] || { squeue -o '%i %k %T'; tail -n 20 "$log"; say "no running job of $name"; exit 1; }
scancel "$job"
while squeue -h -j "$job" 2>/dev/null | grep -q .; do sleep 0.3; done
stages "$run" > "$work/before"
[ ! -e "$run/record.json" ] || { say "$name had finished when its job was canceled"; exit 1; }
say "canceled job $job: $name, after its stages $(cut -d/ -f1 "$work/before" | paste -sd' ')"

wait "$batch" && code=0 || code=$?
batch=
stages "$run" > "$work/after"
jobs=$(grep -c "submitted with SLURM jobid" "$log" || true)
kept=$(comm -12 "$work/before" "$work/after" | wc -l)
say "the batch ended with code $code after $jobs submissions (2 bases, 4 runs, and what was canceled again)"
say "$name: $kept of $(wc -l < "$work/before") stages kept as they were, $(($(wc -l < "$work/after") - kept)) made after resubmission"
for done in $folder/*/record.json; do say "finished: $(basename "$(dirname "$done")")"; done
[ "$code" = 0 ] && [ "$kept" = "$(wc -l < "$work/before")" ] && [ "$kept" -lt "$(wc -l < "$work/after")" ] \
  && [ "$(ls $folder/*/record.json | wc -l)" = 4 ] && [ "$jobs" = 7 ] || { tail -n 40 "$log"; exit 1; }
grep -oE "SLURM-job '?$job'? .*|Trying to restart job.*" "$log" || true  # what Snakemake said of it
say "canceled 1, resumed 1, finished 4 of 4"
