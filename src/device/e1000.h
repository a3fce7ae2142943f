/* SPDX-License-Identifier: MIT */
/* The 82540EM, a gigabit network card for guests without virtio: Intel 317453, "PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 * Developer's Manual". Names of registers and bits are the manual's (chapter 13). What is shared by its files; all with the device's lock
 * held. */
#pragma once
#include "device/net_backlog.h"
#include "device/pci.h"

enum e1000_register { /* offsets */
	CTRL = 0x0000, STATUS = 0x0008, EECD = 0x0010, EERD = 0x0014, CTRL_EXT = 0x0018, MDIC = 0x0020, FCAL = 0x0028, FCAH = 0x002c,
	FCT = 0x0030, VET = 0x0038, ICR = 0x00c0, ITR = 0x00c4, ICS = 0x00c8, IMS = 0x00d0, IMC = 0x00d8, RCTL = 0x0100, FCTTV = 0x0170,
	TXCW = 0x0178, RXCW = 0x0180, TCTL = 0x0400, TIPG = 0x0410, AIFS = 0x0458, LEDCTL = 0x0e00, PBA = 0x1000, FCRTL = 0x2160,
	FCRTH = 0x2168, RDBAL = 0x2800, RDBAH = 0x2804, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818, RDTR = 0x2820, RXDCTL = 0x2828,
	RADV = 0x282c, TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818, TIDV = 0x3820, TXDCTL = 0x3828,
	TADV = 0x382c, STATISTICS = 0x4000, STATISTICS_END = 0x4100, RXCSUM = 0x5000, MTA = 0x5200, MTA_END = 0x5400, RA = 0x5400,
	RA_END = 0x5480, VFTA = 0x5600, VFTA_END = 0x5800, WUC = 0x5800, WUFC = 0x5808, MANC = 0x5820,
};
enum { /* CTRL */
	CTRL_SLU = BIT(6), CTRL_RST = BIT(26), CTRL_VME = BIT(30), CTRL_PHY_RST = BIT(31),
};
enum { /* ICR, ICS, IMS, IMC */
	ICR_TXDW = BIT(0), ICR_TXQE = BIT(1), ICR_LSC = BIT(2), ICR_RXDMT0 = BIT(4), ICR_RXO = BIT(6), ICR_RXT0 = BIT(7), ICR_MDAC = BIT(9),
};
enum { /* RCTL */
	RCTL_EN = BIT(1), RCTL_UPE = BIT(3), RCTL_MPE = BIT(4), RCTL_LPE = BIT(5), RCTL_LBM = BIT(6) | BIT(7), RCTL_RDMTS = 8, RCTL_MO = 12, RCTL_BAM = BIT(15),
	RCTL_BSIZE = 16, RCTL_VFE = BIT(18), RCTL_BSEX = BIT(25), RCTL_SECRC = BIT(26),
};
#define TCTL_EN BIT(1)
/* Statistics: offsets from STATISTICS, in registers. A counter of bytes takes two. */
enum {
	STAT_MPC = 0x10 / 4, STAT_GPRC = 0x74 / 4, STAT_BPRC = 0x78 / 4, STAT_MPRC = 0x7c / 4, STAT_GPTC = 0x80 / 4, STAT_GORC = 0x88 / 4,
	STAT_GOTC = 0x90 / 4, STAT_TOR = 0xc0 / 4, STAT_TOT = 0xc8 / 4, STAT_TPR = 0xd0 / 4, STAT_TPT = 0xd4 / 4,
};

#define E1000_EEPROM_WORDS 64
#define E1000_PHY_REGISTERS 32
#define E1000_DESCRIPTOR 16u
#define E1000_VLAN_TAG 4u

struct e1000_ring {
	uint32_t base_low, base_high; /* guest address; 16 bytes */
	uint32_t length;              /* bytes */
	uint32_t head, tail;          /* descriptors: the device's from head on, up to tail */
};

