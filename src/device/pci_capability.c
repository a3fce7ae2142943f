/* SPDX-License-Identifier: MIT */
/* The list of capabilities of a PCI function: PCI Local Bus Specification 3.0, section 6.7. */
#include "device/pci.h"

unsigned pci_capability_add(struct pci_function *f, uint8_t id, unsigned size)
{
	unsigned at = f->next_capability;
	if (at + size > PCI_CONFIG_SIZE)
		return 0;
	pci_config_define(f, at, 1, id, 0);
	if (f->last_capability) {
		pci_config_define(f, f->last_capability + 1, 1, at, 0);
	} else {
		pci_config_define(f, PCI_CAPABILITIES, 1, at, 0);
		pci_config_define(f, PCI_STATUS, 1, f->reset[PCI_STATUS] | PCI_STATUS_CAPABILITIES, 0);
	}
	f->last_capability = (uint8_t)at;
	f->next_capability = (uint8_t)MIN(align_up(at + size, 4), 0xffu);
	return at;
}
