# The verbs of this checkout. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help run down test proofs foreign unit check fmt gen lock bench live corpus setup clean
SHELL := /bin/sh
BIN := .venv/bin

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Start everything on this machine and say what to paste; Ctrl-C stops it
	@exec $(BIN)/depesche up

down: ## Stop what `make run` has started
	@$(BIN)/depesche down

test: setup ## Check the code and run the tests, with the whole stack running
	@$(BIN)/python infra/dev/lanes.py

proofs: setup ## Run all tests, the long ones too (kills, Faust's behaviour), with new examples for the properties
	@$(BIN)/pytest -m "not corpus" --hypothesis-profile=explore

foreign: setup ## Submit with nodemailer too, fetched with npm
	@npm install --silent --no-fund --no-audit --prefix build/foreign nodemailer@7
	@$(BIN)/pytest tests/live/test_foreign_clients.py

unit: setup ## Run the unit tests only (seconds)
	@$(BIN)/pytest tests/unit

live: setup ## Run the tests against the whole running stack only
	@$(BIN)/pytest tests/live

corpus: setup ## Run the longer tests over the shared corpus, where it is there
	@$(BIN)/pytest -m corpus -rs

check: setup ## Lint, format, types, import rules, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m depesche.schemas.generate --check
	@$(BIN)/depesche config reference --check

fmt: setup ## Format the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

gen: setup ## Write the generated files anew
	@$(BIN)/python -m depesche.schemas.generate
	@$(BIN)/depesche config reference --write

lock: setup ## Resolve all packages anew and write requirements.lock
	@sh infra/dev/lock.sh

bench: setup ## Measure throughput and latency beside Postfix + OpenDKIM + ClamAV
	@$(BIN)/python -m depesche.infra.bench $(ARGS)

setup: ## Make the Python environment as the lock file says
	@sh infra/dev/setup.sh

clean: ## Remove what was built (not the state in .depesche)
	@rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
