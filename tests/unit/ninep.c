/* SPDX-License-Identifier: MIT */
/* The 9P server: messages as a client sends them, ways out of the shared folder that must be none, and messages that are broken. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backend/ninep.h"
#include "test.h"

enum {
	LERROR = 7, LOPEN = 12, LCREATE = 14, SYMLINK = 16, MKNOD = 18, RENAME = 20, READLINK = 22, GETATTR = 24, SETATTR = 26, READDIR = 40,
	LINK = 70, MKDIR = 72, RENAMEAT = 74, UNLINKAT = 76, VERSION = 100, ATTACH = 104, WALK = 110, READ = 116, WRITE = 118, CLUNK = 120,
	REMOVE = 122,
};
#define ROOT 1u

static char folder[] = "/tmp/doppel-9p.XXXXXX";
static struct ninep *share;
static uint8_t message[64 * 1024], reply[NINEP_MSIZE_MAX];
static size_t size, answered;

static void begin(uint8_t type)
{
	size = NINEP_HEADER;
	message[4] = type;
	message[5] = 0x34;
	message[6] = 0x12;
}

static void number(unsigned bytes, uint64_t value)
{
	memcpy(message + size, &value, bytes);
	size += bytes;
}

static void text(const char *string)
{
	number(2, strlen(string));
	memcpy(message + size, string, strlen(string));
	size += strlen(string);
}

/* 0, or what the error says. */
static int ask(void)
{
	uint32_t length = (uint32_t)size, error = 0;
	memcpy(message, &length, 4);
	answered = ninep_answer(share, message, size, reply);
	if (answered < NINEP_HEADER || (reply[4] != message[4] + 1 && reply[4] != LERROR) || memcmp(reply + 5, message + 5, 2))
		return -1;
	if (reply[4] == LERROR)
		memcpy(&error, reply + NINEP_HEADER, 4);
	return (int)error;
}

static int walk(uint32_t from, uint32_t to, const char *name)
{
	begin(WALK);
	number(4, from);
	number(4, to);
	number(2, name ? 1 : 0);
	if (name)
		text(name);
	return ask();
}

static int on_fid(uint8_t type, uint32_t fid)
{
	begin(type);
	number(4, fid);
	return ask();
}

static int lopen(uint32_t fid, uint32_t flags)
{
	begin(LOPEN);
	number(4, fid);
	number(4, flags);
	return ask();
}

static int lcreate(uint32_t fid, const char *name, uint32_t flags)
{
	begin(LCREATE);
	number(4, fid);
	text(name);
	number(4, flags);
	number(4, 0644);
	number(4, 0);
	return ask();
}

static int named(uint8_t type, uint32_t fid, const char *name, uint64_t value)
{
	begin(type);
	number(4, fid);
	text(name);
	number(4, value);
	number(4, 0);
	number(4, 0);
	number(4, 0);
	return ask();
}

static int transfer(uint8_t type, uint32_t fid, uint64_t offset, const char *data)
{
	begin(type);
	number(4, fid);
	number(8, offset);
	number(4, strlen(data));
	memcpy(message + size, data, strlen(data));
	size += type == WRITE ? strlen(data) : 0;
	return ask();
}

static void start(const char *words)
{
	char spec[128];
	ninep_close(share);
	snprintf(spec, sizeof(spec), "%s/shared,tag=host%s", folder, words);
	ok(!ninep_open(&share, spec), "9p: a folder%s", words);
	begin(VERSION);
	number(4, 65536);
	text("9P2000.L");
	ok(!ask() && !memcmp(reply + 13, "9P2000.L", 8), "9p: version");
	begin(ATTACH);
	number(4, ROOT);
	number(4, UINT32_MAX);
	text("root");
	text("");
	number(4, 0);
	ok(!ask() && (reply[7] & 0x80), "9p: attached");
}

static bool is(const char *name, const char *contents)
{
	char path[256], data[64] = { 0 };
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return !contents;
	ssize_t n = read(fd, data, sizeof(data) - 1);
	close(fd);
	return contents && n >= 0 && !strcmp(data, contents);
}

