/* SPDX-License-Identifier: MIT */
/* The thread that answers a shared folder's messages, one after the other. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "backend/ninep.h"
#include "util/log.h"
#include "util/signals.h"
#include "vm/vm.h"

struct message {
	struct message *next;
	uint32_t tag;
	size_t size;
	uint8_t data[];
};

struct ninep_server {
	struct ninep *folder;
	struct device *device;
	unsigned event;
	bool threaded;
	pthread_t thread;
	uint8_t *reply;           /* the tag, then the message */
	pthread_mutex_t lock;     /* guards what follows */
	pthread_cond_t changed, idle;
	struct message *first, **last;
	bool busy, quit;
};

static size_t answer(struct ninep_server *s, const struct message *m)
{
	memcpy(s->reply, &m->tag, sizeof(m->tag));
	return sizeof(m->tag) + ninep_answer(s->folder, m->data, m->size, s->reply + sizeof(m->tag));
}

static void *server_thread(void *arg)
{
	struct ninep_server *s = arg;
	struct vm *vm = s->device->vm;
	pthread_mutex_lock(&s->lock);
	while (!s->quit) {
		struct message *m = s->first;
		if (!m) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		s->first = m->next;
		if (!s->first)
			s->last = &s->first;
		s->busy = true;
		pthread_mutex_unlock(&s->lock);
		size_t size = answer(s, m);
		pthread_mutex_lock(&s->lock);
		s->busy = false;
		pthread_cond_broadcast(&s->idle);
		pthread_mutex_unlock(&s->lock);
		loop_pause(vm); /* none comes while a safe point has the loop stopped */
		event_post(s->device, s->event, s->reply, size);
		loop_resume(vm);
		free(m);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_thread(struct ninep_server *s)
{
	sigset_t all, old;
	signals_of_others(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&s->thread, NULL, server_thread, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error)
		log_error("no thread for a shared folder: %s", strerror(error));
	else
		pthread_setname_np(s->thread, "doppel-9p");
	return -error;
}

int ninep_start(struct ninep_server **result, struct ninep *folder, struct device *device, unsigned event)
{
	struct ninep_server *s = calloc(1, sizeof(*s));
	if (s)
		s->reply = malloc(sizeof(uint32_t) + NINEP_MSIZE_MAX);
	if (!s || !s->reply) {
		free(s);
		return -ENOMEM;
	}
	s->folder = folder;
	s->device = device;
	s->event = event;
	s->last = &s->first;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	pthread_cond_init(&s->idle, NULL);
	s->threaded = device->vm->clock.mode == CLOCK_HOST;
	*result = s;
	int error = s->threaded ? start_thread(s) : 0;
	if (error)
		s->threaded = false;
	return error;
}

static void forget_all(struct ninep_server *s)
{
	for (struct message *m = s->first, *next; m; m = next) {
		next = m->next;
		free(m);
	}
	s->first = NULL;
	s->last = &s->first;
}

void ninep_stop(struct ninep_server *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->threaded)
		pthread_join(s->thread, NULL);
	forget_all(s);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	pthread_cond_destroy(&s->idle);
	free(s->reply);
	free(s);
}

void ninep_ask(struct ninep_server *s, uint32_t tag, const uint8_t *data, size_t size)
{
	struct message *m = malloc(sizeof(*m) + size);
	if (!m) {
		vm_kill(s->device->vm, "out of memory for a request of %s", s->device->name);
		return;
	}
	*m = (struct message){ .tag = tag, .size = size };
	memcpy(m->data, data, size);
	if (!s->threaded) {
		size_t length = answer(s, m);
		s->device->class->event(s->device, s->event, s->reply, length);
		free(m);
		return;
	}
	pthread_mutex_lock(&s->lock);
	*s->last = m;
	s->last = &m->next;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

void ninep_drain(struct ninep_server *s)
{
	pthread_mutex_lock(&s->lock);
	forget_all(s);
	while (s->busy)
		pthread_cond_wait(&s->idle, &s->lock);
	ninep_reset(s->folder);
	pthread_mutex_unlock(&s->lock);
}
