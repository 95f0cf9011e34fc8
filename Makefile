# What CI runs is .ci/run; these are the same tools, one at a time, in the environment you are in.
PYTHON ?= python
DATA ?= ../shared/data

.PHONY: check test slow docs tour bench pareto quality predictors schema

check:  ## format, lint, types, fast tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest -q

slow:  ## the slow tests only
	$(PYTHON) -m pytest -q --slow -m slow

docs:  ## the site, in build/docs; opens from disk
	$(PYTHON) -m mkdocs build --strict -f docs/mkdocs.yml

tour:  ## run the notebook and store what it shows
	$(PYTHON) docs/execute_tour.py

bench:  ## speed: ratios measured in one run, written to benchmarks/results
	$(PYTHON) benchmarks/speed.py --json benchmarks/results/speed.json
	$(PYTHON) benchmarks/together.py --json benchmarks/results/together.json
	$(PYTHON) benchmarks/overhead.py > benchmarks/results/overhead.json
	$(PYTHON) benchmarks/loader.py --threads 1 --steps 1
	$(PYTHON) benchmarks/limits.py --json benchmarks/results/limits.json

pareto:  ## several objectives and latency look-ups; needs the tables in DATA
	$(PYTHON) benchmarks/pareto.py "$(DATA)" --json benchmarks/results/pareto.json
	$(PYTHON) benchmarks/lookup.py "$(DATA)" --json benchmarks/results/lookup.json

quality:  ## rank correlations over whole spaces; needs the tables in DATA
	bash benchmarks/quality.sh "$(DATA)"

predictors:  ## the predictors that ship with the package; needs the tables in DATA
	for pair in cifar10:c10 cifar100:c100 imagenet16:in16; do \
	    $(PYTHON) -c "from nas.cli import main; main()" fit tss_quick "truth=$(DATA)/nats_tss.csv.gz:$${pair#*:}_test_200" \
	        name=tss_$${pair%:*} --out nas/predictor/fitted/tss_$${pair%:*}.npz --force || exit 1; \
	done
	rm -f nas/predictor/fitted/*.sqlite*
