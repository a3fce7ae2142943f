/* SPDX-License-Identifier: MIT */
/* Compressed clusters of qcow2: zstd. */
#include <errno.h>
#include <zstd.h>
#include "backend/qcow2.h"

/* The compressed size is known in sectors only, so the frame is taken as a stream, until all is out. */
static int unpack(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	ZSTD_DCtx *context = ZSTD_createDCtx();
	ZSTD_inBuffer from = { in, in_size, 0 };
	ZSTD_outBuffer to = { out, out_size, 0 };
	bool good = context;
	while (good && to.pos < to.size) {
		size_t in_before = from.pos, out_before = to.pos;
		size_t left = ZSTD_decompressStream(context, &to, &from);
		good = !ZSTD_isError(left) && (from.pos > in_before || to.pos > out_before);
	}
	ZSTD_freeDCtx(context);
	return good ? 0 : -EIO;
}

static const struct qcow2_unpacker zstd_unpacker = { .type = 1, .unpack = unpack };
QCOW2_UNPACKER(zstd_unpacker);
