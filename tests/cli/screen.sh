#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The options and commands for screen and keyboard, used wrongly and rightly; passwords, and sockets that are taken or left behind.
set -euo pipefail

. "$(dirname "$0")/../screen/lib.sh"

bios=$("$top/tools/guest" seabios)

# refused NAME STATUS TEXT ARGUMENT...
refused() {
        ask 20 "$DOPPEL" run --bios "$bios" --serial none "${@:4}"
        contains "$1" "$status: $err" "$2: doppel: "
        contains "$1, and says why" "$err" "$3"
}

wrong_options() {
        refused 'a display that there is not' 2 'none, or vnc=ADDRESS' --display sdl
        refused 'a picture of an unknown format' 2 '.ppm' --screenshot "$scratch/x.gif"
        refused 'a picture in no folder' '' 'No such file' --screenshot "$scratch/none/x.ppm" --debug-exit 0x402 # where SeaBIOS writes its log
        [[ -x $viewer ]] || return 0
        refused 'VNC at no address' 2 'an address is :N or HOST:N' --display vnc=localhost
        refused 'VNC at a port that there is not' 2 'an address is :N or HOST:N' --display vnc=:99999
        refused 'VNC at an unknown host' 1 'nowhere.invalid:1' --display vnc=nowhere.invalid:1
        refused 'VNC at a socket in no folder' 1 'No such file' --display "vnc=$scratch/none/vnc"
        refused 'VNC at a socket with too long a name' 2 'has 1 to 107 bytes' --display "vnc=/$(printf '%0200d' 0)"
        refused 'VNC with a password from no file' 1 'No such file' --display "vnc=$scratch/vnc,password-file=$scratch/none"
        echo 'much too long' >"$scratch/password"
        refused 'VNC with too long a password' 2 'up to 8 characters' --display "vnc=$scratch/vnc,password-file=$scratch/password"
}

files() {
        start interp --bios "$bios" --screen-text "$scratch/text" --screenshot "$scratch/picture.ppm"
        awaits 'SeaBIOS is on the screen' 60 'SeaBIOS (version'
        kill -USR2 "$child"
        for ((i = 0; i < 100; i++)); do [[ ! -s $scratch/text ]] || break && sleep 0.1; done
        contains 'SIGUSR2: the text' "$(cat "$scratch/text")" 'SeaBIOS (version'
        for ((i = 0; i < 100; i++)); do [[ ! -s $scratch/picture.ppm ]] || break && sleep 0.1; done
        equal 'SIGUSR2: the picture' "$(head -n 2 "$scratch/picture.ppm" | tr '\n' ' ')" 'P6 720 400 '
        await 60 'No bootable device' || true
        rm "$scratch/text"
        stop
        contains 'the end: the text' "$(cat "$scratch/text")" 'No bootable device'
}

commands() {
        start interp --bios "$bios"
        await 60 'SeaBIOS (version' || true
        ask 20 "$DOPPEL" keys "$machine" 'a<nothing>'
        contains 'keys: a name that there is not' "$status $err" '1 doppel: '
        contains 'keys: it is shown' "$err" '"<nothing>"'
        ask 20 "$DOPPEL" keys "$machine"
        equal 'keys: no text' "$status" 2
        ask 20 "$DOPPEL" keys "$machine" "$(printf 'a%.0s' {1..3000})"
        contains 'keys: more than there is room for' "$status $err" '1 doppel: '
        ask 20 "$DOPPEL" keys "$machine" $'<f12> <c-a-f1>\n\t'
        equal 'keys: blanks and line ends are keys' "$status$err" 0
        ask 20 "$DOPPEL" screenshot "$machine" "$scratch/x.bmp"
        equal 'screenshot: an unknown format' "$status" 2
        ask 20 "$DOPPEL" screenshot "$machine" /dev/full/x.ppm
        equal 'screenshot: no such folder' "$status" 1
        ask 20 "$DOPPEL" screenshot nobody "$scratch/x.ppm"
        equal 'screenshot: no such machine' "$status" 1
        "$DOPPEL" pause "$machine"
        ask 20 "$DOPPEL" screen "$machine"
        contains 'screen: of a machine that is paused' "$out" 'SeaBIOS'
        stop
}

sockets() {
        local first
        echo secret >"$scratch/password"
        start interp --bios "$bios" --display "vnc=$scratch/vnc,password-file=$scratch/password"
        await 60 'SeaBIOS (version' || true
        equal 'VNC: the socket is its user'"'"'s only' "$(stat -c %a "$scratch/vnc")" 700
        check 'VNC: the password opens' 'refused' env VNC_PASSWORD=secret timeout 30 "$viewer" "$scratch/vnc" "save=$scratch/v.ppm"
        check 'VNC: another one does not' 'it did' bash -c "! VNC_PASSWORD=guess timeout 30 '$viewer' '$scratch/vnc' size"
        refused 'VNC: a socket in use' 1 'somebody else listens' --display "vnc=$scratch/vnc"
        check 'VNC: whose it is keeps it' 'it is gone' test -S "$scratch/vnc"
        first=$child
        kill -KILL "$first"
        wait "$first" 2>/dev/null || true
        start interp --bios "$bios" --display "vnc=$scratch/vnc"
        awaits 'VNC: a socket that was left behind is taken over' 60 'SeaBIOS (version'
        stop
        check 'VNC: and taken away' 'it is there' test ! -e "$scratch/vnc"
        start interp --bios "$bios" --display vnc=127.0.0.1:3977
        await 60 'SeaBIOS (version' || true
        check 'VNC: by TCP' 'refused' timeout 30 "$viewer" 127.0.0.1:9877 size "press=0xffe3"
        refused 'VNC: a port in use' 1 'another number' --display vnc=:3977
        check 'VNC: a viewer that only talks does no harm' 'no answer' bash -c "head -c 100000 /dev/urandom >/dev/tcp/127.0.0.1/9877; sleep 1; '$DOPPEL' screen '$machine' >'$scratch/alive'"
        check 'VNC: and another comes in' 'refused' timeout 60 "$viewer" 127.0.0.1:9877 size
        stop
}

wrong_options
files
commands
if [[ -x $viewer ]]; then sockets; else skip 'VNC' 'libvncclient is missing'; fi
