# SPDX-License-Identifier: MIT
# Builds doppel and its tests. Source files are found by folder: adding one edits no list.
#   make            build/doppel            make SAN=1      with ASan and UBSan, in build-san/
#   make tests      the unit tests          make bench      the table against native and the peers
#   make fuzz       fuzz targets, a while   make soak       what is too long for ./check
#   make clean
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
.SECONDARY:

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
BUILD ?= $(if $(SAN),build-san,build)
WARN := -Wall -Wextra -Wshadow=local -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Werror
ifneq (,$(findstring clang,$(CC)))
WARN := $(filter-out -Wshadow=local,$(WARN))
endif
OPT ?= -O2 -g
CFLAGS := -std=gnu17 $(OPT) $(WARN) -D_GNU_SOURCE -Isrc -fno-strict-aliasing -fno-omit-frame-pointer -mno-red-zone -pthread
LDFLAGS := -pthread
LDLIBS := -lZydis -lm
# The interpreter's hot functions: tail calls from one to the next, no frame.
HOT := -fomit-frame-pointer -fno-stack-protector -fcf-protection=none
ifdef SAN
CFLAGS += -DTAIL_CALLS=0 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-sanitize=alignment
LDFLAGS += -fsanitize=address,undefined
HOT :=
endif

SRC := $(wildcard src/*.c src/*/*.c src/*/*/*.c src/*/*.S src/*/*/*.S)
# Optional libraries: $(call optional,PACKAGE,FILES): without the package the files are left out, and the program says so where it matters.
PKG_CONFIG ?= pkg-config
define optional
ifeq ($$(shell $(PKG_CONFIG) --exists $1 2>/dev/null && echo yes),yes)
CFLAGS += $$(shell $(PKG_CONFIG) --cflags $1)
LDLIBS += $$(shell $(PKG_CONFIG) --libs $1)
else
SRC := $$(filter-out $2,$$(SRC))
endif
endef
$(eval $(call optional,liburing,src/backend/image_uring.c))
$(eval $(call optional,libpng,src/backend/picture_png.c))
$(eval $(call optional,libvncserver,src/backend/vnc.c))
# Debian's slirp.pc asks for another package's that nothing here needs, so its header is looked for.
ifneq ($(if $(filter false,$(PKG_CONFIG)),,$(wildcard /usr/include/slirp/libslirp.h)),)
LDLIBS += -lslirp
else
SRC := $(filter-out src/backend/net_user.c,$(SRC))
endif
$(eval $(call optional,zlib,src/backend/qcow2_zlib.c))
$(eval $(call optional,libnbd,src/backend/block_nbd.c))
$(eval $(call optional,libzstd,src/backend/qcow2_zstd.c))
OBJ := $(patsubst src/%,$(BUILD)/obj/%.o,$(SRC))
LIB := $(filter-out $(BUILD)/obj/main.c.o,$(OBJ))
# What several tests share is linked into each.
HELP := $(addprefix $(BUILD)/obj/tests/unit/,any_state.c.o call_program.c.o flat.c.o hostrun.c.o hosttwin.c.o integer_cases.c.o integer_rows.c.o bulk_case.c.o bulk_excuse.c.o system_case.c.o system_compare.c.o \
	system_model.c.o system_model_control.c.o system_model_event.c.o system_model_task.c.o)
TESTOBJ := $(patsubst %,$(BUILD)/obj/%.o,$(wildcard tests/unit/*.c))
UNIT := $(patsubst $(BUILD)/obj/tests/unit/%.c.o,$(BUILD)/tests/%,$(filter-out $(HELP),$(TESTOBJ)))

# Programs that shell tests use: on the host, and (without libraries) in a guest.
TOOLS := $(BUILD)/tool/vsock $(BUILD)/tool/floating $(if $(shell $(PKG_CONFIG) --exists libvncclient 2>/dev/null && echo yes),$(BUILD)/tool/vnc_client)

.PHONY: all tests bench fuzz soak clean
all: $(BUILD)/doppel
tests: $(BUILD)/doppel $(UNIT) $(TOOLS)

# The list of objects: a file that was taken away makes the program anew, too.
LIST := $(BUILD)/obj/list
$(shell mkdir -p $(BUILD)/obj; echo '$(OBJ)' | cmp -s - $(LIST) || echo '$(OBJ)' > $(LIST))

$(BUILD)/doppel: $(OBJ) $(LIST)
	@echo "  link   $@"
	@$(CC) $(LDFLAGS) -o $@ $(OBJ) $(LDLIBS)

$(BUILD)/tests/%: $(BUILD)/obj/tests/unit/%.c.o $(HELP) $(LIB)
	@mkdir -p $(@D)
	@echo "  test   $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/obj/tests/%.o: tests/%
	@mkdir -p $(@D)
	@echo "  cc     $<"
	@$(CC) $(CFLAGS) -Itests/unit -MMD -MP -c -o $@ $<

$(BUILD)/tool/vnc_client: tests/tool/vnc_client.c
	@mkdir -p $(@D)
	@echo "  tool   $@"
	@$(CC) $(CFLAGS) -MMD -MP -MF $@.d $(LDFLAGS) -o $@ $< $(shell $(PKG_CONFIG) --cflags --libs libvncclient)

$(BUILD)/tool/vsock $(BUILD)/tool/floating: $(BUILD)/tool/%: tests/tool/%.c
	@mkdir -p $(@D)
	@echo "  tool   $@"
	@$(CC) $(filter-out -fsanitize=%,$(CFLAGS)) -static -MMD -MP -MF $@.d -o $@ $<

# By tests/fuzz/run, with clang.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(HELP) $(LIB)
	@mkdir -p $(@D)
	@echo "  fuzz   $@"
	@$(CC) $(CFLAGS) -Itests/unit -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/obj/x86/exec%.c.o $(BUILD)/obj/engine/interp/%.c.o: EXTRA := $(HOT)
# Those of AVX hold 256 bits in a register; they run only where the host has AVX (x86/avx.h).
$(BUILD)/obj/x86/exec_avx%.c.o: EXTRA := $(HOT) -mavx
# They run while the guest's vector registers are in the processor.
$(addprefix $(BUILD)/obj/engine/bt/,quick.c.o door.c.o emit.c.o fpu_last.c.o): EXTRA := -mgeneral-regs-only $(if $(SAN),-fno-sanitize=all)
$(BUILD)/obj/%.o: src/%
	@mkdir -p $(@D)
	@echo "  cc     $<"
	@$(CC) $(CFLAGS) $(EXTRA) -MMD -MP -c -o $@ $<

bench: all
	@bench/run
	@bench/run --bits 32
	@bench/everyday
	@bench/devices
fuzz:
	@tests/fuzz/run
soak: all tests
	@tests/soak/run
clean:
	rm -rf build build-san build-fuzz

-include $(OBJ:.o=.d) $(TESTOBJ:.o=.d)
