/* SPDX-License-Identifier: MIT */
/* PCI: a bus with configuration mechanism 1, and what a device embeds to be a function on it. PCI Local Bus
 * Specification 3.0, chapter 6.
 *
 * A device that is a PCI function has a struct pci_function, and a const struct pci_model that says everything
 * about its configuration space. Its init calls pci_function_init, its reset pci_function_reset, its post_load
 * pci_function_loaded; its field table has a row FIELD_STRUCT(struct x, pci, pci_function_fields, struct
 * pci_function). place->base says where it sits: PCI_AT(slot, function). The core decodes and stores configuration
 * accesses, registers what the base address registers map, and routes the interrupt pin. */
#pragma once
#include "vm/vm.h"

#define PCI_AT(slot, function) ((slot) << 3 | (function))
#define PCI_SLOT(devfn) ((devfn) >> 3)
#define PCI_FUNCTIONS 256
#define PCI_CONFIG_SIZE 256
#define PCI_BARS 6
#define PCI_ROM PCI_BARS /* index of the expansion ROM's base address register */
#define PCI_PIRQS 4

enum { /* header, type 0 */
	PCI_VENDOR = 0x00, PCI_DEVICE = 0x02, PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_REVISION = 0x08,
	PCI_INTERFACE = 0x09, PCI_CLASS = 0x0a, PCI_CACHE_LINE = 0x0c, PCI_LATENCY = 0x0d, PCI_HEADER = 0x0e,
	PCI_BAR = 0x10, PCI_SUBSYSTEM_VENDOR = 0x2c, PCI_SUBSYSTEM = 0x2e, PCI_ROM_BAR = 0x30, PCI_CAPABILITIES = 0x34,
	PCI_LINE = 0x3c, PCI_PIN = 0x3d, PCI_OWN = 0x40,
};
enum { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };
enum {
	PCI_COMMAND_IO = BIT(0), PCI_COMMAND_MEMORY = BIT(1), PCI_COMMAND_MASTER = BIT(2), PCI_COMMAND_PARITY = BIT(6),
	PCI_COMMAND_SERR = BIT(8), PCI_COMMAND_NO_INTX = BIT(10),
	PCI_STATUS_INTX = BIT(3), PCI_STATUS_CAPABILITIES = BIT(4),
	PCI_HEADER_MULTI = BIT(7), PCI_ROM_ENABLE = BIT(0),
};

enum pci_bar_kind {
	PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY, PCI_BAR_MEMORY64 /* takes the next one too */, PCI_BAR_ROM,
};
struct pci_bar_model {
	enum pci_bar_kind kind;
	bool prefetchable;
	uint64_t size;             /* a power of two: 4 ports, 16 bytes, or (ops NULL) a page at least */
	const struct bus_ops *ops; /* who answers; NULL: memory, given by pci_bar_memory */
	uint64_t offset;           /* added to the handler's */
};

struct pci_register { /* of the device's own part of configuration space, from PCI_OWN on */
	uint8_t at, size;          /* size: 1, 2 or 4 bytes */
	uint32_t reset;            /* value after reset */
	uint32_t writable;         /* bits that are read/write; the others are read only */
	uint32_t clear;            /* bits that a one clears */
};

struct pci_model {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class;            /* class, sub-class, interface: 24 bits */
	uint8_t revision;
	uint8_t pin;               /* 1 to 4: INTA to INTD, 0: none */
	uint16_t command;          /* bits that are always set */
	uint16_t status;           /* likewise */
	uint16_t decodes;          /* bits of the command register for what it answers to without a BAR: writable */
	uint8_t capabilities;      /* where the list begins, 0: none; its contents are among the registers */
	struct pci_bar_model bar[PCI_BARS + 1]; /* the last one: the expansion ROM */
	const struct pci_register *registers;
	unsigned register_count;
	/* Bytes of configuration space were written; device lock held. May be NULL. */
	void (*written)(struct device *, unsigned at, unsigned size);
	/* A BAR that has ops answers at another address, or nowhere; device lock held, or a safe point. May be NULL. */
	void (*placed)(struct device *, unsigned bar, bool mapped, uint64_t address);
	/* They are about to be read: brings pci->config up to date. May be NULL. */
	void (*reading)(struct device *, unsigned at, unsigned size);
};

#define PCI_MSIX_MAX 64
struct pci_msix { /* a device that has MSI-X embeds one, with a row in its field table (pci_msix_fields) */
	struct pci_msix_entry {
		uint32_t address, address_high, data;
		uint32_t control;          /* bit 0: masked */
	} entry[PCI_MSIX_MAX];
	uint64_t pending;
	unsigned count;
};
extern const struct field pci_msix_fields[];
extern const struct bus_ops pci_msix_ops; /* for the model's BAR that holds table and pending bits: 4 KiB */

