#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A network boot: iPXE's own drivers bring Linux's kernel and its initramfs from a web server of the host, by each kind of network card, and start
# it.
set -euo pipefail

. "$(dirname "$0")/../lib.sh"

if [[ ! -e /usr/include/slirp/libslirp.h ]]; then
        skip 'network boot - needs libslirp-dev'
        exit
fi
engine=$(default_engine)

# The web server: each request is for a file of the folder, by its name.
# shellcheck disable=SC2016 # the program's own
serve='use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 8) or die;
open my $f, ">", "port.new"; print $f $s->sockport; close $f; rename "port.new", "port";
while (my $c = $s->accept) {
        my ($name) = <$c> =~ m{^GET /(\w+) }; while (<$c> =~ /\S/) {}
        open my $f, "<:raw", $name or do { print $c "HTTP/1.0 404 no\r\n\r\n"; next };
        print $c "HTTP/1.0 200 OK\r\nContent-Length: " . (-s $f) . "\r\n\r\n"; local $/ = \65536; print $c $_ while <$f>; close $c
}'
mkdir "$scratch/www"
cp "$("$top/tools/guest" linux-cloud)" "$scratch/www/vmlinuz"
command_archive "$scratch" <<<'echo "came over the network: $(grep -o "from=[a-z0-9]*" /proc/cmdline)"'
cat "$("$top/tools/guest" initramfs)" "$scratch/command.cpio" >"$scratch/www/initrd"
(cd "$scratch/www" && exec perl -e "$serve") &
server=$!
trap 'kill "$server" 2>/dev/null; test_end' EXIT
until [[ -e $scratch/www/port ]]; do sleep 0.1; done
url=http://10.0.2.2:$(<"$scratch/www/port")

for model in e1000 virtio; do
        capture 120 "$DOPPEL" run --engine "$engine" --memory 512M --kernel "$("$top/tools/guest" ipxe)" --net "user,model=$model" --no-reboot \
                --append "dhcp && kernel $url/vmlinuz $quiet_append from=$model initrd=initrd && initrd $url/initrd && boot"
        contains "$model: what iPXE fetched runs" "$out" "came over the network: from=$model"
        equal "$model: doppel's exit status" "$status" 0
        if [[ $out != *"from=$model"* ]]; then tail -n 20 <<<"$out" | cat -v; fi
done
