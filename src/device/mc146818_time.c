/* SPDX-License-Identifier: MIT */
/* A time as the MC146818A's registers hold it: BCD or binary, 12 or 24 hours; and the CMOS bytes that a PC's BIOS
 * keeps there (IBM AT technical reference; the sizes above 16 MiB and 4 GiB where SeaBIOS looks for them). */
#include <string.h>
#include "device/chips.h"
#include "device/mc146818.h"

#define SECONDS_A_DAY 86400
#define EPOCH_WEEKDAY 4 /* 1970 began on a Thursday; Sunday is 0 here, 1 in the register */

enum { /* CMOS RAM, IBM AT and later */
	CMOS_FLOPPIES = 0x10, CMOS_EQUIPMENT = 0x14, CMOS_BASE_LOW = 0x15, CMOS_BASE_HIGH = 0x16,
	CMOS_EXTENDED_LOW = 0x17,
	CMOS_EXTENDED_HIGH = 0x18, CMOS_CHECKED_FIRST = 0x10, CMOS_CHECKED_LAST = 0x2d, CMOS_CHECKSUM_HIGH = 0x2e,
	CMOS_CHECKSUM_LOW = 0x2f, CMOS_FOUND_LOW = 0x30, CMOS_FOUND_HIGH = 0x31, CMOS_ABOVE_16M_LOW = 0x34,
	CMOS_BOOT_3 = 0x38, CMOS_TRANSLATION = 0x39, CMOS_BOOT_1_2 = 0x3d,
	CMOS_ABOVE_16M_HIGH = 0x35, CMOS_ABOVE_4G = 0x5b, CMOS_CPUS = 0x5f,
};
#define EQUIPMENT_FPU 0x02u
#define EQUIPMENT_MOUSE 0x04u
#define EQUIPMENT_FLOPPY 0x01u
#define EQUIPMENT_TWO_FLOPPIES 0x40u
#define BASE_KIB 640
#define DEFAULT_ORDER 0x132   /* disk, CD, floppy */
#define BOOT_ANY_SECTOR 0x01u /* of CMOS_BOOT_3: a floppy's boot sector needs no signature */

bool mc146818_is_time(unsigned index)
{
	bool alarm = index == RTC_SECONDS_ALARM || index == RTC_MINUTES_ALARM || index == RTC_HOURS_ALARM;
	return (index <= RTC_YEAR && !alarm) || index == RTC_CENTURY;
}

unsigned mc146818_period(uint8_t a)
{
	unsigned rate = a & RTC_A_RS;
	if (!rate || (a & RTC_A_DV_RESET) == RTC_A_DV_RESET)
		return 0;
	/* Datasheet, table 3: 1 and 2 are 256 and 128 Hz, as 8 and 9 */
	return rate <= 2 ? 128u << (rate - 1) : 1u << (rate - 1);
}

static uint8_t encode(const struct mc146818_regs *r, unsigned value)
{
	return r->cmos[RTC_B] & RTC_B_DM ? value : value / 10 << 4 | value % 10;
}

static unsigned decode(const struct mc146818_regs *r, uint8_t value)
{
	return r->cmos[RTC_B] & RTC_B_DM ? value : (value >> 4) * 10u + (value & 15u);
}

/* Days since 1970-01-01 of a day in the proleptic Gregorian calendar; years are counted from March, so that the
 * leap day is the last. */
static int64_t days_of(int64_t year, int month, int64_t day)
{
	year += month <= 2 ? -1 : 0;
	int64_t era = (year >= 0 ? year : year - 399) / 400;
	int64_t year_of_era = year - era * 400;
	int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static int weekday_of(int64_t days)
{
	int64_t n = (days + EPOCH_WEEKDAY) % 7;
	return n < 0 ? n + 7 : n;
}

static void put_hours(struct mc146818_regs *r, unsigned hour)
{
	if (r->cmos[RTC_B] & RTC_B_24H)
		r->cmos[RTC_HOURS] = encode(r, hour);
	else
		r->cmos[RTC_HOURS] = encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? RTC_HOURS_PM : 0);
}

static unsigned get_hours(const struct mc146818_regs *r)
{
	uint8_t value = r->cmos[RTC_HOURS];
	if (r->cmos[RTC_B] & RTC_B_24H)
		return decode(r, value);
	return decode(r, value & ~RTC_HOURS_PM) % 12 + (value & RTC_HOURS_PM ? 12 : 0);
}

