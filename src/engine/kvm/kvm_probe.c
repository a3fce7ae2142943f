/* SPDX-License-Identifier: MIT */
/* What the user is told of /dev/kvm: whether it can be used, what is behind it, what helps. */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "engine/kvm/kvm.h"

#define NATIVE_MIPS 2000

/* A group that may use the device, if there is one. */
static void explain_rights(char *text, size_t size)
{
	struct stat s;
	struct group *group = stat("/dev/kvm", &s) ? NULL : getgrgid(s.st_gid);

	if (group && (s.st_mode & 0060) == 0060 && s.st_gid)
		snprintf(text, size, "no rights on /dev/kvm: sudo usermod -aG %s $USER, then log in again", group->gr_name);
	else
		snprintf(text, size, "no rights on /dev/kvm, which belongs to root alone: sudo setfacl -m u:$USER:rw /dev/kvm");
}

static void explain_error(int error, char *text, size_t size)
{
	if (error == -ENOENT)
		snprintf(text, size, "there is no /dev/kvm: switch virtualization on in the firmware, then sudo modprobe kvm_intel (or kvm_amd)");
	else if (error == -EACCES || error == -EPERM)
		explain_rights(text, size);
	else if (error == -ENODEV || error == -ENXIO)
		snprintf(text, size, "nothing is behind /dev/kvm: sudo modprobe kvm_intel (or kvm_amd)");
	else if (error == -EBUSY)
		snprintf(text, size, "another hypervisor has this host's virtualization (VirtualBox, VMware): end its machines, or unload its modules");
	else if (error == -ENOTTY)
		snprintf(text, size, "/dev/kvm is another device than KVM's: sudo rm /dev/kvm && sudo modprobe kvm_intel (or kvm_amd)");
	else if (error == -ENOSYS)
		snprintf(text, size, "/dev/kvm speaks too old a version of the interface: Linux 4.13 or later is needed");
	else
		snprintf(text, size, "/dev/kvm does not work: %s", strerror(-error));
}

int kvm_probe(struct engine_report *report)
{
	const struct kvm_found *f = kvm_find_out();

	*report = (struct engine_report){ .capabilities = ENGINE_SMP | ENGINE_DIRTY_LOG };
	if (f->error) {
		explain_error(f->error, report->why, sizeof(report->why));
		return 0;
	}
	report->usable = true;
	report->mips = (unsigned)MAX(f->mips[KVM_LONG], 1.0);
	if (f->hardware) {
		report->mips = MAX(report->mips, NATIVE_MIPS); /* also on a host that was busy during the trial */
		report->capabilities |= ENGINE_STEPS;
		snprintf(report->why, sizeof(report->why), "the processor's own virtualization%s%s", f->driver[0] ? ", " : "", f->driver);
	} else {
		snprintf(report->why, sizeof(report->why),
			 "/dev/kvm has no hardware behind it%s%s%s: the kernel emulates at %.1f MIPS%s; the interpreter runs most",
			 f->driver[0] ? " (" : "", f->driver, f->driver[0] ? ")" : "", f->mips[KVM_LONG],
			 f->native & BIT(KVM_LONG_USER) ? " what is not 64-bit user mode" : "");
	}
	return 0;
}
