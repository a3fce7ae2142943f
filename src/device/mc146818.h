/* SPDX-License-Identifier: MIT */
/* Registers of the MC146818A, and how a time is written in them (mc146818_time.c). */
#pragma once
#include "vm/vm.h"

struct mc146818_config;

#define RTC_INDEX 0x7fu /* of port 70h; bit 7 masks NMI */

enum { /* addresses in CMOS */
	RTC_SECONDS = 0x00, RTC_SECONDS_ALARM = 0x01, RTC_MINUTES = 0x02, RTC_MINUTES_ALARM = 0x03, RTC_HOURS = 0x04,
	RTC_HOURS_ALARM = 0x05, RTC_WEEKDAY = 0x06, RTC_DAY = 0x07, RTC_MONTH = 0x08, RTC_YEAR = 0x09,
	RTC_A = 0x0a, RTC_B = 0x0b, RTC_C = 0x0c, RTC_D = 0x0d,
	RTC_CENTURY = 0x32, /* a PC's; as FADT.CENTURY says */
};
#define RTC_ALARM_ANY 0xc0u

#define RTC_A_UIP 0x80u      /* update in progress, read only */
#define RTC_A_DV_RESET 0x60u /* both of DV2, DV1: the divider is held in reset */
#define RTC_A_DV_RUN 0x20u   /* DV for 32.768 kHz */
#define RTC_A_RS 0x0fu       /* rate of the periodic interrupt */
#define RTC_B_SET 0x80u
#define RTC_B_PIE 0x40u
#define RTC_B_AIE 0x20u
#define RTC_B_UIE 0x10u
#define RTC_B_SQWE 0x08u
#define RTC_B_DM 0x04u       /* binary, not BCD */
#define RTC_B_24H 0x02u
#define RTC_C_IRQF 0x80u
#define RTC_PF 0x40u         /* flags in C; their enables are the same bits of B */
#define RTC_AF 0x20u
#define RTC_UF 0x10u
#define RTC_INTERRUPTS (RTC_PF | RTC_AF | RTC_UF)
#define RTC_D_VRT 0x80u      /* valid RAM and time: the battery is good */
#define RTC_HOURS_PM 0x80u   /* 12-hour mode */
#define RTC_MAX_OFFSET (1LL << 42) /* seconds: more than the registers can say */
#define RTC_NS 1000000000LL

struct mc146818_regs {
	uint8_t cmos[128];     /* registers 0 to 9, A and B (without UIP), and RAM; C and D are not here */
	uint8_t index;         /* port 70h, write only */
	uint8_t flags;         /* PF, AF, UF of register C, cleared by reading it */
	uint8_t weekday_shift; /* days that the guest's weekday is ahead of the calendar's, 0 to 6 */
	int64_t offset;        /* seconds that this clock is ahead of the wall clock */
	uint32_t phase;        /* and ns, 0 to 999999999 */
	uint64_t ticks;        /* periodic ticks, at the present rate, that PF has seen */
};

/* mc146818_time.c */
bool mc146818_is_time(unsigned index);
/* Pulses of the 32.768 kHz clock in a period of the periodic interrupt, by register A; 0: none. */
unsigned mc146818_period(uint8_t a);
/* Seconds since 1970 into registers 0 to 9 and the century, in the format that register B says, and back. */
void mc146818_from_seconds(struct mc146818_regs *, int64_t seconds);
int64_t mc146818_to_seconds(struct mc146818_regs *);
/* CMOS as a PC's BIOS leaves it. */
void mc146818_setup(struct mc146818_regs *, const struct vm_config *, const struct mc146818_config *);
