#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Guests that mean no good (guest/hostile.c): whatever they do, the monitor neither crashes nor hangs, and can be ended at once.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

build_guests

# hostile CASE ARGUMENT...: the command line of a machine whose guest does this.
hostile() {
        local what=$1
        shift
        command=("$DOPPEL" run --engine "$engine" --memory 128M --cpus 4 --kernel "$guests/hostile.elf" --append "case=$what"
                --debug-exit 0xf4 --debugcon "file:$scratch/log" "$@")
        rm -f "$scratch/log"
}

# sound NAME: a result only when one of our own errors is in err: of the sanitizers, an assertion, the C library's.
sound() {
        if grep -qE 'runtime error|Sanitizer|[Aa]ssert|\*\*\*|corrupt' <<<"$err"; then not_ok "$1: an error of our own" "$err"; fi
}

# Those that end with a result: they say so on the debug console, in lines.
ends() { # CASE
        hostile "$1" --serial "file:$scratch/serial"
        capture 120 "${command[@]}"
        equal "$engine: $1: the guest lives and ends" "$status $(grep -ac '^ok ' "$scratch/log")" '1 1'
        sound "$engine: $1"
        if ((status != 1)); then cat "$scratch/log" && printf '%s\n' "$err"; fi
}

# Those that crash: exit status 3, the registers and what stands at RIP.
crashes() { # CASE TEXT
        hostile "$1" --serial none
        capture 60 "${command[@]}"
        equal "$engine: $1: is a triple fault" "$status $(grep -ac 'triple fault' <<<"$err")" '3 1'
        contains "$engine: $1: the registers and what is at RIP are shown" "$err" "$2"
        sound "$engine: $1"
}

# Those that never end do so at once when they are asked to.
endless() { # CASE CLOCK
        local name="$engine: $1, clock $2" start took
        hostile "$1" --serial none --clock "$2"
        timeout -s KILL 15 "${command[@]}" </dev/null >"$scratch/out" 2>"$scratch/err" &
        child=$!
        sleep 0.7
        check "$name: runs" "$(cat "$scratch/log" "$scratch/err")" kill -0 "$child"
        start=$EPOCHREALTIME
        kill -TERM "$child" 2>/dev/null || true
        status=0
        wait "$child" || status=$?
        took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
        child=''
        err=$(cat "$scratch/err")
        equal "$name: SIGTERM ends it" "$status" 143
        check "$name: at once" "$took ms" test "$took" -lt 3000
        sound "$name"
}

# Ctrl-A x, typed on a terminal, while the guest does nothing but this.
escape() { # CASE
        local start took
        hostile "$1" --serial stdio
        printf '%q ' "${command[@]}" >"$scratch/inner"
        start=$EPOCHREALTIME
        status=0
        (sleep 1.5 && printf '\x01x') | timeout -k 5 30 script -qec "bash $scratch/inner" /dev/null >"$scratch/screen" 2>&1 || status=$?
        took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
        equal "$engine: $1: Ctrl-A x ends it" "$status" 0
        check "$engine: $1: at once" "$took ms" test "$took" -lt 6000
}

# A UART that is flooded, with its other end full, gone, slow, or asleep.
floods() {
        hostile flood --serial stdio
        status=0
        timeout 60 "${command[@]}" </dev/null >/dev/full 2>"$scratch/err" || status=$?
        equal "$engine: flood into /dev/full: the guest goes on" "$status" 1
        status=0
        timeout 60 "${command[@]}" </dev/null 2>"$scratch/err" | true || status=${PIPESTATUS[0]}
        equal "$engine: flood into a closed pipe: the guest goes on" "$status" 1
        status=0
        timeout 60 "${command[@]}" </dev/null 2>"$scratch/err" | (sleep 1 && cat) >"$scratch/slow" || status=${PIPESTATUS[0]}
        equal "$engine: flood into a slow pipe: the guest goes on" "$status" 1
        check "$engine: flood into a slow pipe: some of it arrives, and is the guest's" "$(wc -c <"$scratch/slow")" \
                grep -qx '[a-z]\{1000,\}' "$scratch/slow"
        # Nobody reads: what was written waits for a reader, until a second signal gives it up.
        hostile flood_forever --serial stdio
        mkfifo "$scratch/fifo"
        exec {fifo}<>"$scratch/fifo"
        # Without timeout, which passes only the first one on.
        "${command[@]}" </dev/null >"$scratch/fifo" 2>"$scratch/err" &
        child=$!
        sleep 1
        kill -TERM "$child"
        sleep 0.5
        kill -TERM "$child" 2>/dev/null || true
        for ((tries = 0; tries < 100; tries++)); do
                kill -0 "$child" 2>/dev/null || break
                sleep 0.1
        done
        kill -KILL "$child" 2>/dev/null || true
        status=0
        wait "$child" || status=$?
        child=''
        exec {fifo}>&-
        rm "$scratch/fifo"
        equal "$engine: flood into a pipe that nobody reads: two signals end it" "$status" 143
}

