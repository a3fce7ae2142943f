#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Machines that run are listed, paused, resumed, reset, stopped; and the control socket bears what it is given.
set -euo pipefail
. "$(dirname "$0")/../lib.sh"
set +e # statuses are what is tested here

export XDG_RUNTIME_DIR=$scratch/runtime
mkdir -m 700 "$XDG_RUNTIME_DIR"
folder=$XDG_RUNTIME_DIR/doppel
declare -A running
trap 'kill -KILL "${running[@]}" 2>/dev/null; test_end' EXIT

off='\x66\xba\x04\x06\x66\xb8\x00\x20\x66\xef'            # PM1a_CNT: SLP_EN, SLP_TYP 0
kernel spin '\xeb\xfe'
kernel halt '\xf4\xeb\xfd'
# Enables the power button in PM1a_EN, waits for its bit in PM1a_STS, and powers off.
kernel button '\x66\xba\x02\x06\x66\xb8\x00\x01\x66\xef\x66\xba\x00\x06\x66\xed\xf6\xc4\x01\x74\xf5'"$off"
# Sends "r" on each start, then halts.
kernel hello '\x66\xba\xf8\x03\xb0\x72\xee\xf4\xeb\xfd'

until_true() { # COMMAND...: within 20 s
        local i
        for ((i = 0; i < 200; i++)); do
                "$@" && return 0
                sleep 0.1
        done
        return 1
}

listed() { # NAME [STATE]
        "$DOPPEL" list | grep -qE "^$1 .* ${2:-running} "
}

# start NAME KERNEL ARGUMENT...: a machine in the background, once it is listed.
start() {
        local name=$1 file=$scratch/$2
        shift 2
        "$DOPPEL" run --memory 16M --name "$name" --kernel "$file" "$@" </dev/null >"$scratch/$name.out" 2>"$scratch/$name.err" &
        running[$name]=$!
        until_true listed "$name" '(running|paused)'
}

gone() { ! kill -0 "$1" 2>/dev/null; } # PID

# ended NAME STATUS: within 20 s, with this exit status.
ended() {
        local pid=${running[$1]} got
        until_true gone "$pid" || kill -KILL "$pid"
        wait "$pid"
        got=$?
        unset "running[$1]"
        ((got == $2))
}

# says NAME STATUS TEXT ARGUMENT...: doppel ARGUMENT... ends with STATUS, and TEXT (an extended regular expression) is in
# what it prints.
says() {
        local name=$1 status=$2 text=$3 got output
        shift 3
        output=$(timeout 60 "$DOPPEL" "$@" </dev/null 2>&1)
        got=$?
        ((got == status)) && grep -qE -- "$text" <<<"$output"
        result $? "$name" "status $got, not $status: $output"
}

instructions() { # NAME
        "$DOPPEL" stats "$1" | awk '$1 == "instructions" { print $2 }'
}

# ran NAME: its processor time, in ticks: an engine need not count instructions.
ran() {
        cut -d ' ' -f 14 "/proc/${running[$1]}/stat"
}

advances() { # NAME: since the variable `before`
        local now
        now=$(ran "$1")
        [[ $now ]] && ((now > before))
}

counts_up() { (($(instructions "$1") > before)); } # NAME

# ---- the sub-commands ----

says "no machine: an empty list" 0 '^NAME +PID' list
says "no machine: pause" 1 'no machine named a runs' pause a
start a spin
start b halt
says "list" 0 "^a +${running[a]} +[a-z]+ +1 +16M +running +0:00:" list
says "a machine of that name runs already" 1 'a machine named a runs already; choose another' run --memory 16M --name a --kernel "$scratch/halt"
says "a misspelt name" 1 'no machine named aa runs; did you mean a\?' pause aa
says "a name that cannot be" 1 'no machine named' pause ../x
says "no name" 2 'wants the name of a machine' pause
says "a word too many" 2 'not understood' pause a b

