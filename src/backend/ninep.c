/* SPDX-License-Identifier: MIT */
/* 9P2000.L: the protocol that Linux's v9fs speaks (its net/9p and the description of diod). Messages and fids; ninep_file.c has what they do to
 * files.
 *
 * A message is a size, a type, a tag and fields; all little-endian, strings with a length of 16 bits. Whatever a message contains is
 * checked by the reader, which turns bad at the first field that is not there. */
#include "backend/ninep_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "util/log.h"
#include "util/options.h"

#define VERSION "9P2000.L"
#define MSIZE_MIN 4096u
#define TAG_LONGEST 31
#define SLOT_MAX 31
#define DESCRIPTORS_MOST 65536u

/* ---- Fields ------------------------------------------------------------------------------------------------------------- */

uint64_t ninep_get(struct ninep_reader *r, unsigned size)
{
	uint64_t value = 0;
	if (r->bad || size > r->left) {
		r->bad = true;
		return 0;
	}
	memcpy(&value, r->at, size);
	r->at += size;
	r->left -= size;
	return value;
}

const char *ninep_get_string(struct ninep_reader *r, char text[NINEP_STRING])
{
	size_t length = ninep_get(r, 2);
	text[0] = 0;
	if (r->bad || length > r->left || length >= NINEP_STRING || memchr(r->at, 0, length)) {
		r->bad = true;
		return text;
	}
	memcpy(text, r->at, length);
	text[length] = 0;
	r->at += length;
	r->left -= length;
	return text;
}

void ninep_put(struct ninep_writer *w, unsigned size, uint64_t value)
{
	if (size > w->room - w->size) {
		w->full = true;
		return;
	}
	memcpy(w->data + w->size, &value, size);
	w->size += size;
}

void ninep_put_string(struct ninep_writer *w, const char *text)
{
	size_t length = strlen(text);
	if (2 + length > w->room - w->size) {
		w->full = true;
		return;
	}
	ninep_put(w, 2, length);
	memcpy(w->data + w->size, text, length);
	w->size += length;
}

/* ---- Fids --------------------------------------------------------------------------------------------------------------- */

static struct ninep_fid **bucket(struct ninep *p, uint32_t id)
{
	return &p->fids[id % NINEP_BUCKETS];
}

struct ninep_fid *ninep_fid(struct ninep *p, uint32_t id)
{
	struct ninep_fid *f = *bucket(p, id);
	while (f && f->id != id)
		f = f->next;
	return f;
}

/* Descriptors of the process that clients hold: they may have most, never all. */
static _Atomic unsigned descriptors;

static unsigned descriptors_max(void)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) ? 0 : (unsigned)(MIN(limit.rlim_cur, DESCRIPTORS_MOST) / 4 * 3);
}

static void want_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = MIN(limit.rlim_max, DESCRIPTORS_MOST);
	setrlimit(RLIMIT_NOFILE, &limit);
}

bool ninep_descriptor_free(void)
{
	return descriptors < descriptors_max();
}

void ninep_descriptors(int change)
{
	descriptors += (unsigned)change;
}

struct ninep_node *ninep_node_new(struct ninep_node *parent, const char *name, int fd)
{
	struct ninep_node *n = calloc(1, sizeof(*n));
	if (n)
		n->name = strdup(name);
	if (!n || !n->name) {
		free(n);
		close(fd);
		return NULL;
	}
	ninep_descriptors(1);
	n->fd = fd;
	n->references = 1;
	n->parent = parent;
	if (parent)
		parent->references++;
	return n;
}

void ninep_node_release(struct ninep_node *n)
{
	while (n && !--n->references) {
		struct ninep_node *parent = n->parent;
		close(n->fd);
		ninep_descriptors(-1);
		free(n->name);
		free(n);
		n = parent;
	}
}

/* Takes over the reference to the node. */
static int add_fid(struct ninep *p, uint32_t id, struct ninep_node *node)
{
	struct ninep_fid *f = calloc(1, sizeof(*f));
	if (!f) {
		ninep_node_release(node);
		return -ENOMEM;
	}
	*f = (struct ninep_fid){ .next = *bucket(p, id), .id = id, .node = node, .fd = -1 };
	*bucket(p, id) = f;
	return 0;
}

