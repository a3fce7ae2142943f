/* SPDX-License-Identifier: MIT */
/* The small chips on the card: a 93C46 EEPROM of 64 words on a serial line (Intel 317453, 5.3 and 5.6), which a register reads, too, and the
 * PHY (chapter 8), whose link is always up, at a gigabit. The EEPROM cannot be written. */
#include <string.h>
#include "device/e1000.h"

enum { EECD_SK = BIT(0), EECD_CS = BIT(1), EECD_DI = BIT(2), EECD_DO = BIT(3), EECD_REQ = BIT(6), EECD_GNT = BIT(7), EECD_PRES = BIT(8) };
enum { EERD_START = BIT(0), EERD_DONE = BIT(4), EERD_ADDRESS = 8, EERD_DATA = 16 };
#define EEPROM_CHECKSUM 0xbaba
#define READ_COMMAND 6u         /* a start bit, and operation 10b */
#define ADDRESS_BITS 6u
#define COMMAND_BITS (3 + ADDRESS_BITS)
#define NOTHING_OUT UINT32_MAX

enum { WORD_MAC = 0, WORD_CONTROL = 0x0a, WORD_SUBSYSTEM = 0x0b, WORD_SUBSYSTEM_VENDOR = 0x0c, WORD_DEVICE = 0x0d, WORD_VENDOR = 0x0e };
#define CONTROL_SIGNATURE 0x4000 /* bits 15:14 = 01b: the contents are valid */

enum { MDIC_REGISTER = 16, MDIC_PHY = 21, MDIC_WRITE = BIT(26), MDIC_READ = BIT(27), MDIC_READY = BIT(28), MDIC_INTERRUPT = BIT(29),
	MDIC_ERROR = BIT(30) };
#define PHY_ADDRESS 1
enum { /* IEEE 802.3, 22.2.4; above 15 the maker's */
	PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID = 2, PHY_ID_LOW = 3, PHY_ADVERTISE = 4, PHY_PARTNER = 5, PHY_EXPANSION = 6, PHY_1000_CONTROL = 9,
	PHY_1000_STATUS = 10, PHY_EXTENDED = 15, PHY_OWN_CONTROL = 16, PHY_OWN_STATUS = 17, PHY_OWN_EXTENDED = 20,
};
#define PHY_CONTROL_LOOP BIT(14)
#define PHY_CONTROL_ONCE 0x8200u /* reset, restart of negotiation: they read as 0 */

/* ---- EEPROM ------------------------------------------------------------------------------------------------------------- */

