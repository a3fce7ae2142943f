#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the translator shows of itself: --trace bt, --stats; and what is said where it cannot run.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! has_engine bt; then
        skip 'the translator' 'it cannot run on this host'
        exit
fi

# mov eax,[0x100000]; lea ecx,[eax+esi]; mov ecx,3; 1: add dword [0x200000],5; dec ecx; jnz 1b; cpuid; out 0xf4,al
kernel small '\xa1\x00\x00\x10\x00\x8d\x0c\x30\xb9\x03\x00\x00\x00\x83\x05\x00\x00\x20\x00\x05\x49\x75\xf6\x0f\xa2\xe6\xf4\xf4'

# They run while the guest's vector registers are in the processor, so they may use none, and call each other only (and, before it is all over, assert);
# but for emit_again, which none of them calls.
objects=("${DOPPEL%/*}"/obj/engine/bt/{quick,door,emit,fpu_last}.c.o)
if [[ -e ${objects[0]} ]]; then
        equal 'quick functions use no vector registers' "$(objdump -d "${objects[@]}" | grep -cE '%[xyz]mm')" 0
        equal 'quick functions call nobody else' "$(objdump -dr "${objects[@]}" |
                awk '/^[0-9a-f]+ </ { other = /<emit_again>/ } other { next } /call .*\*/ { print } /R_X86_64_PLT32/ { sub(/[-+].*/, "", $3); print $3 }' | sort -u |
                comm -23 - <(nm --defined-only "${objects[@]}" | awk '{ print $3 } END { print "__assert_fail" }' | sort -u))" ''
fi