static void remove_fid(struct ninep *p, struct ninep_fid *f)
{
	struct ninep_fid **at = bucket(p, f->id);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->fd >= 0) {
		close(f->fd);
		ninep_descriptors(-1);
	}
	ninep_node_release(f->node);
	free(f);
}

void ninep_reset(struct ninep *p)
{
	for (unsigned i = 0; i < NINEP_BUCKETS; i++)
		while (p->fids[i])
			remove_fid(p, p->fids[i]);
	p->msize = MSIZE_MIN;
}

/* ---- Messages about fids ------------------------------------------------------------------------------------------------ */

static int version(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	char text[NINEP_STRING];
	uint32_t msize = (uint32_t)ninep_get(r, 4);
	ninep_get_string(r, text);
	if (r->bad || msize < MSIZE_MIN)
		return -EINVAL;
	ninep_reset(p);
	p->msize = MIN(msize, (uint32_t)NINEP_MSIZE_MAX);
	ninep_put(w, 4, p->msize);
	ninep_put_string(w, strcmp(text, VERSION) ? "unknown" : VERSION);
	return 0;
}

static int attach(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	uint32_t id = (uint32_t)ninep_get(r, 4);
	if (r->bad)
		return -EINVAL;
	if (ninep_fid(p, id))
		return -EBADF;
	int error = ninep_put_qid(w, p->root->fd);
	if (error)
		return error;
	p->root->references++;
	return add_fid(p, id, p->root);
}

/* As many names as there are; the new fid comes to be when all were. */
static int walk(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_fid(p, (uint32_t)ninep_get(r, 4));
	uint32_t id = (uint32_t)ninep_get(r, 4);
	unsigned count = (unsigned)ninep_get(r, 2), done = 0;
	size_t count_at = w->size;
	int error = 0;
	if (r->bad || !f || count > NINEP_WALK_MAX || (ninep_fid(p, id) && ninep_fid(p, id) != f))
		return -EBADF;
	struct ninep_node *at = f->node;
	at->references++;
	ninep_put(w, 2, 0);
	for (; done < count && !error; done += !error) {
		char name[NINEP_STRING];
		struct ninep_node *next = NULL;
		ninep_get_string(r, name);
		error = r->bad ? -EINVAL : ninep_lookup(at, name, &next);
		if (!error)
			error = ninep_put_qid(w, next->fd);
		if (!error) {
			ninep_node_release(at);
			at = next;
		} else {
			ninep_node_release(next);
		}
	}
	if (error && !done) {
		ninep_node_release(at);
		return error;
	}
	memcpy(w->data + count_at, &done, 2);
	if (error) {
		ninep_node_release(at);
		return 0; /* the client sees that it is not all of them */
	}
	if (f->id == id)
		remove_fid(p, f);
	return add_fid(p, id, at);
}

static int clunk(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_fid(p, (uint32_t)ninep_get(r, 4));
	if (r->bad || !f)
		return -EBADF;
	remove_fid(p, f);
	return 0;
}

static int remove_file(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_fid(p, (uint32_t)ninep_get(r, 4));
	if (r->bad || !f)
		return -EBADF;
	int error = ninep_remove_node(p, f->node);
	remove_fid(p, f);
	return error;
}

/* Requests are answered in order: what is to be flushed was answered. */
static int flush(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	return 0;
}

static int no_auth(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	return -ENOENT;
}

static int no_xattr(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	return -EOPNOTSUPP;
}

enum { R_LERROR = 7 };
#define TYPES 128

static const struct {
	ninep_handler *handler;
	bool writes;          /* changes the folder */
} handlers[TYPES] = {
	[8] = { ninep_statfs, false }, [12] = { ninep_lopen, false }, [14] = { ninep_lcreate, true }, [16] = { ninep_symlink, true },
	[18] = { ninep_mknod, true }, [20] = { ninep_rename, true }, [22] = { ninep_readlink, false }, [24] = { ninep_getattr, false },
	[26] = { ninep_setattr, true }, [30] = { no_xattr, false }, [32] = { no_xattr, false }, [40] = { ninep_readdir, false },
	[50] = { ninep_fsync, false }, [52] = { ninep_lock, false }, [54] = { ninep_getlock, false }, [70] = { ninep_link, true },
	[72] = { ninep_mkdir, true }, [74] = { ninep_renameat, true }, [76] = { ninep_unlinkat, true }, [100] = { version, false },
	[102] = { no_auth, false }, [104] = { attach, false }, [108] = { flush, false }, [110] = { walk, false },
	[116] = { ninep_read, false }, [118] = { ninep_write, true }, [120] = { clunk, false }, [122] = { remove_file, true },
};

