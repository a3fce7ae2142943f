/* SPDX-License-Identifier: MIT */
/* A processor and its RAM, as flat.h has prepared them, for a VM's first processor. */
#pragma once
#include "flat.h"
#include "vm/memory.h"
#include "vm/vcpu.h"
#include "vm/vm.h"

static void flat_give(struct vm *vm, const struct flat *f, size_t size)
{
	struct vcpu *vcpu = vm->vcpu[0];

	guest_write(vm, 0, flat_ram, size);
	vcpu_reset(vcpu, false);
	vcpu->core.cpu = f->core.cpu;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}
