#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What doppel engines says of /dev/kvm, with device nodes that the test makes in a /dev of its own; and --engine auto, which says what it chose.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

capture 60 "$DOPPEL" engines
chosen=$(sed -n 's/^doppel run takes //p' <<<"$out")
for engine in interp bt step; do
        check "the speed of $engine is measured" "$out" grep -qE "^$engine +yes +[0-9]+ MIPS" <<<"$out"
done
capture 60 "$DOPPEL" run --engine auto --kernel /nonexistent
contains '--engine auto says what it chose' "$err" "engine ${chosen%%:*}: "

if ((EUID)) || ! unshare --mount true 2>/dev/null; then
        skip 'words on /dev/kvm' 'needs root, and mount namespaces'
        exit
fi

# in_dev NODE WHO: the line on kvm, where NODE makes /dev/kvm, and WHO is root or nobody; with what $shim answers, if that is set.
cp "$DOPPEL" "$scratch/doppel"
chmod 755 "$scratch" "$scratch/doppel"
in_dev() {
        local as=${shim:+env LD_PRELOAD=$shim}
        [[ $2 == root ]] || as='setpriv --reuid 65534 --regid 65534 --clear-groups'
        # shellcheck disable=SC2016 # the inner shell expands it
        unshare --mount bash -c 'mkdir "$3"; mount -t tmpfs none "$3" && mknod -m 666 "$3/null" c 1 3 && mount --move "$3" /dev &&
                eval "$1" && $2 "$4" engines 2>&1 | grep "^kvm"' - "$1" "$as" "$scratch/dev" "$scratch/doppel" </dev/null || true
        rmdir "$scratch/dev"
}
group=$(getent group kvm | cut -d: -f1 || true)
group=${group:-$(getent group | awk -F: '$3 { print $1; exit }')}

contains 'no device: says so' "$(in_dev : root)" 'there is no /dev/kvm'
contains 'no device: what helps' "$(in_dev : root)" 'modprobe kvm_intel'
contains 'a device with nothing behind it' "$(in_dev 'mknod -m 666 /dev/kvm c 249 232' root)" 'nothing is behind /dev/kvm'
contains "a device of another driver" "$(in_dev 'mknod -m 666 /dev/kvm c 1 3' root)" "another device than KVM's"
contains 'no rights, and a group that has them' "$(in_dev "mknod -m 660 /dev/kvm c 1 3; chgrp $group /dev/kvm" nobody)" \
        "no rights on /dev/kvm: sudo usermod -aG $group \$USER"
contains 'no rights, and no group that has them' "$(in_dev 'mknod -m 600 /dev/kvm c 1 3' nobody)" 'sudo setfacl -m u:$USER:rw /dev/kvm'

# A host where somebody else's hypervisor is at work: the kernel then makes no VM.
if ! command -v cc >/dev/null || [[ $DOPPEL == *-san/* ]]; then
        skip 'another hypervisor' 'needs a compiler, and a build without sanitizers'
        exit
fi
cc -x c -shared -fPIC -o "$scratch/shim.so" - <<'C'
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
int ioctl(int fd, unsigned long request, ...)
{
        va_list list;
        va_start(list, request);
        void *argument = va_arg(list, void *);
        va_end(list);
        if (request == KVM_GET_API_VERSION)
                return KVM_API_VERSION;
        if (request == KVM_CHECK_EXTENSION)
                return 1;
        if (request == KVM_GET_VCPU_MMAP_SIZE)
                return 4096;
        if (request != KVM_CREATE_VM)
                return (int)syscall(SYS_ioctl, fd, request, argument);
        errno = EBUSY;
        return -1;
}
C
shim=$scratch/shim.so
line=$(in_dev 'mknod -m 666 /dev/kvm c 1 3' root)
contains 'another hypervisor: says so' "$line" 'kvm     no  '
contains 'another hypervisor: what helps' "$line" "another hypervisor has this host's virtualization (VirtualBox, VMware): end its machines"
