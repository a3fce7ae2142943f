/* SPDX-License-Identifier: MIT */
/* Firmware that starts at the reset vector: a raw image of the ROM that ends at 4 GiB. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "boot/boot.h"
#include "util/log.h"

#define BIOS_LEAST (64 * KiB)
#define BIOS_MOST (16 * MiB)
#define RESET_VECTOR 16 /* bytes before the end */

/* Where distributions put SeaBIOS. */
static const char *const seabios[] = {
	"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/bios-256k.bin", "/usr/share/seabios/bios.bin",
};

static const char *const vga_bios[] = { "/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/qemu/vgabios-stdvga.bin" };
#define VGA_BIOS_MOST (64 * KiB)

static const char *first_there(const char *const *paths, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!access(paths[i], R_OK))
			return paths[i];
	return NULL;
}

static const char *find_seabios(void)
{
	const char *path = first_there(seabios, ARRAY_SIZE(seabios));
	if (path)
		return path;
	log_error("there is no BIOS on this host: install Debian's package seabios (apt-get install seabios), or name a "
		  "file with --bios");
	return NULL;
}

static bool is_empty(const uint8_t *bytes, size_t size)
{
	return (bytes[0] == 0 || bytes[0] == 0xff) && !memcmp(bytes, bytes + 1, size - 1);
}

int bios_read(struct boot_image *image, const char *name)
{
	const char *path = strcmp(name, BIOS_SEABIOS) ? name : find_seabios();
	int error = path ? boot_image_read(image, path) : -ENOENT;
	if (error)
		return error;
	if (image->size < BIOS_LEAST || image->size > BIOS_MOST || image->size % BIOS_LEAST) {
		log_error("%s is no BIOS: it has %zu bytes; a ROM has 64K to 16M, in steps of 64K", path, image->size);
		return -ENOEXEC;
	}
	if (is_empty(image->data + image->size - RESET_VECTOR, RESET_VECTOR)) {
		log_error("%s is no BIOS: there is nothing at the reset vector, 16 bytes before its end", path);
		return -ENOEXEC;
	}
	return 0;
}

int bios_read_vga(struct boot_image *image)
{
	const char *path = first_there(vga_bios, ARRAY_SIZE(vga_bios));
	int error = path ? boot_image_read(image, path) : 0;
	if (error || !path)
		return error;
	if (image->size > VGA_BIOS_MOST || image->size < 2 || image->data[0] != 0x55 || image->data[1] != 0xaa) {
		log_error("%s is no BIOS of a VGA adapter: installing Debian's package seabios anew may help", path);
		return -ENOEXEC;
	}
	return 0;
}
