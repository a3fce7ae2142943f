/* SPDX-License-Identifier: MIT */
/* ATA devices on an IDE channel: the registers of one, and how they get from a command to its end. ATA8-ACS (T13/1699-D) for commands, ATA8-APT for the
 * protocols; names of bits are theirs. The device that holds a drive is the IDE controller; all here runs with its lock held. */
#pragma once
#include "backend/image.h"
#include "vm/vm.h"

#define ATA_SECTOR IMAGE_SECTOR
#define ATA_BUFFER (64 * KiB)
#define ATA_PACKET_SIZE 12
#define CD_BLOCK 2048u
#define ATA_ULTRA_LAST 5 /* the fastest Ultra DMA mode */

/* Status */
#define ATA_BSY 0x80u
#define ATA_DRDY 0x40u
#define ATA_DF 0x20u
#define ATA_DSC 0x10u          /* seek complete: obsolete, but set by all disks */
#define ATA_DRQ 0x08u
#define ATA_ERR 0x01u          /* of a packet device: CHK */
/* Error */
#define ATA_UNC 0x40u          /* data cannot be read, or written */
#define ATA_IDNF 0x10u         /* no such sector */
#define ATA_ABRT 0x04u
#define ATA_DIAGNOSTIC_PASSED 0x01u
/* Device */
#define ATA_LBA 0x40u
#define ATA_DEV 0x10u
/* Device control */
#define ATA_HOB 0x80u
#define ATA_SRST 0x04u
#define ATA_NIEN 0x02u
/* Count, of a packet device: interrupt reason */
#define ATAPI_COD 0x01u
#define ATAPI_IO 0x02u

enum ata_register { /* of the command block, by port */
	ATA_DATA = 0, ATA_ERROR_FEATURES = 1, ATA_COUNT = 2, ATA_LBA_LOW = 3, ATA_LBA_MID = 4, ATA_LBA_HIGH = 5, ATA_DEVICE = 6,
	ATA_STATUS_COMMAND = 7,
};

enum ata_phase {
	ATA_IDLE,
	ATA_IN,    /* DRQ: the host takes a block */
	ATA_OUT,   /* DRQ: the host gives a block */
	ATA_HOST,  /* BSY: a request to the image */
	ATA_DMA_IN, ATA_DMA_OUT, /* as ATA_IN and ATA_OUT, through the bus master instead of the data register */
	ATA_PHASES
};
enum { NOW = 0, BEFORE = 1 }; /* 48-bit commands: the value written last, and the one before it */

struct ata_regs {
	uint8_t features[2], count[2], lba_low[2], lba_mid[2], lba_high[2];
	uint8_t device, error, status;
	uint8_t command;           /* the last one */
	bool intrq;
	uint8_t phase;             /* enum ata_phase */
	uint32_t at, end;          /* in buffer: the block that goes through the data register, or by DMA */
	uint32_t filled;           /* bytes in buffer */
	uint64_t next;             /* sector or block that is asked for next */
	uint32_t left;             /* how many still have to be */
	uint8_t multiple;          /* sectors in a block of READ and WRITE MULTIPLE; 0: disabled */
	uint8_t heads, sectors;    /* of the CHS translation in use */
	uint8_t mode;              /* transfer mode, as SET FEATURES has it */
	bool write_cache;
	/* Packet devices */
	bool packet_due;           /* ATA_OUT is for a packet */
	bool packet_dma;           /* its data go by DMA */
	uint8_t packet[ATA_PACKET_SIZE];
	uint16_t limit;            /* bytes in a block, at most */
	uint8_t key, asc, ascq;    /* sense data */
	bool attention;            /* the next command that may tell of it says that there was a reset */
	bool open, locked;         /* the tray; by PREVENT ALLOW */
	uint8_t event;             /* of the medium, that GET EVENT STATUS tells once */
	uint8_t buffer[ATA_BUFFER];
};
extern const struct field ata_fields[];

