# The two commands of the README: `make demo` and `make test`. They make .venv and install into it.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Where a ROS 2 installation is sourced, the environment uses it, and keeps to the NumPy that its cv_bridge
# was built for. Elsewhere ROS 2 Jazzy comes as wheels.
ifdef ROS_DISTRO
VENV_FLAGS := --system-site-packages
EXTRAS :=
PINS := 'numpy<2' 'opencv-python-headless<5'
else
EXTRAS := [ros]
endif

.PHONY: demo test lint format train-tests clean

demo: .venv/.base
	$(BIN)/seg-uncertainty demo $(if $(SOURCE),'$(SOURCE)')

test: .venv/.dev
	$(BIN)/python -m pytest test --ignore=test/training $(PYTEST_ARGS)

# The tests of export and training need the extra `train`; install torch by itself first (see CONTRIBUTING.md).
train-tests: .venv/.dev
	$(PIP) --editable '.[train]'
	$(BIN)/python -m pytest test/training $(PYTEST_ARGS)

lint: .venv/.dev
	$(BIN)/pre-commit run --all-files

format: .venv/.dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

.venv/.base: setup.py
	$(PYTHON) -m venv $(VENV_FLAGS) .venv
	$(PIP) --editable '.$(EXTRAS)' $(PINS)
	touch $@

.venv/.dev: .venv/.base
	$(PIP) --editable '.[dev]' $(PINS)
	touch $@

clean:
	rm -rf .venv build install log demo_out
