/* SPDX-License-Identifier: MIT */
/* Makes random instances of the encodings in integer_rows.c: prefixes, ModRM and SIB bytes, immediates, and a
 * state in which the operands lie in the test's data, sometimes across its pages and borders. SDM volume 2,
 * chapter 2. */
#include <stdlib.h>
#include <string.h>
#include "integer_cases.h"

#define POOL 65536u
#define FILL_UNIFORM BIT(20) /* in integer_case.fill: all bytes the same, but a few */
#define DISTANCE 0x400u	     /* of an instruction from the ends of the code */

static uint64_t seed_state;

void random_seed(uint64_t seed)
{
	seed_state = seed;
}

uint64_t random_next(void) /* splitmix64 */
{
	uint64_t z = seed_state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Values at which results change: limits, powers of two, little numbers; and any others. */
static uint64_t value(void)
{
	uint64_t v;

	switch (random_below(8)) {
	case 0: v = random_below(5) - 2ULL; break;
	case 1: v = BIT(random_below(64)); break;
	case 2: v = BIT(random_below(64)) - 1; break;
	case 3: v = random_below(256); break;
	case 4: v = 0x8080808080808080 << random_below(2); break;
	default: v = random_next(); break;
	}
	if (one_in(4)) /* the limits of a narrower operand below any upper part */
		v = (random_next() << 16) | (uint16_t)(one_in(2) ? v : v >> 48);
	return one_in(4) ? ~v : v;
}

/* One encoding, parsed */
enum word {
	W_L = BIT(0),
	W_32 = BIT(1),
	W_64 = BIT(2),
	W_REXW = BIT(3),
	W_M = BIT(4),
	W_NO66 = BIT(5),
	W_STK = BIT(6),
	W_BP = BIT(7),
	W_STR = BIT(8),
	W_XLAT = BIT(9),
	W_BIT = BIT(10),
	W_DIV = BIT(11),
	W_CMPX = BIT(12),
	W_CMPP = BIT(13),
	W_A16 = BIT(14),
	W_TGT = BIT(15),
	W_RET = BIT(16),
	W_CNT = BIT(17),
	W_PLUSR = BIT(18),
	W_VEX = BIT(19),
	W_VVVV = BIT(20),
	W_MODRM = BIT(21),
	W_IB = BIT(22),
	W_IW = BIT(23),
	W_IZ = BIT(24),
	W_IV = BIT(25),
	W_MO = BIT(26),
	W_REL8 = BIT(27),
	W_RELZ = BIT(28),
	W_LV = BIT(29),
};
static const struct {
	const char *text;
	unsigned word;
} words[] = {
	{ "l", W_L },	    { "32", W_32 },	{ "64", W_64 },	    { "W", W_REXW },	{ "m", W_M },
	{ "no66", W_NO66 }, { "stk", W_STK },	{ "bp", W_BP },	    { "str", W_STR },	{ "xlat", W_XLAT },
	{ "bit", W_BIT },   { "div", W_DIV },	{ "cmpx", W_CMPX }, { "cmpp", W_CMPP }, { "a16", W_A16 },
	{ "tgt", W_TGT },   { "ret", W_RET },	{ "cnt", W_CNT },   { "+r", W_PLUSR },	{ "/r", W_MODRM },
	{ "ib", W_IB },	    { "iw", W_IW },	{ "iz", W_IZ },	    { "iv", W_IV },	{ "mo", W_MO },
	{ "rel8", W_REL8 }, { "relz", W_RELZ }, { "lv", W_LV },
};
struct encoding {
	unsigned words; /* W_* */
	uint8_t opcode[4], count;
	uint8_t mandatory; /* prefix byte, or 0 */
	uint8_t map, pp;   /* of VEX */
	int digit;	   /* of ModRM.reg, or -1 */
};

static void parse_word(struct encoding *e, const char *text)
{
	unsigned last_opcode = 0, map = 0;

	if (text[0] == '!') {
		e->mandatory = (uint8_t)strtoul(text + 1, NULL, 16);
		return;
	}
	if (text[0] == '/' && text[1] != 'r') {
		e->words |= W_MODRM;
		e->digit = text[1] - '0';
		return;
	}
	if ((text[0] == 'v' || text[0] == 'w') && text[1] == '.') {
		map = (unsigned)strtoul(text + 2, NULL, 16);
		e->map = map == 0x38 ? 2 : 3;
		e->pp = (uint8_t)(text[5] - '0');
		e->words |= W_VEX | (text[0] == 'v' ? W_VVVV : 0);
		return;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(words); n++)
		if (e->count && !strcmp(words[n].text, text)) {
			e->words |= words[n].word;
			return;
		}
	last_opcode = (unsigned)strtoul(text, NULL, 16);
	e->opcode[e->count++] = (uint8_t)last_opcode;
}

static struct encoding parse(const char *text, size_t length)
{
	struct encoding e = { .digit = -1 };
	char copy[64], *rest = copy;

	memcpy(copy, text, length);
	copy[length] = 0;
	for (char *word; (word = strsep(&rest, " "));)
		parse_word(&e, word);
	return e;
}

static struct encoding pick(const char *encodings)
{
	unsigned n = 1;
	for (const char *c = encodings; *c; c++)
		n += *c == ';';
	n = random_below(n);
	while (n--)
		encodings = strchr(encodings, ';') + 1;
	return parse(encodings, strcspn(encodings, ";"));
}

/* An instruction in the making */
struct build {
	struct integer_case *c;
	struct encoding e;
	uint32_t code;	       /* MODE_CODE* */
	unsigned osize, asize; /* in bytes */
	uint8_t rex;	       /* 0: none */
	uint64_t seg_base;     /* of the memory operand */
	bool lock, repeat, register_operand, rip_relative;
	uint8_t modrm, sib, disp_bytes;
	bool has_sib;
	int base, index;	 /* registers, or -1 */
	unsigned scale, reg, rm; /* rm: the register operand */
	int64_t disp;
	uint64_t ea; /* where the operand is to be, as an offset in its segment */
};

static void emit(struct integer_case *c, uint64_t v, unsigned size)
{
	memcpy(c->bytes + c->length, &v, size);
	c->length += size;
}

static uint64_t data_base(const struct build *b)
{
	return b->code == MODE_CODE16 ? HOST_DATA : 0;
}

/* A linear address for an operand: in the data, mostly; across its pages, in the read-only page, across the borders. */
static uint64_t place(bool aligned)
{
	uint64_t at;
	unsigned how = random_below(32);

	if (how < 22)
		at = HOST_DATA + 64 + random_below(HOST_DATA_SIZE - 256);
	else if (how < 26)
		at = HOST_DATA + X86_PAGE_SIZE * (1 + random_below(HOST_DATA_PAGES - 1)) - random_below(16);
	else if (how < 28)
		at = HOST_READONLY - 16 + random_below(64);
	else if (how < 30)
		at = HOST_DATA + HOST_SPAN - random_below(32);
	else
		at = HOST_DATA - random_below(32);
	return aligned && !one_in(4) ? at & ~15ULL : at;
}

static bool
is_legacy_prefix_free(const struct encoding *e) /* may take prefixes at will without becoming another instruction */
{
	return e->count == 1 && !e->mandatory && !(e->words & W_VEX) && e->opcode[0] != 0x90;
}

static void make_prefixes(struct build *b)
{
	static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	struct integer_case *c = b->c;
	const struct encoding *e = &b->e;
	uint8_t list[6];
	unsigned n = 0;
	bool wide = b->code == MODE_CODE64, data66 = false;

	if (!(e->words & W_VEX) && !((e->words & W_NO66) && wide) && one_in(4))
		data66 = true;
	if (data66 || e->mandatory == 0x66)
		list[n++] = 0x66;
	if (e->mandatory && e->mandatory != 0x66)
		list[n++] = e->mandatory;
	b->asize = b->code == MODE_CODE64 ? 8 : b->code == MODE_CODE32 ? 4 : 2;
	if (one_in(8)) {
		list[n++] = 0x67;
		b->asize = b->asize == 4 ? 2 : 4;
	}
	if (one_in(10)) {
		uint8_t seg = list[n++] = segments[random_below(6)];
		if (wide)
			b->seg_base = seg == 0x64 ? host_fs_base() : seg == 0x65 ? HOST_GS_BASE : 0;
		else if (b->code == MODE_CODE16 && seg == 0x2e)
			b->seg_base = HOST_CODE - HOST_DATA;
	}
	if (e->words & W_STR) {
		if ((b->repeat = !one_in(3)))
			list[n++] = one_in(2) ? 0xf2 : 0xf3;
	} else if (is_legacy_prefix_free(e) && one_in(32)) {
		list[n++] = one_in(2) ? 0xf2 : 0xf3;
	}
	if (e->words & W_L ? one_in(3) : one_in(100)) {
		list[n++] = 0xf0;
		b->lock = true;
	}
	while (n) { /* in any order */
		unsigned k = random_below(n);
		emit(c, list[k], 1);
		list[k] = list[--n];
	}
	if (wide && !(e->words & W_VEX) && (one_in(2) || (e->words & W_REXW)))
		b->rex = (uint8_t)(0x40 | random_below(16) | (e->words & W_REXW ? 8 : 0));
	if (data66 || (e->mandatory == 0x66 && e->count == 3 && e->opcode[2] < 0xf2)) /* MOVBE */
		b->osize = b->code == MODE_CODE16 ? 4 : 2;
	else
		b->osize = b->code == MODE_CODE16 ? 2 : 4;
	if (b->rex & 8)
		b->osize = 8;
}

static void make_opcode(struct build *b)
{
	struct integer_case *c = b->c;
	const struct encoding *e = &b->e;
	bool wide = b->code == MODE_CODE64;

	if (e->words & W_VEX) {
		uint8_t rxb = wide ? (uint8_t)random_below(8) : 0, w = (uint8_t)random_below(2);
		uint8_t vvvv = e->words & W_VVVV ? (uint8_t)random_below(wide ? 16 : 8) : 0;
		b->rex = (uint8_t)(0x40 | w << 3 | rxb);
		b->osize = wide && w ? 8 : 4;
		emit(c, 0xc4, 1);
		emit(c, (uint8_t)((rxb ^ 7) << 5) | e->map, 1);
		emit(c, (uint8_t)(w << 7 | (~vvvv & 15) << 3 | (one_in(50) << 2) | e->pp), 1);
	} else if (b->rex) {
		emit(c, b->rex, 1);
	}
	for (unsigned n = 0; n < e->count; n++)
		emit(c, e->opcode[n], 1);
	if (e->words & W_PLUSR) {
		b->rm = random_below(8);
		c->bytes[c->length - 1] |= (uint8_t)b->rm;
		b->rm |= b->rex & 1 ? 8 : 0;
		b->register_operand = true;
	}
}

static void make_modrm16(struct build *b, unsigned mod, unsigned rm)
{
	static const int8_t bases[] = { RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX };
	static const int8_t indices[] = { RSI, RDI, RSI, RDI, -1, -1, -1, -1 };

	b->base = bases[rm];
	b->index = indices[rm];
	b->disp_bytes = mod == 1 ? 1 : mod == 2 ? 2 : 0;
	if (mod == 0 && rm == 6) {
		b->base = -1;
		b->disp_bytes = 2;
	}
}

static void make_modrm_memory(struct build *b, unsigned mod, unsigned rm)
{
	b->disp_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
	if (rm == 4) {
		b->has_sib = true;
		b->sib = (uint8_t)random_next();
		b->scale = b->sib >> 6;
		b->index = (b->sib >> 3 & 7) | (b->rex & 2 ? 8 : 0);
		if (b->index == RSP)
			b->index = -1;
		b->base = (b->sib & 7) | (b->rex & 1 ? 8 : 0);
		if ((b->sib & 7) == 5 && mod == 0) {
			b->base = -1;
			b->disp_bytes = 4;
		}
	} else if (rm == 5 && mod == 0) {
		b->disp_bytes = 4;
		b->rip_relative = b->code == MODE_CODE64;
	} else {
		b->base = (int)(rm | (b->rex & 1 ? 8 : 0));
	}
}

static void make_modrm(struct build *b)
{
	unsigned mod, rm = random_below(8);
	bool memory = b->e.words & W_M ? !one_in(32) : b->lock ? !one_in(8) : !one_in(3);

	b->reg = b->e.digit >= 0 ? (unsigned)b->e.digit : random_below(8);
	mod = memory ? random_below(3) : 3;
	b->modrm = (uint8_t)(mod << 6 | b->reg << 3 | rm);
	b->reg |= b->rex & 4 ? 8 : 0;
	emit(b->c, b->modrm, 1);
	if (!memory) {
		b->rm = rm | (b->rex & 1 ? 8 : 0);
		b->register_operand = true;
		return;
	}
	if (b->asize == 2)
		make_modrm16(b, mod, rm);
	else
		make_modrm_memory(b, mod, rm);
	if (b->has_sib)
		emit(b->c, b->sib, 1);
	b->disp = b->disp_bytes == 1   ? (int8_t)random_next()
		  : b->disp_bytes == 2 ? (int16_t)random_next()
		  : b->disp_bytes      ? (int32_t)(random_below(65536) - 32768)
				       : 0;
}

static void set_reg(struct build *b, int r, uint64_t v) /* any upper part above an address of asize bytes */
{
	uint64_t mask = size_mask(b->asize);
	b->c->state.gpr[r] = (v & mask) | (random_next() & ~mask);
}

/* Chooses where the memory operand is, and makes the registers or the displacement say so. */
static void aim(struct build *b)
{
	uint64_t *gpr = b->c->state.gpr;
	uint64_t linear = place(b->e.words & W_A16);

	if (b->code == MODE_CODE64 && b->asize == 8 && one_in(50)) /* not canonical, or about to be */
		linear = (one_in(2) ? 0x0000800000000000 : 0xffff800000000000) - random_below(16);
	b->ea = linear - b->seg_base - data_base(b);
	uint64_t sum = b->ea - (uint64_t)b->disp;
	if (b->base >= 0 && b->base == b->index)
		set_reg(b, b->base, sum / (1 + BIT(b->scale)));
	else if (b->base >= 0)
		set_reg(b, b->base, sum - (b->index >= 0 ? gpr[b->index] << b->scale : 0));
	else if (b->index >= 0)
		set_reg(b, b->index, sum >> b->scale);
	else
		b->disp = (int64_t)b->ea;
	if (b->base < 0 && b->index >= 0)
		b->ea = (uint64_t)b->disp + (sum >> b->scale << b->scale);
}

static unsigned immediate_size(const struct build *b)
{
	unsigned w = b->e.words;
	if (w & W_IW)
		return 2;
	if (w & W_IV)
		return b->osize;
	if (w & (W_IZ | W_RELZ))
		return MIN(b->osize, 4u);
	return w & W_MO ? b->asize : w & (W_IB | W_REL8) ? 1 : 0;
}

/* A branch target: in the code but not in the instruction; where nothing is mapped; not canonical. As CS offset. */
static uint64_t target(const struct build *b)
{
	const struct host_state *s = &b->c->state;
	uint64_t base = b->code == MODE_CODE16 ? 0 : HOST_CODE, t;
	unsigned how = b->code == MODE_CODE16 ? 0 : random_below(16);

	if (how == 0 && b->code == MODE_CODE64)
		return (random_next() & ~BIT(47)) | BIT(63); /* not canonical */
	if (how == 1)
		return HOST_HOLE + random_below(4096);
	do
		t = base + random_below(HOST_CODE_SIZE);
	while (t + 64 > s->rip && t < s->rip + 64);
	return t;
}

static void make_immediates(struct build *b)
{
	struct integer_case *c = b->c;
	unsigned size = immediate_size(b);
	uint64_t v = value(), next = c->state.rip + c->length + size;

	if (b->e.words & W_MO)
		v = place(false) - b->seg_base - data_base(b);
	else if (b->e.words & W_IW)
		v = one_in(3) ? random_next() : random_below(64) * 8;
	else if (b->e.words & W_REL8)
		v = one_in(2) ? random_below(127 - 20) + 20 : -32 - random_below(96);
	else if (b->e.words & W_RELZ)
		v = target(b) - next;
	emit(c, v, size);
	if (b->e.words & W_LV)
		emit(c, one_in(2) ? random_below(4) : random_next(), 1);
}

static void poke(struct build *b, uint64_t linear, uint64_t first, uint64_t second)
{
	if (linear < HOST_DATA || linear > HOST_READONLY - 16)
		return;
	b->c->poke_at = linear;
	b->c->poke[0] = first;
	b->c->poke[1] = second;
}

static void make_string(struct build *b)
{
	uint64_t *gpr = b->c->state.gpr, from = place(false), to = place(false);

	if (one_in(3)) /* overlapping */
		to = from + random_below(64) - 32;
	set_reg(b, RSI, from - b->seg_base - data_base(b));
	set_reg(b, RDI, to - data_base(b));
	set_reg(b, RCX, one_in(4) ? random_below(4) : one_in(4) ? random_below(5000) : random_below(100));
	b->c->fill = (unsigned)random_next() & 0xfffff;
	if (one_in(2)) {
		b->c->fill |= FILL_UNIFORM;
		if (one_in(2))
			gpr[RAX] = 0x0101010101010101ULL * (uint8_t)b->c->fill;
	}
}

/* What the operands must be for the instruction to do more than fault. */
static void make_operands(struct build *b)
{
	uint64_t *gpr = b->c->state.gpr;
	unsigned w = b->e.words, bits = b->osize * 8;
	bool used = !b->register_operand && ((int)b->reg == b->base || (int)b->reg == b->index);

	if (w & W_CNT)
		gpr[RCX] = one_in(2)   ? (gpr[RCX] & ~0xffULL) | random_below(72)
			   : one_in(2) ? random_below(2)
				       : gpr[RCX];
	if (w & W_STK) {
		gpr[RSP] = (place(false) & ~(one_in(2) ? 7ULL : 0)) - data_base(b);
		if (one_in(50)) /* where it is not canonical any more, or wraps */
			gpr[RSP] = (b->code == MODE_CODE64 ? BIT(47) - 8 : 0) + random_below(24);
	}
	if (w & W_BP)
		gpr[RBP] = (place(false) & ~(one_in(2) ? 7ULL : 0)) - data_base(b);
	if (w & W_XLAT)
		set_reg(b, RBX, place(false) - b->seg_base - data_base(b) - (uint8_t)gpr[RAX]);
	if (w & W_STR)
		make_string(b);
	if ((w & W_MODRM) && !b->register_operand)
		aim(b);
	if ((w & W_BIT) && !used && !b->register_operand)
		gpr[b->reg] = ((random_below(65536) - 32768ULL) & size_mask(b->osize)) |
			      (bits < 64 ? random_next() << bits : 0);
	if ((w & W_DIV) && !one_in(4)) {
		gpr[RDX] = one_in(2) ? 0 : random_next() % 7 - 3;
		if (one_in(2))
			gpr[RAX] = (gpr[RAX] & ~0xff00ULL) | random_below(4) << 8;
	}
	uint64_t linear = b->ea + b->seg_base + data_base(b);
	if ((w & W_CMPX) && one_in(2)) {
		if (b->register_operand)
			gpr[RAX] = one_in(2) ? gpr[b->rm]
					     : (gpr[b->rm] & size_mask(b->osize)) |
						       (bits < 64 ? random_next() << bits : 0);
		else
			poke(b, linear, gpr[RAX], random_next());
	}
	if ((w & W_CMPP) && one_in(2)) {
		if (b->osize == 8)
			poke(b, linear, gpr[RAX], gpr[RDX]);
		else
			poke(b, linear, (uint32_t)gpr[RAX] | gpr[RDX] << 32, random_next());
	}
	if ((w & W_TGT) && b->register_operand)
		gpr[b->rm] = target(b);
	else if (w & W_TGT)
		poke(b, linear, target(b), 0);
	if (w & W_RET)
		poke(b, gpr[RSP] + data_base(b), target(b), 0);
}

bool integer_case_make(struct integer_case *c, const struct integer_row *row, uint32_t mode)
{
	struct build b = { .c = c, .e = pick(row->encodings), .code = mode & MODE_CODE, .base = -1, .index = -1 };
	unsigned w = b.e.words;

	if ((w & W_32 && b.code == MODE_CODE64) || (w & W_64 && b.code != MODE_CODE64))
		return false;
	c->length = 0;
	c->poke_at = 0;
	c->fill = random_below(POOL - HOST_DATA_SIZE);
	for (unsigned r = 0; r < 16; r++)
		c->state.gpr[r] = value();
	c->state.rflags = FLAG_FIXED | FLAG_IF | (random_next() & (FLAGS_ARITH | FLAG_DF));
	c->state.rip = (b.code == MODE_CODE16 ? 0 : HOST_CODE) + DISTANCE + random_below(HOST_CODE_SIZE - 2 * DISTANCE);

	make_prefixes(&b);
	make_opcode(&b);
	if (w & W_MODRM)
		make_modrm(&b);
	make_operands(&b);
	unsigned disp_at = c->length;
	emit(c, (uint64_t)b.disp, b.disp_bytes);
	make_immediates(&b);
	if (b.rip_relative) {
		uint64_t relative = b.ea - (c->state.rip + c->length);
		memcpy(c->bytes + disp_at, &relative, 4);
	}
	for (unsigned r = 0; r < 16 && b.code != MODE_CODE64; r++)
		c->state.gpr[r] = r < 8 ? (uint32_t)c->state.gpr[r] : 0;
	return true;
}

void integer_case_fill(const struct integer_case *c)
{
	static uint8_t pool[POOL];
	uint8_t *data = (uint8_t *)HOST_DATA;

	if (!pool[0] && !pool[1] &&
	    !pool[2]) { /* the first time; fixed, so that a case does not depend on the ones before */
		uint64_t s = 1;
		for (unsigned n = 0; n < POOL; n++, s = s * 6364136223846793005 + 1442695040888963407)
			pool[n] = s >> 40 & 1 && n & 64 ? 0xff * (s >> 41 & 1) : (uint8_t)(s >> 33);
	}
	if (c->fill & FILL_UNIFORM) {
		memset(data, (uint8_t)c->fill, HOST_DATA_SIZE);
		for (unsigned n = 0; n < 12; n++)
			data[(c->fill * (n + 1) * 2654435761u >> 7) % HOST_DATA_SIZE] ^= 1;
	} else {
		memcpy(data, pool + c->fill % (POOL - HOST_DATA_SIZE), HOST_DATA_SIZE);
	}
	if (c->poke_at)
		memcpy((void *)(uintptr_t)c->poke_at, c->poke, sizeof(c->poke));
}
