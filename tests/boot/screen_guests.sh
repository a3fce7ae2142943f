#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The text screens of other guests, with and without firmware: GRUB from a floppy disk, a game, a memory test, the same from its CD.
set -euo pipefail

. "$(dirname "$0")/../screen/lib.sh"

grub_floppy() { # ENGINE
        start "$1" --floppy "$("$top/tools/guest" grub-floppy)"
        awaits "$1: GRUB from a floppy: its menu" 120 'GNU GRUB  version'
        stop
}

invaders() { # ENGINE
        start "$1" --kernel "$("$top/tools/guest" invaders)"
        awaits "$1: invaders: rows of them" 60 '-*-'
        equal "$1: invaders: at least five in a row" "$(grep -Eq '(-\*-.*){5}' <<<"$screen" && echo yes)" yes
        keys '<spc>'
        check "$1: invaders: a key begins the game, and they move" 'the screen stands still' await 60 "!$screen"
        stop
}

memory_test() { # ENGINE
        start "$1" --memory 16M --kernel "$("$top/tools/guest" memtest86+)"
        awaits "$1: memtest86+: its title" 60 'Memtest86+ v'
        awaits "$1: memtest86+: the box" 60 'Status: Init.'
        keys '<f1>'
        awaits "$1: memtest86+: a function key" 60 'Settings'
        stop
}

# From a CD, through SeaBIOS: its boot loader is its own. It tests some memory and has found nothing wrong.
memory_cd() { # ENGINE
        start "$1" --memory 16M --cdrom "$("$top/tools/guest" memtest86+iso)"
        awaits "$1: memtest86+ from a CD: its title" 120 'Memtest86+ v'
        awaits "$1: memtest86+ from a CD: it tests" 60 'Test #'
        awaits "$1: memtest86+ from a CD: no errors" 60 'Errors: 0'
        stop
}

for engine in $(engines); do
        grub_floppy "$engine"
        invaders "$engine"
        memory_test "$engine"
        memory_cd "$engine"
done
