# GNU make and python3 (3.11 or newer) are all that is needed; `make` lists the targets.
# Needs no `make -j`: reproduce runs its runs side by side itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
TORCH ?=
SCALE ?= miniature
STUDY ?= main
SEEDS ?= 3
# Seeds below the first were for tuning and are never reported.
FIRST_SEED ?= $(if $(filter miniature,$(SCALE)),11,1)
ARGS ?=

CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# The tiny models share a CPU well; a real Student and Generator want the device for themselves.
JOBS ?= $(if $(filter miniature agnews_small,$(SCALE)),$(CORES),1)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUNS := reports/runs/$(SCALE)
STRIP := --keep-id --extra-keys "metadata.papermill cell.metadata.papermill metadata.widgets"
INSTALL := -e '.[dev]' -c constraints.txt $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")

# One thread per job: the same sums in the same order however many jobs run, and no two jobs fight for a core.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= $(OMP_NUM_THREADS)
# Every run is a process that imports torch and transformers: 5 s with stored bytecode, 15 s without.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup reproduce runs studies reports test lab lint clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*  ## (.*)/  make \1\t\2/' | expand -t 20
	@echo
	@echo "  SCALE=miniature|agnews_small|paper   what size (params/<SCALE>.yaml)"
	@echo "  SEEDS=3                              how many seeds, from FIRST_SEED=$(FIRST_SEED) on"
	@echo "  STUDY=main                           or a file of params/studies: another world, its own arms (make runs)"
	@echo "  JOBS=$(JOBS)                               runs side by side"
	@echo "  TORCH=cpu|cu130                      which build of torch setup takes; empty: the registry's default"
	@echo "  ARGS='-p task FOLDER'                more parameters for every run (see the notebooks' first cells)"

# --- set-up ----------------------------------------------------------------------------------------------------------
setup: $(READY)  ## make .venv with the versions of constraints.txt (done once)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 or newer is needed: make setup PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv || echo "no uv here: taking pip, which is slower"
	@# uv does not read pip's configuration, so pip has the last word; only uv knows the builds of torch
	{ test -x $(BIN)/uv && $(BIN)/uv pip install --python $(BIN)/python $(if $(TORCH),--torch-backend=$(TORCH)) $(INSTALL); } \
	  || { test -z "$(TORCH)" && $(BIN)/python -m pip install $(INSTALL); } \
	  || { echo "set-up failed: see the message above$(if $(TORCH),; TORCH=$(TORCH) needs uv and PyTorch's own wheels)"; exit 1; }
	@touch $@

# --- the main job ------------------------------------------------------------------------------------------------------
CORE := real static recursive recursive_warm pseudo_label symbiosis symbiosis_random symbiosis_frozen \
        symbiosis_best symbiosis_best_random
CONTROLS := recursive_warm_t1 static_dev static_attributes symbiosis_best_foreign symbiosis_label_hard \
        symbiosis_fresh_filtered symbiosis_pool_and_write_25 symbiosis_pool_and_write_50 symbiosis_pool_and_write_75 \
        symbiosis_best_influence
