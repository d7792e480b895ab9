# Needs python3 (with venv and pip), make and Java. Everything else is installed into .venv by the first target that needs it.
#   make demo              six benchmarks of small trained models on generated images, from nothing to one table
#   make test              lint, types, tests, and a small demo: what CI runs
#   make test-newest       the quick part of the tests, and a small demo, with the newest versions of all packages
#   make bench             speed and memory at real sizes (minutes)
#   make bench-gpu         all measurements on a GPU, into bench-gpu.json (at most 7 minutes); with the packages of the
#                          system instead of .venv: make bench-gpu BENCH_PYTHON=python3
#   make lint              lint and types only
#   make train-shapes      train the models that ship, into blipbench/bundled (51 minutes on two cores)
#   make capfilt-ablation  what CapFilt does, into leaderboards/capfilt_shapes.md (42 minutes on two cores)
#   make clean             remove both environments, caches, demo/ and build outputs

PYTHON ?= python3
IMAGES ?= 200
DEMO ?= demo
TRAINED ?= runs/train
SEEDS ?= 0 1 2
BENCH_PYTHON ?= $(BIN)/python

BIN := .venv/bin
BLIPBENCH := $(BIN)/blipbench
TRAIN := OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc-per-node 2 -m blipbench train
ALONE := OMP_NUM_THREADS=1 $(BLIPBENCH) train
WORLD := $(DEMO)/world
BUNDLED := blipbench/bundled
QUICK := tests/config tests/data tests/inference tests/metrics tests/models tests/shapes tests/cli/test_help.py
TASKS := retrieval_shapes caption_shapes nocaps_shapes vqa_shapes nlvr_shapes video_shapes

.PHONY: demo run-demo test test-newest bench bench-gpu lint train-shapes answers joint world capfilt-ablation clean

demo: .venv/.installed
	$(MAKE) --no-print-directory run-demo

run-demo:
	$(BLIPBENCH) data make shapes --out $(DEMO)/shapes --images $(IMAGES) --seed 0
	$(BLIPBENCH) run $(TASKS) --data $(DEMO)/shapes --out $(DEMO)/runs --fresh
	$(BLIPBENCH) run retrieval_shapes --rerank none --data $(DEMO)/shapes --out $(DEMO)/itc_only --fresh
	$(BLIPBENCH) table $(DEMO)/runs $(DEMO)/itc_only --plot $(DEMO)/table.png

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 tests/inference/test_attention.py tests/inference/test_kernels.py
	$(MAKE) --no-print-directory demo IMAGES=20 DEMO=demo/smoke

# Resolved anew at every call, so that a new release of a package is met here first.
test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --disable-pip-version-check --quiet --upgrade --upgrade-strategy eager -e '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/pytest -n 2 $(QUICK)
	$(MAKE) --no-print-directory run-demo BIN=.venv-newest/bin IMAGES=20 DEMO=demo/newest

bench: .venv/.installed
	$(BIN)/pytest tests/benchmarks -m benchmark_suite -s

bench-gpu: $(if $(filter $(BIN)/%,$(BENCH_PYTHON)),.venv/.installed)
	$(BENCH_PYTHON) tests/benchmarks/gpu.py

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

world: $(WORLD)/vocab.txt

# Written last, so what an interrupted run left is made again.
$(WORLD)/vocab.txt: .venv/.installed $(wildcard blipbench/shapes/*.py)
	$(BLIPBENCH) data make shapes --out $(WORLD) --images 200 --train-images 32000 --seed 0

train-shapes: world
	$(TRAIN) cards_shapes --data $(WORLD) --out $(TRAINED) --fresh
	$(TRAIN) caption_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/cards_shapes/last.safetensors
	$(TRAIN) pretrain_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/caption_shapes/last.safetensors
	$(TRAIN) twins_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/pretrain_shapes/last.safetensors
	$(MAKE) --no-print-directory -j2 answers joint
	$(BLIPBENCH) ckpt slim $(TRAINED)/joint_shapes/last.safetensors $(BUNDLED)/shapes_base.safetensors
	$(BLIPBENCH) ckpt slim $(TRAINED)/vqa_shapes/last.safetensors $(BUNDLED)/shapes_vqa.safetensors
	$(BLIPBENCH) ckpt slim $(TRAINED)/nlvr_shapes/last.safetensors $(BUNDLED)/shapes_nlvr.safetensors

answers:
	$(ALONE) vqa_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/twins_shapes/last.safetensors
	$(ALONE) nlvr_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/vqa_shapes/last.safetensors

joint:
	$(ALONE) joint_shapes --data $(WORLD) --out $(TRAINED) --fresh --init $(TRAINED)/twins_shapes/last.safetensors

capfilt-ablation: world
	$(BIN)/python experiments/capfilt_shapes.py --data $(WORLD) --work $(DEMO)/capfilt --seeds $(SEEDS) \
		--out leaderboards/capfilt_shapes.md

clean:
	rm -rf .venv .venv-newest demo dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
