# What CI runs is .ci/run; these are the same tools, one at a time, in the environment you are in.
PYTHON ?= python
DATA ?= ../shared/data

.PHONY: check test slow bench quality schema

check:  ## format, lint, types, fast tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q

slow:  ## the slow tests only
	$(PYTHON) -m pytest -q --slow -m slow

bench:  ## speed: ratios measured in one run, written to benchmarks/results
	$(PYTHON) benchmarks/speed.py --json benchmarks/results/speed.json
	$(PYTHON) benchmarks/together.py --json benchmarks/results/together.json
	$(PYTHON) benchmarks/overhead.py > benchmarks/results/overhead.json

quality:  ## rank correlations over whole spaces; needs the tables in DATA
	bash benchmarks/quality.sh "$(DATA)"
