#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The KVM engine. tests/boot/guests.sh runs all our guests under it, too; but on a host whose /dev/kvm has no hardware behind it the
# interpreter runs most of them. So here KVM runs what it can, slowly, in those guests that an emulator in a kernel gets right: with the
# interrupt chips in the monitor, and in the kernel. Those that take long there are in tests/soak/run.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! has_engine kvm; then
        skip 'kvm' "$("$DOPPEL" engines | grep '^kvm')"
        exit
fi
build_guests
printf 'doppel module' >"$scratch/module"
seq -f %015.f 0 1023 >"$scratch/disk"

# run_guest OPTIONS NAME ARGUMENT...
run_guest() {
        local options=$1 name=$2
        shift 2
        capture 100 "$DOPPEL" run --engine "kvm,modes=all,$options" --memory 128M --kernel "$guests/$name.elf" --debug-exit 0xf4 \
                --debugcon stdio --serial none --stats "$@"
        check "$name, $options: all checks hold" "status $status: $(grep '^not ok' <<<"$out")" test "$status" = 1
        check "$name, $options: KVM ran it" "$err" grep -q '^kvm.entries [1-9]' <<<"$err"
}

for chips in user kernel; do
        run_guest irqchip=$chips boot --initrd "$scratch/module" --initrd "$scratch/module second=2" --append 'alpha beta=1'
        run_guest irqchip=$chips smc
        run_guest irqchip=$chips,swap=1 smc
        run_guest irqchip=$chips disk --disk "$scratch/disk,readonly"
        check "disk, irqchip=$chips: the kernel answered each notification, by a doorbell" "$err" grep -q '^io.doorbell [1-9]' <<<"$err"
        run_guest irqchip=$chips,swap=3 disk --disk "$scratch/disk,readonly"
done

boot_linux linux-cloud '' 'echo "$((6 * 7))"' --engine kvm
booted 'Debian under kvm'
equal 'Debian under kvm: what it says' "$out" 42

capture 10 "$DOPPEL" run --engine kvm,chips=none --kernel "$guests/boot.elf"
contains 'an option that there is not' "$err" "engine kvm has no option 'chips=none'"

# As somebody who may not open /dev/kvm.
if ((EUID)) || [[ $(stat -c %a /dev/kvm) == *[67] ]]; then
        skip 'without rights on /dev/kvm' 'needs root, and a /dev/kvm that is not for everybody'
else
        cp "$DOPPEL" "$scratch/doppel"
        chmod 755 "$scratch"
        capture 10 setpriv --reuid 65534 --regid 65534 --clear-groups "$scratch/doppel" run --engine kvm --kernel /dev/null
        contains 'without rights on /dev/kvm: says so' "$err" 'no rights on /dev/kvm'
        check 'without rights on /dev/kvm: what helps' "$err" grep -qE 'usermod -aG|setfacl' <<<"$err"
fi
