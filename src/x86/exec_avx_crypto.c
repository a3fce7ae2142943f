/* SPDX-License-Identifier: MIT */
/* VAES, VPCLMULQDQ and the VEX forms of GFNI: SDM volume 2. 256 bits are features of their own: see needs[] in decode_model.c. */
#include "x86/avx.h"

VEX_OP2(VALUE, vaesenc)
VEX_OP2(VALUE, vaesenclast)
VEX_OP2(VALUE, vaesdec)
VEX_OP2(VALUE, vaesdeclast)
VEX_128_OP1(VALUE, vaesimc)
VEX_128_IMM_OP1(VALUE, vaeskeygenassist)
VEX_IMM_OP2(VALUE, vpclmulqdq)
VEX_OP2(VALUE, vgf2p8mulb)
VEX_IMM_OP2(VALUE, vgf2p8affineqb)
VEX_IMM_OP2(VALUE, vgf2p8affineinvqb)
