/* SPDX-License-Identifier: MIT */
/* Lockstep: what comes from outside (keys, frames, buttons). It comes to the first machine, at any time; both get it at the next meeting, where they stand
 * at one count, and the log keeps what and where: so they get it again at the same place when they run again. */
#include <stdlib.h>
#include <string.h>
#include "cmd/lockstep.h"
#include "util/log.h"

void lockstep_take_input(void *arg, struct device *device, unsigned kind, const void *data, size_t len)
{
	struct lockstep *l = arg;
	struct input *input = malloc(sizeof(*input) + len);

	if (!input) {
		log_error("out of memory for an input: it is lost");
		return;
	}
	*input = (struct input){ .kind = kind, .len = len };
	snprintf(input->device, sizeof(input->device), "%s", device ? device->name : "");
	if (len)
		memcpy(input->data, data, len);
	pthread_mutex_lock(&l->lock);
	*l->pending_end = input;
	l->pending_end = &input->next;
	pthread_cond_broadcast(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

static void give(struct vm *vm, const struct input *input)
{
	struct device *device = input->device[0] ? device_find(vm, input->device) : NULL;

	if (device)
		event_queue(device, input->kind, input->data, input->len);
	else
		vm_reset_request(vm);
}

void lockstep_give_inputs(struct lockstep *l)
{
	while (l->pending) {
		struct input *input = l->pending;
		l->pending = input->next;
		input->next = NULL;
		input->at = l->next;
		*l->log_end = input;
		l->log_end = &input->next;
		l->inputs++;
		give(l->vm[0], input);
		give(l->vm[1], input);
	}
	l->pending_end = &l->pending;
}

uint64_t lockstep_replay_next(const struct side *s)
{
	return s->input ? s->input->at : UINT64_MAX;
}

void lockstep_replay(struct side *s, unsigned me)
{
	for (; s->input && s->input->at <= s->at; s->input = s->input->next)
		give(s->l->vm[me], s->input);
}

static void free_list(struct input *input)
{
	while (input) {
		struct input *next = input->next;
		free(input);
		input = next;
	}
}

void lockstep_inputs_free(struct lockstep *l)
{
	free_list(l->log);
	free_list(l->pending);
}
