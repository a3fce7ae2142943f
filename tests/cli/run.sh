#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# doppel run with guests of a few bytes: how machines end, where their output goes, and that the terminal comes back.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
set +e # statuses are what is tested here

halt='\xf4\xeb\xfd'                                      # 1: hlt; jmp 1b
hi='\x66\xba\xf8\x03\xb0\x68\xee\xb0\x69\xee\xb0\x0a\xee' # mov $0x3f8,%dx; "hi\n" by out %al,(%dx)
off='\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef'           # PM1a_CNT: SLP_EN, SLP_TYP 0
kernel halt "$halt"
kernel hi "$hi$off$halt"
kernel spin '\xeb\xfe'
kernel exit3 '\xb0\x03\xe6\xf4'"$halt"                   # mov $3,%al; out %al,$0xf4
kernel crash '\x0f\x0b'                                  # ud2, without an IDT
kernel reset '\xb0\x06\x66\xba\xf9\x0c\xee'"$halt"       # CF9h: hard reset
kernel kbdreset '\xb0\xfe\xe6\x64'"$halt"                # keyboard controller: pulse the reset line
kernel console "$hi"'\xb0\x21\xe6\xe9'"$off$halt"        # also "!" to port E9h
# 100000 times: wait for THRE, send the low byte of the count. Then power off.
kernel flood '\xb9\xa0\x86\x01\x00\x66\xba\xfd\x03\xec\xa8\x20\x74\xfb\x66\xba\xf8\x03\x88\xc8\xee\x49\x75\xed'"$off$halt"

# ends NAME STATUS OUTPUT ARGUMENT...: standard output is OUTPUT exactly.
ends() {
	local name=$1 status=$2 want=$3 got output
	shift 3
	output=$(timeout 20 "$DOPPEL" run --memory 16M "$@" </dev/null 2>"$scratch/stderr")
	got=$?
	((got == status)) && [[ $output == "$want" ]]
	result $? "$name" "status $got, not $status; output $output; $(cat "$scratch/stderr")"
}

ends "power off" 0 hi --kernel "$scratch/hi"
ends "debug exit: (3 << 1) | 1" 7 "" --kernel "$scratch/exit3" --debug-exit 0xf4
ends "triple fault" 3 "" --kernel "$scratch/crash"
grep -qi 'rip' "$scratch/stderr"
result $? "a crash prints the registers" "$(cat "$scratch/stderr")"
ends "--no-reboot: port CF9h" 0 "" --kernel "$scratch/reset" --no-reboot
ends "--no-reboot: keyboard controller" 0 "" --kernel "$scratch/kbdreset" --no-reboot
ends "serial to a file" 0 "" --kernel "$scratch/hi" --serial "file:$scratch/serial"
[[ $(cat "$scratch/serial") == hi ]]
result $? "the file has it" "$(cat "$scratch/serial")"
ends "debugcon to a file, serial none" 0 "" --kernel "$scratch/console" --serial none --debugcon "file:$scratch/e9"
[[ $(cat "$scratch/e9") == '!' ]]
result $? "port E9h arrives there" "$(cat "$scratch/e9")"
ends "debugcon has stdio: serial is not there" 0 '!' --kernel "$scratch/console" --debugcon stdio
ends "instructions as the clock" 0 hi --kernel "$scratch/hi" --clock instructions
ends "engine by name" 0 hi --kernel "$scratch/hi" --engine interp
ends "--stats" 0 hi --kernel "$scratch/hi" --stats
grep -q '^instructions [0-9]' "$scratch/stderr"
result $? "statistics begin with the instructions" "$(head -3 "$scratch/stderr")"

# A reset starts the same kernel anew: it never ends by itself, and says nothing wrong.
timeout -s INT 2 "$DOPPEL" run --memory 16M --kernel "$scratch/reset" </dev/null 2>"$scratch/stderr"
status=$?
((status == 124)) && [[ ! -s $scratch/stderr ]]
result $? "a reset boots again, until SIGINT" "status $status: $(cat "$scratch/stderr")"

# All of the output arrives, through a pipe whose reader is late and slow.
timeout 60 "$DOPPEL" run --memory 16M --kernel "$scratch/flood" </dev/null 2>/dev/null | (sleep 1; wc -c) >"$scratch/count"
[[ $(cat "$scratch/count") -eq 100000 ]]
result $? "100000 bytes through a slow pipe" "$(cat "$scratch/count")"
timeout 20 "$DOPPEL" run --memory 16M --kernel "$scratch/flood" </dev/null 2>/dev/null | head -c 10 >/dev/null
status=${PIPESTATUS[0]}
((status == 0))
result $? "a reader that goes away does not stop the guest" "status $status"

