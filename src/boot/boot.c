/* SPDX-License-Identifier: MIT */
/* Finds the loader for a file by its content; names what it is when there is none. */
#include "boot/boot.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"

#define IMAGE_LIMIT (4 * GiB) /* a pipe that never ends shall not eat the host */

/* Read whole instead of mapped: a file that shrinks under a mapping would be a SIGBUS for the monitor. */
int boot_image_read(struct boot_image *image, const char *path)
{
	*image = (struct boot_image){ .path = path };
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int error = errno;
		log_error("%s: %s", path, strerror(error));
		return -error;
	}
	struct stat st = { 0 };
	uint8_t *data = NULL;
	size_t size = 0, room = 0;
	int error = 0;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		room = (size_t)st.st_size + 1;
	else if (S_ISCHR(st.st_mode) || S_ISDIR(st.st_mode)) {
		log_error("%s: not a file, but a %s", path, S_ISDIR(st.st_mode) ? "directory" : "device without an end");
		close(fd);
		return -EINVAL;
	}
	for (;;) {
		if (!data || size == room) {
			room = MAX(data ? room * 2 : room, (size_t)(64 * KiB));
			uint8_t *larger = room <= IMAGE_LIMIT ? realloc(data, room) : NULL;
			if (!larger) {
				error = -ENOMEM;
				break;
			}
			data = larger;
			/* it is touched once, from the front: fewer faults of the host */
			madvise((void *)align_up((uintptr_t)data, X86_PAGE_SIZE), align_down(room, X86_PAGE_SIZE), MADV_HUGEPAGE);
		}
		ssize_t got = read(fd, data + size, room - size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			error = -errno;
		if (got <= 0)
			break;
		size += (size_t)got;
	}
	close(fd);
	if (error) {
		log_error("%s: %s", path, strerror(-error));
		free(data);
		return error;
	}
	image->data = data;
	image->size = size;
	image->regular = S_ISREG(st.st_mode);
	return 0;
}

void boot_image_free(struct boot_image *image)
{
	free((uint8_t *)image->data);
	image->data = NULL;
	image->size = 0;
}

int boot_module_read(struct boot_module *module, const char *spec)
{
	*module = (struct boot_module){ 0 };
	const char *space = access(spec, F_OK) ? strchr(spec, ' ') : NULL;
	char *path = space ? strndup(spec, (size_t)(space - spec)) : strdup(spec);
	module->text = space ? strdup(space + 1) : NULL;
	int error = path && (!space || module->text) ? boot_image_read(&module->file, path) : -ENOMEM;
	if (error) {
		module->file.path = NULL;
		free(path);
		boot_module_free(module);
	}
	return error;
}

void boot_module_free(struct boot_module *module)
{
	boot_image_free(&module->file);
	free((char *)module->file.path);
	free(module->text);
	*module = (struct boot_module){ 0 };
}

static void release(struct boot_image *image)
{
	if (image->regular)
		boot_image_free(image);
}

void boot_images_release(struct boot_request *request)
{
	release(&request->kernel);
	for (unsigned i = 0; i < request->modules; i++)
		release(&request->module[i].file);
}

static int need(struct boot_image *image)
{
	return image->data ? 0 : boot_image_read(image, image->path);
}

int boot_images_need(struct boot_request *request)
{
	int error = need(&request->kernel);
	for (unsigned i = 0; i < request->modules && !error; i++)
		error = need(&request->module[i].file);
	return error;
}

const char *boot_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* What a file may be, by the bytes at one place. The first row that fits is taken. */
static const struct magic {
	size_t offset;
	const char *bytes;
	size_t length;
	const char *what;
} magics[] = {
#define MAGIC(offset, bytes, what) { offset, bytes, sizeof(bytes) - 1, what }
	MAGIC(0, "\x7f" "ELF\x01", "a 32-bit ELF file without a PVH entry or a Multiboot header; of a Linux kernel take the bzImage"),
	MAGIC(0, "\x7f" "ELF\x02", "a 64-bit ELF file without a PVH entry or a Multiboot header; of a Linux kernel take the bzImage"),
	MAGIC(0, "\x1f\x8b", "compressed with gzip; unpack it with gunzip, or an initramfs: then it belongs to --initrd"),
	MAGIC(0, "\xfd" "7zXZ", "compressed with xz; unpack it with unxz, or an initramfs: then it belongs to --initrd"),
	MAGIC(0, "BZh", "compressed with bzip2"),
	MAGIC(0, "\x28\xb5\x2f\xfd", "compressed with zstd; unpack it with unzstd, or an initramfs: then it belongs to --initrd"),
	MAGIC(0, "\x04\x22\x4d\x18", "compressed with lz4"),
	MAGIC(0, "\x02\x21\x4c\x18", "compressed with lz4"),
	MAGIC(0, "070701", "a cpio archive, so an initramfs: it belongs to --initrd"),
	MAGIC(56, "ARMd", "a Linux kernel for 64-bit ARM, not for x86"),
	MAGIC(0, "MZ", "a PE file, so an EFI or Windows program"),
	MAGIC(0x8001, "CD001", "a CD image (ISO 9660); boot it with --cdrom"),
	MAGIC(0, "QFI\xfb", "a disk image (qcow2); boot it with --disk"),
	MAGIC(0, "KDMV", "a disk image (VMDK)"),
	MAGIC(0, "!<arch>\n", "an archive, such as a Debian package; unpack it with dpkg -x"),
	MAGIC(257, "ustar", "a tar archive"),
	MAGIC(0, "#!", "a script"),
	MAGIC(510, "\x55\xaa", "a boot sector or a disk image; boot it with --disk or --floppy"),
#undef MAGIC
};

static bool is_text(const struct boot_image *image)
{
	for (size_t i = 0; i < MIN(image->size, (size_t)512); i++)
		if (!image->data[i] || image->data[i] >= 0x7f || (image->data[i] < ' ' && !strchr("\t\r\n\f", image->data[i])))
			return false;
	return true;
}

static const char *describe(const struct boot_image *image)
{
	if (!image->size)
		return "empty";
	for (unsigned i = 0; i < ARRAY_SIZE(magics); i++) {
		const struct magic *m = &magics[i];
		if (image->size >= m->offset + m->length && !memcmp(image->data + m->offset, m->bytes, m->length))
			return m->what;
	}
	return is_text(image) ? "text" : "nothing that is known here";
}

int boot_load(struct vm *vm, const struct boot_request *request)
{
	SET_FOREACH(struct loader, loader, loaders) {
		if (loader->probe(&request->kernel))
			return loader->load(vm, request);
	}
	char supported[256] = "";
	SET_FOREACH(struct loader, loader, loaders) {
		size_t length = strlen(supported);
		snprintf(supported + length, sizeof(supported) - length, "%s%s", length ? ", " : "", loader->summary);
	}
	log_error("%s cannot be booted: it is %s. What can be: %s", request->kernel.path, describe(&request->kernel), supported);
	return -ENOEXEC;
}