RIVALS := pseudo_label symbiosis_best symbiosis_best_random symbiosis_label_hard symbiosis_pool_and_write_50
NO_POOL := static symbiosis_fresh_filtered
# What runs in a study of its own; a study without a line here runs the rivals.
ARMS_main = $(CORE)
ARMS_rare_tail = real $(RIVALS) $(NO_POOL) symbiosis_best_foreign symbiosis_pool_and_write_25 symbiosis_pool_and_write_75
cells = $(notdir $(basename $(wildcard params/$(1)/*.yaml)))
ARMS_ablation := $(call cells,ablation)
ARMS_ratio_or_diversity := $(call cells,factorial)
ARMS_mixing := $(call cells,mixing)
ARMS_recursion_5 := recursive_warm
ARMS_long := real static recursive recursive_warm pseudo_label symbiosis symbiosis_best
ARMS_inside := real static recursive_warm symbiosis symbiosis_best
ARMS_dev = static_dev symbiosis_best_influence
ARMS ?= $(or $(ARMS_$(STUDY)),$(if $(filter dev_%,$(STUDY)),$(ARMS_dev)),$(RIVALS) $(if $(filter labeller_%,$(STUDY)),$(NO_POOL)))
# recursion_5 is for real text: make runs SCALE=agnews_small STUDY=recursion_5
STUDIES := $(filter-out recursion_5,$(notdir $(basename $(wildcard params/studies/*.yaml))))

# A run's folder is <method>[-<variant>]-s<seed>; an arm's file is params/<method>[_<variant>].yaml, or a cell of one method:
# params/ablation/<variant>.yaml (symbiosis), params/factorial/ (world), params/mixing/ (recursive).
arm_file = $(firstword $(wildcard params/$(1).yaml params/ablation/$(1).yaml params/factorial/$(1).yaml params/mixing/$(1).yaml))
METHOD_ablation := symbiosis
METHOD_factorial := world
METHOD_mixing := recursive
cell_method = $(METHOD_$(notdir $(patsubst %/,%,$(dir $(call arm_file,$(1))))))
name = $(if $(cell_method),$(cell_method)-$(1),$(foreach m,static recursive symbiosis,$(patsubst $(m)_%,$(m)-%,$(filter $(m)_%,$(1))))$(filter-out static_% recursive_% symbiosis_%,$(1)))
notebook = notebooks/$(if $(filter symbiosis%,$(call name,$(1))),03_symbiosis_loop,02_baselines).ipynb
SEED_LIST := $(shell seq $(FIRST_SEED) $$(($(FIRST_SEED) + $(SEEDS) - 1)))
# All seeds of the first arm come first: each makes and caches its seed's models, which the later arms then share.
folder = $(RUNS)/$(STUDY)/$(strip $(call name,$(1)))-s$(2)
ALL_RUNS := $(foreach arm,$(ARMS),$(foreach seed,$(SEED_LIST),$(call folder,$(arm),$(seed))/run.ipynb))
# The study's file comes last: it changes the world of every arm alike.
STUDY_FILE := $(if $(filter main,$(STUDY)),,params/studies/$(STUDY).yaml)

reproduce: $(READY)  ## run every method and seed, then the analysis and the paper's figures; finished runs are kept
	@$(MAKE) --no-print-directory -j$(JOBS) runs
	@$(MAKE) --no-print-directory reports

runs: $(ALL_RUNS)  ## the runs of one study (STUDY=, SEEDS=), without the reports

# $(1) arm, $(2) seed. The executed notebook appears only when all of it ran; until then the run's own folder holds its
# finished stages, and the next `make reproduce` continues there.
define RUN
$(call folder,$(1),$(2))/run.ipynb: params/$(SCALE).yaml $(call arm_file,$(1)) $(STUDY_FILE) | $(READY)
	@mkdir -p $$(@D)
	@echo "running $$(@D)"
	@$(BIN)/papermill $(call notebook,$(1)) $$(@D)/run.part.ipynb \
	  -f params/$(SCALE).yaml -f $(call arm_file,$(1)) $(addprefix -f ,$(STUDY_FILE)) -p seed $(2) $(ARGS) > $$(@D)/run.log 2>&1 \
	  || { tail -n 15 $$(@D)/run.log; echo "FAILED: $$(@D) (all of it: run.log there)"; exit 1; }
	@mv $$(@D)/run.part.ipynb $$@
endef
$(foreach arm,$(ARMS),$(foreach seed,$(SEED_LIST),$(eval $(call RUN,$(arm),$(seed)))))

studies: $(READY)  ## every control, the ablation, the regimes, the long runs (hours on two cores), then the reports
	@test "$(SCALE)" = miniature || { echo "the studies are worlds of the miniature; SCALE=$(SCALE) has none"; exit 1; }
	@$(MAKE) --no-print-directory -j$(JOBS) runs ARMS="$(CORE) $(CONTROLS)"
	@for study in $(STUDIES); do $(MAKE) --no-print-directory -j$(JOBS) runs STUDY=$$study || exit 1; done
	@$(MAKE) --no-print-directory reports

reports: $(READY)  ## the analysis and the paper's figures, from the runs that are there
	@mkdir -p $(RUNS)
	@for notebook in 06_analysis 07_paper_figures; do \
	  echo "running $$notebook"; \
	  $(BIN)/papermill notebooks/$$notebook.ipynb $(RUNS)/$$notebook.ipynb -p scale $(SCALE) > $(RUNS)/$$notebook.log 2>&1 \
	    || { tail -n 15 $(RUNS)/$$notebook.log; echo "FAILED: $$notebook (all of it: $(RUNS)/$$notebook.log)"; exit 1; }; \
	done

# --- everyday ----------------------------------------------------------------------------------------------------------
test: $(READY)  ## all tests, then every notebook with its defaults
	@status=0; \
	$(BIN)/python -m pytest tests || status=$$?; \
	$(BIN)/python -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 notebooks || status=$$?; \
	exit $$status

lab: $(READY)  ## JupyterLab in this environment
	cd notebooks && ../$(BIN)/jupyter lab

lint: $(READY)  ## style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify $(STRIP) notebooks/*.ipynb

clean:  ## delete caches and the environment; runs and reports stay
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
