# The whole build.  `make help` lists the targets; `make V=1` shows the commands.
ifeq ($(origin CC),default)
CC        = gcc
endif
O        ?= build
WARN      = -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wformat=2 -Wpointer-arith -Wvla \
            -Walloca -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wundef
HARDEN    = -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE -ftrivial-auto-var-init=zero
FORTIFY   = -D_FORTIFY_SOURCE=2
# Contraction off: an fma appears only where it is written, so results do not depend on -march.
NUMERIC   = -ffp-contract=off -fno-math-errno -fno-trapping-math
OPT      ?= -O2 -g
CFLAGS_ALL = -std=gnu17 -D_GNU_SOURCE -I. -MMD -MP -pthread $(OPT) $(WARN) $(HARDEN) $(FORTIFY) $(NUMERIC) $(SAN) $(CFLAGS)
LDFLAGS_ALL = -pie -Wl,-z,relro,-z,now -pthread $(SAN) $(LDFLAGS)

VERSION  := 0.1.0
# See core/base/version.h.
ENGINE   := $(sort $(wildcard core/*.[ch] core/*/*.[ch] core/*/*/*.[ch]))
BUILD_ID := $(shell sha256sum $(ENGINE) | sha256sum | cut -c 1-12)

# Who links what: the daemon links no BLAS; the quantizer links no HTTP, SQL or curl; the client nothing but curl and jansson.
BASE     := $(wildcard core/base/*.c)
RECIPE   := $(wildcard core/recipe/*.c)
CORE     := $(filter-out core/main.c,$(wildcard core/*.c core/*/*.c core/*/*/*.c))
DAEMON   := $(filter-out server/main.c,$(wildcard server/*.c)) $(wildcard api/*.c storage/*.c) $(BASE) $(RECIPE)
CLIENT   := $(filter-out client/main.c,$(wildcard client/*.c)) $(foreach name,buf err io json utf8,core/base/$(name).c)
LIBS_CORE   = -lopenblas -ljansson -lnettle -ljpeg -lpng16 -lz -lm
LIBS_DAEMON = -lmicrohttpd -lsqlite3 -lcurl-gnutls -ljansson -lnettle -lm
LIBS_CLIENT = -lcurl-gnutls -ljansson -lm

UNIT_CORE   := $(patsubst tests/unit/core/%.c,$(O)/unit/core/%,$(wildcard tests/unit/core/test_*.c))
UNIT_DAEMON := $(patsubst tests/unit/daemon/%.c,$(O)/unit/daemon/%,$(wildcard tests/unit/daemon/test_*.c))
UNIT_CLIENT := $(patsubst tests/unit/client/%.c,$(O)/unit/client/%,$(wildcard tests/unit/client/test_*.c))
UNIT      = $(UNIT_CORE) $(UNIT_DAEMON) $(UNIT_CLIENT)
TOOLS_CORE := $(O)/tools/raise_opset
obj       = $(patsubst %.c,$(O)/%.o,$(1))
show      = @$(if $(V),,printf '  %-5s %s\n' $(1) $(2);) $(if $(V),set -x;)
# Make again, on all cores unless -j was given.
AGAIN     = +@$(MAKE) --no-print-directory $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
# Beside the ordinary tree.  Instrumented code makes the compiler see truncations and uses that are none.
ASAN      = CFLAGS=-Wno-error O=build/asan OPT='-O1 -g -fno-omit-frame-pointer' FORTIFY= \
            SAN='-fsanitize=address,undefined -fno-sanitize-recover=all'
COVERAGE  = CFLAGS=-Wno-error O=build/coverage OPT='-O1 -g' FORTIFY= SAN='--coverage -fprofile-update=prefer-atomic'
# Unoptimized: what is analysed is what is written.  A finding is an error, as every warning is.
ANALYZE   = O=build/analyze OPT='-O0 -g -fanalyzer' FORTIFY=
TSAN      = CFLAGS=-Wno-error O=build/tsan OPT='-O1 -g -fno-omit-frame-pointer' FORTIFY= SAN='-fsanitize=thread'

.PHONY: all programs
all:    ## build the programs: build/repquant, build/repquantd and build/repquantctl (default)
	$(AGAIN) programs
programs: $(O)/repquant $(O)/repquantd $(O)/repquantctl

$(O)/repquant: $(call obj,core/main.c) $(O)/libcore.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -o $@
$(O)/repquantd: $(call obj,server/main.c) $(O)/libdaemon.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_DAEMON) -o $@
$(O)/repquantctl: $(call obj,client/main.c) $(O)/libclient.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CLIENT) -o $@
# Archives, so that a unit test links only what it reaches.
$(O)/libcore.a: $(call obj,$(CORE))
$(O)/libdaemon.a: $(call obj,$(DAEMON))
$(O)/libclient.a: $(call obj,$(CLIENT))
$(O)/libcore.a $(O)/libdaemon.a $(O)/libclient.a $(O)/libreaders.a:
	$(call show,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(O)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call show,CC,$<)$(CC) $(CFLAGS_ALL) -DVERSION='"$(VERSION)"' $(DEFINES) -c $< -o $@
$(O)/core/base/version.o $(O)/core/base/version.tidy: DEFINES = -DENGINE_VERSION='"$(VERSION)+$(BUILD_ID)"'
$(O)/core/base/version.o: $(O)/build-id
.PHONY: always
$(O)/build-id: always
	@mkdir -p $(@D)
	@echo '$(BUILD_ID)' | cmp -s - $@ || echo '$(BUILD_ID)' > $@
# The loops the compiler vectorises are worth -O3.
$(call obj,$(wildcard core/kernel/*.c core/exec/op_*.c core/learn/*.c core/quant/*.c core/method/*.c core/sweep/*.c core/report/*.c)): OPT += -O3
# Files that become part of the program (.incbin).
CHART_JS  ?= /usr/share/javascript/chart.js/chart.min.js
$(call obj,api/embed.c): $(wildcard api/dashboard/*) api/openapi.json $(CHART_JS) $(O)/offline.js
$(O)/api/embed.o $(O)/api/embed.tidy: DEFINES = -DCHART_JS='"$(CHART_JS)"' -DOFFLINE_JS='"$(O)/offline.js"'
# One script of modules that import only each other: what they import is there, what they export is not needed.
$(O)/offline.js: $(patsubst %,api/dashboard/%.js,dom chart overview verdict report)
	@mkdir -p $(@D)
	$(call show,JOIN,$@)sed -e '/^import .*;$$/d' -e 's/^export //' $^ > $@

# What a sanitizer finds goes to $(O)/reports.
REPORTS   = $(if $(findstring -fsanitize=,$(SAN)),$(O)/tests/tools/reports.o)
$(O)/tests/tools/reports.o: DEFINES = -DREPORTS='"$(abspath $(O))/reports"'
$(O)/repquant $(O)/repquantd $(O)/repquantctl $(UNIT): $(REPORTS)

# Each unit test is one program: tests/unit/<side>/test_<name>.c with that side's code.
$(UNIT_CORE): $(O)/unit/core/%: $(O)/tests/unit/core/%.o $(O)/libcore.a
	@mkdir -p $(@D)
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -lcmocka -o $@
$(UNIT_DAEMON): $(O)/unit/daemon/%: $(O)/tests/unit/daemon/%.o $(O)/libdaemon.a
	@mkdir -p $(@D)
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_DAEMON) -lcmocka -o $@
$(UNIT_CLIENT): $(O)/unit/client/%: $(O)/tests/unit/client/%.o $(O)/libclient.a
	@mkdir -p $(@D)
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CLIENT) -lcmocka -o $@

# Stand-ins and fault tools of the tests, one file each.
$(O)/tools/%: $(O)/tests/tools/%.o $(O)/libdaemon.a
	@mkdir -p $(@D)
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ -ljansson -lnettle -lm -o $@
# Those that show a part of the quantizer to the API tests.
$(TOOLS_CORE): $(O)/tools/%: $(O)/tests/tools/%.o $(O)/libcore.a
	@mkdir -p $(@D)
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -o $@
# The quantizer's main() under another name, beside fake_job's.
$(O)/tools/repquant_main.o: $(call obj,core/main.c)
	@mkdir -p $(@D)
	$(call show,COPY,$@)objcopy --redefine-sym main=repquant_main $< $@
$(O)/tools/either_job: $(call obj,tests/tools/either_job.c) $(O)/tools/repquant_main.o $(O)/libcore.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -o $@

.PHONY: unit unit-programs test-tools
unit:    ## build and run the unit tests
	$(AGAIN) unit-programs
	@scripts/run-unit $(TESTED)
# PART=1 to 3 for scripts/test-long: the core's first and second half by name, and the rest.
PART_1    = $(filter $(foreach l,a b c d e f g h i j k l,$(O)/unit/core/test_$(l)%),$(UNIT_CORE))
PART_2    = $(filter-out $(PART_1),$(UNIT_CORE))
PART_3    = $(UNIT_DAEMON) $(UNIT_CLIENT)
TESTED    = $(if $(PART),$(PART_$(PART)),$(UNIT))
unit-programs: $(UNIT)
test-tools: $(TOOLS_CORE) $(O)/tools/either_job

.PHONY: demo run test test-browser test-long check format
demo:    ## quantize the example over REST and run the result in ONNX Runtime; installs what is missing
	@scripts/setup
	$(AGAIN) programs
	@scripts/demo

run: all    ## start the daemon on 127.0.0.1:8080, data in build/data
	@scripts/run-daemon

test:    ## everything that takes minutes: check, unit tests, API tests with real models, a few seconds of fuzzing; installs what is missing
	@scripts/setup
	@$(MAKE) --no-print-directory check
	$(AGAIN) programs unit-programs test-tools
	@scripts/run-unit $(UNIT)
	@scripts/run-api build $(PYTEST_ARGS)
	@FUZZ_SEED=1 $(MAKE) --no-print-directory fuzz FUZZ_SECONDS=4

test-browser:    ## the dashboard in Debian's Chromium; installs what is missing; screenshots go to build/browser
	@scripts/setup browser
	$(AGAIN) programs
	@scripts/run-browser build $(PYTEST_ARGS)

test-long:    ## the next unfinished pieces of what takes longer; run it again until it says that all are done
	@scripts/test-long

check:    ## layers, banned functions, long lines
	@scripts/check-includes
	@scripts/check-style

format:    ## clang-format on the lines changed since the last commit
	git clang-format-14 --quiet

.PHONY: asan asan-programs tsan tsan-unit tsan-api fuzz bench
asan:    ## unit and API tests under AddressSanitizer and UBSan, in build/asan
	$(AGAIN) $(ASAN) programs unit-programs test-tools
	$(AGAIN) $(ASAN) unit
	@scripts/run-api build/asan $(PYTEST_ARGS)

asan-programs:
	$(AGAIN) $(ASAN) programs

tsan: tsan-unit tsan-api    ## unit and API tests under ThreadSanitizer, in build/tsan
tsan-unit:
	$(AGAIN) $(TSAN) unit-programs
	$(AGAIN) $(TSAN) unit
# PART=1 to 3 for scripts/test-long: the daemon, first and second half by name, and the quantizer.  What is in no part would take hours there and is
# in others' threads: the operators of test_onnx_node_tests are those of test_ops_vs_ort, the loops of test_quantized_linear, test_distillation and
# test_recipe_matrix those of test_end_to_end and test_zoo, and real models only have more of them.
TSAN_1   = test_access or test_api or test_attacks or test_audit or test_backup or test_bodies or test_client or test_daemon
TSAN_3   = test_bad_input or test_einsum or test_end_to_end or test_half or test_images or test_norms or test_ops_vs_ort or test_opset or test_ragged \
           or test_written_out or test_zoo
TSAN_NOT = test_onnx_node_tests or test_quantized_linear or test_distillation or test_recipe_matrix or test_real_models or vision_transformer
TSAN_2   = not ($(TSAN_1) or $(TSAN_3))
tsan-api:
	$(AGAIN) $(TSAN) programs test-tools
	@scripts/run-api build/tsan -k '($(or $(TSAN_$(PART)),test)) and not ($(TSAN_NOT))' $(PYTEST_ARGS)

ANALYZED := $(sort $(filter %.c,$(wildcard core/*.c core/*/*.c core/*/*/*.c api/*.c server/*.c storage/*.c client/*.c)))
.PHONY: analyze analyzed
analyze:    ## gcc -fanalyzer and clang-tidy (.clang-tidy) on all sources: no findings; what is unchanged since the last run is not done again
	@scripts/setup analyze
	$(AGAIN) -k $(ANALYZE) analyzed
analyzed: $(call obj,$(ANALYZED)) $(ANALYZED:%.c=$(O)/%.tidy)
# Behind the object, which knows the headers.
$(O)/%.tidy: %.c $(O)/%.o .clang-tidy
	$(call show,TIDY,$<)clang-tidy-14 --quiet $< -- -std=gnu17 -D_GNU_SOURCE -I. -pthread -DVERSION='""' $(DEFINES) && touch $@

# Variables that are zero because the compiler makes them so (-ftrivial-auto-var-init) would hide from valgrind what the source forgets.
MEMCHECK  = O=build/valgrind HARDEN='$(filter-out -ftrivial%,$(HARDEN))'
# valgrind knows no AVX-512: code that asks the processor (OpenBLAS, our clones) sees one without.  It calls a function for each fused
# multiplication and addition, so OpenBLAS gets kernels from before them: test_gemm takes a quarter of the time that Haswell's take.
VALGRIND  = LD_PRELOAD=$(abspath $(O))/tools/children.so OPENBLAS_NUM_THREADS=1 OPENBLAS_CORETYPE=Sandybridge \
            valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
            --fair-sched=yes --suppressions=tests/valgrind/suppressions
.PHONY: valgrind valgrind-run valgrind-session
valgrind:    ## unit tests under valgrind: no errors, no definite leaks; tests whose program is unchanged since it passed are not run again
	@scripts/setup analyze
	$(AGAIN) $(MEMCHECK) unit-programs
	$(AGAIN) -k $(MEMCHECK) valgrind-run
valgrind-session:    ## a daemon and its children under valgrind, from an upload to a quantized model and SIGTERM
	@scripts/setup
	@scripts/setup analyze
	$(AGAIN) $(MEMCHECK) programs build/valgrind/tools/children.so
	@scripts/run-api build/valgrind -m long -k under_valgrind $(PYTEST_ARGS)
# Those that take longest begin first: the first of them alone takes as long as all others of its part together.
LONGEST  = $(patsubst %,$(O)/unit/core/test_%,sweep_resume blocks sweep levels linalg)
longest_first = $(filter $(1),$(LONGEST)) $(filter-out $(LONGEST),$(1))
valgrind-run: $(addsuffix .valgrind,$(call longest_first,$(TESTED)))
$(O)/tools/children.so: tests/valgrind/children.c
	@mkdir -p $(@D)
	$(call show,CC,$<)$(CC) -std=gnu17 -D_GNU_SOURCE -O1 -g $(WARN) -shared -fPIC -pthread $< -o $@
$(O)/unit/%.valgrind: $(O)/unit/% $(O)/tools/children.so tests/valgrind/suppressions
	$(call show,VALG,$<)$(VALGRIND) $< > $@.log 2>&1 || { cat $@.log; exit 1; }; touch $@

# What reads strangers' bytes or text: models, data sets, recipes, JSON, requests, addresses.
PARSERS  := $(foreach folder,data onnx graph recipe,$(wildcard core/$(folder)/*.c)) core/base/json.c server/http_head.c server/outbound_address.c api/request.c
.PHONY: coverage
coverage:    ## statement coverage of the parsers (95 % at least) and of the rest (85 %), by the unit tests and part of the API tests; build/coverage/coverage.txt has all files
	@scripts/setup coverage
	$(AGAIN) $(COVERAGE) programs unit-programs test-tools
	@scripts/coverage build/coverage '$(PARSERS)' $(UNIT:$(O)/%=build/coverage/%)

FUZZERS  := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
# Those of the daemon's side.
FUZZ_DAEMON := address backup child_event details http inventory job request state
# Those whose inputs are changed by what knows their format.
FUZZ_MUTATED := data graph onnx picture
MUTATORS := $(patsubst %.c,build/fuzz/%.o,$(wildcard tests/fuzz/mutate*.c))
fuzz:    ## libFuzzer on every parser, 60 seconds each (FUZZ_SECONDS=n for another time)
	@scripts/setup fuzz
	$(AGAIN) fuzz-programs
	@for f in $(FUZZERS); do scripts/run-fuzz $$f $(or $(FUZZ_SECONDS),60) || exit 1; done

.PHONY: fuzz-programs
fuzz-programs: $(O)/libcore.a
	@$(MAKE) --no-print-directory CC=clang-14 O=build/fuzz OPT='-O1 -g' FORTIFY= HARDEN= WARN=-w \
	    SAN='-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all' $(FUZZERS:%=build/fuzz/fuzz_%)
# What reads strangers' bytes; the kernels are written for gcc's vectors, and come from the ordinary build.
READERS  := $(foreach folder,base data onnx graph recipe,$(wildcard core/$(folder)/*.c)) $(patsubst %,core/quant/%.c,quantizer levels observer weight_grid)
$(O)/libreaders.a: $(call obj,$(READERS))
FUZZ_LINK = $(call show,LD,$@)clang-14 -fsanitize=address,undefined,fuzzer $^
$(FUZZ_DAEMON:%=build/fuzz/fuzz_%): build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o build/fuzz/libdaemon.a
	$(FUZZ_LINK) $(LIBS_DAEMON) -lcmocka -o $@
$(FUZZ_MUTATED:%=build/fuzz/fuzz_%): build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o $(MUTATORS) build/fuzz/libreaders.a
	$(FUZZ_LINK) $(LIBS_CORE) -o $@
build/fuzz/fuzz_codes: build/libcore.a
build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o build/fuzz/libreaders.a
	$(FUZZ_LINK) $(LIBS_CORE) -o $@

BENCHES  := $(patsubst bench/%.c,$(O)/bench/%,$(filter-out bench/queue.c,$(wildcard bench/*.c)))
.PHONY: bench-programs
bench:    ## measure the kernels, and quantize real models beside ONNX Runtime's own quantizer
	@scripts/setup
	$(AGAIN) programs bench-programs
	@unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE; for b in $(filter-out %/pass,$(BENCHES)) bench/claims.py bench/float_pass.py 'bench/passes.py' 'bench/speed.py' 'bench/compare.py'; do \
	    echo "== $$b"; case $$b in *.py) .venv/bin/python $$b ;; *) $$b ;; esac || exit 1; done
bench-programs: $(BENCHES) $(O)/bench/queue
$(O)/bench/queue: $(O)/bench/queue.o $(O)/libdaemon.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_DAEMON) -o $@
$(BENCHES): $(O)/bench/%: $(O)/bench/%.o $(O)/libcore.a
	$(call show,LD,$@)$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -o $@

.PHONY: help clean
help:    ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | sort | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

clean:    ## remove build/ (the Python environment .venv stays)
	rm -rf build

.SECONDARY:    # keep objects that only a pattern rule mentions
-include $(shell find $(O) -name '*.d' 2>/dev/null)
