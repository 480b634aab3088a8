# One definition of every command, for people, hooks and CI. `make` lists them.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= 2.13.0
TARGET ?= cpu
GPU_PYTHON ?= 3.12
ARGS ?=
export ORT_DISABLE_TELEMETRY := 1

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BASE := $(VENV)/.base
DEV := $(VENV)/.dev
PROTOS := protos/dragoman/v1/translation.proto protos/dragoman/v1/models.proto
STUBS := $(foreach proto,$(PROTOS:protos/%.proto=%),$(addprefix $(proto)_pb2,.py .pyi _grpc.py _grpc.pyi))
# What `python -m tests.gpu` needs beside torch, transformers, onnx, numpy and onnxruntime-gpu.
GPU_PACKAGES := colorama googleapis-common-protos grpcio grpcio-health-checking grpcio-reflection hypothesis iniconfig \
	lxml msgspec packaging pluggy portalocker prometheus-client protobuf pygments pytest pytest-asyncio pyyaml regex \
	sacrebleu safetensors sentencepiece sentencex sortedcontainers tabulate typing-extensions uvloop

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test check bench curve gpu gpu-packages coverage fuzz soak image image-test fmt proto lock clean format-check lint types imports api stubs

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(BASE) ## Set up what is missing and serve the embedded model on 127.0.0.1:50051
	@$(BIN)/dragoman serve $(ARGS)

test: $(DEV) ## Set up what is missing and run the whole suite
	@$(BIN)/python -m pytest $(ARGS)

check: format-check lint types imports api stubs ## Format, lint, types, import rules, proto, generated files, budgets
	@$(BIN)/python -m pytest --quiet tests/test_architecture.py

bench: $(DEV) ## Run the benchmarks
	@$(BIN)/python -m tests.benchmark $(ARGS)

curve: $(DEV) ## Draw latency against rate, up to 150 % of capacity, for the embedded models, into docs/
	@$(BIN)/python -m tests.benchmark.curve $(ARGS)

gpu: $(DEV) ## Run the GPU tests and the GPU benchmark; ARGS="--provider cpu --quick" rehearses without one
	@$(BIN)/python -m tests.gpu $(ARGS)

gpu-packages: $(BIN)/python ## Pack what a GPU machine without a network lacks into build/gpu-packages.tar.gz
	@mkdir -p build
	@$(PIP) --target build/gpu-packages --upgrade --python-version $(GPU_PYTHON) --only-binary=:all: --no-deps \
		-c constraints.txt $(GPU_PACKAGES)
	@tar -czf build/gpu-packages.tar.gz -C build gpu-packages && du -h build/gpu-packages.tar.gz

coverage: $(DEV) ## Run the suite and show which lines and branches of service it missed
	@$(BIN)/python -m pytest --cov $(ARGS)

fuzz: $(DEV) ## Make 100,000 hostile requests and load 2,000 mutated bundles, and say how each kind ends
	@$(BIN)/python -m tests.hostile $(ARGS)
	@DRAGOMAN_MUTANTS=2000 $(BIN)/python -m pytest tests/integration/test_hostile_bundles.py --capture=no

soak: $(DEV) ## Keep a server under mixed traffic for SOAK_MINUTES (30), and say whether anything grew or failed
	@$(BIN)/python -m tests.soak $(ARGS)

image: ## Build the container image dragoman:cpu, or dragoman:cuda with TARGET=cuda, and print its sizes
	@buildah build --format docker --layers --target $(TARGET) --tag localhost/dragoman:$(TARGET) \
		--build-arg REVISION=$$(git rev-parse --short HEAD) $(ARGS) .
	@deploy/image/sizes localhost/dragoman:$(TARGET)

image-test: $(DEV) ## Start the image dragoman:cpu, translate with it and stop it; needs root
	@DRAGOMAN_IMAGE=localhost/dragoman:cpu $(BIN)/python -m pytest tests/image $(ARGS)

fmt: $(DEV) ## Format, and fix what can be fixed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

proto: $(DEV) ## Write the generated stubs
	@$(call generate,protos)

lock: $(BIN)/python ## Resolve all dependencies anew into constraints.txt
	@mkdir -p build
	@$(PIP) --dry-run --ignore-installed --report build/lock.json '.[export,dev]' torch==$(TORCH)
	@$(BIN)/python -c "$$LOCK" >build/constraints.txt
	@mv build/constraints.txt constraints.txt

clean: ## Remove everything that make wrote, the environment too
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf *.egg-info

# The parts of check.

format-check: $(DEV)
	@$(BIN)/ruff format --check --quiet . || { echo "Not formatted: run make fmt." >&2; exit 1; }

lint: $(DEV)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/codespell

types: $(DEV)
	@$(BIN)/mypy

imports: $(DEV)
	@$(BIN)/lint-imports

# A change of a proto is compared with the branch main; once it is there, with the protos before it.
api: $(DEV)
	@$(BIN)/buf lint
	@base=$$(git rev-parse --quiet --verify origin/main || git rev-parse --quiet --verify main || true); \
	if [ -z "$$base" ] || git diff --quiet "$$base" -- $(PROTOS); then \
		base=$$(git log --max-count=1 --skip=1 --format=%H -- $(PROTOS)); \
	fi; \
	if [ -z "$$base" ] || ! git cat-file -e "$$base:$(firstword $(PROTOS))" 2>/dev/null; then \
		echo "buf breaking: no earlier proto to compare with"; exit 0; \
	fi; \
	before=$$(mktemp -d) && trap 'rm -rf "$$before"' EXIT && \
	git archive "$$base" protos | tar -x -C "$$before" && $(BIN)/buf breaking protos --against "$$before/protos"

stubs: $(DEV)
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call generate,"$$fresh") && \
	for stub in $(STUBS); do \
		cmp "protos/$$stub" "$$fresh/$$stub" || \
			{ echo "Generated files differ from the proto: run make proto and commit them." >&2; exit 1; }; \
	done

define generate
$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) \
	--mypy_grpc_out=quiet:$(1) --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc $(PROTOS)
endef

# The set-up. The base set serves; the rest goes into the same environment when it is asked for.

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(BASE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what serving needs into $(VENV) ..."
	@$(PIP) -c constraints.txt -e .
	@touch $@

# torch goes first and alone: a CPU build that pip is pointed at (--find-links, --extra-index-url) is then taken.
$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing what tests and tools need into $(VENV) ..."
	@$(PIP) -c constraints.txt torch
	@$(PIP) -c constraints.txt -e '.[export,dev]'
	@touch $(BASE) $@

# One line per package: versions without their local part, ONNX Runtime under both of its names, and no CUDA wheels,
# whose versions the builds of torch and ONNX Runtime dictate.
define LOCK
import json
installed = json.load(open("build/lock.json"))["install"]
packages = {p["metadata"]["name"].lower(): p["metadata"]["version"].partition("+")[0] for p in installed}
del packages["dragoman"]
packages["onnxruntime"] = packages["onnxruntime-gpu"]
print("# Written by make lock.")
for name, version in sorted(packages.items()):
    print(f"{name}=={version}")
endef
export LOCK
