/* SPDX-License-Identifier: MIT */
/* The engine as the rest of the monitor sees it: set-up, requests of other threads, counters. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "engine/bt/bt.h"
#include "util/log.h"
#include "util/options.h"
#include "util/pages.h"

#define CHECK(constant, field) _Static_assert((constant) + BT_STATE_SIZE == offsetof(struct bt_state, field), #field)
CHECK(BT_RUN_MASK, run_mask);
CHECK(BT_COUNT, count);
CHECK(BT_PAGE_MASK, page_mask);
CHECK(BT_SPILL, spill);
CHECK(BT_FS_BASE, fs_base);
CHECK(BT_GS_BASE, gs_base);
CHECK(BT_EXEC, exec);
CHECK(BT_MISS, miss);
CHECK(BT_DISPATCH, dispatch);
CHECK(BT_PASSES, passes);
CHECK(BT_ROUNDS, rounds);
CHECK(BT_GROUP, group);
CHECK(BT_POPF_MASK, popf_mask);
CHECK(BT_NEAR, near);
CHECK(BT_FS_PLAIN, fs_plain);
CHECK(BT_GS_PLAIN, gs_plain);
CHECK(BT_HOT, hot);
CHECK(BT_QUICK, quick);
CHECK(BT_PAGE, page);
CHECK(BT_FPU_PAGE, fpu_page);
CHECK(BT_POLL, poll);
CHECK(BT_LINK, link);
CHECK(BT_UNALIGNED, unaligned);
CHECK(BT_LOW_MASK, low_mask);
CHECK(BT_OFFSET_MASK, offset_mask);
CHECK(BT_CROSS_MASK, cross_mask);
CHECK(BT_TARGET, target);
CHECK(BT_ARGUMENT, argument);
CHECK(BT_ADDRESS, address);
CHECK(BT_SITE, site);
CHECK(BT_SAVED, saved);
CHECK(BT_RSP, rsp);
CHECK(BT_C_STACK, c_stack);
CHECK(BT_CORE, core);
CHECK(BT_XSAVE, xsave);
CHECK(BT_MXCSR, mxcsr);
CHECK(BT_MXCSR_LIVE, mxcsr_live);
CHECK(BT_AVX, avx);
CHECK(BT_AFLAGS, aflags);
CHECK(BT_IF, if_flag);
CHECK(BT_AC, ac_flag);
CHECK(BT_RFLAGS, rflags);
CHECK(BT_ARITH_MASK, arith_mask);
CHECK(BT_NO_EVENT, no_event);
CHECK(BT_RSPS, rsps);
CHECK(BT_FPU, fpu);
CHECK(BT_FPU_LIVE, fpu_live);
CHECK(BT_FPU_LAST, fpu_last);
CHECK(BT_FPU_OPERAND, fpu_operand);
CHECK(BT_PAGE_MASK16, page_mask16);
CHECK(BT_LOW_MASK16, low_mask16);
CHECK(BT_UNALIGNED16, unaligned16);
CHECK(BT_FPU_LAST_MEMORY, fpu_last_memory);
CHECK(BT_JUMPS, jumps);
CHECK(BT_SECONDS, seconds);
CHECK(BT_RETURNS, returns);
CHECK(BT_RETURN_RIPS, return_rips);
CHECK(BT_OVERWRITTEN, overwritten);
CHECK(BT_RETURN_MASKS, return_masks);
CHECK(BT_ASTRAY, astray);
CHECK(BT_ASTRAYS, astrays);
CHECK(BT_SECOND_MASK, second_mask);
CHECK(BT_SUPERVISOR, supervisor);
CHECK(BT_UNKNOWN, unknown);
#undef CHECK
_Static_assert(sizeof(struct bt_state) == BT_STATE_SIZE && !(BT_STATE_SIZE & (X86_PAGE_SIZE - 1)), "layout.h");
_Static_assert(offsetof(struct x86_core, cpu.gpr) == 0, "enter.S");
_Static_assert(offsetof(struct x86_xsave, legacy.xmm) == 160 && offsetof(struct x86_xsave, ymm_high) == 576, "enter.S");

#define GUARD (64 * KiB)

static void state_init(struct bt *bt)
{
	struct x86_core *core = &bt->vcpu->core;

	*bt->state = (struct bt_state){
		.exec = bt_exec_entry, .miss = bt_miss_entry, .dispatch = bt_dispatch_entry, .unknown = bt_unknown_entry, .astray = bt_astray_entry, .poll = bt_poll_entry, .link = bt_link_entry, .fpu = bt_fpu_entry, .hot = bt_hot_entry, .quick = bt_quick_entry,
		.unaligned = { bt_unaligned2, bt_unaligned4, bt_unaligned8 },
		.low_mask = { 1, 3, 7 }, .offset_mask = X86_PAGE_SIZE - 1, .cross_mask = X86_PAGE_SIZE,
		.second_mask = (uint64_t)(BT_SECOND_COUNT - 1) << 16,
		.return_masks = { (uint64_t)(BT_RETURN_COUNT - 1) << 3, (uint64_t)(BT_RETURN_COUNT - 1) << 2 },
		.core = core, .xsave = &core->cpu.xsave, .arith_mask = FLAGS_ARITH, .fpu_last = BT_FPU_NONE,
		.popf_mask = FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID,
		.page_mask16 = (BIT(47) - X86_PAGE_SIZE) >> 4 | ~0ULL << 60, .low_mask16 = 15, .unaligned16 = bt_unaligned16,
	};
	/* The page number; and, rotated to the top of the word, the low bits that must be zero: they end up above it. */
	for (unsigned low = 0; low < 4; low++)
		bt->state->page_mask[low] = (BIT(48) - X86_PAGE_SIZE) >> low | (low ? ~0ULL << (64 - low) : 0);
	for (unsigned last = 0; last < ARRAY_SIZE(bt->state->near); last++)
		for (unsigned n = 0; n < 256; n++)
			bt->state->near[last][n] = (n & 15) < 16 - last;
	bt_jumps_clear_all(bt);
}

