#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the command line says to what a person may type: exit statuses, and messages that help.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
set +e # statuses are what is tested here

# says NAME STATUS TEXT ARGUMENT...: doppel ARGUMENT... ends with STATUS, and TEXT (an extended regular expression) is in
# what it prints.
says() {
	local name=$1 status=$2 text=$3 got
	shift 3
	output=$(timeout 20 "$DOPPEL" "$@" </dev/null 2>&1)
	got=$?
	if ((got == status)) && grep -qE -- "$text" <<<"$output"; then
		ok "$name"
	else
		not_ok "$name" "status $got, not $status: ${output//$'\n'/; }"
	fi
}

: >"$scratch/empty"
head -c 100000 /dev/zero | tr '\0' '\253' >"$scratch/garbage"
echo "a letter" >"$scratch/text"
printf '\x1f\x8b\x08' >"$scratch/gzip"
k=$scratch/garbage

says "no command" 2 "Usage: doppel"
says "help" 0 "engines .*Lists" help
commands=$("$DOPPEL" help | sed -n 's/^  \([a-z]*\) .*/\1/p')
equal "help: the commands in order" "$commands" "$(LC_ALL=C sort <<<"$commands")"
says "--help" 0 "Usage: doppel" --help
says "version" 0 "^doppel [0-9]+\.[0-9]" version
says "--version" 0 "^doppel [0-9]" --version
says "help of each command: run" 0 "--memory SIZE" help run
says "run --help" 0 "Exit status" run --help
says "engines --help" 0 "Usage: doppel engines" engines --help
says "version --help" 0 "Usage: doppel version" version --help
says "help --help" 0 "Usage: doppel help" help --help
says "help of no command" 2 "there is no command" help xyzzy
says "a misspelt command" 2 'did you mean "doppel run"' rnu
says "an option without a command" 2 "a command comes first" --kernel x
says "--verify with --engine" 2 "leave --engine interp away" run --kernel "$k" --verify step --engine interp
says "--verify interp" 2 "what the others are compared with" run --kernel "$k" --verify interp
says "--verify null" 2 "it runs nothing that could be compared" run --kernel "$k" --verify null
says "--verify with --clock host" 2 "leave --clock host away" run --kernel "$k" --verify step --clock host
says "--verify with --gdb" 2 "would stop one machine of two" run --kernel "$k" --verify step --gdb 1
says "--verify with --vsock" 2 "leave it away" run --kernel "$k" --verify step --vsock "$scratch/vsock"
says "--verify and a folder that is written" 2 'put ",readonly" behind --share' run --kernel "$k" --verify step --share "/,tag=x"
says "--verify and a disk that is written" 2 'put ",snapshot" or ",readonly"' run --verify step --disk "$k"
says "--cpu with a word missing" 2 "a word is missing" run --kernel "$k" --cpu v2,
says "engines" 0 "^interp +yes" engines
says "engines: which one is taken" 0 "^doppel run takes [a-z]+: " engines
says "engines takes no words" 2 "not understood" engines all

says "nothing to boot" 2 "give a kernel with --kernel" run
says "a misspelt option" 2 "did you mean --kernel" run --kernal x
says "an option without its value" 2 "wants a value" run --kernel
says "a word too many" 2 "not understood" run --kernel "$k" "$k"
says "an unknown engine" 2 "did you mean interp" run --kernel "$k" --engine intrep
says "an engine that is far from any" 2 "there is no engine" run --kernel "$k" --engine warp-drive
says "an option that the engine does not have" 2 "engine kvm has no option 'foo'" run --kernel "$k" --engine kvm,foo
says "a code cache that is too small" 2 "engine bt has no option 'cache=1M'; it has cache=SIZE, from 2M to 128M" run --kernel "$k" --engine bt,cache=1M
says "options for an engine that has none" 2 "engine interp has no options" run --kernel "$k" --engine interp,irqchip=user
says "an unknown processor" 2 "no processor model" run --kernel "$k" --cpu pentium-from-mars
says "an unknown feature" 2 "did you mean .aes?" run --kernel "$k" --cpu v2,+aess
says "a feature that the model cannot announce" 2 "no leaf for lm" run --kernel "$k" --cpu pentium,+lm
says "the features that there are" 0 "sse4.2" run --cpu help
says "the processors that there are" 0 "^v2 " run --cpu help
says "memory that is no size" 2 "512M or 2G" run --kernel "$k" --memory lots
says "no memory" 2 "between 1M" run --kernel "$k" --memory 0
says "too little memory" 2 "between 1M" run --kernel "$k" --memory 4096
says "too much memory" 2 "between 1M" run --kernel "$k" --memory 9999999T
says "memory beyond any number" 2 "between 1M" run --kernel "$k" --memory 99999999999999999999
says "negative memory" 2 "no size" run --kernel "$k" --memory=-1
says "half a page of memory" 2 "multiple of 4K" run --kernel "$k" --memory 67108865
says "no processors" 2 "between 1 and" run --kernel "$k" --cpus 0
says "too many processors" 2 "between 1 and" run --kernel "$k" --cpus 100000
says "processors in words" 2 "no number" run --kernel "$k" --cpus two
says "a port beyond all ports" 2 "between 0 and" run --kernel "$k" --debug-exit 0x10000
says "an unknown clock" 2 "host.instructions" run --kernel "$k" --clock sundial
says "an unknown trace event" 2 "." run --kernel "$k" --trace xyzzy
says "an unknown serial backend" 2 "did you mean stdio" run --kernel "$k" --serial stdoi
says "stdio twice" 2 "only one device" run --kernel "$k" --serial stdio --serial stdio
says "five serial lines" 2 "4 times at most" run --kernel "$k" --serial none --serial none --serial none --serial none --serial none
says "a serial file that cannot be" 1 "No such file" run --kernel "$k" --serial "file:$scratch/none/x"

