# make demo, make test: each sets up all it needs in .venv first. Needs make and Python 3.11 or newer.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# Where PyTorch comes from; empty: where all else does.
TORCH_INDEX ?=
FUZZ ?= 2000
BIN := .venv/bin

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 14

demo: .venv/all.stamp ## lose a real target and find it again; videos and a contact sheet go to demo_out
	$(BIN)/siamtrack demo --out demo_out --force

test: .venv/dev.stamp ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 1

lint: .venv/dev.stamp ## check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

docs: .venv/docs.stamp ## build the pages of documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

mutants: .venv/dev.stamp ## break the tracker in one place at a time, and count what the tests notice (hours; SAMPLE=60 for fewer)
	$(BIN)/python tests/mutants.py $(if $(SAMPLE),--sample $(SAMPLE)) --workers 2

graphs: .venv/dev.stamp ## write the shipped networks as graphs anew, after their weights changed
	for name in swift swift-nano; do $(BIN)/siamtrack export $$name --out tracker/weights/$$name --force || exit 1; done

fuzz: .venv/dev.stamp ## draw thousands of hostile inputs instead of dozens (hours; FUZZ=200 for fewer), and count them
	FUZZ=$(FUZZ) $(BIN)/python -m pytest -n 0 tests/test_properties.py --hypothesis-profile=campaign --hypothesis-show-statistics

soak: .venv/dev.stamp ## a million updates: does anything grow? (an hour on a free core; draws docs/soak.svg)
	$(BIN)/python tests/bench/soak.py 1000000 --weights swift-nano --plot docs/soak.svg

kills: .venv/dev.stamp ## runs of track, bench, prepare and a training that are killed at random moments: is anything lost? (an hour)
	$(BIN)/python tests/bench/kills.py 50
	$(BIN)/python tests/bench/resumed.py 50

versions: .venv/dev.stamp ## the tests with the oldest and newest packages, headless OpenCV, other Pythons (hours, 40 GB)
	$(BIN)/python tests/bench/versions.py .venv/versions

dropins: .venv/torch.stamp ## the tests beside boxmot, norfair and Rerun, each in an environment of its own (10 minutes, 6 GB)
	for name in boxmot norfair rerun; do \
	  python=.venv/dropins/$$name/bin/python; \
	  $(BIN)/python -m venv .venv/dropins/$$name && $$python -m pip install -q "$(TORCH)" -e ".[test-$$name]" && \
	  $$python -m pip check && $$python -m pip list --format freeze | grep -E "^($$name|rerun-sdk|numpy|opencv-python|torch)==" && \
	  $$python -c "import $$name" && $$python -m pytest -rs tests/test_dropins.py tests/test_detections.py || exit 1; \
	done

bench: .venv/dev.stamp ## measure speed on this machine
	$(BIN)/python tests/bench/speed.py

clean: ## remove .venv and all that was made
	rm -rf .venv demo_out site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find siamtrack tracker train tests demos docs -name __pycache__ -prune -exec rm -rf {} +

# The package with the extra that the stamp is named after; again when pyproject.toml changes.
.venv/%.stamp: pyproject.toml .venv/torch.stamp
	$(BIN)/python -m pip install -e ".[$*]"
	@$(BIN)/python -c "import cv2" || { \
	  echo "OpenCV cannot be imported. On Debian and Ubuntu it needs: apt-get install libgl1 libglib2.0-0" >&2; exit 1; }
	@touch $@

.venv/torch.stamp:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  rm -rf .venv; echo "No venv. On Debian and Ubuntu it needs: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install "$(TORCH)" $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)")
	@touch $@

.PHONY: help demo test lint docs mutants graphs fuzz soak kills versions dropins bench clean
.PRECIOUS: .venv/%.stamp
.DELETE_ON_ERROR:
