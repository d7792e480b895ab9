# Needs python3 (with venv and pip), make and Java. Everything else is installed into .venv by the first target that needs it.
#   make demo    a whole benchmark on generated images, from nothing to the table
#   make test    lint, types, tests, and a small demo: what CI runs
#   make bench   speed and memory at real sizes (minutes)
#   make lint    lint and types only
#   make clean   remove .venv, caches, demo/ and build outputs

PYTHON ?= python3
IMAGES ?= 200
DEMO ?= demo

BIN := .venv/bin
BLIPBENCH := $(BIN)/blipbench

.PHONY: demo test bench lint clean

demo: .venv/.installed
	$(BLIPBENCH) data make shapes --out $(DEMO)/shapes --images $(IMAGES) --seed 0
	$(BLIPBENCH) ckpt random --model tiny --seed 0 --out $(DEMO)/tiny_random.safetensors
	@echo
	@echo "The weights of $(DEMO)/tiny_random.safetensors are random: recall below is at chance. Speed and self-check are real."
	@echo
	$(BLIPBENCH) run retrieval_shapes --ckpt $(DEMO)/tiny_random.safetensors --data $(DEMO)/shapes --out $(DEMO)/runs --fresh

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
	$(MAKE) --no-print-directory demo IMAGES=20 DEMO=demo/smoke

bench: .venv/.installed
	$(BIN)/pytest tests/benchmarks -m benchmark_suite -s

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv demo dist build .pytest_cache .mypy_cache .ruff_cache .benchmarks

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