run() { capture 20 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/small" --debug-exit 0xf4 --serial none "$@"; }

# matches NAME PATTERN: one result, by whether a line of err matches.
matches() {
        if grep -qE "$2" <<<"$err"; then
                ok "$1"
        else
                not_ok "$1" "no line like $2"
                printf '%s\n' "$err"
        fi
}

# limited KIB ARGUMENT...: in a process that may have so much address space.
limited() {
        local kib=$1
        shift
        # shellcheck disable=SC2016 # the inner shell expands it
        capture 60 bash -c 'ulimit -v $1; shift; exec "$@"' - "$kib" "$DOPPEL" "$@"
}
run
ends=$status # what the guest says
limited 2000000 engines
contains 'little address space: it says what is missing' "$(grep '^bt ' <<<"$out")" 'may not reserve 12 TiB of address space for each processor (ulimit -v'
limited 2000000 run --engine auto --memory 16M --kernel "$scratch/small" --debug-exit 0xf4 --serial none
equal 'little address space: another engine runs it' "$status" "$ends"
contains 'little address space: doppel says which, and why' "$err" 'engine interp: '
limited 20000000000 run --engine bt --memory 16M --kernel "$scratch/small" --debug-exit 0xf4 --serial none
equal 'address space for one processor: it runs' "$status" "$ends"
limited 20000000000 run --engine bt --cpus 2 --memory 16M --kernel "$scratch/small"
equal 'address space for one processor: not two' "$status $err" '2 doppel: engine bt cannot run this machine: it runs at most 1 processor here; --engine interp can'
limited 20000000000 run --engine auto --cpus 2 --memory 16M --kernel "$scratch/small" --debug-exit 0xf4 --serial none
contains 'address space for one processor: another engine runs two' "$status $err" "$ends doppel: engine interp: "
run --cpus 9
contains 'nine processors: it says how many it runs' "$status $err" '2 doppel: engine bt cannot run this machine: it runs at most 8 processors here'
capture 20 "$DOPPEL" run --engine auto --cpus 9 --memory 16M --kernel "$scratch/small" --debug-exit 0xf4 --serial none
contains 'nine processors: another engine runs them' "$status $err" "$ends doppel: engine interp: "

run --trace bt
matches 'the legend tells where registers are' '^bt: .*host'"'"'s.*guest rsp in r.*scratch'
matches 'a block has RIP, mode, sizes and exec functions' '^bt: block 0 of cpu0: RIP 0x100000, .*32-bit, CPL 0; 6 instructions, 23 bytes become [0-9]+ bytes; exec functions: 0'
matches 'a load stands beside its host code' '^bt:   100000  mov eax, \[0x100000\] +\|      *[0-9a-f]+  mov '
matches 'an instruction stands beside itself' '^bt:   100014  dec ecx +\| +[0-9a-f]+  dec [a-z0-9]+$'
matches 'jumps have the address of their target' '^bt:   100015  jnz 0x10000d +\|'
matches 'the table is found by rsp' '^bt:  +\| +[0-9a-f]+ .*\[rsp\+rcx\*[18]\]'
matches 'fields of the state are named' '^bt:  +\| +[0-9a-f]+  jmp \[rsp-0x[0-9a-f]+\] +; miss$'
matches 'what calls its exec function says so' '^bt:   100017  cpuid +\| .*; to the exec function$'
matches 'and is named above' 'exec functions: 2: CPUID OUT$'
equal 'the block of the loop, the one before it, and what follows: no block is printed twice' "$(grep -c '^bt: block' <<<"$err")" 3

run
equal 'without --trace nothing is printed' "$err" ''
run --trace exit,code
if grep -q '^bt:' <<<"$err"; then not_ok 'other events do not print blocks' "$err"; else ok 'other events do not print blocks'; fi

# mov esi,0x200ff0; fld1; fstp tbyte [esi]; fild dword [esi]; fstp tbyte [esi+1]; fld tbyte [esi+esi]; out 0xf4,al
kernel x87 '\xbe\xf0\x0f\x20\x00\xd9\xe8\xdb\x3e\xdb\x06\xdb\x7e\x01\xdb\x2c\x36\xe6\xf4\xf4'
capture 20 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/x87" --debug-exit 0xf4 --serial none --trace bt
matches 'x87 operands of 80 bits need no exec function' '^bt: block 0 of .* exec functions: 1: OUT$'

# mov esi,0x200000; mov eax,ds; mov cx,cs; mov [esi],fs; mov [esi+esi],ss; mov [0x200fff],es (over the end of a page); out 0xf4,al
kernel segments '\xbe\x00\x00\x20\x00\x8c\xd8\x66\x8c\xc9\x8c\x26\x8c\x14\x36\x8c\x05\xff\x0f\x20\x00\xe6\xf4\xf4'
capture 20 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/segments" --debug-exit 0xf4 --serial none --trace bt
equal 'the data segment is the one of the start' "$status" $((0x18 << 1 | 1))
matches 'segment registers are read in line' '^bt: block 0 of .* exec functions: 1: OUT$'

# jmp b; a: pause; jmp b; b: inc ebx; jmp c; c: inc eax; jmp a: a path that is not entered at its lowest address
kernel endless '\xeb\x04\xf3\x90\xeb\x00\x43\xeb\x00\x40\xeb\xf6'
capture 20 timeout -k 5 3 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/endless" --serial none
check 'a loop through a path is left when somebody wants the processor' "$err" [ "$status" -ne 137 ]

# --stats. A loop of 1000000000 additions, then: a load across a page end, a load from the APIC's page, two to an empty entry,
# and a write to a page of code, where no code is.
kernel counted '\xb9\x00\xca\x9a\x3b\x01\xd8\x49\x75\xfb\xbe\xfe\x0f\x20\x00\x8b\x06\xa1\x30\x00\xe0\xfe\xa1\x00\x00\x30\x00\xa1\x00\x10\x30\x00\xa3\x00\x0f\x10\x00\x0f\xa2\xb0\x00\xe6\xf4\xf4'
counter() { awk -v name="$1" '$1 == name { print $2; found = 1 } END { if (!found) print 0 }' <<<"$err"; }

capture 60 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/counted" --debug-exit 0xf4 --serial none --stats
equal 'stats: the run ends' "$status" 1
equal 'stats: an access across a page end' "$(counter bt.miss.page_crossing)" 1
equal 'stats: a device' "$(counter bt.miss.device)" 1
equal 'stats: empty entries' "$(counter bt.miss.empty_entry)" 2
equal 'stats: a write to a page of code' "$(($(counter bt.miss.code_write) + $(counter bt.fault.code_write)))" 1
equal 'stats: an exec function by its name' "$(counter bt.exec.CPUID)" 1
check 'stats: all misses have a cause' "$err" [ "$(counter bt.misses)" -eq "$(awk '/^bt.miss\./ { n += $2 } END { print n + 0 }' <<<"$err")" ]
check 'stats: all faults have a cause' "$err" [ "$(counter bt.faults)" -eq "$(awk '/^bt.fault\./ { n += $2 } END { print n + 0 }' <<<"$err")" ]
equal 'stats: the loop became hot' "$(counter bt.hot)" 1
check 'stats: guest code and host code have sizes' "$err" [ "$(counter bt.host_bytes)" -gt "$(counter bt.guest_bytes)" ]
# At one addition a cycle the loop takes 200 ms or more: most of the time is in translated code.
check 'stats: most of the time is in translated code' "$err" [ "$(counter bt.ns.translated)" -gt "$(awk '/^bt.ns\./ && !/translated|outside|halted/ { n += $2 } END { print n + 0 }' <<<"$err")" ]

# A stack that is a group, and in between PUSH of memory, whose value must not be taken for where the group is: mov esp,0x180000; mov ecx,5000;
# 1: push eax; push ebx; push [0x100000]; pop edx; pop ebx; pop eax; dec ecx; jnz 1b
kernel pushes '\xbc\x00\x00\x18\x00\xb9\x88\x13\x00\x00\x50\x53\xff\x35\x00\x00\x10\x00\x5a\x5b\x58\x49\x75\xf2\xb0\x00\xe6\xf4\xf4'
capture 60 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/pushes" --debug-exit 0xf4 --serial none --stats
equal 'stats: the pushes became hot' "$(counter bt.hot)" 1
equal 'stats: and reach their stack' "$(counter bt.fault.else)" 0

build_guests
capture 60 "$DOPPEL" run --engine bt --memory 64M --kernel "$guests/elsewhere.elf" --debug-exit 0xf4 --serial none --stats
equal 'stats: the same code at several addresses: the guest ends' "$status" 1
check 'stats: it is translated for any address' "$err" [ "$(counter bt.anywhere)" -gt 0 ]
equal 'stats: its calls, through memory too, need no exec function' "$(counter bt.exec.CALL)" 0

# Time that is counted is exact within a block, too, or --verify step differs.
for engine in interp step bt; do
	capture 60 "$DOPPEL" run --engine "$engine" --clock instructions --memory 64M --kernel "$guests/cpu.elf" --debug-exit 0xf4 --serial none
	equal "$engine: RDTSC counts each instruction" "$status" 1
done

capture 60 "$DOPPEL" run --engine bt --memory 16M --kernel "$scratch/counted" --debug-exit 0xf4 --serial none --trace bt
matches 'a block that is hot is printed again' '^bt: block 1 of cpu0 is hot: RIP 0x100005; 24 instructions become [0-9]+ bytes'
matches 'with its rounds' '^bt:   100008  jnz 0x100005 +\| +[0-9a-f]+  jz 0x'