static void files(void)
{
	start("");
	ok(!walk(ROOT, 2, NULL) && !lcreate(2, "file", O_RDWR) && !transfer(WRITE, 2, 0, "hello"), "9p: create and write");
	ok(is("shared/file", "hello") && !transfer(READ, 2, 1, "1234") && !memcmp(reply + 11, "ello", 4), "9p: read");
	ok(!on_fid(CLUNK, 2) && on_fid(CLUNK, 2) == EBADF, "9p: clunk");
	ok(!named(MKDIR, ROOT, "sub", 0755) && walk(ROOT, 2, "sub") == 0, "9p: mkdir");
	begin(RENAMEAT);
	number(4, ROOT);
	text("file");
	number(4, 2);
	text("moved");
	ok(!ask() && is("shared/sub/moved", "hello") && is("shared/file", NULL), "9p: rename");
	ok(!walk(2, 3, "moved") && !walk(3, 4, NULL), "9p: walk further");
	begin(RENAME);
	number(4, 3);
	number(4, ROOT);
	text("back");
	ok(!ask() && is("shared/back", "hello"), "9p: rename by fid");
	begin(SETATTR);
	number(4, 3);
	number(4, 0x8);
	number(4, 0);
	number(8, 0);
	number(8, 2);
	for (unsigned i = 0; i < 4; i++)
		number(8, 0);
	ok(!ask() && is("shared/back", "he"), "9p: truncate");
	begin(GETATTR);
	number(4, 3);
	number(8, 0x7ff);
	ok(!ask() && answered == NINEP_HEADER + 153, "9p: attributes");
	ok(!walk(ROOT, 5, NULL) && !lopen(5, O_RDONLY), "9p: a folder is opened");
	begin(READDIR);
	number(4, 5);
	number(8, 0);
	number(4, 4096);
	ok(!ask() && answered > 100 && memmem(reply, answered, "back", 4), "9p: and listed");
	begin(READDIR);
	number(4, 5);
	number(8, 0);
	number(4, 30);
	ok(!ask() && answered > 11 && answered < 50, "9p: in small pieces");
	begin(LINK);
	number(4, 2);
	number(4, 3);
	text("hard");
	ok(!ask() && is("shared/sub/hard", "he"), "9p: a link");
	ok(named(UNLINKAT, ROOT, "sub", 0x200) == ENOTEMPTY && !named(UNLINKAT, 2, "hard", 0) && !named(UNLINKAT, ROOT, "sub", 0x200), "9p: unlink");
	ok(!on_fid(REMOVE, 3) && is("shared/back", NULL), "9p: remove");
	ok(named(MKNOD, ROOT, "device", S_IFCHR | 0666) == EPERM && !named(MKNOD, ROOT, "pipe", S_IFIFO | 0666), "9p: no devices");
	ok(!walk(ROOT, 6, "pipe") && lopen(6, O_RDONLY) == ENXIO, "9p: a pipe is not opened here");
}

