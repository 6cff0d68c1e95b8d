# Every target sets up what it needs and leaves stamps in .venv/.stamps, so that a second run starts at once.
# Needed from the system: Python 3.10 to 3.12 with venv and headers, a C++ compiler, CMake and make:
#   apt-get install python3-dev python3-venv build-essential cmake

PYTHON ?= python3
WORKERS ?= $(shell nproc)
VENV := $(CURDIR)/.venv
STAMPS := $(VENV)/.stamps
BIN := $(VENV)/bin
BUILD := $(VENV)/.build/sam2s_msgs
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
MESSAGES := $(sort $(wildcard sam2s_msgs/*.* sam2s_msgs/cmake/* sam2s_msgs/msg/* sam2s_msgs/srv/*))

# A sourced ROS distribution, or a parent that runs in another virtual environment, must not leak into this one.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE VIRTUAL_ENV
ifdef ROS_DISTRO
unexport ROS_DISTRO PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH RMW_IMPLEMENTATION
endif

.DELETE_ON_ERROR:
.PHONY: help setup setup-dev demo test test-slow bench lint format clean

help:
	@echo "make demo       replay the bundled surgical video through the tracker node; results in out/demo"
	@echo "make test       all tests but the slow ones        make test-slow  the slow ones"
	@echo "make bench      tracker speed, and images per second through DDS"
	@echo "make lint       ruff and mypy                      make format     let ruff rewrite the code"
	@echo "make setup      only the set-up (.venv)            make clean      remove .venv, build/ and out/"

setup: $(STAMPS)/messages $(STAMPS)/project
setup-dev: setup $(STAMPS)/develop

# Images need the Fast DDS profile (see config/fastdds_profile.xml); the allocator settings keep large messages from being
# given back to the system and mapped again for every image.
demo: export FASTDDS_DEFAULT_PROFILES_FILE := $(CURDIR)/config/fastdds_profile.xml
demo: export MALLOC_MMAP_THRESHOLD_ := 268435456
demo: export MALLOC_TRIM_THRESHOLD_ := 1073741824
demo: export MALLOC_TOP_PAD_ := 67108864
demo bench: export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST

demo: setup
	$(BIN)/sam2s demo --out out/demo

bench: setup
	$(BIN)/sam2s bench

# Most tests share the CPUs, one thread each. Those that count images or seconds come after, alone.
# A worker that crashes ends the run: pytest-xdist 3.8 may wait for ever for the one that replaces it (its issue 1378).
test: setup-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not alone" -n $(WORKERS) --dist loadfile --max-worker-restart 0
	$(BIN)/python -m pytest -m "not slow and alone"

test-slow: setup-dev
	$(BIN)/python -m pytest -m slow

lint: $(STAMPS)/develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMPS)/develop
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build install log out

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { \
	  echo "error: $(PYTHON) is `$(PYTHON) --version 2>&1`, but Python 3.10, 3.11 or 3.12 is needed;" \
	       "name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@for tool in c++ cmake; do command -v $$tool > /dev/null || { \
	  echo "error: $$tool not found: apt-get install python3-dev python3-venv build-essential cmake" >&2; exit 1; }; done
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements.txt constraints.txt $(STAMPS)/venv
	@echo "Installing requirements.txt into .venv; the first time, some minutes of download"
	@$(PIP) install -r requirements.txt
	@touch $@

$(STAMPS)/develop: requirements-dev.txt requirements-ray.txt requirements-reference.txt $(STAMPS)/runtime
	@echo "Installing requirements-dev.txt and the public SAM 2 reference into .venv"
	@$(PIP) install -r requirements-dev.txt
	@SAM2_BUILD_CUDA=0 $(PIP) install --no-deps --no-build-isolation -r requirements-reference.txt
	@touch $@

$(STAMPS)/project: setup.py setup.cfg $(STAMPS)/runtime
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(STAMPS)/messages: $(MESSAGES) $(STAMPS)/runtime
	@echo "Building sam2s_msgs with rosidl; takes up to a minute, log in $(BUILD)/build.log"
	@mkdir -p $(BUILD)
	@export AMENT_PREFIX_PATH=$(VENV) CMAKE_PREFIX_PATH=$(VENV); { \
	  cmake -S sam2s_msgs -B $(BUILD) -G Ninja -DCMAKE_MAKE_PROGRAM=$(BIN)/ninja -DBUILD_TESTING=OFF \
	    -DCMAKE_INSTALL_PREFIX=$(VENV) -DPython3_EXECUTABLE=$(BIN)/python && \
	  cmake --build $(BUILD) --target install; } > $(BUILD)/build.log 2>&1 || \
	  { tail -n 40 $(BUILD)/build.log >&2; echo "error: sam2s_msgs did not build, see $(BUILD)/build.log" >&2; exit 1; }
	@touch $@
