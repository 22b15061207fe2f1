# Short commands; each is a script that also runs without make.
.PHONY: help setup test format lint matrix demo doctor wheel

RUFF = . scripts/setup.sh && kdscfnet_setup test dev && "$$PYTHON" -m ruff
SHELL = bash

help:
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile

setup: ## an environment with everything
	@. scripts/setup.sh && kdscfnet_setup test dev && echo "ready: $$PYTHON"

test: ## the tests
	@bash scripts/run_tests.sh

format: ## repair and format the sources
	@$(RUFF) check --fix . && "$$PYTHON" -m ruff format .

lint: ## what CI checks of the sources
	@$(RUFF) check .

matrix: ## the tests on three software stacks
	@bash scripts/matrix.sh

demo: ## distil a small student on generated scenes
	@bash scripts/train_kd.sh --demo

doctor: ## what this machine has and lacks
	@. scripts/setup.sh && kdscfnet_setup && "$$PYTHON" -m kdscfnet doctor

wheel: ## dist/*.whl
	@rm -rf build && . scripts/setup.sh && kdscfnet_setup && "$$PYTHON" -m pip wheel --no-deps -w dist .
