/* SPDX-License-Identifier: MIT */
/* The memory balloon of a machine, through its control socket. */
#include <errno.h>
#include "control/control.h"
#include "device/virtio_devices.h"
#include "util/options.h"

static struct device *find(struct vm *vm)
{
	struct device *d = vm->devices;
	while (d && d->class != &virtio_balloon_class)
		d = d->next;
	return d;
}

static int balloon(struct control *c, const char *arguments, struct control_answer *answer)
{
	struct device *d = find(c->vm);
	uint64_t bytes;
	if (!d)
		return control_fail(answer, -ENODEV, "it has no balloon; start it with --balloon");
	if (!arguments[0]) {
		fprintf(answer->out, "%lu\n", virtio_balloon_size(d));
		return 0;
	}
	if (option_size(arguments, &bytes) || bytes > c->vm->config.memory)
		return control_fail(answer, -EINVAL, "balloon takes a size, as 256M, up to that of the machine's memory");
	event_post(d, VIRTIO_BALLOON_TARGET, &bytes, sizeof(bytes));
	return 0;
}
static const struct control_command balloon_command = {
	"balloon", "[SIZE]", "asks the guest to give so much memory back to the host; without a size, how much it has given", balloon,
};
CONTROL_COMMAND(balloon_command);