static void put_header(uint8_t *reply, size_t size, uint8_t type, uint16_t tag)
{
	uint32_t size32 = (uint32_t)size;
	memcpy(reply, &size32, 4);
	reply[4] = type;
	memcpy(reply + 5, &tag, 2);
}

size_t ninep_answer(struct ninep *p, const uint8_t *message, size_t size, uint8_t *reply)
{
	struct ninep_reader r = { message, size, false };
	uint32_t length = (uint32_t)ninep_get(&r, 4);
	uint8_t type = (uint8_t)ninep_get(&r, 1);
	uint16_t tag = (uint16_t)ninep_get(&r, 2);
	if (r.bad || length > size || length < NINEP_HEADER)
		return 0;
	r.left = length - NINEP_HEADER;
	struct ninep_writer w = { reply, NINEP_HEADER, p->msize, false };
	bool known = type < TYPES && handlers[type].handler;
	int error = !known ? -EOPNOTSUPP : handlers[type].writes && p->words.readonly ? -EROFS : handlers[type].handler(p, &r, &w);
	if (!error && w.full)
		error = -EMSGSIZE;
	if (error) {
		w.size = NINEP_HEADER;
		w.full = false;
		ninep_put(&w, 4, (uint64_t)-error);
	}
	put_header(reply, w.size, error ? R_LERROR : type + 1, tag);
	return w.size;
}

/* ---- Set-up ------------------------------------------------------------------------------------------------------------- */

#define AT(member) offsetof(struct ninep_words, member)
static const struct option_row rows[] = {
	{ "tag", "NAME", "", OPTION_STRING, AT(tag), 0, 0 },
	{ "readonly", NULL, "", OPTION_FLAG, AT(readonly), 0, 0 },
	{ "slot", "N", "", OPTION_NUMBER, AT(slot), 1, SLOT_MAX },
	{ .type = OPTION_END },
};
#undef AT

static int prepare(struct ninep *p)
{
	int error = option_words("--share", rows, &p->words, p->text);
	if (error)
		return error;
	if (!p->words.tag || !p->words.tag[0] || strlen(p->words.tag) > TAG_LONGEST) {
		log_error("--share %s: say ,tag=NAME (up to %u characters) behind it: the guest mounts it by that name%s", p->text, TAG_LONGEST,
			  strchr(p->text, ',') ? " (words behind a comma that are no options are part of the folder's name)" : "");
		return -EINVAL;
	}
	want_descriptors();
	int fd = open(p->text, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		error = -errno;
		log_error("--share %s: %s", p->text, strerror(errno));
		return error;
	}
	p->root = ninep_node_new(NULL, "", fd);
	if (!p->root)
		return -ENOMEM;
	error = ninep_probe(p->root);
	if (error)
		log_error("--share needs openat2 (Linux 5.6) and /proc: %s", strerror(-error));
	return error;
}

int ninep_open(struct ninep **result, const char *spec)
{
	struct ninep *p = calloc(1, sizeof(*p));
	if (p)
		p->text = strdup(spec);
	int error = p && p->text ? prepare(p) : -ENOMEM;
	if (error) {
		ninep_close(p);
		return error;
	}
	p->msize = MSIZE_MIN;
	*result = p;
	return 0;
}

void ninep_close(struct ninep *p)
{
	if (!p)
		return;
	ninep_reset(p);
	ninep_node_release(p->root);
	free(p->text);
	free(p);
}

const char *ninep_tag(const struct ninep *p)
{
	return p->words.tag;
}

unsigned ninep_slot(const struct ninep *p)
{
	return (unsigned)p->words.slot;
}