poke() { # FILE OFFSET BYTES (as printf escapes)
        # shellcheck disable=SC2059
        printf "$3" | dd of="$1" bs=1 seek="$(($2))" conv=notrunc status=none
}

# Writes to a ROM change nothing: by plain and locked instructions, by a string instruction, by the stack, and over its own code.
rom() {
        head -c 65536 /dev/zero | tr '\0' '\252' >"$scratch/rom"
        poke "$scratch/rom" 0xfff0 '\xea\x00\x00\x00\xf0'       # jmp f000:0
        poke "$scratch/rom" 0 '\xb8\x00\xf0\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x00\x04'
        #                      mov $0xf000,%ax; to DS, ES, SS; mov $0x400,%sp
        poke "$scratch/rom" 12 '\xc6\x06\x00\x01\x55\xf0\xff\x06\x02\x01\x87\x06\x04\x01\x50'
        #                       movb $0x55,0x100; lock incw 0x102; xchg %ax,0x104; push %ax
        poke "$scratch/rom" 27 '\xbf\x00\x02\xb9\x00\x01\x31\xc0\xf3\xab\xc6\x06\x2a\x00\xf4'
        #                       rep stosw from 0x200; movb $0xf4 (hlt),0x2a: the next instruction
        poke "$scratch/rom" 42 '\xb0\x00\x80\x3e\x00\x01\xaa\x75\x1a\x81\x3e\x02\x01\xaa\xaa\x75\x12'
        #                       mov $0,%al; cmpb $0xaa,0x100; jne fail; cmpw $0xaaaa,0x102; jne fail
        poke "$scratch/rom" 59 '\x81\x3e\x00\x02\xaa\xaa\x75\x0a\x81\x3e\xfe\x03\xaa\xaa\x75\x02\xe6\xf4\xfe\xc0\xe6\xf4'
        #                       the same at 0x200 and 0x3fe; out %al,$0xf4; fail: inc %al; out %al,$0xf4
        capture 20 "$DOPPEL" run --engine "$engine" --memory 16M --bios "$scratch/rom" --serial none --debug-exit 0xf4
        equal "$engine: writes to a ROM change nothing" "$status" 1
        sound "$engine: writes to a ROM"
}

for engine in $(engines); do
        for what in flood ports pci mmio roles strings msrs ipis; do
                ends "$what"
        done
        crashes void 'rip 00000000c0000000'
        contains "$engine: void: there is nothing" "$err" 'no memory at rip'
        crashes triple 'int3'
        crashes no_stack 'ud2'
        crashes recursion 'rsp '
        crashes cr3_device 'cr3 00000000fee00000'
        crashes cr3_nothing 'cr3 0000000ffffff000'
        crashes idt_device 'idtr base 00000000fee00000'
        crashes gdt_device 'gdtr base 00000000fec00000'
        for what in spin halt stos_device outs cmps fault_loop step_loop storm split restart timer; do
                endless "$what" host
        done
        if counts "$engine"; then
                for what in spin halt outs fault_loop storm split restart timer; do
                        endless "$what" instructions
                done
        else
                skip "$engine: with instructions as the clock" 'it does not count them'
        fi
        if command -v script >/dev/null; then
                for what in spin outs split storm; do
                        escape "$what"
                done
        else
                skip "$engine: Ctrl-A x" 'script (bsdutils) is not installed'
        fi
        floods
        rom
done