for signal in INT:130 TERM:143 HUP:129; do
	for guest in halt spin; do
		# A background job of a shell without job control ignores SIGINT from birth.
		env --default-signal=INT "$DOPPEL" run --memory 16M --kernel "$scratch/$guest" </dev/null 2>/dev/null &
		sleep 0.5
		kill -"${signal%:*}" $! 2>/dev/null
		wait $!
		status=$?
		((status == ${signal#*:}))
		result $? "SIG${signal%:*} ends the machine ($guest)" "status $status"
	done
done

# The limit on the size of files counts for RAM, too: a message, not a death by SIGXFSZ.
(ulimit -f 8; timeout 20 "$DOPPEL" run --memory 16M --kernel "$scratch/halt" </dev/null 2>"$scratch/stderr")
status=$?
((status == 1)) && grep -q 'cannot get 16M of memory: File too large' "$scratch/stderr"
result $? "RAM beyond ulimit -f" "status $status: $(cat "$scratch/stderr")"

# timeout(1) signals its child, and then the group that it is in. That is one request, and the end an orderly one: it
# waits for the reader, and leaves nothing behind.
mkdir -m 700 "$scratch/runtime"
mkfifo "$scratch/slow"
(sleep 2; cat >/dev/null) <"$scratch/slow" &
reader=$!
XDG_RUNTIME_DIR=$scratch/runtime "$DOPPEL" run --memory 16M --kernel "$scratch/flood" </dev/null >"$scratch/slow" 2>/dev/null &
sleep 1
kill -TERM $!
sleep 0.03
kill -TERM $! 2>/dev/null
wait $! "$reader"
[[ -d $scratch/runtime/doppel && -z $(ls "$scratch/runtime/doppel") ]]
result $? "two signals at once are one request" "$(ls "$scratch/runtime/doppel")"

# A socket for GDB that somebody listens at is his; one that nobody listens at any more is taken over.
gdb=$scratch/gdb.sock
"$DOPPEL" run --memory 16M --kernel "$scratch/halt" --gdb "unix:$gdb" </dev/null 2>/dev/null &
for ((i = 0; i < 100; i++)); do [[ -S $gdb ]] && break || sleep 0.1; done
sleep 0.2
timeout 5 "$DOPPEL" run --memory 16M --kernel "$scratch/halt" --gdb "unix:$gdb" </dev/null 2>"$scratch/stderr"
status=$?
((status == 1)) && [[ -S $gdb ]] && grep -q 'somebody else listens' "$scratch/stderr"
result $? "--gdb: a socket that is taken" "status $status: $(cat "$scratch/stderr")"
kill -KILL $!
wait $! 2>/dev/null
timeout 1 "$DOPPEL" run --memory 16M --kernel "$scratch/halt" --gdb "unix:$gdb" </dev/null 2>"$scratch/stderr"
status=$?
((status == 124)) && [[ ! -e $gdb ]]
result $? "--gdb: a socket that was left behind" "status $status: $(cat "$scratch/stderr")"
ends "--gdb: no path" 2 "" --kernel "$scratch/hi" --gdb unix:
ends "--gdb: no port" 2 "" --kernel "$scratch/hi" --gdb 99999

# The end of standard input is not the guest's: it would have ended by then.
timeout -s TERM 1 "$DOPPEL" run --memory 16M --kernel "$scratch/halt" </dev/null
(($? == 124))
result $? "the end of the input is not the end of the machine" "it ended by itself"

# ---- On a terminal ----

if ! command -v script >/dev/null; then
	skip "the terminal" "script (bsdutils) is not installed"
	exit 0
fi

# shellcheck disable=SC2016 # $pid is for the inner shell
# on_terminal NAME STATUS KEYS ACTION: runs a halted guest on a terminal of its own; KEYS are typed, ACTION (a command, with
# $pid) is done to it. The modes before, during and after it are compared.
on_terminal() {
	local name=$1 want=$2 keys=$3 action=$4
	rm -f "$scratch"/{before,during,after,status}
	cat >"$scratch/inner" <<-EOF
		stty -a >'$scratch/before'
		ulimit -c 0
		env --default-signal=QUIT '$DOPPEL' run --memory 16M --kernel '$scratch/halt' </dev/tty &
		pid=\$!
		sleep 0.6
		stty -a >'$scratch/during'
		$action
		wait \$pid
		echo \$? >'$scratch/status'
		stty -a >'$scratch/after'
	EOF
	# shellcheck disable=SC2059
	(sleep 1; printf "$keys"; sleep 2) | timeout 20 script -qec "bash $scratch/inner" /dev/null >"$scratch/screen" 2>&1
	[[ $(cat "$scratch/status" 2>/dev/null) == "$want" ]] && cmp -s "$scratch/before" "$scratch/after" && grep -qe '-icanon' "$scratch/during"
	result $? "$name" "status $(cat "$scratch/status" 2>/dev/null), $(diff "$scratch/before" "$scratch/after" 2>&1 | head -4) $(tail -3 "$scratch/screen")"
}

on_terminal "terminal: Ctrl-A x" 0 '\x01x' :
on_terminal "terminal: Ctrl-A h, then x" 0 '\x01h\x01x' :
grep -q 'Ctrl-A x' "$scratch/screen"
result $? "terminal: the help is shown" "$(cat "$scratch/screen")"
on_terminal "terminal: Ctrl-C is a key like others" 0 'abc\x03\x1a\x01x' :
on_terminal "terminal: given back after SIGTERM" 143 '' 'kill -TERM $pid'
on_terminal "terminal: given back after SIGHUP" 129 '' 'kill -HUP $pid'
on_terminal "terminal: given back after SIGSEGV" 139 '' 'kill -SEGV $pid'
on_terminal "terminal: given back after SIGABRT" 134 '' 'kill -ABRT $pid'
on_terminal "terminal: given back after SIGQUIT" 131 '' 'kill -QUIT $pid'
on_terminal "terminal: stopped and continued" 0 '\x01x' "kill -TSTP \$pid; sleep 0.2; stty -a >'$scratch/stopped'; kill -CONT \$pid"
cmp -s "$scratch/before" "$scratch/stopped"
result $? "terminal: given back while stopped" "$(diff "$scratch/before" "$scratch/stopped")"
exit 0
