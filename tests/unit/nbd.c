/* SPDX-License-Identifier: MIT */
/* Disks by NBD: random requests to nbdkit, and servers that refuse or go. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/block.h"
#include "test.h"

#define SIZE (8UL * 1024 * 1024)
#define LARGEST (200 * KiB)

static char folder[] = "/tmp/doppel-nbd.XXXXXX", uri[128], command[512];
static uint8_t *expected, *buffer, data[LARGEST];

static int shell(const char *text)
{
	snprintf(command, sizeof(command), "cd %s && (%s) >log 2>&1", folder, text);
	return system(command);
}

static void requests(struct block *b)
{
	uint32_t seed = 1;
	int error = 0;
	for (unsigned i = 0; i < 500 && !error; i++) {
		seed = seed * 1664525 + 1013904223;
		uint64_t size = 512 * (1 + (seed >> 8) % (LARGEST / 512)), offset = 512 * ((uint64_t)(seed >> 4) * 7 % ((SIZE - size) / 512));
		struct iovec iov[2] = { { data, 512 * (size / 1024) }, { data + 512 * (size / 1024), size - 512 * (size / 1024) } };
		memset(data, (int)(seed >> 16) | 1, size);
		if (i % 7 == 0) {
			memset(expected + offset, 0, size);
			error = block_zero(b, offset, size, i % 2);
		} else if (i % 5 == 0) {
			error = b->format->read(b, offset, iov, 2);
			if (!error && memcmp(data, expected + offset, size))
				error = -EILSEQ;
		} else {
			memcpy(expected + offset, data, size);
			error = b->format->write(b, offset, iov, 2);
		}
	}
	if (!error)
		error = b->format->flush(b);
	if (!error)
		error = block_read(b, 0, buffer, SIZE);
	ok(!error && !memcmp(buffer, expected, SIZE), "nbd: reads what was written");
	ok(!b->format->discard(b, 0, 4096), "nbd: discard");
}

int main(void)
{
	struct block *b;
	expected = calloc(1, SIZE);
	buffer = malloc(SIZE);
	if (!mkdtemp(folder) || shell("command -v nbdkit")) {
		skip("nbd - needs nbdkit (Debian's package nbdkit)");
		rmdir(folder);
		return 0;
	}
	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s/socket", folder);
	if (block_open(&b, uri, NULL, 0) == -EINVAL && !shell("nbdkit -U socket -P pid memory 8M") && block_open(&b, uri, NULL, 0) == -EINVAL) {
		skip("nbd - this doppel was built without libnbd");
		shell("kill $(cat pid)");
		goto out;
	}
	ok(shell("test -e pid") == 0 || !shell("nbdkit -U socket -P pid memory 8M"), "nbd: a server");
	ok(!block_open(&b, uri, NULL, 0) && b->size == SIZE, "nbd: opens");
	requests(b);
	shell("kill -9 $(cat pid)");
	ok(block_read(b, 0, buffer, 512) < 0, "nbd: a server that goes is an error");
	block_close(b);
	shell("rm -f pid socket; nbdkit -r -U socket -P pid memory 8M");
	ok(block_open(&b, uri, NULL, 0) == -EROFS, "nbd: what is read only is not written");
	ok(!block_open(&b, uri, NULL, BLOCK_READONLY), "nbd: but read");
	block_close(b);
	shell("kill $(cat pid)");
	ok(block_open(&b, "nbd://127.0.0.1:1/", NULL, 0), "nbd: nobody answers");
out:
	snprintf(command, sizeof(command), "rm -r %s", folder);
	free(expected);
	free(buffer);
	return system(command) ? 1 : done();
}
