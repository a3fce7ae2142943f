/* SPDX-License-Identifier: MIT */
/* Control of machines that run: each listens on a socket in its user's runtime folder, and answers one line at a time.
 *
 * The protocol is docs/control.md's: a request is a line "COMMAND [ARGUMENTS]", an answer "ok LENGTH" and so many bytes, or "error WHY".
 * What a machine can be asked is a linker set: a command is one object in one file of this folder or of a layer above, with
 * CONTROL_COMMAND. One thread serves all clients, a command at a time. Clients are the same user's or root's; none of them can make the
 * machine wait, since only commands touch it. */
#pragma once
#include <stdio.h>
#include "util/set.h"
#include "vm/vm.h"

#define CONTROL_NAME_LONGEST 64  /* of a machine */
#define CONTROL_LINE_LONGEST 4096 /* of a request, with its line end */

struct control;

struct control_answer {
	FILE *out;         /* what the client gets after "ok LENGTH" */
	char error[1024];  /* control_fail: why not; else, what was logged meanwhile */
};

struct control_command {
	const char *name;
	const char *usage;   /* the arguments: "NAME", or "" */
	const char *summary; /* for the request "help" */
	/* Does it. `arguments` is what stands behind the name, without blanks around it; the text of an answer goes to answer->out. 0, or
	 * -errno after control_fail; what log_error says on this thread meanwhile becomes the client's error, too. Control thread, which holds no
	 * lock; the machine runs (vcpu_stop_all makes a safe point), is paused, or has just ended. */
	int (*run)(struct control *, const char *arguments, struct control_answer *answer);
};
SET_DECLARE(struct control_command, control_commands);
#define CONTROL_COMMAND(object) SET_ADD(struct control_command, control_commands, object)

struct control { /* of one machine */
	struct vm *vm;
	const char *name;
	uint64_t began;            /* CLOCK_MONOTONIC, ns */
	struct control_server *server;
};

/* control_server.c -- Makes the socket, and the thread that answers. The name must outlive it; control_name_valid. 0, or -errno after
 * log_error. Main thread, before vm_start. */
int control_open(struct control *, struct vm *, const char *name);
/* After the machine has ended: tells those who wait for it, and takes the socket away. Also after a control_open that failed. */
void control_close(struct control *);
/* For a command: the text of its error, a line without its end. Returns the error. */
int control_fail(struct control_answer *, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* For a command: the client that asks gets its answer when the machine ends. */
void control_answer_at_end(struct control *);

/* control_path.c -- Letters, digits, "_", "-" and ".", not beginning with a dot or a dash, not too long: it is part of paths. */
bool control_name_valid(const char *name);
/* Machines that there are: calls each(name, socket, arg) with a connected, non-blocking socket, which is each()'s to close; -EAGAIN: it
 * is there, and overrun. A socket that nobody
 * listens on any more is removed. */
void control_each(void (*each)(const char *name, int fd, void *arg), void *arg);
/* Connects to the machine of that name. The socket, or -errno: -ENOENT when there is none; no message. */
int control_dial(const char *name);
struct control_socket { /* that a machine listens on */
	int folder, fd;
	char file[CONTROL_NAME_LONGEST + 8];
	char path[256];            /* for messages; may be cut */
	uint64_t device, inode;
};
int control_listen(struct control_socket *, const char *name);
void control_unlisten(struct control_socket *);

/* control_client.c -- Sends a request. 0 or -errno, without a message. */
int control_ask(int fd, const char *line);
/* Waits up to timeout ms (-1: for ever) for the answer. 0 and the bytes, which are the caller's to free (a 0 follows them); 1 and the error's
 * text; or -errno: -ETIMEDOUT, -ECONNRESET when the machine has gone, -EPROTO. */
int control_hear(int fd, int timeout, char **text, size_t *size);
/* The process that listens at the other end; 0: unknown. */
int control_peer(int fd);
/* For sub-commands: dials, asks and hears; whatever goes wrong is log_error's. *text is the caller's to free, also after an error. 0 or -errno. */
int control_call(const char *name, int timeout, char **text, size_t *size, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
