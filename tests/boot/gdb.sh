#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# GDB debugs a guest of four processors, with its symbols, under every engine: break and watch points, steps, threads, memory, registers, an
# interrupt, detaching. And a client that means harm.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if ! command -v gdb >"$scratch/where"; then
        skip 'gdb' 'it is not installed'
        exit
fi
build_guests

# start ENGINE [ARGUMENT...]: the guest, paused, with its server.
start() {
        local engine=$1
        shift
        rm -f "$scratch/socket"
        timeout -k 5 120 "$DOPPEL" run --engine "$engine" --memory 128M --kernel "$guests/smp.elf" --debug-exit 0xf4 --debugcon "file:$scratch/con" \
                --serial none --gdb "unix:$scratch/socket" --paused "$@" >"$scratch/doppel" 2>&1 </dev/null &
        child=$!
        for ((n = 0; n < 100; n++)); do
                [[ ! -S $scratch/socket ]] || return 0
                sleep 0.1
        done
        cat "$scratch/doppel"
}

# debug COMMAND...: what gdb says to them.
debug() {
        local arguments=()
        for command; do arguments+=(-ex "$command"); done
        timeout -k 5 100 gdb -nx -batch -ex 'set confirm off' -ex 'set pagination off' -ex "file $guests/smp.elf" \
                -ex "target remote $scratch/socket" "${arguments[@]}" >"$scratch/gdb" 2>&1 </dev/null || true
        out=$(cat "$scratch/gdb")
}

finish() {
        status=0
        wait "$child" || status=$?
        child=
}

for engine in $(engines); do
        start "$engine" --cpus 4
        debug 'break test_start' 'continue' 'info threads' 'bt 1' 'stepi' 'stepi' 'x/i $pc' 'p $cr0 & 1' 'p ran' 'watch ran[1]' 'continue' \
                'p ran[1]' 'delete' 'monitor info' 'monitor xp 0x100000 16' 'break guest_end' 'continue' 'detach'
        finish
        contains "$engine: a breakpoint" "$out" 'Breakpoint 1, test_start'
        contains "$engine: processors are threads" "$out" 'Thread 4 (cpu3)'
        contains "$engine: control registers" "$out" '$1 = 1'
        contains "$engine: memory by linear addresses" "$out" '$2 = {0, 0, 0, 0}'
        contains "$engine: a watchpoint" "$out" 'New value = 1'
        contains "$engine: set off by another processor" "$out" 'hit Hardware watchpoint 2'
        contains "$engine: monitor info" "$out" 'cpu3: '
        contains "$engine: monitor xp" "$out" '100000: '
        contains "$engine: a second breakpoint" "$out" 'Breakpoint 3, guest_end'
        equal "$engine: the guest ends well after all" "$status" 1
        if ((status != 1)); then cat "$scratch/doppel" "$scratch/gdb"; fi
done

# One engine is enough for what has nothing to do with engines.
start interp --cpus 2
debug 'p $rip = $rip' 'p/x *(int *)$sp' 'set var *(unsigned *)&ran = 7' 'p ran[0]' 'monitor phys on' 'x/1xb 0' 'monitor phys off' 'monitor nonsense' \
        'p $cr3 = 1' 'p $mxcsr = 0x1001f80' 'info registers mxcsr' 'kill'
finish
contains 'memory is written' "$out" '= 7'
contains 'unknown monitor commands are explained' "$out" 'there is no such command'
contains 'control registers are not written' "$out" 'Could not write register'
contains 'nor bits of MXCSR that there are none of' "$out" 'mxcsr          0x1f80'
equal 'kill ends the machine' "$status" 0

start interp
python=$(command -v python3 || true)
if [[ $python ]]; then
        "$python" - "$scratch/socket" <<'END' || not_ok 'a client that means harm' 'the server is gone'
import random, socket, sys, time
def packet(text):
    return b'$' + text + b'#%02x' % (sum(text) & 255)
random.seed(1)
heads = [b'm', b'M', b'X', b'G', b'P', b'p', b'H', b'T', b'Z0,', b'z4,', b'qRcmd,', b'qXfer:features:read:target.xml:', b'vCont;', b'Q', b'v', b'?', b'g', b'q']
for turn in range(60):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    for n in range(100): # it has one client at a time
        try:
            s.connect(sys.argv[1])
            break
        except BlockingIOError:
            time.sleep(.1)
    s.sendall(packet(b'QStartNoAckMode'))
    for n in range(40):
        tail = bytes(random.choice(b'0123456789abcdef,:;=-cs\x00\x7d\xff') for _ in range(random.choice([0, 1, 5, 20, 300])))
        head = random.choice(heads)
        if head == b'vCont;' and random.random() < .8:
            continue
        try:
            s.sendall(packet(head + tail.replace(b'#', b'')) if random.random() < .9 else tail)
        except OSError:
            break
    if turn % 7 == 0:
        try:
            s.sendall(b'$' + b'a' * 40000)
        except OSError:
            pass
    s.close()
END
        debug 'info registers rip' 'kill'
        finish
        contains 'after a client that meant harm' "$out" 'rip '
        equal 'the machine ends well' "$status" 0
else
        skip 'a client that means harm' 'there is no python3'
fi
