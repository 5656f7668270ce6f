# Two commands: `make demo` and `make test`. Both make .venv first and do only what is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-cluster test-cluster-short resume lint docs lock lock-checkpoints \
  train-digits train-mnist train-text-to-digit archives benchmarks clean
.DELETE_ON_ERROR:

demo: .venv/run
	$(BIN)/snakemake
	@echo "The page: results/digits/index.html   The table: results/digits/table.md"

test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Resumes a run on the cluster that has died, even on another login node, and cancels the jobs that it left in the queue.
resume: .venv/run
	DODE_RESUME=1 $(BIN)/snakemake --profile slurm $(ARGS)

# The workflow on a real SLURM that is started on this machine. As root, this installs missing Debian packages.
test-cluster: .venv/dev
	$(BIN)/python -m pytest tests/slurm -m cluster

# The same with only the most common faults.
test-cluster-short: .venv/dev
	$(BIN)/python -m pytest tests/slurm -m "cluster and (common or not fault)"

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/snakemake --dry-run --quiet
	$(BIN)/snakemake --dry-run --quiet --configfile config/solvers.yaml
	$(BIN)/snakemake --profile slurm --dry-run --quiet

# The documentation as a site, in build/site/index.html. A link that leads nowhere ends it.
docs: .venv/dev
	$(BIN)/python -m sphinx --quiet --fail-on-warning --builder html --conf-dir docs/site docs build/site
	@echo "The site: build/site/index.html"

# The archives that others can add to their tables (docs/sharing.md): 40 minutes on two cores, most for that of MNIST.
PACK := $(BIN)/python -m dode pack --by "the dode project" --evidence 32
archives: .venv/dev
	$(BIN)/snakemake
	$(PACK) results/digits --output archives/digits.zip
	$(BIN)/snakemake --configfile config/mnist.yaml
	$(PACK) results/mnist --output archives/mnist.zip

# Nobody needs these: what they make is in config/models and config/prompts. A quarter of an hour on two cores, an hour
# on one, half an hour on one.
TRAIN := $(BIN)/python scripts/train_embedded.py
train-digits: .venv/run
	$(TRAIN) digits-classifier
	$(TRAIN) digits-edm & $(TRAIN) digits-ddpm & wait

train-mnist: .venv/dev
	$(TRAIN) mnist-real-statistics
	OMP_NUM_THREADS=1 $(TRAIN) mnist-classifier
	OMP_NUM_THREADS=1 $(TRAIN) mnist-ddpm

train-text-to-digit: .venv/dev
	$(TRAIN) digit-prompts
	OMP_NUM_THREADS=1 $(TRAIN) text-to-digit

benchmarks: .venv/dev
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/scoring.py
	MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=2000000000 $(BIN)/python benchmarks/solvers.py

# requirements.lock, requirements-dev.lock (the same and what the extras need) and envs/dode.yaml from pyproject.toml.
# Pins that still fit stay; `make lock ARGS=--upgrade` renews them all, `ARGS="--upgrade-package numpy"` one. Snakemake
# builds the environment from a copy of envs/dode.yaml, elsewhere, so that it cannot refer to the lock and has its pins.
COMPILE := $(BIN)/uv pip compile --quiet --custom-compile-command "make lock" pyproject.toml
HASHED := --generate-hashes --no-emit-package torch --no-emit-package torchvision
lock: .venv/dev
	$(COMPILE) $(HASHED) --all-extras --output-file requirements-dev.lock $(ARGS)
	$(COMPILE) $(HASHED) --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --no-header --constraint requirements.lock --output-file .venv/pins
	{ sed '/- pip:$$/q' envs/dode.yaml && sed 's/^/      - /' .venv/pins; } > .venv/dode.yaml
	mv .venv/dode.yaml envs/dode.yaml

# config/checkpoints.lock: fetches what has no entry yet; `make lock-checkpoints CARDS="a b"` fetches these again.
lock-checkpoints: .venv/run
	$(BIN)/python scripts/lock_checkpoints.py $(CARDS)

clean:
	rm -rf results resources .snakemake

.venv/bin/python:
	@$(PYTHON) -c 'import os, re, sys; bad = re.search(r"[^\w@%+=:,./~^-]", os.getcwd()); \
	  sys.exit(bad and f"Snakemake cannot start scripts from a path with {bad[0]!r}: move this folder to another one")'
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv

# The lock is complete, so pip need not look for dependencies; then dode brings what the lock leaves out, torch's build.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
.venv/run: requirements.lock pyproject.toml | .venv/bin/python
	$(INSTALL) --require-hashes --no-deps --requirement requirements.lock
	$(INSTALL) --editable .
	touch $@

.venv/dev: requirements-dev.lock .venv/run
	$(INSTALL) --require-hashes --no-deps --requirement requirements-dev.lock
	touch $@