/* "secret" lies beside the shared folder. */
static void ways_out(void)
{
	static const char *const names[] = { "../secret", "/etc/passwd", "a/../../secret", ".", "..", "", "sub/x" };
	start("");
	named(MKDIR, ROOT, "sub", 0755);
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		walk(ROOT, 20, NULL);
		bool dots = !strcmp(names[i], "..") || !strcmp(names[i], ".");
		ok((dots || walk(ROOT, 21, names[i])) && lcreate(20, names[i], O_RDWR) && named(MKDIR, ROOT, names[i], 0755) &&
		   named(UNLINKAT, ROOT, names[i], 0), "9p: \"%s\" is no name", names[i]);
		on_fid(CLUNK, 20);
	}
	uint64_t above, root;
	ok(!walk(ROOT, 22, ".."), "9p: above the root");
	memcpy(&above, reply + 14, 8);
	walk(ROOT, 23, ".");
	memcpy(&root, reply + 14, 8);
	ok(above == root, "9p: is the root");
	begin(SYMLINK);
	number(4, ROOT);
	text("link");
	text("../secret");
	number(4, 0);
	ok(!ask() && !walk(ROOT, 24, "link") && !on_fid(READLINK, 24), "9p: a symbolic link is only told");
	ok(lopen(24, O_RDONLY) && lopen(24, O_RDWR | O_TRUNC), "9p: and never opened");
	ok(walk(24, 25, "x") && walk(24, 25, "..") >= 0, "9p: nor walked through");
	walk(ROOT, 26, NULL);
	ok(lcreate(26, "link", O_RDWR | O_TRUNC), "9p: nor created through");
	begin(SETATTR);
	number(4, 24);
	number(4, 0x9);
	number(4, 0777);
	number(8, 0);
	number(8, 0);
	for (unsigned i = 0; i < 4; i++)
		number(8, 0);
	ok(ask() && is("secret", "secret"), "9p: nor changed through");
	begin(SYMLINK);
	number(4, ROOT);
	text("up");
	text("..");
	number(4, 0);
	ok(!ask() && !walk(ROOT, 27, "up") && walk(27, 28, "secret") && named(MKDIR, 27, "x", 0755), "9p: nor is a link to a folder");
	begin(WALK);
	number(4, ROOT);
	number(4, 29);
	number(2, 3);
	text("sub");
	text("..");
	text("..");
	ok(!ask(), "9p: several steps up");
	ok(walk(29, 30, "secret") == ENOENT, "9p: stay in the root");
}

static void read_only(void)
{
	start(",readonly");
	walk(ROOT, 2, NULL);
	ok(lcreate(2, "new", O_RDWR) == EROFS && named(MKDIR, ROOT, "new", 0755) == EROFS && named(UNLINKAT, ROOT, "link", 0) == EROFS,
	   "9p: read only: nothing is made or removed");
	ok(!walk(ROOT, 3, "kept") && lopen(3, O_RDWR) == EROFS && lopen(3, O_RDONLY | O_TRUNC) == EROFS && !lopen(3, O_RDONLY) &&
	   transfer(WRITE, 3, 0, "x") == EROFS && is("shared/kept", "kept"), "9p: read only: nothing is changed");
}

static void broken(void)
{
	uint32_t seed = 7;
	bool ended = true;
	start("");
	for (unsigned type = 0; type < 256; type++) { /* every message, cut everywhere */
		for (unsigned length = 0; length < 64; length++) {
			begin((uint8_t)type);
			for (unsigned i = 0; i < length; i++)
				message[size++] = (uint8_t)(seed = seed * 1664525 + 1013904223, i < 4 ? i == 0 : seed >> 24);
			ask();
		}
	}
	for (size_t i = 0; i < 7; i++)
		ended &= !ninep_answer(share, message, i, reply);
	uint32_t length = 1000;
	memcpy(message, &length, 4);
	ended &= !ninep_answer(share, message, 100, reply);
	ok(ended, "9p: messages that are none");
	start("");
	ok(!walk(ROOT, 2, NULL) && walk(ROOT, 2, NULL) == EBADF && walk(99, 3, NULL) == EBADF, "9p: fids that are there, or not");
	int error = 0;
	unsigned opened = 0;
	while (!error && opened < 100000)
		error = walk(ROOT, 1000 + opened++, "kept");
	int fd = open("/dev/null", O_RDONLY);
	ok(error == EMFILE && fd >= 0, "9p: a client cannot take all descriptors");
	close(fd);
}

int main(void)
{
	char path[128];
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "mkdir %s/shared; printf secret >%s/secret; printf kept >%s/shared/kept", folder, folder, folder);
	if (system(path))
		return 1;
	files();
	ways_out();
	read_only();
	broken();
	ninep_close(share);
	ok(ninep_open(&share, "/nonexistent,tag=x") && ninep_open(&share, "/tmp"), "9p: no folder, no tag");
	snprintf(path, sizeof(path), "rm -r %s", folder);
	return system(path) ? 1 : done();
}
