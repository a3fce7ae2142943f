/* SPDX-License-Identifier: MIT */
/* The host side's event loop, and event_post, the gate through which every input enters the machine.
 *
 * One thread waits in epoll. It takes one event at a time, with the dispatch lock held and only if the descriptor is still
 * added: so whoever removes one knows, when loop_remove returns, that its callback does not run and will not run. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/log.h"
#include "util/signals.h"
#include "vm/vcpu.h"

struct event {
	struct event *next;
	struct device *device;
	unsigned kind;
	size_t len;
	uint8_t data[];
};

static struct vm *vm_of(struct loop_fd *f)
{
	return f->arg;
}

static void drain_counter(int fd)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

static void woken(struct loop_fd *f, uint32_t events)
{
	drain_counter(f->fd);
	if (vm_of(f)->clock.mode == CLOCK_HOST)
		clock_run(vm_of(f));
}

static void init_locks(struct loop *loop)
{
	pthread_mutexattr_t recursive;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&loop->dispatch, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&loop->lock, NULL);
}

int loop_init(struct vm *vm)
{
	struct loop *loop = &vm->loop;
	int error;

	init_locks(loop);
	loop->last = &loop->first;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->epoll < 0 || loop->wake < 0) {
		error = -errno;
		goto fail;
	}
	loop->wake_fd = (struct loop_fd){ .fd = loop->wake, .ready = woken, .arg = vm };
	error = loop_add(vm, &loop->wake_fd, EPOLLIN);
	if (!error && vm->clock.timerfd >= 0) {
		loop->timer_fd = (struct loop_fd){ .fd = vm->clock.timerfd, .ready = woken, .arg = vm };
		error = loop_add(vm, &loop->timer_fd, EPOLLIN);
	}
	if (!error)
		return 0;
fail:
	log_error("cannot set up the event loop: %s", strerror(-error));
	loop_fini(vm);
	return error;
}

void loop_fini(struct vm *vm)
{
	struct loop *loop = &vm->loop;

	loop_stop(vm);
	while (loop->first) {
		struct event *e = loop->first;
		loop->first = e->next;
		free(e);
	}
	if (loop->epoll >= 0)
		close(loop->epoll);
	if (loop->wake >= 0)
		close(loop->wake);
	loop->epoll = loop->wake = -1;
	pthread_mutex_destroy(&loop->dispatch);
	pthread_mutex_destroy(&loop->lock);
}

static struct loop_fd **find(struct loop *loop, const struct loop_fd *f)
{
	struct loop_fd **at = &loop->fds;

	while (*at && *at != f)
		at = &(*at)->next;
	return at;
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
	struct loop_fd *f = event->data.ptr;

	pthread_mutex_lock(&loop->dispatch);
	if (*find(loop, f))
		f->ready(f, event->events);
	pthread_mutex_unlock(&loop->dispatch);
}

static void *loop_thread(void *arg)
{
	struct vm *vm = arg;
	struct loop *loop = &vm->loop;
	struct epoll_event event;

	while (!loop->quit) {
		int n = epoll_wait(loop->epoll, &event, 1, -1);
		if (n < 0 && errno != EINTR) {
			vm_kill(vm, "the event loop failed: %s", strerror(errno));
			break;
		}
		if (n == 1)
			dispatch(loop, &event);
	}
	return NULL;
}

int loop_start(struct vm *vm)
{
	struct loop *loop = &vm->loop;
	sigset_t all, old;
	int error;

	loop->quit = false;
	signals_of_others(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = -pthread_create(&loop->thread, NULL, loop_thread, vm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		log_error("cannot start the loop thread: %s", strerror(-error));
		return error;
	}
	pthread_setname_np(loop->thread, "doppel-loop");
	loop->running = true;
	loop_wake(vm); /* timers that were armed before */
	return 0;
}