void mc146818_from_seconds(struct mc146818_regs *r, int64_t seconds)
{
	int64_t days = seconds / SECONDS_A_DAY - (seconds % SECONDS_A_DAY < 0);
	unsigned rest = seconds - days * SECONDS_A_DAY;
	int64_t year = 1970 + days / 366; /* never too late; at most a few years too early */
	int month = 1;
	if (days < 0)
		year = 1970 + days / 365 - 1;
	while (days_of(year + 1, 1, 1) <= days)
		year++;
	while (month < 12 && days_of(year, month + 1, 1) <= days)
		month++;
	r->cmos[RTC_SECONDS] = encode(r, rest % 60);
	r->cmos[RTC_MINUTES] = encode(r, rest / 60 % 60);
	put_hours(r, rest / 3600);
	r->cmos[RTC_WEEKDAY] = encode(r, (weekday_of(days) + r->weekday_shift) % 7 + 1);
	r->cmos[RTC_DAY] = encode(r, days - days_of(year, month, 1) + 1);
	r->cmos[RTC_MONTH] = encode(r, month);
	r->cmos[RTC_YEAR] = encode(r, (year % 100 + 100) % 100);
	r->cmos[RTC_CENTURY] = encode(r, (year / 100 % 100 + 100) % 100);
}

/* What is no date (month 0, 31 February) counts on into the next month. */
int64_t mc146818_to_seconds(struct mc146818_regs *r)
{
	int month = decode(r, r->cmos[RTC_MONTH]);
	int64_t year = decode(r, r->cmos[RTC_CENTURY]) * 100 + decode(r, r->cmos[RTC_YEAR]);
	month = month < 1 ? 1 : MIN(month, 12);
	int64_t days = days_of(year, month, decode(r, r->cmos[RTC_DAY]));
	unsigned weekday = decode(r, r->cmos[RTC_WEEKDAY]);
	r->weekday_shift = (weekday + 6 + 7 - weekday_of(days)) % 7;
	unsigned minutes = get_hours(r) * 60 + decode(r, r->cmos[RTC_MINUTES]);
	return days * SECONDS_A_DAY + minutes * 60 + decode(r, r->cmos[RTC_SECONDS]);
}

static void put16(struct mc146818_regs *r, unsigned low, unsigned high, uint64_t value)
{
	value = MIN(value, 0xffff);
	r->cmos[low] = value;
	r->cmos[high] = value >> 8;
}

void mc146818_setup(struct mc146818_regs *r, const struct vm_config *config, const struct mc146818_config *board)
{
	static const struct mc146818_config plain = { 0 };
	uint64_t below_4g = MIN(config->memory, RAM_HOLE_START), above_4g = config->memory - below_4g;
	uint64_t extended = below_4g > MiB ? (below_4g - MiB) / KiB : 0;
	unsigned sum = 0;

	board = board ? board : &plain;
	memset(r, 0, sizeof(*r));
	r->cmos[RTC_A] = RTC_A_DV_RUN | 6; /* 1024 Hz */
	r->cmos[RTC_B] = RTC_B_24H;
	r->cmos[CMOS_FLOPPIES] = board->floppies;
	r->cmos[CMOS_EQUIPMENT] = EQUIPMENT_FPU | EQUIPMENT_MOUSE | (board->floppies ? EQUIPMENT_FLOPPY : 0) |
				  (board->floppies & 15 ? EQUIPMENT_TWO_FLOPPIES : 0);
	uint16_t order = board->boot_order ? board->boot_order : DEFAULT_ORDER;
	r->cmos[CMOS_BOOT_1_2] = order;
	r->cmos[CMOS_BOOT_3] = (order >> 8 & 15) << 4 | BOOT_ANY_SECTOR;
	r->cmos[CMOS_TRANSLATION] = board->translation;
	put16(r, CMOS_BASE_LOW, CMOS_BASE_HIGH, BASE_KIB);
	put16(r, CMOS_EXTENDED_LOW, CMOS_EXTENDED_HIGH, extended);
	put16(r, CMOS_FOUND_LOW, CMOS_FOUND_HIGH, extended);
	put16(r, CMOS_ABOVE_16M_LOW, CMOS_ABOVE_16M_HIGH, below_4g > 16 * MiB ? (below_4g - 16 * MiB) / (64 * KiB) : 0);
	above_4g /= 64 * KiB;
	for (unsigned i = 0; i < 3; i++)
		r->cmos[CMOS_ABOVE_4G + i] = above_4g >> 8 * i;
	r->cmos[CMOS_CPUS] = config->cpus ? config->cpus - 1 : 0;
	for (unsigned i = CMOS_CHECKED_FIRST; i <= CMOS_CHECKED_LAST; i++)
		sum += r->cmos[i];
	put16(r, CMOS_CHECKSUM_LOW, CMOS_CHECKSUM_HIGH, sum);
}
