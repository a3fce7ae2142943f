/* SPDX-License-Identifier: MIT */
/* Raw images: what is refused and how it is said, locks, and requests at the edges. */
#include <errno.h>
#include <sys/stat.h>
#include "media.h"
#include "util/log.h"

static char said[1024];

static bool refused(const char *spec, unsigned flags, const char *words)
{
	struct image *image = NULL;
	said[0] = 0;
	int error = image_open(&image, spec, flags);
	if (!error)
		image_close(image);
	return error < 0 && strstr(said, words);
}

static void opening(void)
{
	struct image *image, *second;
	struct medium m = medium_make(3, 0);
	char spec[128];
	ok(image_size(m.image) == 3 * 512 && !image_is_readonly(m.image), "open: size");
	ok(refused(m.path, 0, "in use by another machine"), "open: what is written by one is no other's");
	ok(refused(m.path, IMAGE_READONLY, "which writes it"), "open: not to read either");
	image_close(m.image);
	snprintf(spec, sizeof(spec), "%s,readonly", m.path);
	ok(!image_open(&image, spec, IMAGE_WORDS) && image_is_readonly(image), "open: \",readonly\"");
	ok(!image_open(&second, m.path, IMAGE_READONLY), "open: many may read");
	ok(refused(m.path, 0, "in use by another machine"), "open: nobody writes what others read");
	image_close(second);
	image_close(image);
	ok(refused(spec, 0, "No such file"), "open: without words that is a name");
	ok(refused("", 0, "No such file") && refused(",readonly", IMAGE_WORDS, "No such file"), "open: no name");
	ok(refused("/", IMAGE_READONLY, "directory"), "open: a directory");
	ok(refused("/dev/null", 0, "neither a file nor a block device"), "open: a device that is no disk");
	ok(truncate(m.path, 0) == 0 && refused(m.path, 0, "it is empty"), "open: an empty file");
	snprintf(spec, sizeof(spec), "%s.pipe", m.path);
	ok(!mkfifo(spec, 0600) && refused(spec, 0, "neither"), "open: a pipe that nobody writes does not hang");
	unlink(spec);
	chmod(m.path, 0400);
	if (geteuid())
		ok(refused(m.path, 0, "readonly"), "open: a file that may only be read: what to say");
	unlink(m.path);
}

/* ---- Requests --------------------------------------------------------------------------------------------------------- */

struct asker {
	struct device device;
	uint32_t tag, length; /* of the last answer */
	int32_t error;
	uint8_t data[4096];
	unsigned answers;
	bool right_kind;
};
static struct image *asked;

static int asker_init(struct device *d)
{
	return image_attach(asked, d, 7);
}

static void asker_reset(struct device *d, enum reset_kind kind)
{
}

static void asker_fini(struct device *d)
{
	image_detach(asked);
}

static void asker_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct asker *a = container_of(d, struct asker, device);
	const struct image_done *answer = data;
	a->tag = answer->tag;
	a->length = answer->length;
	a->error = answer->error;
	a->right_kind = kind == 7 && len == sizeof(*answer) + answer->length;
	memcpy(a->data, answer->data, MIN(answer->length, sizeof(a->data)));
	a->answers++;
}

static const struct device_class asker_class = {
	.name = "asker", .summary = "asks an image", .size = sizeof(struct asker), .init = asker_init, .reset = asker_reset,
	.fini = asker_fini, .event = asker_event,
};
static const struct device_place places[] = { { .class = &asker_class, .name = "asker", .irq = -1 } };

static struct vm *vm;
static struct asker *asker;

static bool answered(unsigned count)
{
	clock_step(vm, REQUEST_NS);
	return asker->answers == count;
}

static bool result_is(uint32_t tag, int32_t error, uint32_t length)
{
	return asker->right_kind && asker->tag == tag && asker->error == error && asker->length == length;
}

static void requests(void)
{
	uint8_t sector[1024], zeros[1024] = { 0 };
	struct medium m = medium_make(4, 0);
	if (truncate(m.path, 4 * 512 + 100)) /* half a sector at the end */
		exit(1);
	image_close(m.image);
	if (image_open(&m.image, m.path, 0))
		exit(1);
	asked = m.image;
	device_create(vm, &places[0]);
	asker = container_of(device_find(vm, "asker"), struct asker, device);
	image_read(m.image, 11, 512, 1024);
	medium_sector(sector, 1);
	medium_sector(sector + 512, 2);
	ok(answered(1) && result_is(11, 0, 1024) && !memcmp(asker->data, sector, 1024), "a read");
	image_read(m.image, 12, 4 * 512, 1024);
	ok(answered(2) && result_is(12, 0, 1024) && !memcmp(asker->data + 100, zeros, 924), "over the end: zeros");
	image_read(m.image, 13, UINT64_MAX - 511, 512);
	ok(answered(3) && result_is(13, 0, 512) && !memcmp(asker->data, zeros, 512), "far beyond it, too");
	memset(sector, 0x77, sizeof(sector));
	image_write(m.image, 14, 1024, sector, 512);
	ok(answered(4) && result_is(14, 0, 0) && medium_holds(&m, 2, sector), "a write");
	image_write(m.image, 15, 4 * 512, sector, 512);
	ok(answered(5) && result_is(15, -ENOSPC, 0), "a write over the end is refused");
	image_write(m.image, 16, UINT64_MAX - 1, sector, 512);
	ok(answered(6) && result_is(16, -ENOSPC, 0), "and one that wraps around");
	image_flush(m.image, 17);
	ok(answered(7) && result_is(17, 0, 0), "a flush");
	image_read(m.image, 18, 0, 0);
	ok(answered(8) && result_is(18, 0, 0), "nothing");
	for (uint32_t i = 0; i < 100; i++)
		image_read(m.image, 100 + i, 0, 512);
	ok(answered(108) && asker->tag == 199, "a hundred at once, in order");
	image_read(m.image, 19, 0, 512); /* nobody waits for it */
	vm_destroy(vm);
	vm = NULL;
	medium_free(&m);
}

int main(void)
{
	log_divert(said, sizeof(said));
	opening();
	vm = machine(1, NULL, 0);
	requests();
	return done();
}
