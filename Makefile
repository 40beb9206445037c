# The two commands of the README: `make demo` and `make test`. They make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Where a ROS 2 installation is sourced, the environment uses it, and keeps to the NumPy that its cv_bridge
# was built for. Elsewhere ROS 2 Jazzy comes as wheels. What the demo needs is pinned, with hashes.
ROS_PINS := 'numpy<2' 'opencv-python-headless<5'
ifdef ROS_DISTRO
VENV_FLAGS := --system-site-packages
PINS := $(ROS_PINS)
LOCK := requirements/sourced.txt
else
EXTRA := --extra ros
LOCK := requirements/wheels.txt
endif
# Built with what is installed, not in an environment of pip's own, which fetches what is in no lock.
BUILD := --use-pep517 --no-build-isolation
EDITABLE := $(BUILD) --editable

.PHONY: demo test lint format train-tests audit lock clean

demo: .venv/.base
	$(BIN)/seg-uncertainty demo $(if $(SOURCE),'$(SOURCE)')

test: .venv/.dev
	$(BIN)/python -m pytest test --ignore=test/training $(PYTEST_ARGS)

# The tests of export and training need the extra `train`; install torch by itself first (see CONTRIBUTING.md).
train-tests: .venv/.dev
	$(PIP) $(EDITABLE) '.[train]'
	$(BIN)/python -m pytest test/training $(PYTEST_ARGS)

lint: .venv/.dev
	$(BIN)/pre-commit run --all-files

format: .venv/.dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# Is the environment what the lock says? Needs no network.
audit: .venv/.base
	$(BIN)/python .ci/audit.py $(LOCK) $(EXTRA)

# The newest versions of everything, with the hashes of all their files, for each Python and machine.
UV := .lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	--no-annotate --custom-compile-command 'make lock'
lock:
	$(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	echo setuptools | $(UV) - --output-file requirements/build.txt
	$(UV) setup.py --extra ros --output-file requirements/wheels.txt
	printf '%s\n' $(ROS_PINS) | $(UV) setup.py - --output-file requirements/sourced.txt
	rm -r .lock

.venv/.base: setup.py requirements/build.txt $(LOCK)
	$(PYTHON) -m venv $(VENV_FLAGS) .venv
	$(PIP) --require-hashes --requirement requirements/build.txt
	$(PIP) $(BUILD) --require-hashes --requirement $(LOCK)
	$(PIP) --no-deps $(EDITABLE) .
	touch $@

.venv/.dev: .venv/.base
	$(PIP) $(EDITABLE) '.[dev]' $(PINS)
	touch $@

clean:
	rm -rf .venv build install log demo_out
