# Everything a newcomer needs: `make demo` runs a curriculum, `make test` checks the project.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test test-full test-versions chaos lint clean

install: $(STAMP)

# torch comes first and pinned: anything looser would pull gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,deepspeed,dev]'
	touch $(STAMP)

demo: install
	$(BIN)/stepladder run examples/rooms.yaml

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/pytest -m "not full" --numprocesses 2 --dist worksteal

# Everything that `make test` leaves out for time: about an hour on two cores.
test-full: install
	$(BIN)/pytest -m full --timeout 1200
	$(BIN)/pytest tests/faults --numprocesses 2

# Random faults, each until the same command has ended well: about half an hour on two cores. `make test` has ten of them.
CHAOS_SEED := 349
CHAOS_FAULTS := 100

chaos: install
	CHAOS_SEED=$(CHAOS_SEED) CHAOS_FAULTS=$(CHAOS_FAULTS) $(BIN)/pytest tests/chaos --numprocesses 2 --dist worksteal

# The worker under older versions of transformers, each in an environment of its own, without Stepladder in it.
OLD := 4.46 4.49

test-versions: install $(OLD:%=$(VENV)-transformers-%/.installed)
	$(BIN)/pytest tests/versions

$(VENV)-transformers-%/.installed: tests/versions/%.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(OLD:%=$(VENV)-transformers-%) runs
