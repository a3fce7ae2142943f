/* SPDX-License-Identifier: MIT */
/* A server for GDB's remote protocol (GDB manual, appendix E): the machine's processors as threads, with their system registers. */
#pragma once
#include <stdio.h>
#include "vm/debugger.h"

struct gdb;

/* gdb_server.c -- Listens at `where`, a TCP port of the local host ("1234") or "unix:PATH", for one client at a time. The machine is paused when
 * one comes, and goes on when he leaves. Main thread, before vm_start. 0, or -errno after log_error. */
int gdb_open(struct gdb **, struct vm *, const char *where);
/* After the machine has ended. NULL is allowed. */
void gdb_close(struct gdb *);

#define GDB_PACKET 0x4000 /* bytes of the longest packet, either way */

struct gdb_text { /* an answer in the making; what does not fit is cut, and the answer is then an error */
	char data[GDB_PACKET];
	size_t size;
	bool overflow;
};

struct gdb { /* the server's thread only */
	struct vm *vm;
	struct debugger debugger;
	struct vcpu *selected;     /* whose registers and memory are asked for */
	bool physical;             /* addresses of memory are physical */
	bool no_ack;
	bool running;              /* the client waits for the machine to stop */
	bool leaving;              /* close the connection after the answer */
	struct gdb_server *server;
};

/* gdb_command.c -- Answers a packet. False: there is no answer now, since the machine runs; gdb_stopped gives it. */
bool gdb_command(struct gdb *, char *packet, size_t size, struct gdb_text *answer);
/* What stopped the machine, which is paused: a processor that stands still, or `signal` from outside. */
void gdb_stopped(struct gdb *, unsigned signal, struct gdb_text *answer);
/* The client is gone: nothing of him is left in the machine, and it goes on. */
void gdb_detached(struct gdb *);

__attribute__((format(printf, 2, 3))) void gdb_print(struct gdb_text *, const char *format, ...);
void gdb_hex(struct gdb_text *, const void *data, size_t size);
/* Bytes from hexadecimal digits; how many there were, at most `size`. */
size_t gdb_unhex(const char *text, void *data, size_t size);

/* gdb_registers.c -- In the order of the target description. */
unsigned gdb_register_count(const struct vcpu *);
/* Up to 16 bytes; the size, 0: there is no such register. The state is current. */
size_t gdb_register_get(const struct vcpu *, unsigned n, void *value);
/* False: it cannot be written. The caller says vcpu_changed. */
bool gdb_register_set(struct vcpu *, unsigned n, const void *value, size_t size);
size_t gdb_register_size(const struct vcpu *, unsigned n);
/* The target description, XML. */
void gdb_describe(const struct vcpu *, FILE *);
