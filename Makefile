# What is done often, by one word each. `make help` lists it.
PRESET ?= debug
JOBS ?= $(shell nproc)
FORMATTED = $(shell git ls-files '*.cc' '*.h')

.DEFAULT_GOAL := help
.PHONY: help build release test check format tidy clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build:  ## compile everything (PRESET=debug)
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET) -j $(JOBS)

release:  ## compile build/release/millrace as users run it
	$(MAKE) build PRESET=release

test: build  ## build, then every unit test and rule of STYLE.md
	ctest --preset $(PRESET) -j $(JOBS)

check: test tidy  ## what a change has to pass: test, then tidy

format:  ## lay out the sources as tidy.format asks
	clang-format-14 -i $(FORMATTED)

tidy:  ## compile with clang-tidy; slow
	cmake --preset tidy
	cmake --build --preset tidy -j $(JOBS)

clean:  ## delete build/
	rm -rf build
