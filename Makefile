# The developers' convenience; nothing here is needed to install, run or test.
PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help check format docs soak replay bench mutants transcripts api-drift constraints ci

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 14

check: ## what has to hold before a commit: lint, types, the default tests
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m pyright
	$(PYTHON) -m pytest

format: ## put the code into shape
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

docs: ## write the generated blocks of README.md and references/ anew
	$(PYTHON) -m tests.skill.rendered --write

soak: ## many schedules of faults on all cores: make soak N=100000 FIRST=1
	$(PYTHON) -m tests.faults --schedules $(or $(N),100000) --first $(or $(FIRST),1)

replay: ## one schedule of faults, request by request: make replay SEED=7
	$(PYTHON) -m tests.faults --seed $(SEED)

bench: ## the figures: tokens, calls, start-up, overhead, from rented to ready
	for name in tool_list main_job cold_start overhead readiness; do $(PYTHON) -m bench.$$name || exit 1; done

mutants: ## break the rules one by one; a test has to notice each
	$(PYTHON) -m tests.mutants

transcripts: ## the same create in five clients, as what was said
	$(PYTHON) -m tests.interop.transcripts

api-drift: ## what the newest official client calls that is not on record
	$(PYTHON) -m tests.interop.api_drift

constraints: ## write the versions that a fresh install gets to constraints.txt
	rm -rf build/pins && python3 -m venv build/pins
	build/pins/bin/pip install -q '.[test,lint,bench,browser,keyring]'
	build/pins/bin/pip freeze | sed '/^vastai-workflow/d' > constraints.txt

ci: ## all that a change has to pass
	.ci/run
