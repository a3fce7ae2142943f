#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the programs of bench/everyday, in the system that tools/guest everyday makes, and prints the seconds of each.
export PATH=/usr/bin:/bin LC_ALL=C HOME=/
cd /tmp || exit 1
perl -e 'srand 1; for (1..20000) { printf "%08x %s line %d of a text that is sorted and packed\n", rand(2**32), join(" ", map { chr(97 + rand 26) x 3 } 1..4), $_ }' >text
cat >program.c <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define F(n) struct s##n { int a[16]; double d; struct s##n *next; }; \
static int f##n(struct s##n *s, int k) { int r = 0; for (int i = 0; i < 16; i++) { switch ((s->a[i] + k) % 5) { \
 case 0: r += s->a[i]; break; case 1: r ^= k; break; case 2: r = r * 31 + i; break; case 3: s->d *= 1.5; break; default: r -= n; } } \
 while (s && r < 1000 * n) { r += (int)s->d; s = s->next; } return r; } \
int g##n(char *t, size_t z) { struct s##n s; memset(&s, n, sizeof s); s.next = 0; snprintf(t, z, "%d", f##n(&s, (int)z)); return atoi(t); }
F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
END
gcc_() { gcc -O2 -c -o program.o program.c; }
python() { python3 -c '
d = {}
for i in range(300000):
    d[i % 5003] = d.get(i % 5003, 0) + i * i % 7
s = sorted("%x" % (v * 7919 % 65521) for v in d.values())
print(len(",".join(s)), sum(len(x.split("1")) for x in s * 10))'; }
xz_() { head -c 300000 text | xz -6 | xz -d | cksum; }
sqlite() { sqlite3 :memory: 'create table t(a integer, b text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into t select i * 7919 % 65521, printf("%08d", i) from n; create index x on t(a); select count(*), sum(a) from t where a % 3 = 1;
select a, count(*) from t group by a / 100 order by 2 desc limit 3;'; }
openssl_() { for _ in 1 2 3 4 5 6 7 8; do openssl dgst -sha256 text; openssl enc -aes-256-cbc -K 00 -iv 00 -in text | cksum; done; }
perl_() { perl -ne 'while (/([a-f0-9]+) (\w+)/g) { $n{$2} += hex substr $1, 0, 6 } $l += tr/a-m//; END { print scalar(keys %n), " $l\n"; print join ",", (sort { $n{$b} <=> $n{$a} } keys %n)[0..3] }' text; }
sort_() { cat text text text text text text | sort | cksum; }
shell() { i=0; while [ $i -lt 200 ]; do sh -c true; i=$((i + 1)); done; }
for name; do
        case $name in gcc | xz | openssl | perl | sort) function=${name}_ ;; *) function=$name ;; esac
        start=$(date +%s.%N)
        $function >/dev/null 2>error || { echo "failed $name: $(cat error)"; continue; }
        echo "everyday $name $(echo "$start $(date +%s.%N)" | perl -ane 'printf "%.3f", $F[1] - $F[0]')"
done
