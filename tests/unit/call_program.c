/* SPDX-License-Identifier: MIT */
/* The code of such programs: SDM volume 2, chapter 2. */
#include "call_program.h"
#include <assert.h>
#include "flat.h"

#define COUNTERS (CALL_DATA + 0x40)  /* of loops; then where RSP is kept */
#define POINTERS (CALL_DATA + 0x100) /* to functions that release nothing */
#define WORDS (CALL_DATA + 0x800)
#define FUNCTIONS 12u
#define SPOTS 64u
#define KEPT 16u        /* loops, and places for RSP */
#define ITEM_ROOM 300   /* of a function, in bytes: none needs more, with what leaves the function */
#define LAST_CALL 5u    /* bytes, at the very end of the code: its return is an error */

static const struct call_program *program;
static uint64_t random_state;
static bool wild;            /* the function at hand */
static uint8_t *at, *until;  /* in flat_ram; where the function has to end */
static uint32_t label[FUNCTIONS + 1]; /* offsets of the functions */
static uint8_t releases[FUNCTIONS];   /* words that a function's return releases */
static uint8_t *spot[SPOTS]; /* immediates of the code, which may change */
static unsigned spots, counters, depth;
static struct {
	bool frame;
	unsigned releases, pushed; /* words */
	unsigned aside;            /* it is on another stack */
} here;

void call_seed(uint64_t seed)
{
	random_state = seed * 0x9e3779b97f4a7c15ULL;
	call_any(2);
}

uint32_t call_any(uint32_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(random_state >> 33) % below;
}
#define any call_any

static void b(unsigned value) { *at++ = (uint8_t)value; }
static void d(uint32_t value)
{
	memcpy(at, &value, 4);
	at += 4;
}
static void q(uint64_t value)
{
	memcpy(at, &value, 8);
	at += 8;
}
static void put(const void *bytes, unsigned size)
{
	memcpy(at, bytes, size);
	at += size;
}
#define PUT(code) put(code, sizeof(code) - 1)

static void w(void)
{
	if (program->wide)
		b(0x48);
}
static unsigned word(void) { return program->wide ? 8 : 4; }
static uint32_t offset(void) { return (uint32_t)(at - flat_ram) - CALL_CODE; }
static void relative(uint32_t to) { d(to - (offset() + 4)); }
static void absolute(unsigned reg, uint32_t address) { b((reg & 7) << 3 | 4), b(0x25), d(address); }

/* Of an operand of the whole width or of 32 bits. */
static void rex(bool whole, unsigned r, unsigned m)
{
	unsigned bits = (whole ? 8 : 0) | (r >> 3) << 2 | m >> 3;

	if (program->wide && bits)
		b(0x40 | bits);
}

/* Not RSP; nor RBP, which frames are found by. */
static unsigned reg(void)
{
	unsigned r = any(program->wide ? 16 : 8);
	return r == RSP || (r == RBP && !wild) ? RCX : r;
}

static void load_constant(unsigned r, uint64_t value)
{
	rex(true, 0, r), b(0xb8 | (r & 7));
	program->wide ? q(value) : d((uint32_t)value);
}

static uint64_t address_of(uint32_t where) { return program->linear[any(2)] + where; }

/* The same for an address that is not known yet: where the code is when it is filled in. */
static uint8_t *load_later(unsigned r)
{
	load_constant(r, 0);
	return at - word();
}
static void fill(uint8_t *constant)
{
	uint64_t address = address_of(offset());
	memcpy(constant, &address, word());
}

/* A jump or call ahead. */
static uint8_t *ahead(unsigned op)
{
	b(op), d(0);
	return at;
}
static void land(uint8_t *from)
{
	uint32_t distance = (uint32_t)(at - from);
	memcpy(from - 4, &distance, 4);
}

static void push(unsigned r) { rex(false, 0, r), b(0x50 | (r & 7)), here.pushed++; }
static void pop(unsigned r) { rex(false, 0, r), b(0x58 | (r & 7)), here.pushed--; }
static void release(unsigned words)
{
	if (words)
		w(), b(0x83), b(0xc4), b(words * word());
}

/* --- what is between calls --- */

/* EAX: another number each time. */
static void next_random(void)
{
	b(0x69), absolute(RAX, CALL_RANDOM), d(1664525); /* imul eax, [RANDOM], ... */
	b(0x05), d(1013904223);                          /* add eax, ... */
	b(0x89), absolute(RAX, CALL_RANDOM);
	PUT("\xc1\xe8"), b(3 + any(20));                 /* shr eax */
}

