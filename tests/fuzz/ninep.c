/* SPDX-License-Identifier: MIT */
/* Fuzz target: 9P messages on a small folder, which is read only, so that no input finds what another one left. An input is a list of messages,
 * each behind a byte with its length. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/ninep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ninep *share;

static void set_up(void)
{
	char folder[] = "/tmp/doppel-fuzz9p.XXXXXX", text[256];
	if (!mkdtemp(folder))
		abort();
	snprintf(text, sizeof(text), "cd %s && mkdir -p a/b && echo x >a/file && ln -s a link", folder);
	if (system(text))
		abort();
	snprintf(text, sizeof(text), "%s,tag=x,readonly", folder);
	if (ninep_open(&share, text))
		abort();
}

static void ask(uint8_t type, const uint8_t *body, size_t size)
{
	static uint8_t message[512], reply[NINEP_MSIZE_MAX];
	uint32_t length = (uint32_t)(NINEP_HEADER + size);
	memcpy(message, &length, 4);
	message[4] = type;
	memcpy(message + NINEP_HEADER, body, size);
	ninep_answer(share, message, length, reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t version[] = { 0, 0, 1, 0, 8, 0, '9', 'P', '2', '0', '0', '0', '.', 'L' }, attach[20] = { 1 };
	if (!share)
		set_up();
	ninep_reset(share);
	ask(100, version, sizeof(version));
	ask(104, attach, sizeof(attach));
	while (size > 2) {
		size_t length = MIN((size_t)data[0], size - 2);
		ask(data[1] % 128, data + 2, length);
		data += 2 + length;
		size -= 2 + length;
	}
	return 0;
}