static void vcpu_fini_(struct vcpu *vcpu)
{
	struct bt *bt = bt_of(vcpu);

	if (!bt)
		return;
	bt_sampler_watch(&bt->shared->sampler, vcpu->index, NULL);
	bt_cache_fini(bt);
	bt_table_fini(bt);
	code_holder_fini(&bt->holder);
	pages_unmap(bt, sizeof(*bt));
	vcpu->engine_data[BT_SLOT] = NULL;
}

static int vcpu_init_(struct vcpu *vcpu)
{
	struct bt *bt = pages_map(sizeof(*bt), PROT_READ | PROT_WRITE);
	int error;

	if (!bt)
		return -ENOMEM;
	vcpu->engine_data[BT_SLOT] = bt;
	bt->vcpu = vcpu;
	bt->shared = vcpu->vm->engine_data[BT_SLOT];
	bt->counting = vcpu->vm->config.clock == CLOCK_INSTRUCTIONS;
	bt->avx = __builtin_cpu_supports("avx");
	code_holder_init(&bt->holder, &bt->shared->pages, vcpu);
	error = bt_table_init(bt);
	if (!error)
		error = bt_cache_init(bt);
	if (!error)
		state_init(bt);
	if (error) {
		log_error("engine bt cannot reserve address space for cpu%u (is it limited, see ulimit -v and vm.overcommit_memory?)", vcpu->index);
		vcpu_fini_(vcpu);
	}
	if (!error)
		bt_sampler_watch(&bt->shared->sampler, vcpu->index, bt);
	return error;
}

static void kick(struct vcpu *vcpu)
{
	struct bt *bt = bt_of(vcpu);

	*(volatile uint64_t *)&vcpu->core.chain_limit = 0;
	if (bt)
		*(volatile uint64_t *)&bt->state->run_mask = 0;
}

/* --- code that changes --- */

static struct bt_vm *shared_of(struct vm *vm)
{
	return vm->engine_data[BT_SLOT];
}

static struct code_holder *holder_of(struct vcpu *vcpu)
{
	return bt_of(vcpu) ? &bt_of(vcpu)->holder : NULL;
}

/* At a safe point everybody may look at the state. */
static void standing(struct vcpu *vcpu)
{
	bt_fp_leave(bt_of(vcpu));
}

static void protect(struct vcpu *vcpu, uint64_t number)
{
	x86_tlb_drop_writes(&vcpu->core);
	if (bt_of(vcpu))
		bt_table_protect(bt_of(vcpu), number);
}

static void drop(struct vcpu *vcpu, gpa_t gpa, uint64_t len)
{
	bt_invalidate(bt_of(vcpu), gpa, len);
}

static void drop_all(struct vcpu *vcpu)
{
	bt_cache_flush(bt_of(vcpu), BT_FLUSH_CHANGES);
}

static void drop_moved(struct vcpu *vcpu)
{
	bt_pages_moved(bt_of(vcpu));
}

static const struct code_pages_model pages_model = {
	.bit = PAGE_TRANSLATED, .holder = holder_of, .standing = standing, .protect = protect, .drop = drop, .drop_all = drop_all,
	.drop_moved = drop_moved, .kick = kick,
};

/* --- the machine --- */

static int view_init(struct bt_vm *shared, const struct memory *m)
{
	shared->ro_size = m->size + 2 * GUARD;
	shared->ro_map = mmap(NULL, shared->ro_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared->ro_map == MAP_FAILED) {
		shared->ro_map = NULL;
		return -ENOMEM;
	}
	shared->ro = (uint8_t *)shared->ro_map + GUARD;
	if (mmap(shared->ro, m->size, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, m->fd, 0) == MAP_FAILED)
		return -errno;
	madvise(shared->ro, m->size, MADV_DONTDUMP);
	return 0;
}

static void vm_fini_(struct vm *vm)
{
	struct bt_vm *shared = vm->engine_data[BT_SLOT];

	if (!shared)
		return;
	if (shared->ro_map)
		munmap(shared->ro_map, shared->ro_size);
	bt_sampler_stop(&shared->sampler);
	code_pages_fini(&shared->pages);
	free(shared);
	vm->engine_data[BT_SLOT] = NULL;
}

