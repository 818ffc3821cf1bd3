# Everything a user needs is one of these targets; each does all of its own set-up, once.
# No exported variable is needed and none changes what is built: what can be chosen is given on the command line.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV CONDA_PREFIX PYBOMBS_PREFIX LD_LIBRARY_PATH DESTDIR
unexport GRC_BLOCKS_PATH GR_DONT_LOAD_PREFS PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV

# Command-line arguments: an assignment here hides a variable of the same name in the environment.
CAPTURE =
CAPTURES =
WRITE =
GRC =
ONLY =

PYTHON := .venv/bin/python
BUILD := build/cmake
BLOCKS := $(CURDIR)/.venv/share/gnuradio/grc/blocks

CMAKE_FILES := $(shell find CMakeLists.txt cmake python grc -name CMakeLists.txt -o -path 'cmake/*' -type f)
# Folders are listed too: their time changes when a file in them is removed. (`grc` itself is a target's name.)
MODULE_FILES := $(shell find python grc/. -name __pycache__ -prune -o -print)

.PHONY: help
help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

.PHONY: demo
demo: install ## label a generated scene; CAPTURE=<file.sigmf-meta> labels a recording instead
	@$(PYTHON) examples/demo.py $(if $(CAPTURE),--capture '$(CAPTURE)')

# Both runners run, so that one failure does not hide another; the target fails when either does.
.PHONY: test
test: install ## run the blocks' tests (ctest) and the others (pytest)
	@status=0; \
	ctest --test-dir $(BUILD) --output-on-failure || status=1; \
	$(PYTHON) -m pytest || status=1; \
	exit $$status

.PHONY: test-slow
test-slow: install ## run only the tests that take minutes
	@$(PYTHON) -m pytest -m slow

.PHONY: score
score: install ## score the recordings of a folder by its own score.py; CAPTURES=<folder>, WEIGHTS="<name> ...", WRITE=1 writes the tables in the docs
	@test -n '$(CAPTURES)' || { echo 'make score: name the folder: make score CAPTURES=<folder>' >&2; exit 2; }
	@test -f '$(CAPTURES)/score.py' || { echo 'make score: no score.py in $(CAPTURES)' >&2; exit 2; }
	@$(PYTHON) -m emind_benchmarks.recordings '$(CAPTURES)' $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(WRITE),--write)

# Debian's GNU Radio names its terminal without a path and then finds it missing, in a dialog before the first run. A
# folder is there and is no terminal: without one, what a flowgraph prints goes to GNU Radio Companion's console.
.PHONY: grc
grc: install ## start GNU Radio Companion with the EMind blocks; GRC=<file.grc> opens a flowgraph
	@GRC_BLOCKS_PATH='$(BLOCKS)' \
		GR_CONF_GRC_XTERM_EXECUTABLE="$$(command -v x-terminal-emulator || echo /)" $(PYTHON) "$$(command -v gnuradio-companion)" $(if $(GRC),'$(GRC)')

.PHONY: screenshots
screenshots: install ## make the pictures of the documentation again (needs Xvfb); ONLY="record demo" makes some
	@$(PYTHON) scripts/pictures.py $(ONLY)

.PHONY: install
install: .venv/.stamps/module ## set up, build and install into .venv, and no more

.PHONY: clean
clean: ## remove what was built; the virtual environment stays
	rm -rf build .venv/.stamps/module

.PHONY: distclean
distclean: clean ## remove the virtual environment too
	rm -rf .venv *.egg-info

# --- Set-up. Each step leaves its stamp last, so that an interrupted one is done again. ---

.PHONY: always
build/system.txt: always
	@scripts/system.sh $@

.venv/.stamps/packages: build/system.txt pyproject.toml constraints.txt scripts/venv.sh scripts/find-python.sh
	@scripts/venv.sh $@

$(BUILD)/configured: .venv/.stamps/packages $(CMAKE_FILES)
	@echo 'gr-emind: configuring'
	@mkdir -p $(BUILD) && rm -f $(BUILD)/CMakeCache.txt
	@flock build/lock cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX='$(CURDIR)/.venv' \
		-DPYTHON_EXECUTABLE='$(CURDIR)/.venv/bin/python' >build/configure.log 2>&1 \
		|| { tail -n 30 build/configure.log >&2; exit 1; }
	@touch $@

# What the last install wrote is removed first: a module deleted from the tree must not live on in .venv.
.venv/.stamps/module: $(BUILD)/configured $(MODULE_FILES)
	@echo 'gr-emind: building and installing into .venv'
	@flock build/lock $(SHELL) -c 'cmake --build $(BUILD) \
		&& if test -f $(BUILD)/install_manifest.txt; then cmake --build $(BUILD) --target uninstall; fi \
		&& cmake --install $(BUILD)' >build/install.log 2>&1 \
		|| { tail -n 30 build/install.log >&2; exit 1; }
	@touch $@