static void plain(void)
{
	unsigned r = reg(), s = reg();

	switch (any(8)) {
	case 0: case 1: rex(true, 0, r), b(0x83), b(0xc0 | (r & 7)), spot[spots++ % SPOTS] = at, b(any(128)); break; /* add r, ... */
	case 2: rex(true, s, r), b(0x01), b(0xc0 | (s & 7) << 3 | (r & 7)); break;
	case 3: rex(false, s, r), b(0x31), b(0xc0 | (s & 7) << 3 | (r & 7)); break;
	case 4: rex(true, r, 0), b(0x89), absolute(r, WORDS + 8 * any(64)); break;
	case 5: rex(true, r, 0), b(0x03), absolute(r, WORDS + 8 * any(64)); break;
	case 6: rex(true, r, 0), b(0x8b), b(0x44 | (r & 7) << 3), b(0x24), b(word() * any(4)); break; /* mov r, [rsp + ...] */
	default: rex(true, 0, r), b(0xff), b(0xc0 | any(2) << 3 | (r & 7)); break;
	}
}

/* --- calls --- */

/* If the page ends soon, it mostly does behind the instruction of so many bytes that comes next. */
static void to_page_end(unsigned length)
{
	uint32_t left = (uint32_t)(X86_PAGE_SIZE - (offset() + length)) & (X86_PAGE_SIZE - 1);

	if (left > 100 || at + left + ITEM_ROOM > until || !any(4))
		return;
	while (left--)
		b(0x90);
}

static unsigned function_that_releases(unsigned words)
{
	unsigned f = 1 + any(FUNCTIONS - 1);

	while (releases[f] != words)
		f = 1 + f % (FUNCTIONS - 1);
	return f;
}

enum { CALL = 2, JMP = 4 }; /* modrm.reg */

static void through(unsigned r, unsigned op) { to_page_end(r >= 8 ? 3 : 2), rex(false, 0, r), b(0xff), b(0xc0 | op << 3 | (r & 7)); }

/* By the pointer on top of the stack, which is then taken away; or was before. */
static void by_stack(unsigned op, unsigned r)
{
	push(r);
	here.pushed--;
	if (op == JMP) {
		release(1), to_page_end(4), b(0xff), b(0x64), b(0x24), b(-word()); /* jmp [rsp - ...] */
		return;
	}
	if (any(2))
		plain();
	any(2) ? PUT("\xff\x14\x24") : PUT("\xff\x54\x24\x00");          /* call [rsp] */
	release(1);
}

/* To a function that releases nothing. */
static void indirect(unsigned op)
{
	unsigned r = reg();
	uint64_t to = address_of(label[function_that_releases(0)]);

	switch (any(program->wide ? 8 : 7)) {
	case 0: case 1: load_constant(r, to), through(r, op); break;
	case 2: rex(true, r, 0), b(0x8b), absolute(r, POINTERS + 8 * any(8)), through(r, op); break;
	case 3: to_page_end(7), b(0xff), absolute(op, POINTERS + 8 * any(8)); break;
	case 4:
		next_random();
		PUT("\x83\xe0"), b(any(2) ? 7 : 3);                      /* and eax */
		to_page_end(7), b(0xff), b(0x04 | op << 3), b(0xc5), d(POINTERS); /* [POINTERS + rax * 8] */
		break;
	case 5: load_constant(r, to), by_stack(op, r); break;
	case 6:
		load_constant(r, POINTERS), rex(false, 0, r), b(0xff), b(0x40 | op << 3 | (r & 7));
		if ((r & 7) == RSP)
			b(0x24);
		b(8 * any(8));
		break;
	default: /* by a pointer in the code */
		b(0xff), b(0x05 | op << 3), d(op == CALL ? 2 : 0);
		if (op == CALL)
			PUT("\xeb\x08");
		q(to);
	}
}

static void call_one(void)
{
	unsigned f = 1 + any(FUNCTIONS - 1), r = reg();

	if (!any(3)) {
		indirect(CALL);
		return;
	}
	for (unsigned n = 0; n < releases[f]; n++)
		push(reg());
	here.pushed -= releases[f];
	if (any(5))
		to_page_end(5), b(0xe8), relative(label[f]);
	else
		load_constant(r, address_of(label[f])), through(r, CALL);
}

