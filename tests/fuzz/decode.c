/* SPDX-License-Identifier: MIT */
/* Fuzzes x86_decode: the first byte picks the mode, the rest is code. SDM volume 2, chapter 2. */
#include "decode_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct insn i;

	if (size < 2 || size > 64)
		return 0;
	if (decode_check(data + 1, (unsigned)size - 1, decode_mode(data[0]), &i))
		abort();
	return 0;
}
