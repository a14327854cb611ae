# The whole build.  `make help` lists the targets.
CC       ?= gcc
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

# Who links what: the daemon links no BLAS; the quantizer links no HTTP, SQL or curl.
BASE     := $(wildcard core/base/*.c)
RECIPE   := $(wildcard core/recipe/*.c)
CORE     := $(filter-out core/main.c,$(wildcard core/*.c core/*/*.c core/*/*/*.c))
DAEMON   := $(filter-out server/main.c,$(wildcard server/*.c)) $(wildcard api/*.c storage/*.c) $(BASE) $(RECIPE)
LIBS_CORE   = -lopenblas -ljansson -lnettle -lz -lm
LIBS_DAEMON = -lmicrohttpd -lsqlite3 -ljansson -lnettle -lm

UNIT_CORE   := $(patsubst tests/unit/core/%.c,$(O)/unit/core/%,$(wildcard tests/unit/core/test_*.c))
UNIT_DAEMON := $(patsubst tests/unit/daemon/%.c,$(O)/unit/daemon/%,$(wildcard tests/unit/daemon/test_*.c))
UNIT      = $(UNIT_CORE) $(UNIT_DAEMON)
obj       = $(patsubst %.c,$(O)/%.o,$(1))

.PHONY: all
all: $(O)/repquant $(O)/repquantd    ## build both programs (default)

# Archives, so that a unit test links only what it reaches.
$(O)/libcore.a: $(call obj,$(CORE))
	rm -f $@ && ar rcs $@ $^
$(O)/libdaemon.a: $(call obj,$(DAEMON))
	rm -f $@ && ar rcs $@ $^
$(O)/repquant: $(call obj,core/main.c) $(O)/libcore.a
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -o $@
$(O)/repquantd: $(call obj,server/main.c) $(O)/libdaemon.a
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_DAEMON) -o $@

$(O)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -DVERSION='"$(VERSION)"' -c $< -o $@
# The loops the compiler vectorises are worth -O3.
$(call obj,$(wildcard core/kernel/*.c)): OPT += -O3

# Each unit test is one program: tests/unit/<side>/test_<name>.c with that side's code.
$(UNIT_CORE): $(O)/unit/core/%: $(O)/tests/unit/core/%.o $(O)/libcore.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_CORE) -lcmocka -o $@
$(UNIT_DAEMON): $(O)/unit/daemon/%: $(O)/tests/unit/daemon/%.o $(O)/libdaemon.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS_ALL) $^ $(LIBS_DAEMON) -lcmocka -o $@

.PHONY: unit
unit: $(UNIT)    ## build and run the unit tests
	@set -e; for t in $(UNIT); do echo "== $$t"; $$t; done

-include $(shell find $(O) -name '*.d' 2>/dev/null)