struct e1000_context { /* 3.3.6: what a context descriptor says of the packets behind it */
	uint8_t ip_start, ip_offset;  /* checksum of the IP header: from where, and where it goes */
	uint16_t ip_end;              /* the last byte it covers; 0: to the end */
	uint8_t data_start, data_offset; /* likewise of TCP or UDP */
	uint16_t data_end;
	uint8_t header;               /* bytes of the headers */
	uint16_t mss;                 /* payload of a segment */
	bool tcp, ipv4;
};

struct e1000_regs {
	uint32_t ctrl, ctrl_ext, fcal, fcah, fct, vet, rctl, fcttv, txcw, tctl, tipg, aifs, ledctl, pba, fcrtl, fcrth, rdtr, rxdctl, radv, tidv,
		txdctl, tadv, rxcsum, wuc, wufc, manc; /* read/write; those that nothing else names are stored only */
	uint32_t icr, ims;            /* causes that wait; those that interrupt */
	uint32_t itr;                 /* the least time between two interrupts, in 256 ns */
	uint32_t mdic, eerd;          /* the last access to PHY and EEPROM, with its result */
	struct e1000_ring rx, tx;
	struct e1000_context context, segmentation; /* of packets with checksums; of those that are cut */
	uint32_t mta[128];            /* multicast hash table: 4096 bits */
	uint32_t ra[32];              /* receive addresses: low, high with the valid bit */
	uint32_t vfta[128];           /* VLANs: 4096 bits */
	uint32_t statistics[64];
	uint16_t phy[E1000_PHY_REGISTERS];
	/* The EEPROM's serial line */
	uint32_t eecd;                /* clock, select, data in, request, as written */
	uint32_t eeprom_in;           /* what was clocked in, */
	uint32_t eeprom_count;        /* and how many bits since it was selected */
	uint32_t eeprom_out;          /* bit of the EEPROM that is on the line */
	uint32_t io_address;          /* register that the I/O window shows */
	uint64_t quiet_until;         /* virtual ns: no interrupt before */
};

struct e1000 {
	struct device device;
	struct pci_function pci;
	struct e1000_regs r;
	struct {
		uint16_t eeprom[E1000_EEPROM_WORDS];
		struct net *net;
		struct net_backlog backlog;
		struct timer timer;   /* interrupts that ITR holds back */
		bool asserted;        /* the pin */
	} host;
};

/* e1000.c -- Causes, which interrupt if they are to. */
void e1000_cause(struct e1000 *, uint32_t causes);
void e1000_count(struct e1000 *, unsigned statistic, uint32_t by);
void e1000_count_bytes(struct e1000 *, unsigned statistic, uint64_t bytes);
/* e1000_ring.c -- Number of descriptors; the address of the one at the head, which moves on. */
uint32_t e1000_ring_size(const struct e1000_ring *);
gpa_t e1000_ring_at(const struct e1000_ring *, uint32_t index);
/* e1000_eeprom.c -- EEPROM and PHY. */
void e1000_eeprom_fill(struct e1000 *, const uint8_t mac[NET_MAC]);
void e1000_eeprom_lines(struct e1000 *, uint32_t value);
uint32_t e1000_eeprom_state(const struct e1000 *);
void e1000_eeprom_read(struct e1000 *, uint32_t value);
void e1000_phy_reset(struct e1000 *);
void e1000_phy_access(struct e1000 *, uint32_t value);
bool e1000_is_looped(const struct e1000 *); /* what it sends comes back to it, and nothing else does */
/* e1000.c */
bool e1000_can_receive(const struct e1000 *);
/* e1000_receive.c -- False: there is no room now. Data: a struct net_offload, and the frame. */
bool e1000_receive(struct e1000 *, const uint8_t *data, size_t size);
void e1000_receive_waiting(struct e1000 *);
/* e1000_send.c -- Sends what the ring holds. */
void e1000_send(struct e1000 *);
