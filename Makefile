# Everything runs in .venv, which the first target that needs it creates. Another Python: make PYTHON=python3.12 venv

PYTHON_IS_RIGHT := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
ifndef PYTHON
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
  $$python -c '$(PYTHON_IS_RIGHT)' 2>/dev/null && echo $$python && exit; done; echo python3)
endif
CXX_COMPILER := $(shell command -v $${CXX:-c++} || command -v g++ || command -v clang++)

BIN := .venv/bin
PIP_INSTALL := -m pip -qq --disable-pip-version-check --no-input install
export PIP_ROOT_USER_ACTION := ignore
NATIVE := $(wildcard $(addprefix edgelstm/native/,*.cc *.h kernels/*.cc kernels/*.h kernels/simd/*.h))

# Runtimes that do not share a Python with TensorFlow (tflite-runtime needs numpy 1) or are no Python at all.
OLD_RUNTIME := .venv-tflite-runtime
MEDIAPIPE := .venv-mediapipe
LITERTJS := .node-litertjs
PEERS := .venv-peers
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
JOBS ?= 2
ARGS ?=
DEMO_OUTPUT ?= demo-output

.PHONY: help venv demo test lint format bench clean runtimes old-runtime mediapipe litertjs peers native-arm64

help:
	@echo "make demo    train, convert, verify and time an example, in $(DEMO_OUTPUT)/"
	@echo "make test    run all tests (some of them: make test ARGS=\"tests/cli -k help\")"
	@echo "make lint    check format, style and types"
	@echo "make format  format the code and apply safe fixes"
	@echo "make bench   the field's LSTM models on every runtime, 25 minutes (some: make bench ARGS=\"--models rows\")"
	@echo "make venv    create or update .venv only"
	@echo "make runtimes  install the runtimes that tests compare with: tflite-runtime, MediaPipe, LiteRT.js"
	@echo "make peers   install the runtimes that make bench compares with: PyTorch, OpenVINO (about 3 GB)"
	@echo "make native-arm64  build the native library for 64-bit Arm with a cross compiler"
	@echo "make clean   remove what these left, except the environments"

venv: .venv/.installed

.venv/.installed: pyproject.toml CMakeLists.txt $(NATIVE)
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and there is no $(PYTHON). On Debian: sudo apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c '$(PYTHON_IS_RIGHT)' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1). On Debian 12: sudo apt-get install python3.11 python3.11-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create virtual environments. On Debian: sudo apt-get install python3-venv" >&2; exit 1; }
	@test -n "$(CXX_COMPILER)" || { \
	  echo "A C++ compiler is needed, and there is none. On Debian: sudo apt-get install g++" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing edgelstm and what it needs into .venv (the first time this downloads about 1 GB)."
	@$(BIN)/python $(PIP_INSTALL) --editable ".[dev]"
	@touch $@

# The native library for 64-bit Arm: for a Raspberry Pi, or for tests under emulation.
ARM64_COMPILER ?= aarch64-linux-gnu-g++
native-arm64:
	@command -v cmake >/dev/null && command -v $(ARM64_COMPILER) >/dev/null || { \
	  echo "cmake and $(ARM64_COMPILER) are needed. On Debian: sudo apt-get install cmake g++-aarch64-linux-gnu" >&2; exit 1; }
	@cmake -S . -B build/native-arm64 --log-level=WARNING -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
	  -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$(ARM64_COMPILER) \
	  -DSKBUILD_PROJECT_VERSION_FULL=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
	@cmake --build build/native-arm64 --parallel $(JOBS) -- -s
	@echo build/native-arm64/libedgelstm_native.so

demo: venv
	@$(BIN)/edgelstm demo -o $(DEMO_OUTPUT)

old-runtime: venv
	@if [ -e $(OLD_RUNTIME)/.installed ]; then :; \
	elif ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then \
	  echo "tflite-runtime has no package for Python 3.12 and later: tests on it are left out."; \
	elif $(BIN)/python -m venv --clear $(OLD_RUNTIME) && \
	  $(OLD_RUNTIME)/bin/python $(PIP_INSTALL) "numpy<2" "tflite-runtime==2.14.0"; then \
	  touch $(OLD_RUNTIME)/.installed; \
	else \
	  echo "tflite-runtime could not be installed on this machine: tests on it are left out."; \
	fi

mediapipe: venv
	@if [ -e $(MEDIAPIPE)/.installed ]; then :; \
	elif $(BIN)/python -m venv --clear $(MEDIAPIPE) && \
	  $(MEDIAPIPE)/bin/python $(PIP_INSTALL) "mediapipe==0.10.31"; then \
	  touch $(MEDIAPIPE)/.installed; \
	else \
	  echo "MediaPipe could not be installed on this machine: tests on it are left out."; \
	fi

litertjs:
	@if [ -e $(LITERTJS)/.installed ]; then :; \
	elif [ -z "$(CHROMIUM)" ]; then \
	  echo "There is no Chromium (apt-get install chromium): tests on LiteRT.js are left out."; \
	elif command -v npm >/dev/null && npm install --silent --ignore-scripts --no-audit --no-fund --prefix $(LITERTJS) @litertjs/core@2.5.3 >/dev/null; then \
	  touch $(LITERTJS)/.installed; \
	else \
	  echo "LiteRT.js could not be installed by npm: tests on it are left out."; \
	fi

# Of PyTorch only its CPU part is used, but the package brings all of it.
peers: venv
	@if [ -e $(PEERS)/.installed ]; then :; \
	elif $(BIN)/python -m venv --clear $(PEERS) && \
	  $(PEERS)/bin/python $(PIP_INSTALL) "torch>=2.9" "openvino>=2026.0" numpy; then \
	  touch $(PEERS)/.installed; \
	else \
	  echo "PyTorch and OpenVINO could not be installed on this machine: they are left out."; \
	fi

runtimes: old-runtime mediapipe litertjs

test: venv runtimes
	@if [ -z "$$EDGELSTM_RUNTIMES" ]; then \
	  for pair in tflite-runtime=$(OLD_RUNTIME)/bin/python mediapipe=$(MEDIAPIPE)/bin/python litertjs=$(LITERTJS) \
	    pytorch=$(PEERS)/bin/python openvino=$(PEERS)/bin/python; do \
	    place=$${pair#*=}; [ -e "$${place%/bin/python}/.installed" ] && \
	      EDGELSTM_RUNTIMES="$${EDGELSTM_RUNTIMES:+$$EDGELSTM_RUNTIMES,}$${pair%%=*}=$(CURDIR)/$$place"; \
	  done; export EDGELSTM_RUNTIMES; \
	fi; $(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup $(ARGS)

# Types are checked on the installed package: in this folder edgelstm.converters and edgelstm.targets do not exist.
lint: venv
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@rm -rf build/installed
	@$(BIN)/python $(PIP_INSTALL) --no-deps --target build/installed .
	@cd build/installed && "$(CURDIR)/$(BIN)/mypy" --config-file "$(CURDIR)/pyproject.toml" \
	  --cache-dir "$(CURDIR)/.mypy_cache"

format: venv
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: venv old-runtime peers
	@if [ -z "$$EDGELSTM_RUNTIMES" ]; then \
	  for pair in tflite-runtime=$(OLD_RUNTIME) pytorch=$(PEERS) openvino=$(PEERS); do \
	    place=$${pair#*=}; [ -e "$$place/.installed" ] && \
	      EDGELSTM_RUNTIMES="$${EDGELSTM_RUNTIMES:+$$EDGELSTM_RUNTIMES,}$${pair%%=*}=$(CURDIR)/$$place/bin/python"; \
	  done; export EDGELSTM_RUNTIMES; \
	fi; $(BIN)/python benchmarks/latency.py $(ARGS)

clean:
	@rm -rf build dist $(DEMO_OUTPUT) .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