struct ata_drive {
	struct ata_regs r;
	struct {
		const struct ata_kind *kind; /* NULL: there is no drive */
		struct image *image;
		struct device *device;       /* the controller */
		uint64_t blocks;             /* sectors of a disk, blocks of a CD */
		unsigned number;             /* of the controller's */
		uint32_t tag;
	} host;
};

struct ata_kind {
	uint8_t signature_mid, signature_high;
	uint8_t ready;                                  /* status after a reset */
	void (*power_on)(struct ata_drive *);
	void (*command)(struct ata_drive *);            /* r.command came */
	void (*block_in_done)(struct ata_drive *);      /* the host took the last of what was in the buffer */
	void (*block_out_done)(struct ata_drive *);     /* the host gave the block */
	void (*host_done)(struct ata_drive *, const struct image_done *);
	void (*ask_again)(struct ata_drive *);          /* after a load: repeats what was with the image */
	uint32_t (*block_size)(const struct ata_drive *); /* of what goes through the data register at once */
	void (*tell_block)(struct ata_drive *, uint32_t bytes); /* to the host, where the protocol wants it; may be NULL */
	bool (*valid)(const struct ata_drive *);        /* after a load */
};
extern const struct ata_kind ata_disk, ata_cdrom;

/* ata.c -- Ends a command: without error, or with one; both interrupt. */
void ata_done(struct ata_drive *);
void ata_fail(struct ata_drive *, uint8_t error);
/* The block at r.at of what is in the buffer, to the host; or `bytes` from it. */
void ata_block_in(struct ata_drive *, bool interrupt);
void ata_block_out(struct ata_drive *, uint32_t bytes, bool interrupt);
/* The same by DMA: all of the buffer at once. */
void ata_dma_in(struct ata_drive *);
void ata_dma_out(struct ata_drive *, uint32_t bytes);
/* BSY, until the image has answered. Returns the tag of the request to make. */
uint32_t ata_wait(struct ata_drive *);
void ata_signature(struct ata_drive *);
/* For the controller. The host wrote r.command; read or wrote the data register; resets the drive (power on, and otherwise); has an answer. */
void ata_command(struct ata_drive *, uint8_t);
uint32_t ata_data_read(struct ata_drive *, unsigned size);
void ata_data_write(struct ata_drive *, uint32_t value, unsigned size);
/* Of the block that goes by DMA; *bytes: how much of it there is, 0: none. The bus master has moved so many of them. */
uint8_t *ata_dma_block(struct ata_drive *, bool in, uint32_t *bytes);
void ata_dma_moved(struct ata_drive *, uint32_t bytes);
void ata_power_on(struct ata_drive *);
void ata_reset(struct ata_drive *);
void ata_host_done(struct ata_drive *, const struct image_done *, size_t len);
int ata_loaded(struct ata_drive *);
/* The transfer modes of SET FEATURES: PIO up to 4, multiword DMA up to 2, Ultra DMA up to 5. */
bool ata_mode_valid(uint8_t mode);
/* ata_identify.c -- Fill 512 bytes. */
void ata_identify_disk(const struct ata_drive *, uint8_t *data);
void ata_identify_cdrom(const struct ata_drive *, uint8_t *data);
/* Cylinders of the CHS translation with these heads and sectors. */
uint16_t ata_cylinders(uint64_t total, unsigned heads, unsigned sectors);
/* atapi.c -- Ends of packet commands: good, with sense data, and `length` bytes of the buffer, cut to what the host allocated. */
void atapi_done(struct ata_drive *);
void atapi_fail(struct ata_drive *, uint8_t key, uint8_t asc, uint8_t ascq);
void atapi_reply(struct ata_drive *, uint32_t length, uint32_t allocated);
void atapi_read(struct ata_drive *, uint32_t block, uint32_t count);
/* atapi_command.c -- r.packet came. */
void atapi_packet(struct ata_drive *);
