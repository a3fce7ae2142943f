/* SPDX-License-Identifier: MIT */
/* Processors, and what CPUID tells on them: the machine's model, less what this kernel cannot do. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/kvm/kvm.h"
#include "util/log.h"
#include "x86/cpuid.h"
#include "x86/features.h"

#define CPUID_ROOM 200

/* --- features --- */

static const struct { uint32_t leaf, subleaf; unsigned output; } words[FEAT_WORDS] = { /* where each word of features stands: EAX 0 ... EDX 3 */
	[FEAT_1_EDX] = { 1, 0, 3 }, [FEAT_1_ECX] = { 1, 0, 2 }, [FEAT_7_EBX] = { 7, 0, 1 }, [FEAT_7_ECX] = { 7, 0, 2 },
	[FEAT_7_EDX] = { 7, 0, 3 }, [FEAT_80000001_EDX] = { 0x80000001, 0, 3 }, [FEAT_80000001_ECX] = { 0x80000001, 0, 2 },
	[FEAT_D1_EAX] = { 0xd, 1, 0 },
};

/* What does not have to be the processor's to be true: the monitor's own, names of properties, and switches without effect that every
 * kernel keeps. */
static uint32_t free_of_cost(unsigned word)
{
	switch (word) {
	case FEAT_1_EDX: return BIT(FEATURE_APIC & 31) | BIT(FEATURE_HTT & 31);
	case FEAT_1_ECX: return BIT(FEATURE_HYPERVISOR & 31) | BIT(FEATURE_X2APIC & 31) | BIT(FEATURE_TSC_DEADLINE & 31);
	case FEAT_7_EBX: return BIT(FEATURE_ERMS & 31) | BIT(FEATURE_NO_FCS_FDS & 31);
	case FEAT_7_EDX: return BIT(FEATURE_FSRM & 31);
	default: return 0;
	}
}

static uint32_t supported(const struct kvm_cpuid2 *list, unsigned word)
{
	for (unsigned n = 0; n < list->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &list->entries[n];
		const uint32_t outputs[] = { e->eax, e->ebx, e->ecx, e->edx };
		if (e->function == words[word].leaf && e->index == words[word].subleaf)
			return outputs[words[word].output];
	}
	return 0;
}

/* A model for each one that was limited; they live as long as the process, since processors point to them. */
static const struct x86_model *keep(const struct x86_model *limited)
{
	static struct kept { struct x86_model model; struct kept *next; } *kept;
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct kept *k;

	pthread_mutex_lock(&lock);
	for (k = kept; k; k = k->next)
		if (!memcmp(&k->model, limited, sizeof(*limited)))
			break;
	if (!k && (k = calloc(1, sizeof(*k)))) {
		memcpy(&k->model, limited, sizeof(*limited));
		k->next = kept;
		kept = k;
	}
	pthread_mutex_unlock(&lock);
	return k ? &k->model : NULL;
}

int kvm_limit_model(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + CPUID_ROOM * sizeof(list->entries[0]));
	struct x86_model limited;
	bool less = false;
	int error;

	if (!list)
		return -ENOMEM;
	if (!k->runs) {
		error = 0; /* the interpreter runs everything */
		goto out;
	}
	list->nent = CPUID_ROOM;
	error = kvm_call(k->system, KVM_GET_SUPPORTED_CPUID, list);
	if (error < 0)
		goto out;
	memcpy(&limited, vm->config.model, sizeof(limited));
	for (unsigned w = 0; w < FEAT_WORDS; w++) {
		uint32_t can = supported(list, w) | free_of_cost(w);
		less |= limited.features[w] & ~can;
		limited.features[w] &= can;
	}
	if (!(limited.features[FEAT_1_ECX] & BIT(FEATURE_AVX & 31)))
		limited.xcr0 &= ~XCR0_AVX;
	if (!(limited.features[FEAT_1_ECX] & BIT(FEATURE_XSAVE & 31)))
		limited.xcr0 = limited.features[FEAT_D1_EAX] = 0;
	error = 0;
	if (!less)
		goto out;
	if (vm->vcpu) {
		log_error("this /dev/kvm lacks features of the machine's processor, which has them already; start it with --engine kvm, or with --cpu v1");
		error = -ENOTSUP;
		goto out;
	}
	vm->config.model = keep(&limited);
	error = vm->config.model ? 0 : -ENOMEM;
out:
	free(list);
	return error;
}

/* --- CPUID --- */

/* A leaf with its subleaves, from the same model as every other engine's. */
static unsigned add_leaf(struct x86_core *core, struct kvm_cpuid_entry2 *e, unsigned n, uint32_t leaf, uint32_t subleaves)
{
	for (uint32_t sub = 0; sub < MAX(subleaves, 1u) && n < CPUID_ROOM; sub++) {
		struct x86_cpuid_leaf l = x86_cpuid(core, leaf, sub);
		e[n++] = (struct kvm_cpuid_entry2){
			.function = leaf, .index = sub, .flags = subleaves ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = l.eax, .ebx = l.ebx, .ecx = l.ecx, .edx = l.edx,
		};
	}
	return n;
}

static uint32_t subleaves(uint32_t leaf)
{
	switch (leaf) {
	case 4: return 5;
	case 7: case 0xb: case 0xd: return 3;
	default: return 0;
	}
}

static int set_cpuid(struct vcpu *vcpu)
{
	static const uint32_t bases[] = { 0, 0x40000000, 0x80000000 };
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + CPUID_ROOM * sizeof(list->entries[0]));
	unsigned n = 0;
	int error;

	if (!list)
		return -ENOMEM;
	for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
		uint32_t last = x86_cpuid(&vcpu->core, bases[b], 0).eax;
		for (uint32_t leaf = bases[b]; leaf <= last && leaf - bases[b] < 0x40; leaf++)
			n = add_leaf(&vcpu->core, list->entries, n, leaf, subleaves(leaf));
	}
	list->nent = n;
	error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, list);
	free(list);
	return error;
}

/* --- life --- */

int kvm_vcpu_init(struct vcpu *vcpu)
{
	struct kvm_vm *vm = kvm_of(vcpu->vm);
	struct kvm_vcpu *k = calloc(1, sizeof(*k));
	int error;

	if (!k)
		return -ENOMEM;
	vcpu->engine_data[KVM_SLOT] = k;
	k->run = MAP_FAILED;
	k->fd = error = kvm_call(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->index);
	if (error < 0)
		goto fail;
	k->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (k->run == MAP_FAILED) {
		error = -errno;
		goto fail;
	}
	error = set_cpuid(vcpu);
	if (error < 0)
		goto fail;
	kvm_msr_init(vcpu);
	return 0;
fail:
	log_error("cannot make processor %u with /dev/kvm: %s; try --engine interp", vcpu->index, strerror(-error));
	return error;
}

void kvm_vcpu_fini(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (!k)
		return;
	if (k->run != MAP_FAILED)
		munmap(k->run, kvm_of(vcpu->vm)->run_size);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	vcpu->engine_data[KVM_SLOT] = NULL;
}
