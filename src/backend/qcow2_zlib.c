/* SPDX-License-Identifier: MIT */
/* Compressed clusters of qcow2: deflate, without a header. */
#include <errno.h>
#include <zlib.h>
#include "backend/qcow2.h"

#define WINDOW_BITS (-15) /* raw; a smaller window of the writer fits too */

/* The compressed size is known in sectors only: what follows the end is not looked at. */
static int unpack(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
	z_stream z = { .next_in = (uint8_t *)in, .avail_in = (unsigned)in_size, .next_out = out, .avail_out = (unsigned)out_size };
	if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	int result = inflate(&z, Z_FINISH);
	bool good = (result == Z_STREAM_END || result == Z_BUF_ERROR) && !z.avail_out;
	inflateEnd(&z);
	return good ? 0 : -EIO;
}

static const struct qcow2_unpacker zlib_unpacker = { .type = 0, .unpack = unpack };
QCOW2_UNPACKER(zlib_unpacker);
