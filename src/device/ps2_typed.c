/* SPDX-License-Identifier: MIT */
/* Keys that were typed at the host, in a queue before the keyboard: its own has room for a few only, and says nothing to the host when
 * it is full. */
#include "device/ps2.h"
#include <string.h>

#define BREAK_PREFIX 0xf0u
#define EXTENDED_PREFIX 0xe0u

void ps2_typed_add(struct ps2_typed *t, const uint8_t *codes, size_t len)
{
	if (len > (size_t)PS2_TYPED - t->count)
		return;
	for (size_t i = 0; i < len; i++)
		t->code[(t->first + t->count++) % PS2_TYPED] = codes[i];
}

size_t ps2_typed_take(struct ps2_typed *t, uint8_t code[PS2_CODE])
{
	size_t len = 0;
	bool prefix = true;
	while (prefix && t->count && len < PS2_CODE) {
		uint8_t byte = t->code[t->first];
		prefix = byte == BREAK_PREFIX || byte == EXTENDED_PREFIX;
		code[len++] = byte;
		t->first = (t->first + 1) % PS2_TYPED;
		t->count--;
	}
	return len;
}

bool ps2_typed_valid(const struct ps2_typed *t)
{
	return t->first < PS2_TYPED && t->count <= PS2_TYPED;
}

const struct field ps2_typed_fields[] = {
	FIELD_U8(struct ps2_typed, code),
	FIELD_U16(struct ps2_typed, first),
	FIELD_U16(struct ps2_typed, count),
	FIELD_U64(struct ps2_typed, next_at),
	FIELD_END,
};
