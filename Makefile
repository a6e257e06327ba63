# make demo, make test: make .venv on the first call, install, and run. make help lists the rest.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
RUN := $(BIN)/.run-installed
DEV := $(BIN)/.dev-installed
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt

.PHONY: help demo test export notebooks clean-notebooks readme docs lab speed

help:
	@echo "make demo       read the clinic corpus, learn from answers, write report.html"
	@echo "make test       all tests: lessons, house, and those beside them"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make docs       the site, docs/_build/html/index.html"
	@echo "make export     notebooks to kglearn/*.py"
	@echo "make notebooks  run all notebooks and save their outputs (NOTEBOOKS='nbs/10_graph.ipynb' for some)"
	@echo "make speed      how long 'import kglearn' and 'kglearn --help' take"
	@echo "make readme     nbs/index.ipynb to README.md"
	@echo "PYTHON=python3.12 chooses the Python of a new .venv"

demo: $(RUN)
	$(BIN)/kglearn demo

test: $(DEV)
	$(BIN)/python -m pytest

speed: $(RUN)
	$(BIN)/python tools/speed.py

lab: $(DEV)
	$(BIN)/jupyter lab nbs

export: $(DEV)
	$(BIN)/nbdev-export

notebooks: $(DEV)
	$(BIN)/python docs/run_notebooks.py $(NOTEBOOKS)

clean-notebooks: $(DEV)
	$(BIN)/nbdev-clean

readme: $(DEV)
	$(BIN)/python docs/readme.py

docs: $(DEV)
	$(BIN)/python docs/build.py

$(BIN)/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kglearn needs Python 3.11 or newer: install one, or name it, as in make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 2; }
# Elsewhere than on Linux the torch of PyPI is the small one. Where this index cannot be reached, the next step takes PyPI's.
	@if [ "$$(uname)" = Linux ]; then echo "Installing the CPU build of torch"; $(INSTALL) --no-deps --retries 1 --timeout 20 \
	  --index-url https://download.pytorch.org/whl/cpu torch || true; fi

# The stamps: nothing is installed again until the requirements change.
$(RUN): settings.ini setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing kglearn and what it needs (about 2 GB; two minutes where the network is good)"
	$(INSTALL) -e .
	@touch $@

$(DEV): settings.ini setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing kglearn, the notebooks' and the tests' tools (about 2.5 GB; three minutes where the network is good)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(RUN)
