# Every target makes what it needs; PYTHON chooses the interpreter of .venv.
# pip compiles nothing ahead: most modules of the libraries are never imported.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

DEMO_CONFIGS := configs/cnn_photos.py:small,configs/diffusion_photos.py:small,configs/gan_photos.py:small

.PHONY: demo test test-slow lint clean

demo: $(VENV)/installed
	$(BIN)/python -m deblur_jax.compare --configs=$(DEMO_CONFIGS) \
	  --output=runs/demo

test: $(VENV)/installed-test lint
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'not slow' tests

test-slow: $(VENV)/installed-slow
	$(BIN)/python -m pytest -m slow tests

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build dist *.egg-info runs/demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --editable .
	touch $@

$(VENV)/installed-test: setup.py | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]'
	touch $@ $(VENV)/installed

$(VENV)/installed-slow: $(VENV)/installed-test
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[bench,perceptual]'
	touch $@