says "pause" 0 '^$' pause a
check "it is listed as paused" "$("$DOPPEL" list)" listed a paused
before=$(ran a)
sleep 0.3
equal "nothing runs while it is paused" "$(ran a)" "$before"
says "pause twice" 1 'paused already' pause a
says "its power button is not pressed" 1 'resume it' stop a
says "resume" 0 '^$' resume a
check "it goes on" "$(ran a)" until_true advances a
says "resume twice" 1 'not paused' resume a
says "pause in HLT" 0 '^$' pause b
says "resume in HLT" 0 '^$' resume b
says "stats" 0 '^instructions [0-9]' stats a

says "engine" 0 "^$(default_engine)\$" engine a
says "engine: a change" 0 "engine step, was $(default_engine); nothing ran for [0-9]+\.[0-9]{3} ms" engine a step
says "engine: it is listed" 0 '^a .* step ' list
before=$(ran a)
check "engine: it runs with that" "$(ran a)" until_true advances a
says "engine: to the same" 1 'with engine step already' engine a step
says "engine: to none" 1 'no engine intrep; did you mean interp' engine a intrep
says "engine: options where there are none" 1 'engine interp has no options' engine a interp,fast
says "engine: an option that there is not" 1 "engine kvm has no option 'fast'" engine a kvm,fast
changes=4
if has_engine kvm; then
        changes=6
        says "engine: with an option" 0 'engine kvm, was step; nothing ran for' engine a kvm,irqchip=user
        says "engine: back" 0 'engine step, was kvm' engine a step
        says "engine: with another option" 1 'set up for this machine with options irqchip=user' engine a kvm,irqchip=kernel
else
        skip 'engine: with an option' 'kvm cannot run here'
fi
says "engine: to one that runs nothing" 1 'runs nothing' engine a null
says "engine: still as before" 0 '^step$' engine a
batch() { printf '%s\n' engine nonsense 'engine step' 'engine interp' 'engine step' | "$DOPPEL" control a; }
answers=$(batch 2>"$scratch/batch"); status=$?
equal 'control: an error is its exit status' "$status" 1
equal 'control: requests one after the other' "$(sed 's/;.*//' <<<"$answers" | tr '\n' ' ')" 'step engine interp, was step engine step, was interp '
contains 'control: errors are told apart' "$(cat "$scratch/batch")" "nonsense: there is no command 'nonsense'"
contains 'control: the engine that it has already' "$(cat "$scratch/batch")" 'engine step: it runs with engine step already'
check 'control: no errors' 'another status' eval 'echo engine | "$DOPPEL" control a >/dev/null'
says 'control: a machine that there is not' 1 'no machine named none' control none
says "engine: while it is paused" 0 '^$' pause a
says "engine: a change" 0 'engine interp, was step' engine a interp
says "engine: it is still paused" 0 '^a .* interp .* paused' list
says "engine: resume" 0 '^$' resume a
before=$(ran a)
check "engine: it goes on" "$(ran a)" until_true advances a
contains "engine: the changes are counted" "$("$DOPPEL" stats a)" "engine.switches $changes"

says "trace: events of no such name" 1 "no event 'xyzzy'.*exit" trace a xyzzy
says "trace" 0 '^$' trace a exit
traced() { "$DOPPEL" stats a >/dev/null && grep -q '^exit: cpu0' "$scratch/a.err"; } # for which it has to leave its loop
check "trace: they are printed" "$(tail -3 "$scratch/a.err")" until_true traced
says "trace off" 0 '^$' trace a off
says "trace: no list" 2 'wants more' trace a

start r hello
says "reset" 0 '^$' reset r
check "it starts again" "$(cat "$scratch/r.out")" until_true grep -q rr "$scratch/r.out"
start p spin --paused
before=$(instructions p)
equal "--paused: nothing has run" "$before" 0
says "resume sets it going" 0 '^$' resume p
before=$(ran p)
check "it runs" "$(ran p)" until_true advances p
start counted spin --paused --clock instructions
equal "--paused with instructions as the clock" "$(instructions counted)" 0
says "resume it, too" 0 '^$' resume counted
before=0
check "it runs, too" "$(instructions counted)" until_true counts_up counted
says "pause it, too" 0 '^$' pause counted
before=$(instructions counted)
sleep 0.2
equal "it stands still" "$(instructions counted)" "$before"

