# Everything a user types. Needs Python >= 3.11, git and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
EXTRAS ?= workflow,cluster,tests,docs
BIN := $(CURDIR)/$(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(BIN):$(PATH)
export OMP_NUM_THREADS := 1
STARTED := $(shell date +%s)

.PHONY: help env reproduce smoke estimate report test versions check docs system publish bench bench-gpu grid scale clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

env: $(READY)  ## .venv with pinned versions

# torch and torchvision are asked for first and together, so that both come from where pip is configured to find
# torch's builds, and no other package pulls another in. A torchvision of another build (where only torch has a local
# one) cannot even be imported; torch-fidelity asks for it and what is used of that does not, so it goes
$(READY): $(CONSTRAINTS) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed")'
	$(PYTHON) -m venv $(VENV)
	pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) setuptools $$(grep -E '^torch(vision)?==' $(CONSTRAINTS))
	pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	@python -c 'import torchvision' 2>/dev/null || { echo "torchvision is of another build than torch: removed, nothing here needs it"; \
	  pip uninstall --quiet --yes torchvision; }
	@touch $(READY)

reproduce: env  ## both studies, from data to reports/index.html
	@now=$$(date +%s); snakemake; status=$$?; \
	python -m trigbench.workflow.steps.summary --started $(STARTED) --workflow-started $$now; exit $$status

smoke: env  ## both studies end to end in two minutes, at a toy budget
	snakemake --config budget=smoke

estimate: env  ## GPU-hours and storage of a study before they are spent: make estimate STUDY=cifar10
	python -m trigbench.workflow.steps.estimate --study $(or $(STUDY),cifar10) $(if $(BUDGET),--budget $(BUDGET)) $(ARGS)

report: env  ## the reports of all studies in results/, from whatever runs there are
	@python -m trigbench.workflow.steps.report --all

test: env system  ## the whole test suite
	pytest -m "slow or not slow" -n 4 --dist worksteal  # some tests wait more than they compute

versions:  ## the fast tests on each Python of 3.11 to 3.14 that is here, and on the lowest versions allowed
	.ci/versions

check: env  ## ruff, pyright, import-linter, snakemake --lint
	ruff check .
	ruff format --check .
	pyright
	lint-imports
	.ci/lint_workflow
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

docs: env  ## the site of docs/ and of the docstrings, in site/, with warnings as errors
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

# what the browser, cluster and speech tests need; without root the line to type is printed, and the tests say so again
system:
	@packages=""; PATH="$$PATH:/usr/sbin"; \
	command -v chromium chromium-browser google-chrome >/dev/null || packages="chromium"; \
	{ command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null || packages="$$packages slurm-wlm slurm-client munge"; \
	command -v espeak-ng >/dev/null || packages="$$packages espeak-ng"; \
	if [ -z "$$packages" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null || \
	    echo "could not install them; the browser, cluster and speech tests need: apt-get install $$packages"; \
	else echo "the browser, cluster and speech tests need: sudo apt-get install $$packages"; fi

publish: env  ## results/published from the finished studies in results/ of budget=full
	@python -m trigbench.workflow.steps.publish --all && python benchmarks/gallery.py

bench: env  ## what steps, attention and starts cost, how exact tangents are, how often verdicts are false: most of an hour
	python benchmarks/steps.py
	python benchmarks/steps.py --profile
	python benchmarks/attention.py
	python benchmarks/precision.py
	python benchmarks/verdicts.py
	python benchmarks/starts.py

grid: env  ## a training step of every objective on every network in every precision, of which the tests have all pairs
	python benchmarks/grid.py

bench-gpu: env  ## on one GPU: attention and steps, eager and compiled, to build/benchmarks, in eight minutes; no GPU has run it yet
	python benchmarks/gpu.py

scale: env  ## what the workflow costs for 5,000 runs, and how fast batches are drawn
	python benchmarks/scale.py
	python benchmarks/data.py

# what came from outside (docs/judge.md) no workflow makes again
CLEANED = $(filter-out results/published,$(wildcard results/$(or $(STUDY),*)))
OUTSIDE = $(patsubst %/outside,%,$(wildcard $(addsuffix /outside,$(CLEANED))))
GONE = $(filter-out $(OUTSIDE),$(CLEANED)) $(filter-out %/outside,$(wildcard $(addsuffix /*,$(OUTSIDE))))
clean:  ## the results of all studies, or of STUDY=..., and the reports; not results/published, nor results/*/outside
	rm -rf .snakemake build reports $(GONE)