/* To what is near, in various ways. */
static void call_near(void)
{
	unsigned r = reg();
	uint8_t *p, *start, *over;

	switch (any(6)) {
	case 0: b(0xe8), d(0), here.pushed++, pop(r); break;         /* where am I? */
	case 1: /* a retpoline */
		over = ahead(0xe9), start = at;
		p = ahead(0xe8), PUT("\xf3\x90\xeb\xfc"), land(p);       /* call 1f; 2: pause; jmp 2b */
		rex(true, r, 0), b(0x89), b(0x04 | (r & 7) << 3), PUT("\x24\xc3"), land(over); /* 1: mov [rsp], r; ret */
		load_constant(r, address_of(label[function_that_releases(0)]));
		b(0xe8), d((uint32_t)(start - (at + 4)));
		break;
	case 2: /* one that skips what is behind its call */
		p = ahead(0xe8), PUT("\x0f\x0b"), over = ahead(0xe9), land(p); /* call 1f; ud2; jmp over */
		w(), PUT("\x83\x04\x24\x02\xc3"), land(over);            /* 1: add [rsp], 2; ret */
		break;
	case 3: p = load_later(r), push(r), here.pushed--, b(0xc3), fill(p); break;
	case 4: p = load_later(r), through(r, JMP), fill(p); break;
	default: p = load_later(r), through(r, CALL), fill(p), here.pushed++, pop(reg()); break;
	}
}

/* --- what happens to the stack, and to code --- */

static void items(unsigned n);

static void switched(void)
{
	uint32_t save = COUNTERS + 4 * (KEPT + 2 * (counters++ % KEPT));

	if (depth > 2)
		return;
	w(), b(0x89), absolute(RSP, save);                           /* mov [save], rsp */
	if (any(2))
		b(0xbc), d(CALL_STACK + 0x1000 * (1 + any(2)) - 8 * any(4)); /* mov esp, ... */
	else
		w(), b(0x81), b(0xec), d(any(2) ? 0x1000 : 8 * any(0x200)); /* sub rsp, ... */
	here.aside++;
	items(1 + any(3));
	here.aside--;
	w(), b(0x8b), absolute(RSP, save);
}

static void change(void)
{
	uint32_t where = spots ? (uint32_t)(spot[any(MIN(spots, SPOTS))] - flat_ram) : WORDS;

	if (any(2))
		b(0x80), absolute(6, where), b(1 + any(60));             /* xor byte */
	else
		b(0xfe), absolute(any(2), where);                        /* inc, dec byte */
}

static void single_steps(void) { PUT("\x9c\x81\x0c\x24\x00\x01\x00\x00\x9d"); } /* pushf; or dword [rsp], TF; popf */

static void nonsense(void)
{
	unsigned r = reg();

	switch (any(12)) {
	case 0: b(0x68), d(any(1u << 31) * 2), b(0xc3); break;       /* push ...; ret */
	case 1: load_constant(r, (uint64_t)any(1u << 31) << any(33)), through(r, any(2) ? CALL : JMP); break;
	case 2: rex(true, RSP, r), b(0x87), b(0xe0 | (r & 7)); break; /* xchg rsp, r */
	case 3: w(), b(0x83), b(0xc4), b(any(256)); break;           /* add rsp, ... */
	case 4: b(0xc2), b(any(32)), b(0); break;                    /* ret ... */
	case 5: w(), PUT("\x83\x04\x24"), b(any(16)), b(0xc3); break; /* add [rsp], ...; ret */
	case 6: b(0xc9); break;
	case 7: b(0xe8), relative(any(CALL_PAGES * X86_PAGE_SIZE)); break;
	case 8: b(0x70 | any(16)), b(any(128)); break;
	case 9: b(0xe9), relative(CALL_PAGES * X86_PAGE_SIZE - LAST_CALL); break;
	default:
		load_constant(r, address_of(any(2) ? CALL_PAGES * X86_PAGE_SIZE : any(CALL_PAGES * X86_PAGE_SIZE)));
		rex(false, 0, r), b(0x50 | (r & 7)), b(0xc3);            /* push r; ret */
	}
}

/* --- a function --- */

static void plain_return(void)
{
	if (here.releases)
		b(0xc2), b(here.releases * word()), b(0);
	else
		b(0xc3);
}

static void leave_function(void)
{
	unsigned r = reg(), way = any(here.releases ? 2 : 8);

	if (here.frame && any(2))
		b(0xc9);
	else if (here.frame)
		w(), PUT("\x89\xec\x5d");                                /* mov rsp, rbp; pop rbp */
	else
		release(here.pushed);
	if (way == 2)
		rex(false, 0, r), b(0x58 | (r & 7)), through(r, JMP);
	else if (way == 3)
		rex(false, 0, r), b(0x58 | (r & 7)), rex(false, 0, r), b(0x50 | (r & 7)), b(0xc3);
	else if (way == 4)
		PUT("\xf3\xc3");
	else if (way == 5 && any(2))
		b(0xe9), relative(label[function_that_releases(0)]);     /* which returns */
	else if (way == 5)
		indirect(JMP);
	else
		plain_return();
}

static void branch_over(void)
{
	unsigned before = here.pushed;

	if (any(2))
		next_random(), b(0xa8), b(1u << any(8));                 /* test al, ... */
	else
		b(0xf6), absolute(0, any(2) ? CALL_RANDOM : CALL_FUEL), b(1u << any(4)); /* test byte */
	b(0x0f);
	uint8_t *from = ahead(0x84 | any(2));
	if (!any(3) && (!here.aside || wild))
		leave_function();
	else
		items(1 + any(3));
	here.pushed = before;
	land(from);
}

