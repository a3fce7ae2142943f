/* SPDX-License-Identifier: MIT */
/* Unix sockets that somebody connects to. */
#pragma once

/* socket.c -- A stream socket that listens at this path, for its user only; a socket left there by who is gone is taken away, anything else
 * is not. The descriptor, or -errno after an error that begins with `what` ("--gdb unix:/tmp/x"). */
int socket_listen(const char *what, const char *path, int backlog);
