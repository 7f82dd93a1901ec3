# Each target does all of its own set-up: it needs Python 3.11, pip, make and git, and nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
export DAGSTER_HOME := $(CURDIR)/data/dagster_home
export THREAD_EMBED_ROOT ?= $(CURDIR)
export TOKENIZERS_PARALLELISM := false
export HF_HUB_DISABLE_TELEMETRY := 1

MIXES := all,without_irc,without_slack,without_dialogue
REAL := irc_disentangle,slack_dev_chats,topical_chat,duraspace_irc

.PHONY: demo real transfer reranker ui automatic manual test check audit docs benchmark clean

demo: $(INSTALLED)  ## the whole graph on the sample workspace, in about ten minutes on two cores
	$(BIN)/python -m thread_embed_assets.defs.run_graph --sources sample_workspace --mix sample_workspace --profile quick

real: $(INSTALLED)  ## the same graph on IRC, Slack and Topical-Chat and #duraspace (and the sample); goes on where it stopped
	$(BIN)/python -m thread_embed_assets.defs.run_graph --sources $(REAL),sample_workspace --mix all --profile quick

transfer: $(INSTALLED)  ## real, and models that never saw IRC, Slack or dialogues, beside the one that saw all
	$(BIN)/python -m thread_embed_assets.defs.run_graph --sources $(REAL),sample_workspace --mix $(MIXES) --profile quick

reranker: $(INSTALLED)  ## the thread reranker on quick data: simulated users and the sample workspace
	$(BIN)/python -m thread_embed_assets.defs.run_graph --sources sample_workspace --reranker quick

ui: $(INSTALLED)  ## the Dagster UI on the instance of demo and real, at http://127.0.0.1:3000
	$(BIN)/dagster instance concurrency set gpu 1
	$(BIN)/python -m thread_embed_assets.defs.ui --host 127.0.0.1 --port $${PORT:-3000}

automatic: $(INSTALLED)  ## retrain by itself, while `make ui` runs: weekly, on new exports, on enough new conversations; tell of failures
	$(BIN)/dagster schedule start --start-all --workspace workspace.yaml
	$(BIN)/dagster sensor start --start-all --workspace workspace.yaml

manual: $(INSTALLED)  ## no longer by itself
	$(BIN)/dagster schedule stop weekly_retraining --workspace workspace.yaml
	$(BIN)/dagster sensor stop changed_exports --workspace workspace.yaml
	$(BIN)/dagster sensor stop enough_new_conversations --workspace workspace.yaml
	$(BIN)/dagster sensor stop run_failure --workspace workspace.yaml

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(INSTALLED)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(INSTALLED)  ## installed packages as pinned, and no known holes in them, where an advisory service can be asked
	$(BIN)/python .ci/audit.py

docs: $(INSTALLED)  ## thread_embed_assets/configuration.md, from the types
	$(BIN)/python -m thread_embed_assets.defs.configuration

benchmark: $(INSTALLED)  ## messages/s and pairs/s of one core, as JSON
	$(BIN)/python -m thread_embed_assets_tests.performance.throughput

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:  ## removes the environment; data/ and models/ stay
	rm -rf $(VENV) build *.egg-info
