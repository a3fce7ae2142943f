#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# GRUB through SeaBIOS on the screen: its menu as a stored picture and over VNC, keys, a graphics mode. And GRUB as firmware, which sets up no more of the
# adapter than virtual machines look at.
#
# The menu is compared with tests/screen/grub-menu.png, by the check sum beside it. When it is meant to look otherwise (another release of
# GRUB, or of the font in SeaBIOS's VGA BIOS), UPDATE=1 tests/boot/screen.sh takes the new picture; look at it before you commit it.
set -euo pipefail

. "$(dirname "$0")/../screen/lib.sh"

stored=$top/tests/screen/grub-menu.png
# Without the first three rows of characters (GRUB's name has its version) the rest of a picture of 720 by 400: its check sum.
below_title() { tail -c $((720 * (400 - 48) * 3)) "$1" | sha256sum | cut -c 1-64; }

# Until the guest has drawn all of it: the picture is the stored one, or the same for a while.
picture_settles() {
        local same=0 before='' now
        while ((same < 10)); do
                "$DOPPEL" screenshot "$machine" "$scratch/menu.ppm"
                now=$(below_title "$scratch/menu.ppm")
                [[ $now != "$(cat "${stored%.png}.sha256" 2>/dev/null)" ]] || break
                if [[ $now == "$before" ]]; then same=$((same + 1)); else same=0; fi
                before=$now
                sleep 0.3
        done
        "$DOPPEL" screenshot "$machine" "$scratch/menu.png"
}

grub_menu() { # ENGINE
        awaits "$1: GRUB: the menu" 120 'GNU GRUB  version'
        awaits "$1: GRUB: counts down" 60 'will be executed automatically in'
        keys '<down><up>'
        awaits "$1: GRUB: an arrow key ends the count-down" 60 '!will be executed automatically in'
        picture_settles
        equal "$1: GRUB: a picture has the size of a text screen" "$(head -n 2 "$scratch/menu.ppm" | tail -n 1)" '720 400'
        if [[ ${UPDATE:-} ]]; then
                cp "$scratch/menu.png" "$stored"
                below_title "$scratch/menu.ppm" >"${stored%.png}.sha256"
        fi
        if [[ $(below_title "$scratch/menu.ppm") == "$(<"${stored%.png}.sha256")" ]]; then
                ok "$1: GRUB: the picture below the title is the stored one"
        else
                not_ok "$1: GRUB: the picture below the title is the stored one" \
                        "see the top of this file; it is $(base64 -w 0 "$scratch/menu.png")"
        fi
        [[ -x $viewer ]] || { skip "$1: VNC" 'libvncclient is missing' && return; }
        "$viewer" "$scratch/vnc" "save=$scratch/vnc.ppm"
        check "$1: VNC: a viewer sees the same picture" 'the pictures differ' cmp -s "$scratch/menu.ppm" "$scratch/vnc.ppm"
        "$viewer" "$scratch/vnc" "save=$scratch/one.ppm" wait=500 "save=$scratch/one.ppm" &
        "$viewer" "$scratch/vnc" "save=$scratch/two.ppm"
        wait $!
        check "$1: VNC: so do two at once" 'the pictures differ' cmp -s "$scratch/one.ppm" "$scratch/two.ppm"
}

grub_keys() { # ENGINE
        keys 'e'
        awaits "$1: GRUB: the editor" 60 "setparams 'GNU/Linux'"
        keys '<esc>'
        awaits "$1: GRUB: back in the menu" 60 '*GNU/Linux'
        keys 'c'
        awaits "$1: GRUB: the command line" 60 'grub>'
        keys 'echo Say "<lt>Yes>" $((<c-a>'
        awaits "$1: GRUB: characters with shift" 60 'grub> echo Say "<Yes>" $(('
        keys '<c-e><bs><bs><bs><ret>'
        awaits "$1: GRUB: runs it" 60 $'\nSay <Yes>\n'
        if [[ -x $viewer ]]; then
                "$viewer" "$scratch/vnc" type=echo key=0x20 'type=From' key=0x20 'type=vnc' key=0xff0d wait=200
                awaits "$1: VNC: a viewer's keys" 60 $'\nFrom vnc\n'
        fi
}

grub_graphics() { # ENGINE
        keys 'insmod all_video<ret>set gfxmode=800x600x32<ret>'
        await 60 'gfxmode=800x600x32' && keys 'loadfont unicode<ret>'
        await 60 'loadfont unicode' && sleep 1 && keys 'terminal_output gfxterm<ret>'
        awaits "$1: GRUB: a graphics mode by the VBE BIOS" 60 '(graphics, 800x600, 32 bits a pixel)'
        if [[ -x $viewer ]]; then
                "$viewer" "$scratch/vnc" size type=terminal_output key=0x20 type=console key=0xff0d "until=720x400" size >"$scratch/sizes"
                equal "$1: VNC: a viewer follows the size" "$(tr '\n' ' ' <"$scratch/sizes")" '800x600 720x400 '
        else
                keys 'terminal_output console<ret>'
        fi
        awaits "$1: GRUB: and text again" 60 'grub>'
}

grub_cdrom() { # ENGINE
        start "$1" --cdrom "$("$top/tools/guest" grub-cdrom)" --display "$display"
        grub_menu "$1"
        if [[ $1 == interp ]]; then # the others leave firmware to it, for the most part
                grub_keys "$1"
                grub_graphics "$1"
        fi
        stop
}

grub_firmware() { # ENGINE
        start "$1" --bios "$("$top/tools/guest" grub-firmware)"
        awaits "$1: GRUB as firmware: the menu" 60 'Press enter to boot the selected OS'
        "$DOPPEL" screenshot "$machine" "$scratch/firmware.ppm"
        check "$1: GRUB as firmware: is drawn, each line of each character" "$(od -An -tx1 "$scratch/firmware.ppm" | head -n 4)" \
                test "$(tr -d '\0' <"$scratch/firmware.ppm" | wc -c)" -gt 42000
        stop
}

for engine in $(engines_but_kvm); do
        grub_cdrom "$engine"
        grub_firmware "$engine"
done