void e1000_eeprom_fill(struct e1000 *e, const uint8_t mac[NET_MAC])
{
	uint16_t *word = e->host.eeprom, sum = 0;
	memset(word, 0, sizeof(e->host.eeprom));
	for (unsigned i = 0; i < NET_MAC / 2; i++)
		word[WORD_MAC + i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
	word[WORD_CONTROL] = CONTROL_SIGNATURE;
	word[WORD_SUBSYSTEM] = e->pci.model->subsystem;
	word[WORD_SUBSYSTEM_VENDOR] = e->pci.model->subsystem_vendor;
	word[WORD_DEVICE] = e->pci.model->device;
	word[WORD_VENDOR] = e->pci.model->vendor;
	for (unsigned i = 0; i + 1 < E1000_EEPROM_WORDS; i++)
		sum = (uint16_t)(sum + word[i]);
	word[E1000_EEPROM_WORDS - 1] = (uint16_t)(EEPROM_CHECKSUM - sum);
}

/* A bit goes in at a rising edge of the clock; the next one of the word comes out behind a falling one. */
void e1000_eeprom_lines(struct e1000 *e, uint32_t value)
{
	struct e1000_regs *r = &e->r;
	uint32_t old = r->eecd, command;
	r->eecd = value & (EECD_SK | EECD_CS | EECD_DI | EECD_REQ);
	if (!(value & EECD_CS) || !(old & EECD_CS)) {
		r->eeprom_in = r->eeprom_count = 0;
		r->eeprom_out = NOTHING_OUT;
		return;
	}
	bool rises = !(old & EECD_SK) && (value & EECD_SK), falls = (old & EECD_SK) && !(value & EECD_SK);
	if (falls && r->eeprom_out != NOTHING_OUT && r->eeprom_count > COMMAND_BITS)
		r->eeprom_out = (r->eeprom_out + 1) % (16 * E1000_EEPROM_WORDS);
	if (!rises)
		return;
	/* Zeros before the start bit do not count. */
	if (r->eeprom_count || (value & EECD_DI))
		r->eeprom_count = MIN(r->eeprom_count + 1, COMMAND_BITS + 1);
	if (r->eeprom_count > COMMAND_BITS)
		return;
	r->eeprom_in = r->eeprom_in << 1 | (value & EECD_DI ? 1 : 0);
	command = r->eeprom_in;
	if (r->eeprom_count == COMMAND_BITS && command >> ADDRESS_BITS == READ_COMMAND)
		r->eeprom_out = (command & (E1000_EEPROM_WORDS - 1)) * 16;
}

uint32_t e1000_eeprom_state(const struct e1000 *e)
{
	const struct e1000_regs *r = &e->r;
	uint32_t out = r->eeprom_out;
	bool bit = out == NOTHING_OUT || (e->host.eeprom[out / 16 % E1000_EEPROM_WORDS] >> (15 - out % 16) & 1);
	return r->eecd | EECD_PRES | (bit ? EECD_DO : 0) | (r->eecd & EECD_REQ ? EECD_GNT : 0);
}

void e1000_eeprom_read(struct e1000 *e, uint32_t value)
{
	uint32_t address = value >> EERD_ADDRESS & 0xff;
	e->r.eerd = value & ~EERD_START;
	if (value & EERD_START)
		e->r.eerd = address << EERD_ADDRESS | EERD_DONE | (uint32_t)e->host.eeprom[address % E1000_EEPROM_WORDS] << EERD_DATA;
}

/* ---- PHY ---------------------------------------------------------------------------------------------------------------- */

void e1000_phy_reset(struct e1000 *e)
{
	static const uint16_t values[E1000_PHY_REGISTERS] = {
		[PHY_CONTROL] = 0x1140,         /* negotiate; full duplex, a gigabit */
		[PHY_STATUS] = 0x796d,          /* negotiation is complete, the link is up */
		[PHY_ID] = 0x0141, [PHY_ID_LOW] = 0x0c20,
		[PHY_ADVERTISE] = 0x0de1, [PHY_PARTNER] = 0xcde1, [PHY_EXPANSION] = 0x0001,
		[PHY_1000_CONTROL] = 0x0e00, [PHY_1000_STATUS] = 0x3c00, [PHY_EXTENDED] = 0x3000,
		[PHY_OWN_CONTROL] = 0x0360, [PHY_OWN_STATUS] = 0xac00, [PHY_OWN_EXTENDED] = 0x0d60,
	};
	memcpy(e->r.phy, values, sizeof(values));
}

static void write_phy(struct e1000 *e, unsigned number, uint16_t value)
{
	switch (number) {
	case PHY_CONTROL:
		e->r.phy[number] = value & (uint16_t)~PHY_CONTROL_ONCE;
		if (value & PHY_CONTROL_ONCE)
			e1000_cause(e, ICR_LSC);
		break;
	case PHY_STATUS ... PHY_ID_LOW:
	case PHY_PARTNER:
	case PHY_EXPANSION:
	case PHY_1000_STATUS:
	case PHY_EXTENDED:
	case PHY_OWN_STATUS:
		break;
	default:
		e->r.phy[number] = value;
	}
}

void e1000_phy_access(struct e1000 *e, uint32_t value)
{
	unsigned number = value >> MDIC_REGISTER & 31;
	bool here = (value >> MDIC_PHY & 31) == PHY_ADDRESS;
	value &= ~(uint32_t)MDIC_ERROR;
	if (!here)
		value |= MDIC_ERROR;
	else if (value & MDIC_WRITE)
		write_phy(e, number, (uint16_t)value);
	else if (value & MDIC_READ)
		value = (value & 0xffff0000u) | e->r.phy[number];
	e->r.mdic = value | MDIC_READY;
	if (value & MDIC_INTERRUPT)
		e1000_cause(e, ICR_MDAC);
}

bool e1000_is_looped(const struct e1000 *e)
{
	return (e->r.rctl & RCTL_LBM) || (e->r.phy[PHY_CONTROL] & PHY_CONTROL_LOOP);
}