static int take_options(struct bt_vm *shared, const char *options)
{
	char word[64];

	shared->cache_size = BT_CODE_DEFAULT;
	while (options && option_word(&options, word, sizeof(word))) {
		if (!strncmp(word, "cache=", 6) && !option_size(word + 6, &shared->cache_size) && shared->cache_size >= BT_CODE_LEAST &&
		    shared->cache_size <= BT_CODE_SIZE)
			continue;
		log_error("engine bt has no option '%s'; it has cache=SIZE, from 2M to 128M: of code that is kept for each processor", word);
		return -EINVAL;
	}
	return 0;
}

static int check_options(const char *options)
{
	struct bt_vm scratch;

	return take_options(&scratch, options);
}

static int vm_init_(struct vm *vm)
{
	struct bt_vm *shared;
	int error;

	if (vm->config.cpus > BT_CPUS_MAX)
		return -EINVAL;
	shared = calloc(1, sizeof(*shared));
	if (!shared)
		return -ENOMEM;
	vm->engine_data[BT_SLOT] = shared;
	bt_signals_init();
	error = take_options(shared, vm->engine_options[BT_SLOT]);
	if (!error)
		error = code_pages_init(&shared->pages, vm, &pages_model);
	if (!error)
		error = view_init(shared, &vm->memory);
	if (error)
		vm_fini_(vm);
	else if (vm->config.profile)
		bt_sampler_start(&shared->sampler);
	return error;
}

static int probe(struct engine_report *report)
{
	const char *missing = NULL;

	if (!__builtin_cpu_supports("bmi2"))
		missing = "this host has no BMI2 (processors since 2013 have it); use interp";
	else if (!(report->cpus_max = bt_table_room()))
		missing = "this process may not reserve 12 TiB of address space for each processor (ulimit -v, vm.overcommit_memory=2); use interp";
	report->usable = !missing;
	report->capabilities = ENGINE_COUNTS | ENGINE_STEPS | ENGINE_SMP;
	report->mips = 1000; /* at least; less than any hardware */
	if (missing)
		snprintf(report->why, sizeof(report->why), "%s", missing);
	else
		snprintf(report->why, sizeof(report->why), "32- and 64-bit protected-mode code is translated to host code; the rest is interpreted");
	return 0;
}

static bool can_run(const struct vcpu *vcpu)
{
	return bt_fits(&vcpu->core);
}

static void tlb_flush(struct vcpu *vcpu, enum x86_flush what, unsigned pcid, gva_t gva)
{
	struct bt *bt = bt_of(vcpu);

	if (!bt)
		return;
	bt->stat.flushed_table[what]++;
	bt_table_flush(bt, what, gva);
}

static void code_changed(struct vm *vm, gpa_t gpa, uint64_t len)
{
	code_pages_changed(&shared_of(vm)->pages, gpa, len);
}

static void flush_tables(struct vm *vm)
{
	for (unsigned n = 0; vm->vcpu && n < vm->config.cpus; n++)
		if (vm->vcpu[n] && bt_of(vm->vcpu[n]))
			bt_table_flush(bt_of(vm->vcpu[n]), FLUSH_ALL, 0);
}

static int memory_changed(struct vm *vm)
{
	flush_tables(vm);
	code_pages_changed_all(&shared_of(vm)->pages);
	return 0;
}

static int map_changed(struct vm *vm)
{
	flush_tables(vm);
	code_pages_moved(&shared_of(vm)->pages);
	return 0;
}

/* As interp_hand_over: the pages are written at full speed again. */
static int hand_over(struct vm *vm)
{
	for (unsigned n = 0; n < vm->config.cpus; n++)
		bt_cache_flush(bt_of(vm->vcpu[n]), BT_FLUSH_ENGINE);
	return 0;
}

static int load_state(struct vcpu *vcpu, unsigned groups)
{
	if (groups & ~(unsigned)(X86_XSAVE | X86_EVENTS))
		x86_core_loaded(&vcpu->core);
	return 0;
}

static int store_state(struct vcpu *vcpu, unsigned groups)
{
	if (groups & X86_FLAGS)
		vcpu->core.cpu.rflags = x86_flags_get(&vcpu->core);
	return 0;
}

const struct engine bt_engine = {
	.name = "bt",
	.summary = "binary translation: guest code becomes host code",
	.slot = BT_SLOT,
	.preference = 20,
	.counts_if_asked = true,
	.check_options = check_options,
	.kick_suffices = true,
	.probe = probe,
	.vm_init = vm_init_,
	.vm_fini = vm_fini_,
	.vcpu_init = vcpu_init_,
	.vcpu_fini = vcpu_fini_,
	.hand_over = hand_over,
	.can_run = can_run,
	.run = bt_run,
	.kick = kick,
	.load_state = load_state,
	.store_state = store_state,
	.tlb_flush = tlb_flush,
	.code_changed = code_changed,
	.memory_changed = memory_changed,
	.map_changed = map_changed,
	.stats = bt_stats,
};
ENGINE(bt_engine);
