/* SPDX-License-Identifier: MIT */
/* What has to do with MMX registers only, or moves and converts between them and XMM registers: EMMS, MOVDQ2Q, MOVQ2DQ,
 * CVTxPI2x. SDM volume 1, 9.4, 11.4.1.6, 11.4.4, volume 2. The packed operations are in exec_sse_integer.c and
 * exec_sse_shuffle.c. */
#include "x86/vector.h"

EXEC(emms_none)
{
	x87_wait(core, i);
	mmx_enter(core);
	core->cpu.xsave.legacy.ftw = 0;
	X86_NEXT(core, i);
}
const struct x86_forms x86_emms = { .any = emms_none };

EXEC(movdq2q_rr)
{
	x87_wait(core, i);
	mmx_enter(core);
	mmx_set(core, i->dst, *xmm64(core, i->src));
	X86_NEXT(core, i);
}
EXEC(movq2dq_rr)
{
	x87_wait(core, i);
	mmx_enter(core);
	*xmm(core, i->dst) = (v128){ (long long)mmx_get(core, i->src), 0 };
	X86_NEXT(core, i);
}
const struct x86_forms x86_movdq2q = { .any = movdq2q_rr };
const struct x86_forms x86_movq2dq = { .any = movq2dq_rr };

/* Conversions: the operation on XMM registers does the same with the low halves. */

FLOAT_RUN(cvtdq2ps, "cvtdq2ps")
FLOAT_RUN(cvtps2dq, "cvtps2dq")
FLOAT_RUN(cvttps2dq, "cvttps2dq")
FLOAT_RUN(cvtpd2dq, "cvtpd2dq")
FLOAT_RUN(cvttpd2dq, "cvttpd2dq")

EXEC(cvtpi2ps_any)
{
	x87_wait(core, i);
	v128 s = i->form == FORM_RM ? source64(core, i) : (v128){ (long long)mmx_get(core, i->src), 0 };
	v128 value = sse_float(core, i, cvtdq2ps_run, ZERO128, s);
	mmx_enter(core);
	*xmm64(core, i->dst) = (uint64_t)value[0];
	X86_NEXT(core, i);
}
const struct x86_forms x86_cvtpi2ps = { .any = cvtpi2ps_any };

VALUE2(cvtdq2pd, "cvtdq2pd")
EXEC(cvtpi2pd_mm)
{
	x87_wait(core, i);
	mmx_enter(core);
	*xmm(core, i->dst) = cvtdq2pd_v(ZERO128, (v128){ (long long)mmx_get(core, i->src), 0 });
	X86_NEXT(core, i);
}
EXEC(cvtpi2pd_mem) /* touches no MMX register: no transition, SDM 2 CVTPI2PD */
{
	v128 s = source64(core, i);
	*xmm(core, i->dst) = cvtdq2pd_v(ZERO128, s);
	X86_NEXT(core, i);
}
const struct x86_forms x86_cvtpi2pd = { .by = { [FORM_RR][BY_MMX] = cvtpi2pd_mm, [FORM_RM][BY_XMM] = cvtpi2pd_mem } };

/* Of a single-precision source only the low half counts: its high half must raise no exception. */
static inline v128 low_half(v128 s)
{
	return (v128){ s[0], 0 };
}
static inline v128 whole(v128 s)
{
	return s;
}

#define TO_MMX_OP(name, run, SOURCE, PART)                                                                             \
	EXEC(name##_any)                                                                                               \
	{                                                                                                              \
		x87_wait(core, i);                                                                                     \
		v128 s = i->form == FORM_RM ? SOURCE(core, i) : PART(*xmm(core, i->src));                              \
		uint64_t value = (uint64_t)sse_float(core, i, run, ZERO128, s)[0];                                     \
		mmx_enter(core);                                                                                       \
		mmx_set(core, i->dst, value);                                                                          \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .any = name##_any };
TO_MMX_OP(cvtps2pi, cvtps2dq_run, source64, low_half)
TO_MMX_OP(cvttps2pi, cvttps2dq_run, source64, low_half)
TO_MMX_OP(cvtpd2pi, cvtpd2dq_run, source128, whole)
TO_MMX_OP(cvttpd2pi, cvttpd2dq_run, source128, whole)
