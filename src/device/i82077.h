/* SPDX-License-Identifier: MIT */
/* What the files of the floppy controller share: its registers, and what is under way. Bits have the names of the Intel 82077AA datasheet (290166). */
#pragma once
#include "backend/image.h"
#include "device/chips.h"
#include "vm/vm.h"

#define FDC_DRIVES 4           /* that the chip can select; a PC has two */
#define FDC_SECTOR IMAGE_SECTOR
#define FDC_COMMAND_BYTES 9    /* of the longest command */
#define FDC_SECTOR_CODE 2      /* N: 128 << N bytes */

/* DOR */
#define DOR_SELECT 0x03u
#define DOR_NO_RESET 0x04u
#define DOR_DMA_GATE 0x08u     /* lets interrupts and DMA requests out */
#define DOR_MOTOR 0x10u        /* of drive 0; the others above */
/* Status registers 0 to 3 */
#define ST0_IC_ABNORMAL 0x40u
#define ST0_IC_INVALID 0x80u
#define ST0_IC_POLLING 0xc0u
#define ST0_SE 0x20u           /* seek end */
#define ST0_EC 0x10u           /* equipment check: no track 0 */
#define ST1_EN 0x80u           /* end of cylinder */
#define ST1_DE 0x20u           /* data error */
#define ST1_OR 0x10u           /* overrun */
#define ST1_ND 0x04u           /* no data: the sector is not there */
#define ST1_NW 0x02u           /* not writable */
#define ST1_MA 0x01u           /* missing address mark */
#define ST2_CM 0x40u           /* control mark: the sector is deleted, or is not, against the command */
#define ST2_DD 0x20u           /* data error in the data field */
#define ST2_WC 0x10u           /* wrong cylinder */
/* Command bytes */
#define COMMAND_MT 0x80u
#define COMMAND_MFM 0x40u
#define COMMAND_SK 0x20u
#define VERIFY_EC 0x80u        /* of the second byte: DTL is how many sectors */
#define SPECIFY_ND 0x01u       /* no DMA */
#define CONFIGURE_EIS 0x40u    /* implied seek */
#define CONFIGURE_EFIFO 0x20u  /* FIFO disabled */
#define CONFIGURE_POLL 0x10u   /* polling disabled */

enum fdc_phase { FDC_COMMAND, FDC_EXECUTION, FDC_RESULT };
enum fdc_step { /* of the execution phase */
	FDC_IDLE,      /* nothing will come: there is no disk that turns */
	FDC_TURN,      /* until the sector is under the head: `due` */
	FDC_HOST,      /* a request to the image */
	FDC_DATA,      /* bytes between the guest and `data`; with DMA, asks again at `due` */
	FDC_STEPS
};

struct i82077_regs {
	uint8_t dor, tdr, rate;    /* 3F2h; 3F3h, read/write; of CCR or DSR, 3F7h or 3F4h: 0 to 3 */
	uint8_t phase;             /* enum fdc_phase */
	uint8_t bytes[16];         /* the command, or its result */
	uint8_t got;               /* bytes of the command that came, or of the result that were read */
	uint8_t count;             /* bytes of the result */
	bool irq;
	uint8_t seeking, ended;    /* drives that seek; that have an end of a seek to report */
	uint8_t end_st0[FDC_DRIVES];
	uint8_t track[FDC_DRIVES]; /* PCN: where the heads are */
	uint8_t seek_to[FDC_DRIVES];
	uint64_t seek_due[FDC_DRIVES]; /* virtual ns or TIMER_OFF */
	uint8_t changed;           /* disk change lines */
	uint8_t specify[2];        /* SRT and HUT; HLT and ND */
	uint8_t configure, precompensation;
	uint8_t perpendicular;     /* D3 to D0, GAP, WGATE */
	bool lock;                 /* a software reset spares configure */
	uint8_t eot;               /* last EOT or SC, for DUMPREG */

	uint8_t step;              /* enum fdc_step */
	uint8_t drive, side;       /* that the command goes to */
	uint8_t id[4];             /* C, H, R, N of the sector */
	uint8_t left;              /* sectors that FORMAT, or VERIFY with EC, still has to do */
	uint8_t st1, st2;
	bool terminal_count;
	uint16_t at, end;          /* in data: next byte, and how many are to come or to go */
	uint16_t tries;            /* how often DMA was asked in vain */
	uint64_t due;              /* virtual ns or TIMER_OFF */
	uint8_t data[FDC_SECTOR];
};

struct fdc_media {
	uint32_t kib;
	uint8_t tracks, sides, sectors;
	uint8_t rate;              /* as CCR says it */
	uint8_t drive;             /* CMOS type of a drive for it */
};

struct i82077 {
	struct device device;
	struct i82077_regs r;
	struct {
		struct irq_pin pin;
		struct device *dma;
		struct timer timer, seek[FDC_DRIVES];
		struct image *image[FDC_DRIVES];
		const struct fdc_media *media[FDC_DRIVES]; /* NULL: no drive */
		uint32_t tag;
	} host;
};

/* i82077.c -- All with the device's lock held. The interrupt line as it should be now. */
void fdc_update(struct i82077 *);
/* From command to result phase with these bytes; with an interrupt, or without. */
void fdc_result(struct i82077 *, const uint8_t *bytes, unsigned count, bool interrupt);
/* i82077_command.c -- A byte of a command came. */
void fdc_command_byte(struct i82077 *, uint8_t);
void fdc_seek_fired(struct device *, void *drive);
/* i82077_data.c -- The commands that move data: their begin, and what makes them go on. */
void fdc_begin(struct i82077 *);
void fdc_timer_fired(struct device *, void *);
void fdc_image_done(struct i82077 *, const struct image_done *, size_t len);
uint8_t fdc_data_read(struct i82077 *);
void fdc_data_write(struct i82077 *, uint8_t);
/* After a load, when a request was with the image. */
void fdc_ask_again(struct i82077 *);
/* Bytes of a data command go through port 3F5h now; *in: to the guest. */
bool fdc_is_pio(const struct i82077 *, bool *in);
/* i82077_media.c -- What a disk of this many bytes is; NULL: larger than any. */
const struct fdc_media *fdc_media_by_size(uint64_t bytes);