struct pci_bar {
	bool mapped;
	uint64_t address;          /* where it is mapped */
	struct memory_window window;
	uint64_t memory;           /* of a memory one: offset in the memfd */
	enum memory_kind kind;
};

struct pci_function {
	uint8_t config[PCI_CONFIG_SIZE]; /* saved */
	bool intx;                 /* what the device wants of its interrupt pin; saved */
	const struct pci_model *model;
	struct device *device;
	struct pci *pci;
	uint8_t devfn;
	bool asserted;             /* what the bus counts */
	uint8_t last_capability, next_capability; /* while it is built: the last of the list, and where there is room */
	uint32_t msi_pending;      /* bit i: vector i was raised while masked; saved */
	uint8_t msi_at, msix_at;   /* those capabilities; 0: none */
	struct pci_msix *msix;
	uint8_t reset[PCI_CONFIG_SIZE], writable[PCI_CONFIG_SIZE], clear[PCI_CONFIG_SIZE];
	struct pci_bar bar[PCI_BARS + 1];
};
extern const struct field pci_function_fields[];

/* pci_function.c -- From the device's init; there must be a bus (a device of pci_class) already. 0 or -errno after
 * log_error. */
int pci_function_init(struct pci_function *, struct device *, const struct pci_model *);
/* At init: the memory behind a BAR without handlers, MEMORY_RAM or MEMORY_ROM at this offset of the memfd
 * (memory_reserve). */
void pci_bar_memory(struct pci_function *, unsigned bar, uint64_t offset, enum memory_kind);
/* The rest with the device's lock held. */
void pci_function_reset(struct pci_function *);
/* Brings a loaded state (which is hostile) into order, maps and drives what it says. */
void pci_function_loaded(struct pci_function *);
uint32_t pci_config_read(struct pci_function *, unsigned at, unsigned size);
void pci_config_write(struct pci_function *, unsigned at, unsigned size, uint32_t value);
/* The interrupt pin: level-triggered. Silent while messages are enabled. */
void pci_intx(struct pci_function *, bool level);
static inline bool pci_is_master(const struct pci_function *f)
{
	return f->config[PCI_COMMAND] & PCI_COMMAND_MASTER;
}

/* At init: bytes of configuration space, what they are after reset and what can be written. */
void pci_config_define(struct pci_function *, unsigned at, unsigned size, uint32_t reset, uint32_t writable);

/* pci_capability.c -- From init. Appends a capability of so many bytes, with the two of its header; the rest is zero. Returns
 * where it is; 0: no room. */
unsigned pci_capability_add(struct pci_function *, uint8_t id, unsigned size);
/* pci_msi.c -- From init. Interrupts by message: PCI 3.0, 6.8. vectors: for MSI a power of two up to 32, for MSI-X up to
 * PCI_MSIX_MAX; its table is behind a BAR with pci_msix_ops. 0 or -ENOSPC. */
int pci_msi_init(struct pci_function *, unsigned vectors);
int pci_msix_init(struct pci_function *, struct pci_msix *, unsigned bar, unsigned vectors);
/* With the device's lock held. Sends the message of this vector, or keeps it pending while it is masked. False: messages are not
 * enabled, the device is to use its pin. */
bool pci_message(struct pci_function *, unsigned vector);
bool pci_messages_enabled(const struct pci_function *);
/* For pci_function.c: configuration space was written or loaded; reset. */
void pci_messages_written(struct pci_function *);
void pci_messages_reset(struct pci_function *);

/* pci.c -- The bus: ports CF8h to CFFh. config: what answers single bytes at CF9h. */
struct pci_config {
	const char *reset_control; /* name of a cf9 device without ports of its own */
};
extern const struct device_class pci_class;
struct pci *pci_of(struct vm *);                  /* NULL: there is no bus */
int pci_add(struct pci *, struct pci_function *); /* -EEXIST when the place is taken, after log_error */
/* NULL: nobody is there. */
struct pci_function *pci_at(struct vm *, unsigned devfn);
/* For the board's firmware, any thread that holds no device lock: takes the function's lock. All ones: nobody is
 * there. */
uint32_t pci_read(struct vm *, unsigned devfn, unsigned at, unsigned size);
void pci_write(struct vm *, unsigned devfn, unsigned at, unsigned size, uint32_t value);
/* Which of PIRQ A to D a function's pin is wired to: boards turn them by one from slot to slot, so that not all
 * land on one. */
unsigned pci_pirq(unsigned devfn, unsigned pin);
/* For functions: counts them. For the interrupt router: `gsi` is where the wire goes from now on, PCI_UNROUTED:
 * nowhere. */
void pci_pirq_set(struct pci *, unsigned pirq, bool level);
#define PCI_UNROUTED IRQ_LINES
void pci_pirq_route(struct pci *, unsigned pirq, unsigned gsi);
