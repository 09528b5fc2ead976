# What is done often, by one word each. `make help` lists it.
PRESET ?= debug
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
FUZZ_TARGETS = $(notdir $(wildcard fuzz/corpus/*))
FORMATTED = $(shell git ls-files '*.cc' '*.h')

.DEFAULT_GOAL := help
.PHONY: help build release test test-integration chaos check bench bench-memory run-example docs format tidy fuzz clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-17s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

build:  ## compile everything (PRESET=debug)
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET) -j $(JOBS)

release:  ## compile build/release/millrace as users run it
	$(MAKE) build PRESET=release

test: build  ## build, then every unit test and rule of STYLE.md
	ctest --preset $(PRESET) -j $(JOBS)

test-integration: release  ## real servers, crashes and faults against build/release
	/usr/bin/python3 -m pytest -q -p no:cacheprovider tests/integration

chaos: release  ## random statements and kill -9, then faults of every peer, half an hour each (SECONDS=, SEED=)
	tests/chaos/random_workload.py --ddl --seconds $(or $(SECONDS),1800) $(if $(SEED),--seed $(SEED))
	tests/chaos/random_faults.py --quiet --seconds $(or $(SECONDS),1800) $(if $(SEED),--seed $(SEED))

bench: release  ## memory of the engine, then throughput and latency on real servers, as tables
	build/release/src/millrace/pipeline/engine_memory_bench
	/usr/bin/python3 benchmarks/pipeline/bench.py

bench-memory: release  ## peak memory against its bound on real servers, as a table; 20 GB of disk
	/usr/bin/python3 benchmarks/pipeline/memory_bench.py

run-example:  ## the engagement example with a load, on this machine
	./setup.sh

docs: release  ## write docs/reference and the tests of docs/CASES.md again
	for page in config metrics errors; do build/release/millrace docs $$page > docs/reference/$$page.md; done
	tools/case_table.py --write

check: test tidy  ## what a change has to pass: test, then tidy

format:  ## lay out the sources as tidy.format asks
	clang-format-14 -i $(FORMATTED)

tidy:  ## compile with clang-tidy, which names all its findings; slow, then looks at what changed
	cmake --preset tidy
	cmake --build --preset tidy -j $(JOBS) -- -k 0

fuzz:  ## search for inputs that break a parser, FUZZ_SECONDS a target; see fuzz/README.md
	cmake --preset fuzz
	cmake --build --preset fuzz -j $(JOBS)
	cd build/fuzz && for target in $(FUZZ_TARGETS); do \
	  mkdir -p found/$$target && \
	  fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=1024 -malloc_limit_mb=256 \
	    -timeout=10 -print_final_stats=1 found/$$target $(CURDIR)/fuzz/corpus/$$target || exit 1; \
	done

clean:  ## delete build/
	rm -rf build