static void loop(void)
{
	uint32_t counter = COUNTERS + 4 * (counters++ % KEPT);

	if (depth > 2)
		return;
	b(0xc7), absolute(0, counter), d(2 + any(12));
	uint8_t *head = at;
	items(1 + any(3));
	b(0xff), absolute(1, counter);
	PUT("\x0f\x8f"), d((uint32_t)(head - (at + 4)));                 /* jg */
}

static void pushes(void)
{
	unsigned n = 1 + any(4);

	if (depth > 2)
		return;
	for (unsigned k = 0; k < n; k++)
		push(reg());
	items(1 + any(2));
	while (n--)
		pop(reg());
}

static void items(unsigned n)
{
	depth++;
	while (n-- && at + ITEM_ROOM < until) {
		unsigned k = any(40);
		if (wild && !any(12))
			nonsense();
		else if (k < 12)
			call_one();
		else if (k < 15)
			call_near();
		else if (k < 19)
			branch_over();
		else if (k < 21)
			loop();
		else if (k < 24)
			pushes();
		else if (k < 25)
			switched();
		else if (k < 26 && !any(3))
			change();
		else if (k < 27 && !any(3))
			b(0xcd), b(CALL_REMAP + any(3));
		else if (k < 28 && !any(8))
			single_steps();
		else
			plain();
	}
	depth--;
}

static void begin(unsigned f)
{
	at = flat_ram + CALL_CODE + label[f];
	until = flat_ram + CALL_CODE + label[f + 1];
	memset(at, 0x90, (size_t)(until - at));
	memset(&here, 0, sizeof(here));
	here.releases = releases[f];
}

static void function(unsigned f)
{
	begin(f);
	if (!any(8))
		PUT("\xf3\x0f\x1e\xfa");                                 /* endbr64 */
	b(0xff), absolute(1, CALL_FUEL);                                 /* dec dword */
	b(0x79), b(releases[f] ? 3 : 1);                                 /* jns */
	plain_return();
	here.frame = any(2);
	if (here.frame)
		b(0x55), w(), PUT("\x89\xe5"), w(), PUT("\x83\xec"), b(8 * any(8)); /* push rbp; mov rbp, rsp; sub rsp, ... */
	else
		for (unsigned n = any(4); n--;)
			push(reg());
	items(2 + any(8));
	leave_function();
	assert(at <= until);
}

/* Where a program begins, and begins again. */
static void main_part(void)
{
	begin(0);
	b(0xbc), d(CALL_STACK);                                          /* mov esp, ... */
	b(0xff), absolute(1, CALL_ROUND);
	PUT("\x79\x02\xcd"), b(CALL_END);                                /* jns over int ... */
	b(0xc7), absolute(0, CALL_FUEL), d(any(200));
	for (unsigned n = 2 + any(5); n--;)
		call_one();
	if (any(2))
		load_constant(RAX, address_of(0)), PUT("\xff\xe0");
	else
		b(0xe9), relative(0);
	assert(at <= until);
}

void call_generate(const struct call_program *what)
{
	uint32_t total = CALL_PAGES * X86_PAGE_SIZE, share = (total - LAST_CALL) / FUNCTIONS;

	program = what;
	for (unsigned f = 0; f <= FUNCTIONS; f++)
		label[f] = share * f + (f && f < FUNCTIONS ? any(300) : 0);
	label[FUNCTIONS] = total - LAST_CALL;
	for (unsigned f = 0; f < FUNCTIONS; f++)
		releases[f] = f < 3 || any(3) ? 0 : (uint8_t)(1 + any(2));
	spots = counters = depth = 0;
	wild = false;
	main_part();
	wild = what->wild;
	for (unsigned f = 1; f < FUNCTIONS; f++)
		function(f);
	at = flat_ram + CALL_CODE + total - LAST_CALL;
	b(0xe8), relative(label[function_that_releases(0)]);
	for (unsigned n = 0; n < 8; n++)
		flat_put(POINTERS + 8 * n, 8, address_of(label[function_that_releases(0)]));
	for (unsigned n = 0; n < 64; n++)
		flat_put(WORDS + 8 * n, 8, any(0x1000));
	flat_put(CALL_RANDOM, 4, any(1u << 31));
	memcpy(flat_ram + CALL_OTHERS, flat_ram + CALL_CODE, total);
	for (unsigned n = 0; n < MIN(spots, SPOTS); n++)
		spot[n][CALL_OTHERS - CALL_CODE] ^= (uint8_t)any(64);
}