void loop_stop(struct vm *vm)
{
	struct loop *loop = &vm->loop;

	if (!loop->running)
		return;
	loop->quit = true;
	loop_wake(vm);
	pthread_join(loop->thread, NULL);
	loop->running = false;
}

void loop_wake(struct vm *vm)
{
	uint64_t one = 1;

	while (write(vm->loop.wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_pause(struct vm *vm)
{
	pthread_mutex_lock(&vm->loop.dispatch);
}

void loop_resume(struct vm *vm)
{
	pthread_mutex_unlock(&vm->loop.dispatch);
}

int loop_add(struct vm *vm, struct loop_fd *f, uint32_t epoll_events)
{
	struct loop *loop = &vm->loop;
	struct epoll_event event = { .events = epoll_events, .data.ptr = f };
	int error = 0;

	pthread_mutex_lock(&loop->dispatch);
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, f->fd, &event)) {
		error = -errno;
	} else {
		f->next = loop->fds;
		loop->fds = f;
	}
	pthread_mutex_unlock(&loop->dispatch);
	return error;
}

int loop_change(struct vm *vm, struct loop_fd *f, uint32_t epoll_events)
{
	struct epoll_event event = { .events = epoll_events, .data.ptr = f };

	return epoll_ctl(vm->loop.epoll, EPOLL_CTL_MOD, f->fd, &event) ? -errno : 0;
}

void loop_remove(struct vm *vm, struct loop_fd *f)
{
	struct loop *loop = &vm->loop;
	struct loop_fd **at;

	pthread_mutex_lock(&loop->dispatch);
	at = find(loop, f);
	if (*at) {
		*at = f->next;
		epoll_ctl(loop->epoll, EPOLL_CTL_DEL, f->fd, NULL);
	}
	pthread_mutex_unlock(&loop->dispatch);
}

static void deliver(struct device *device, unsigned kind, const void *data, size_t len)
{
	pthread_mutex_lock(&device->lock);
	if (device->class->event)
		device->class->event(device, kind, data, len);
	pthread_mutex_unlock(&device->lock);
}

static void queue(struct vm *vm, struct event *e)
{
	struct loop *loop = &vm->loop;

	pthread_mutex_lock(&loop->lock);
	*loop->last = e;
	loop->last = &e->next;
	loop->queued++;
	pthread_mutex_unlock(&loop->lock);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_kick(vm->vcpu[i]);
}

bool event_taken(struct vm *vm, struct device *device, unsigned kind, const void *data, size_t len)
{
	const struct input_taker *taker = &vm->config.taker;

	if (!taker->take || vcpu_current())
		return false;
	taker->take(taker->arg, device, kind, data, len);
	return true;
}

void event_post(struct device *device, unsigned kind, const void *data, size_t len)
{
	struct vm *vm = device->vm;

	if (vm->clock.mode != CLOCK_INSTRUCTIONS)
		deliver(device, kind, data, len);
	else if (!event_taken(vm, device, kind, data, len))
		event_queue(device, kind, data, len);
}

void event_queue(struct device *device, unsigned kind, const void *data, size_t len)
{
	struct vm *vm = device->vm;
	struct event *e = malloc(sizeof(*e) + len);

	if (!e) {
		vm_kill(vm, "out of memory for an input of %s", device->name);
		return;
	}
	*e = (struct event){ .device = device, .kind = kind, .len = len };
	if (len)
		memcpy(e->data, data, len);
	queue(vm, e);
}

void event_drain(struct vm *vm, uint64_t icount)
{
	struct loop *loop = &vm->loop;

	while (loop->queued) {
		struct event *e;

		pthread_mutex_lock(&loop->lock);
		e = loop->first;
		loop->first = e->next;
		if (!loop->first)
			loop->last = &loop->first;
		loop->queued--;
		pthread_mutex_unlock(&loop->lock);
		trace(irq, "input %u for %s, %zu bytes, at %lu", e->kind, e->device->name, e->len, icount);
		deliver(e->device, e->kind, e->data, e->len);
		free(e);
	}
}
