/* SPDX-License-Identifier: MIT */
/* How many rounds of a loop its page has left is a division, which translated code does by a multiplication: all of them. */
#include "engine/bt/translate.h"
#include "test.h"

int main(void)
{
	unsigned wrong = 0;

	for (unsigned by = 1; by <= STREAM_BY_MAX; by++) {
		struct divisor d = stream_divisor(by);
		for (uint32_t x = 0; x < X86_PAGE_SIZE; x++)
			wrong += x * d.factor >> d.shift != x / by;
	}
	ok(!wrong, "quotients below 4096 by 1 to %u: %u are wrong", STREAM_BY_MAX, wrong);
	return done();
}
