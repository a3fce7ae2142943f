/* SPDX-License-Identifier: MIT */
/* The field table of struct x86_cpu: what of a processor is saved, compared and hashed. gpr[16] is always 0; derived and host
 * state is not in that struct. */
#include "vm/vcpu.h"

static const struct field segment_fields[] = {
	FIELD_U64(struct x86_segment, base),
	FIELD_U32(struct x86_segment, limit),
	FIELD_U32(struct x86_segment, attr),
	FIELD_U16(struct x86_segment, selector),
	FIELD_END,
};

static const struct field table_fields[] = {
	FIELD_U64(struct x86_table, base),
	FIELD_U16(struct x86_table, limit),
	FIELD_END,
};

#define SEGMENT(member) FIELD_STRUCT(struct x86_cpu, member, segment_fields, struct x86_segment)
#define TABLE(member) FIELD_STRUCT(struct x86_cpu, member, table_fields, struct x86_table)
#define U64(member) FIELD_U64(struct x86_cpu, member)
#define U8(member) FIELD_U8(struct x86_cpu, member)

const struct field x86_cpu_fields[] = {
	U64(gpr), U64(rflags),
	SEGMENT(seg), SEGMENT(ldtr), SEGMENT(tr), TABLE(gdtr), TABLE(idtr),
	U64(cr0), U64(cr2), U64(cr3), U64(cr4), U64(cr8), U64(dr), U64(xcr0),
	U64(efer), U64(star), U64(lstar), U64(cstar), U64(sfmask), U64(kernel_gs_base),
	U64(sysenter_cs), U64(sysenter_esp), U64(sysenter_eip),
	U64(pat), U64(misc_enable), U64(spec_ctrl), U64(debugctl), U64(feature_control),
	U64(tsc_offset), U64(tsc_adjust), U64(tsc_aux),
	U64(mtrr_def_type), U64(mtrr_var), U64(mtrr_fixed), U64(pdpte),
	U8(activity), U8(interrupt_shadow), U8(nmi_blocked), U8(nmi_pending),
	U8(event_pending), U8(event_vector), U8(event_type), U8(event_has_error),
	FIELD_U32(struct x86_cpu, event_error), FIELD_U32(struct x86_cpu, apic_id), U64(pending_debug),
	FIELD_BYTES(struct x86_cpu, xsave),
	FIELD_END,
};
#undef SEGMENT
#undef TABLE
#undef U64
#undef U8