says "a guest without a driver for the power button" 1 'does not listen to its power button' stop a
says "stop --timeout ends it then" 0 'does not listen' stop a --timeout 5
check "with exit status 0" "$(cat "$scratch/a.err")" ended a 0
start button button
before=1
until_true advances button
says "stop: a guest that listens powers off" 0 '^$' stop button
check "with exit status 0" "$(cat "$scratch/button.err")" ended button 0
says "stop --now, in HLT" 0 '^$' stop --now b
check "with exit status 0" "$(cat "$scratch/b.err")" ended b 0
says "stop --now, paused" 0 '^$' stop counted --now
check "with exit status 0" "$(cat "$scratch/counted.err")" ended counted 0
says "stop --now, with words that are no time" 2 'no number' stop r --timeout soon
says "stop --now r" 0 '^$' stop --now r
check "with exit status 0" "$(cat "$scratch/r.err")" ended r 0
kill -TERM "${running[p]}"
check "a signal ends the machine" "$(cat "$scratch/p.err")" ended p 143
equal "no socket is left behind" "$(ls "$folder")" ''

# ---- names and folders ----

"$DOPPEL" run --memory 16M --kernel "$scratch/halt" </dev/null >"$scratch/unnamed.out" 2>&1 &
running[unnamed]=$!
check "a machine without a name is listed by its process" "$("$DOPPEL" list)" until_true listed "doppel-$!"
says "stop it" 0 '^$' stop --now "doppel-$!"
ended unnamed 0
start killed halt
kill -KILL "${running[killed]}"
wait "${running[killed]}" 2>/dev/null
unset "running[killed]"
check "a killed machine leaves its socket" "$(ls "$folder")" test -S "$folder/killed.sock"
says "it is not listed" 0 '^NAME[^\n]*$' list
equal "and gone by that" "$(ls "$folder")" ''
touch "$folder/odd.sock" "$folder/.sock" "$folder/no" && mkdir "$folder/dir.sock"
says "other files are left alone" 0 '^NAME[^\n]*$' list
equal "they are still there" "$(cd "$folder" && echo .sock *)" '.sock dir.sock no odd.sock'
says "a file in place of the socket" 1 'control socket .*odd.sock: ' run --memory 16M --name odd --kernel "$scratch/halt"
rm -r "$folder"
long=$scratch/$(printf 'x%.0s' {1..200})
mkdir -m 700 "$long"
XDG_RUNTIME_DIR=$long
start long halt
check "a path that is too long for a socket's address" "$(ls "$long"/*)" test -S "$long/doppel/long.sock"
says "is found, too" 0 '^$' stop --now long
ended long 0
XDG_RUNTIME_DIR=$scratch/runtime
name=$(printf 'n%.0s' {1..64})
start "$name" halt
says "a name of 64 letters" 0 '^$' stop --now "$name"
ended "$name" 0
says "a longer one" 2 'up to 64' run --kernel "$scratch/halt" --name "n$name"
says "one with a slash" 2 'up to 64' run --kernel "$scratch/halt" --name a/b
says "one that begins with a dash" 2 'does not begin' run --kernel "$scratch/halt" --name=-x

# Others can write to these folders: the next candidate is taken, and it works all the same.
mkdir -m 777 "$scratch/open" "$scratch/leaf" && mkdir -m 777 "$scratch/leaf/doppel"
chmod 777 "$scratch/open" "$scratch/leaf/doppel" && chmod 700 "$scratch/leaf"
ln -s "$scratch" "$scratch/leaf/link"
for bad in open leaf nowhere; do
        XDG_RUNTIME_DIR=$scratch/$bad
        start "unsafe-$$" halt
        says "XDG_RUNTIME_DIR that is not safe ($bad): elsewhere" 0 '^$' stop --now "unsafe-$$"
        ended "unsafe-$$" 0
        equal "nothing is put there ($bad)" "$(ls "$scratch/open" "$scratch/leaf/doppel")" "$(printf '%s:\n\n%s:' "$scratch/leaf/doppel" "$scratch/open")"