says "a missing kernel" 1 "No such file" run --kernel "$scratch/missing"
says "a folder as a kernel" 1 "directory" run --kernel "$scratch"
says "an empty kernel" 1 "it is empty" run --kernel "$scratch/empty"
says "garbage as a kernel" 1 "nothing that is known" run --kernel "$k"
says "text as a kernel" 1 "it is text" run --kernel "$scratch/text"
says "a compressed kernel" 1 "gunzip" run --kernel "$scratch/gzip"
says "a missing initrd" 1 "No such file" run --kernel "$k" --initrd "$scratch/missing"

# Devices: a kernel that halts for good, so that what is wrong is the device.
kernel halts '\xfa\xf4'
g=$scratch/halts
printf abc >"$scratch/three"
head -c 4096 /dev/zero >"$scratch/disk"
alone() { # NAME STATUS TEXT ARGUMENT...: as says, and nothing else is printed.
	says "$@"
	if (($(wc -l <<<"$output") != 1)); then not_ok "$1: in one line" "${output//$'\n'/; }"; fi
}
alone "a disk on no bus" 2 "any.ide.virtio" run --kernel "$g" --disk "$scratch/disk,bus=scsi"
alone "a disk in no slot" 2 "between 1 and 31" run --kernel "$g" --disk "$scratch/disk,slot=99"
alone "a disk without queues" 2 "between 1 and 16" run --kernel "$g" --disk "$scratch/disk,queues=0"
alone "a slot for two" 2 "both disk0 and net0" run --kernel "$g" --disk "$scratch/disk,slot=7" --net "socket=$scratch/net,slot=7"
alone "a format that is none" 2 "there are .*qcow2" run --kernel "$g" --disk "$scratch/disk,format=vdi"
alone "a format that is nearly one" 2 "did you mean qcow2" run --kernel "$g" --disk "$scratch/disk,format=qcow"
alone "a serial number that is too long" 2 "up to 20 characters" run --kernel "$g" --disk "$scratch/disk,serial=123456789012345678901"
alone "a disk twice" 1 "for another disk of this one" run --kernel "$g" --disk "$scratch/disk" --disk "$scratch/disk"
alone "what nothing boots from" 2 "--boot disk,tape: a list" run --disk "$scratch/disk" --boot disk,tape
alone "queues for a card without" 2 "only a virtio card" run --kernel "$g" --net "socket=$scratch/net,model=e1000,queues=2"
alone "a guest with the host's number" 2 "between 3 and" run --kernel "$g" --vsock "$scratch/vsock,cid=2"
alone "guests' sockets at a file" 1 "no socket" run --kernel "$g" --vsock "$scratch/text"
alone "a disk that is less than a sector" 1 "three: 3 bytes" run --kernel "$g" --disk "$scratch/three"
alone "a CD that is less than a block" 1 "three: 3 bytes" run --kernel "$g" --cdrom "$scratch/three"
alone "no such network" 2 "there are user" run --kernel "$g" --net foo
alone "a word that a network does not take" 2 "foo: this word is not understood" run --kernel "$g" --net user,foo
alone "a word that a folder does not take" 2 "no options are part of the folder" run --kernel "$g" --share "/,tag=x,foo"
alone "no such card" 2 "virtio.e1000" run --kernel "$g" --net "socket=$scratch/net,model=ne2000"
alone "a cable to a file" 1 "no socket" run --kernel "$g" --net "socket=$scratch/text"
alone "a screen to a file" 1 "no socket" run --kernel "$g" --display "vnc=$scratch/text"
alone "GDB at a file" 1 "no socket" run --kernel "$g" --gdb "unix:$scratch/text" --paused
alone "a picture that cannot be written" 1 "No such file" run --kernel "$g" --screenshot "$scratch/none/x.ppm"
equal "what is no socket is left as it is" "$(<"$scratch/text")" "a letter"
exit 0
