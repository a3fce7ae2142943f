/* SPDX-License-Identifier: MIT */
/* What stands around a processor core, in terms of the VM: memory, devices, time, chance, the interrupt controller. */
#include <errno.h>
#include <sys/random.h>
#include "engine/engine.h"
#include "util/log.h"

/* On the path of each TLB miss. RAM from 1 MiB to the hole, which is nearly all there is, needs one compare and
 * one sum. */
static uint8_t *env_page(struct x86_core *core, gpa_t gpa, enum x86_access access, bool *traced)
{
	struct vm *vm = vcpu_of(core)->vm;
	struct memory *m = &vm->memory;
	uint64_t offset = gpa, page;

	*traced = false;
	if (unlikely(gpa - m->plain_start >= m->plain_size)) {
		const struct memory_region *r = memory_find(vm, gpa);
		if (!r || (access == ACCESS_WRITE && r->kind != MEMORY_RAM))
			return NULL;
		offset = r->offset + (gpa - r->start);
	}
	if (access == ACCESS_WRITE) {
		page = offset >> X86_PAGE_SHIFT;
		page_bits_set(m, page, PAGE_DIRTY);
		memory_populate(m, offset, 1);
		*traced = page_bits_get(m, page) & (PAGE_CODE | PAGE_TRANSLATED | PAGE_TRACED);
	}
	return m->host + offset;
}

static void env_written(struct x86_core *core, gpa_t gpa, unsigned size)
{
	memory_written(vcpu_of(core)->vm, gpa, size);
}

static enum bus_space bus_of(enum x86_space space)
{
	return space == SPACE_PORT ? BUS_PORT : BUS_MEMORY;
}

static uint64_t env_io_read(struct x86_core *core, enum x86_space space, uint64_t address, unsigned size)
{
	return bus_read(vcpu_of(core)->vm, bus_of(space), address, size);
}

static void env_io_write(struct x86_core *core, enum x86_space space, uint64_t address, unsigned size, uint64_t value)
{
	struct vm *vm = vcpu_of(core)->vm;

	if (unlikely(vm->memory.shadowing) && space == SPACE_MEMORY) {
		const struct memory_region *r = memory_find(vm, address);
		if (r && r->kind == MEMORY_SHADOW) {
			guest_write(vm, address, &value, size);
			return;
		}
	}
	bus_write(vm, bus_of(space), address, size, value);
}

static uint64_t env_tsc(struct x86_core *core)
{
	return clock_tsc(vcpu_of(core)->vm);
}

/* SplitMix64: each step of the state gives one well-mixed word. Two runs that count instructions see the same. */
static uint64_t counted_random(struct vcpu *vcpu)
{
	uint64_t z = vcpu->random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* The guest builds keys from it, so it is the host's best, each word used once; fetched many at a time. */
static uint64_t host_random(struct vcpu *vcpu)
{
	uint64_t value;

	if (!vcpu->random_left) {
		for (size_t got = 0; got < sizeof(vcpu->random);) {
			ssize_t n = getrandom((char *)vcpu->random + got, sizeof(vcpu->random) - got, 0);
			if (n > 0)
				got += (size_t)n;
			else if (errno != EINTR) {
				vm_kill(vcpu->vm, "the host has no random numbers");
				return 0;
			}
		}
		vcpu->random_left = ARRAY_SIZE(vcpu->random);
	}
	value = vcpu->random[--vcpu->random_left];
	vcpu->random[vcpu->random_left] = 0;
	return value;
}

static uint64_t env_random(struct x86_core *core)
{
	struct vcpu *vcpu = vcpu_of(core);

	return vcpu->vm->clock.mode == CLOCK_HOST ? host_random(vcpu) : counted_random(vcpu);
}

static bool env_rdmsr(struct x86_core *core, uint32_t index, uint64_t *value)
{
	struct vcpu *vcpu = vcpu_of(core);
	const struct irq *irq = &vcpu->vm->irq;

	return irq->controller && irq->controller->rdmsr && irq->controller->rdmsr(irq->controller_device, vcpu, index,
		value);
}

static bool env_wrmsr(struct x86_core *core, uint32_t index, uint64_t value)
{
	struct vcpu *vcpu = vcpu_of(core);
	const struct irq *irq = &vcpu->vm->irq;

	return irq->controller && irq->controller->wrmsr && irq->controller->wrmsr(irq->controller_device, vcpu, index,
		value);
}

static uint64_t env_cr8_read(struct x86_core *core)
{
	struct vcpu *vcpu = vcpu_of(core);
	const struct irq *irq = &vcpu->vm->irq;

	if (irq->controller && irq->controller->cr8_read)
		return irq->controller->cr8_read(irq->controller_device, vcpu);
	return core->cpu.cr8;
}

static void env_cr8_write(struct x86_core *core, uint64_t value)
{
	struct vcpu *vcpu = vcpu_of(core);
	const struct irq *irq = &vcpu->vm->irq;

	core->cpu.cr8 = value & 15;
	if (irq->controller && irq->controller->cr8_write)
		irq->controller->cr8_write(irq->controller_device, vcpu, value & 15);
}

static bool env_fpu_error(struct x86_core *core, bool pending)
{
	const struct irq *irq = &vcpu_of(core)->vm->irq;

	return !irq->fpu.error || irq->fpu.error(irq->fpu.device, pending);
}

/* The engine that will run this processor next may be another than the one that runs it now. */
static void env_tlb_flush(struct x86_core *core, enum x86_flush kind, unsigned pcid, gva_t gva)
{
	struct vcpu *vcpu = vcpu_of(core);
	const struct engine *engine = vcpu->vm->engine;

	if (!vcpu->engine)
		return; /* still being made */
	if (engine->tlb_flush)
		engine->tlb_flush(vcpu, kind, pcid, gva);
	if (engine != &interp_engine && interp_engine.tlb_flush)
		interp_engine.tlb_flush(vcpu, kind, pcid, gva);
}

const struct x86_env vcpu_env = {
	.page = env_page,
	.written = env_written,
	.io_read = env_io_read,
	.io_write = env_io_write,
	.tsc = env_tsc,
	.random = env_random,
	.rdmsr = env_rdmsr,
	.wrmsr = env_wrmsr,
	.cr8_read = env_cr8_read,
	.cr8_write = env_cr8_write,
	.fpu_error = env_fpu_error,
	.tlb_flush = env_tlb_flush,
};