done
XDG_RUNTIME_DIR=$scratch/runtime

# ---- hostile and slow clients ----

if ! command -v socat >/dev/null; then
        skip "the protocol" "socat is not installed"
        exit 0
fi
start s halt
socket=$folder/s.sock
ask() { timeout 20 socat -t 5 - "UNIX-CONNECT:$socket"; } # requests from the input
equal "a socket of the user alone" "$(stat -c %a "$socket" "$folder" | paste -sd' ')" '600 700'
contains "two requests in a line each" "$(printf 'status\r\nhelp\n' | ask)" "$(printf 'state running\n')"
contains "an answer tells its length" "$(echo status | ask)" "ok "
equal "an unknown command" "$(echo 'rm -rf' | ask)" "error there is no command 'rm'; \"help\" lists them"
equal "an empty line" "$(echo | ask)" "error there is no command ''; \"help\" lists them"
equal "a word too many" "$(echo 'pause now' | ask)" "error pause takes no arguments"
equal "control characters" "$(printf 'pause \033[2J\n' | ask)" "error a request is one line of text"
equal "a zero byte" "$(printf 'pause\0\n' | ask)" "error a request is one line of text"
equal "a line without an end" "$(head -c 5000 /dev/zero | tr '\0' x | ask 2>/dev/null)" "error the request is too long"
head -c 3000000 /dev/urandom | ask >/dev/null 2>&1
listed s
result $? "garbage" "$("$DOPPEL" list)"

# Clients that say nothing, half a request, or take no answer: others are served, and more than there is room for.
silent=()
for ((i = 0; i < 40; i++)); do
        (printf 'stat'; sleep 30) | timeout 30 socat -u - "UNIX-CONNECT:$socket" &
        silent+=($!)
done
(for ((i = 0; i < 2000; i++)); do echo help; done; sleep 30) | timeout 30 socat -u - "UNIX-CONNECT:$socket" 2>/dev/null &
silent+=($!)
sleep 0.5
says "among silent clients" 0 '^$' pause s
listed s paused
result $? "the command counts" "$("$DOPPEL" list)"
kill "${silent[@]}" 2>/dev/null
says "resume" 0 '^$' resume s
kill -STOP "${running[s]}"
says "is listed without an answer" 0 "^s +${running[s]} .*no answer" list
kill -CONT "${running[s]}"
rm "$socket"
start s2 halt
mv "$folder/s2.sock" "$folder/s.sock"
kill -TERM "${running[s]}"
ended s 143
check "a socket that is another machine's stays" "$(ls "$folder")" test -S "$folder/s.sock"
kill -TERM "${running[s2]}"
ended s2 143
# Folders that cannot be used, where that can be had: a full one, and one in /tmp that everybody can write to.
crowded() { # INODES
        # shellcheck disable=SC2016
        unshare -m bash -c 'mount -t tmpfs -o "nr_inodes=$3,mode=700" none "$1/full" && mkdir "$1/full/doppel" 2>/dev/null
                mkdir -p -m 700 "/tmp/doppel-$EUID" && mount -t tmpfs -o mode=777 none "/tmp/doppel-$EUID" && mount -t tmpfs none /run
                XDG_RUNTIME_DIR=$1/full timeout 20 "$2" run --memory 16M --kernel "$1/halt" --name full </dev/null' - "$scratch" "$DOPPEL" "$1" 2>&1
}
if ((EUID == 0)) && unshare -m mount -t tmpfs none /run 2>/dev/null; then
        mkdir "$scratch/full"
        contains "no space for the folder" "$(crowded 1)" "no folder for the control socket: $scratch/full/doppel: No space left"
        contains "no space for the socket" "$(crowded 2)" "full/doppel/full.sock: No space left"
else
        skip "a full disk" "it needs root, and mount namespaces"
fi
exit 0
