# Every target creates the environment on first use. It needs Python 3.10 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= auto
# One thread each: the tests run side by side, and sums are taken in the same order everywhere.
export OMP_NUM_THREADS := 1
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help book test test-fast test-all notebooks exercises figures collapse comparison deep usefulness richer mnist pendulum motion pretrained likelihoods explorer colab-check lint format repository clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"Python 3.10 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

book: $(VENV)/.installed ## build the book and print where it is
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet || { rm -rf _build/.doctrees; exit 1; } # else the next build would not warn again
	@echo "The book is built: file://$(CURDIR)/_build/html/index.html"

test: lint ## lint, every test, the strict build of the book; notebooks in full where their results are not current
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test-fast: lint ## lint and the tests that take no more than seconds
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-notebooks -m "not slow"

test-all: lint ## every test, and every notebook in full
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --all-notebooks

notebooks: $(VENV)/.installed ## rerun every notebook in place
	$(BIN)/jupyter nbconvert --to notebook --inplace --execute --ExecutePreprocessor.timeout=900 notebooks/*.ipynb notebooks/exercises/*.ipynb
	$(BIN)/python .ci/tidy_notebooks.py notebooks/*.ipynb notebooks/exercises/*.ipynb

exercises: $(VENV)/.installed ## generate the student copies of the exercise sheets
	$(BIN)/python .ci/student_copies.py

figures: $(VENV)/.installed ## redraw the book's figures
	$(BIN)/python book/figures/draw.py
	$(BIN)/python -m book.figures.explorer_stills

comparison: $(VENV)/.installed ## train the four posterior rules of chapter 5 and its controls; runs in the tables are not repeated
	$(BIN)/python -m benchmarks.posterior_rules
	$(BIN)/python -m benchmarks.merge_controls

deep: $(VENV)/.installed ## run the experiments of chapter 8; runs in the tables are not repeated
	for name in starts changes depths steps tricks splits; do $(BIN)/python -m benchmarks.deep_hierarchies --experiment $$name; done

usefulness: $(VENV)/.installed ## train the models of chapter 9, and probe them and models of the other chapters; runs in the tables are not repeated
	for name in models decoders; do $(BIN)/python -m benchmarks.usefulness --experiment $$name; done

richer: $(VENV)/.installed ## run the experiments of chapter 10; runs in the tables are not repeated
	for name in flows draw; do $(BIN)/python -m benchmarks.richer_flows --experiment $$name; done
	for name in codes downscaled; do $(BIN)/python -m benchmarks.richer_codes --experiment $$name; done

collapse: $(VENV)/.installed ## record the trainings of chapter 2's explorer
	$(BIN)/python -m benchmarks.collapse_recording

mnist: $(VENV)/.installed ## train the models of the tables of chapters 2 and 5 on MNIST; runs in the tables are not repeated
	$(BIN)/python -m benchmarks.remedies
	$(BIN)/python -m benchmarks.posterior_rules --data mnist

pendulum: $(VENV)/.installed ## train the priors of chapters 6 and 7 and their variations; runs in the tables are not repeated
	$(BIN)/python -m benchmarks.pendulum
	$(BIN)/python -m benchmarks.pendulum --sensitivity
	$(BIN)/python -m benchmarks.pendulum_32
	test -e benchmarks/pendulum_steps.csv || $(BIN)/python -m benchmarks.pendulum_steps

motion: $(VENV)/.installed ## train the priors of chapter 7 on human motion (HVAE_DATA/cmu) and draw their figures; runs in the tables are not repeated
	$(BIN)/python -m benchmarks.motion
	$(BIN)/python -m benchmarks.motion --sensitivity
	$(BIN)/python -m benchmarks.motion_figures

pretrained: $(VENV)/.installed ## retrain the models that come with the course; prints the checksums for their table
	$(BIN)/python -m benchmarks.pretrained

likelihoods: $(VENV)/.installed ## train and evaluate the models of the results page on digits; finished runs are not repeated
	$(BIN)/python -m benchmarks.likelihoods digits

explorer: $(VENV)/.installed ## train the model of the layer explorer on MNIST, and write its file and still
	$(BIN)/python -m benchmarks.layer_explorer

colab-check: $(VENV)/.installed ## run all notebooks in new environments, with the newest and with the lowest libraries
	$(BIN)/python .ci/colab_check.py

lint: $(VENV)/.installed ## check style, formatting and docstrings
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(VENV)/.installed ## format the code and fix what can be fixed automatically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

repository: $(VENV)/.installed ## set the repository's address everywhere: make repository URL=https://github.com/owner/name
	$(BIN)/python .ci/set_repository.py "$(URL)"

clean: ## remove what was built, and the environment
	rm -rf $(VENV) _build *.egg-info .pytest_cache .ruff_cache
