// SPDX-License-Identifier: MIT
// Work for a JIT compiler: functions that become hot, are compiled, meet other types, are thrown away and compiled anew; new code all the time; garbage
// collections that move code; WebAssembly. Prints a line "jit NAME CHECKSUM" for each part, the same on any machine. Argument: how often all of it (1).
'use strict';

let hash = 0;
function mix(v) {
        const text = String(v);
        for (let i = 0; i < text.length; i++)
                hash = (Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0) ^ (hash >>> 15);
}
let seed = 1;
function random() {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        return seed >>> 8;
}

const parts = {
        integers() {
                let x = 1;
                for (let i = 0; i < 20000000; i++)
                        x = (Math.imul(x, 1664525) + 1013904223) ^ (x >>> 7);
                mix(x);
        },
        doubles() {
                let x = 0.5, y = 0.25, sum = 0;
                for (let i = 1; i < 3000000; i++) {
                        const next = Math.sin(x) * 1.7 + Math.sqrt(i) * 1e-6 - y;
                        y = x;
                        x = next;
                        sum += Math.floor(x * 1000);
                }
                mix(sum);
                mix(x);
        },
        arrays() {
                const a = new Int32Array(1 << 16), b = [];
                for (let round = 0; round < 30; round++) {
                        for (let i = 0; i < a.length; i++)
                                a[i] = (a[(i * 7919) & 0xffff] + random()) | 0;
                        a.subarray(0, 5000).sort();
                        b.push(a[4999]);
                }
                mix(b.join());
        },
        // One function, called with ever more shapes: compiled, thrown away, compiled.
        shapes() {
                const add = (o) => o.x + o.y;
                const make = [
                        (i) => ({ x: i, y: 1 }), (i) => ({ y: i, x: 2 }), (i) => ({ z: 0, x: i, y: 0.5 }), (i) => ({ x: 'a' + (i & 7), y: i & 3 }),
                        (i) => { const o = { x: i }; Object.defineProperty(o, 'y', { get: () => i * 2 }); return o; }, (i) => [i].concat([i]) && { x: BigInt(i), y: 3n },
                ];
                for (let kinds = 1; kinds <= make.length; kinds++)
                        for (let i = 0; i < 200000; i++) {
                                const r = add(make[i % kinds](i));
                                if (i % 1000 === 0)
                                        mix(r);
                        }
        },
        // Code that did not exist before, and is hot soon.
        code() {
                let sum = 0;
                for (let n = 0; n < 600; n++) {
                        const f = new Function('a', 'b', `let s = ${n}; for (let i = 0; i < 3000; i++) s = (s * ${n % 13 + 2} + a[i & 15] ^ b + i) | 0; return s;`);
                        const a = Array.from({ length: 16 }, (_, i) => (n % 3 ? i * n : i * 0.5));
                        for (let k = 0; k < 8; k++)
                                sum = (sum + f(a, k)) | 0;
                }
                mix(sum);
        },
        strings() {
                const words = new Map();
                for (let i = 0; i < 300000; i++) {
                        const w = 'w' + (random() % 5000).toString(36);
                        words.set(w, (words.get(w) || 0) + 1);
                }
                const text = [...words].sort().map(([w, n]) => `${w}=${n}`).join(' ');
                mix(text);
                mix(text.replace(/w([a-z0-9]+)=(\d+)/g, (m, a, b) => b + a).length);
                mix(JSON.stringify(JSON.parse('[' + text.replace(/(\w+)=(\d+) ?/g, '{"$1":$2},') + '0]')).length);
        },
        trees() {
                const tree = (d) => (d ? { l: tree(d - 1), r: tree(d - 1), v: random() & 15 } : null);
                const sum = (t) => (t ? t.v + sum(t.l) * 3 + sum(t.r) : 1) % 1000003;
                for (let i = 0; i < 40; i++)
                        mix(sum(tree(14)));
        },
        exceptions() {
                let caught = 0;
                const f = (i) => { if (i % 7 === 0) throw new Error(String(i)); return i; };
                for (let i = 0; i < 100000; i++) {
                        try { f(i); } catch (e) { caught += e.message.length; }
                }
                mix(caught);
        },
        generators() {
                function* g(n) { for (let i = 0; i < n; i++) yield i * i; }
                let s = 0;
                for (const v of g(1000000))
                        s = (s + v) % 1000000007;
                mix(s);
                let big = 1n;
                for (let i = 1n; i < 1500n; i++)
                        big = big * i % (1n << 4000n) + i;
                mix(big);
        },
        // (func (param i32) (result i32)): x = x * 1664525 + 1013904223, so many times
        wasm() {
                const number = (v) => { // LEB128, signed
                        const out = [];
                        for (;;) {
                                const low = v & 0x7f;
                                v >>= 7;
                                if ((v === 0 && !(low & 0x40)) || (v === -1 && low & 0x40))
                                        return [...out, low];
                                out.push(low | 0x80);
                        }
                };
                const sized = (bytes) => [bytes.length, ...bytes]; // below 128
                const body = [1, 1, 0x7f, 3, 0x40, 0x20, 1, 0x41, ...number(1664525), 0x6c, 0x41, ...number(1013904223), 0x6a, 0x21, 1, 0x20, 0, 0x41, 1, 0x6b,
                        0x22, 0, 0x0d, 0, 0x0b, 0x20, 1, 0x0b];
                const bytes = new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, ...sized([1, 0x60, 1, 0x7f, 1, 0x7f]), 3, ...sized([1, 0]),
                        7, ...sized([1, 1, 0x66, 0, 0]), 10, ...sized([1, ...sized(body)])]);
                const f = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports.f;
                for (let i = 1; i < 200; i++)
                        mix(f(i * 1000));
        },
};

const rounds = Number(process.argv[2] || 1);
for (const name of Object.keys(parts)) {
        hash = 0;
        for (let n = 0; n < rounds; n++)
                parts[name]();
        console.log(`jit ${name} ${(hash >>> 0).toString(16)}`);
}
