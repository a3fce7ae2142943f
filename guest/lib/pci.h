/* SPDX-License-Identifier: MIT */
/* Configuration space of bus 0, by ports CF8h and CFCh. PCI 3.0 3.2.2.3. */
#pragma once
#include "lib/guest.h"

enum { PCI_COMMAND = 4, PCI_CLASS = 8, PCI_BARS = 0x10, PCI_CAPABILITIES = 0x34, PCI_LINE = 0x3c };
enum { PCI_COMMAND_IO = 1, PCI_COMMAND_MEMORY = 2, PCI_COMMAND_MASTER = 4 };

/* function: slot << 3 | function */
static inline uint32_t pci_read(unsigned function, unsigned at)
{
	outl(0xcf8, 0x80000000u | function << 8 | (at & 0xfc));
	return inl(0xcfc) >> 8 * (at & 3);
}

static inline void pci_write(unsigned function, unsigned at, uint32_t value)
{
	outl(0xcf8, 0x80000000u | function << 8 | (at & 0xfc));
	outl(0xcfc, value);
}
