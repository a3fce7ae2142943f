/* SPDX-License-Identifier: MIT */
/* ACPI fixed hardware: enable and disable, the power button, the PM timer in both widths, S5; and the debug ports. */
#include "backend/chardev.h"
#include "machine.h"

#define BASE ACPI_PM_BASE
#define PM_HZ 3579545ULL

static uint8_t console[16];
static unsigned console_count;
static size_t console_write(struct chardev *c, const uint8_t *data, size_t len)
{
	console[console_count++ % sizeof(console)] = *data;
	return len;
}
static const struct chardev_ops console_ops = { .write = console_write };
static struct chardev console_chardev = { .ops = &console_ops };

static const struct acpi_pm_config narrow = { .timer_24bit = true };
static const struct debugcon_config debugcon = { .chardev = &console_chardev };
static const struct device_place wide_places[] = { { .class = &acpi_pm_class, .name = "pm", .base = BASE,
	.irq = ACPI_SCI_IRQ } };
static const struct device_place places[] = {
	{ .class = &acpi_pm_class, .name = "pm", .base = BASE, .irq = ACPI_SCI_IRQ, .config = &narrow },
	{ .class = &debug_exit_class, .name = "exit", .base = 0x501, .irq = -1 },
	{ .class = &debugcon_class, .name = "con", .base = 0xe9, .irq = -1, .config = &debugcon },
};
static struct vm *vm;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 3);
}

static uint32_t in(unsigned offset, unsigned size)
{
	return bus_read(vm, BUS_PORT, BASE + offset, size);
}

static void out(unsigned offset, unsigned size, uint32_t value)
{
	bus_write(vm, BUS_PORT, BASE + offset, size, value);
}

static void events(void)
{
	fresh();
	ok(in(0, 4) == 0 && in(4, 2) == 0 && in(0xc, 4) == 0, "pm: registers after reset");
	out(4, 2, 1);
	ok(in(4, 2) == 0, "pm: SCI_EN is the firmware's");
	out(2, 2, 0x0100);
	event_post(vm->devices, ACPI_POWER_BUTTON, NULL, 0);
	ok(in(0, 2) == 0x0100 && !line_level[ACPI_SCI_IRQ], "pm: in legacy mode an event raises no SCI");
	out8(vm, ACPI_SMI_COMMAND, ACPI_ENABLE_VALUE);
	ok(in(4, 2) == 1 && line_level[ACPI_SCI_IRQ], "pm: ACPI enable");
	out(0, 1, 0xff);
	ok(in(0, 2) == 0x0100, "pm: the low byte alone clears nothing of the high one");
	out(0, 2, 0x0100);
	ok(in(0, 2) == 0 && !line_level[ACPI_SCI_IRQ], "pm: write one to clear");
	out(2, 2, 0);
	event_post(vm->devices, ACPI_POWER_BUTTON, NULL, 0);
	ok(!line_level[ACPI_SCI_IRQ], "pm: not enabled");
	out(2, 2, 0xffff);
	ok(in(2, 2) == 0x0721 && line_level[ACPI_SCI_IRQ], "pm: enabled afterwards");
	out8(vm, ACPI_SMI_COMMAND, ACPI_DISABLE_VALUE);
	ok(in(4, 2) == 0 && !line_level[ACPI_SCI_IRQ] && in8(vm, ACPI_SMI_COMMAND) == ACPI_DISABLE_VALUE,
	   "pm: ACPI disable");
	out8(vm, ACPI_SMI_COMMAND + 1, 0x12);
	ok(in8(vm, ACPI_SMI_COMMAND + 1) == 0x12, "pm: APM status");
	out(0xc, 4, 0x1234ffff);
	ok(in(0xc, 4) == 0x12340000, "pm: GPE0 has enables and no events");
}

static void timer(void)
{
	fresh();
	clock_step(vm, SECOND);
	ok(in(8, 4) == PM_HZ, "pm: the timer after a second");
	ok(in(9, 1) == (PM_HZ >> 8 & 0xff), "pm: a byte of it");
	out8(vm, ACPI_SMI_COMMAND, ACPI_ENABLE_VALUE);
	out(2, 2, 1);
	uint64_t half = ((1ULL << 23) * SECOND + PM_HZ - 1) / PM_HZ;
	clock_step(vm, half - SECOND - 1);
	ok(!(in(0, 2) & 1) && !line_edges[ACPI_SCI_IRQ], "pm: not yet");
	clock_step(vm, 1);
	ok((in(0, 2) & 1) && line_level[ACPI_SCI_IRQ], "pm: TMR_STS when bit 23 changes");
	out(0, 2, 1);
	ok(!line_level[ACPI_SCI_IRQ], "pm: cleared");
	clock_step(vm, half);
	ok(line_level[ACPI_SCI_IRQ] && in(8, 4) < 4, "pm: and back; 24 bits wrap");
	out(2, 2, 0);
	out(0, 2, 1);
	clock_step(vm, half);
	ok(in(0, 2) == 1, "pm: the status comes without the enable, too");
	vm_destroy(vm);
	vm = machine(1, wide_places, 1);
	clock_step(vm, 600 * SECOND);
	ok(in(8, 4) == 600 * PM_HZ, "pm: 32 bits");
	clock_step(vm, 600 * SECOND);
	ok(in(8, 4) == (uint32_t)(1200 * PM_HZ) && (in(0, 2) & 1), "pm: 32 bits wrap, bit 31 changed");
}

static void endings(void)
{
	fresh();
	out(4, 2, 1 << 10 | 1 << 13);
	ok(!vm->end, "pm: another sleep state is none");
	out(4, 2, ACPI_S5_TYPE << 10);
	ok(!vm->end && in(4, 2) == ACPI_S5_TYPE << 10, "pm: SLP_TYP alone does nothing");
	out(4, 2, ACPI_S5_TYPE << 10 | 1 << 13);
	ok(vm->end == VM_POWERED_OFF && in(4, 2) == ACPI_S5_TYPE << 10, "pm: S5 powers off; SLP_EN reads as 0");
	fresh();
	bus_write(vm, BUS_PORT, 0x501, 1, 0x2a);
	ok(vm->end == VM_DEBUG_EXIT && vm->end_value == 0x55, "debug-exit: a byte");
	fresh();
	bus_write(vm, BUS_PORT, 0x501, 4, 0x80000001);
	ok(vm->end == VM_DEBUG_EXIT && vm->end_value == 0x100000003, "debug-exit: four bytes");
	ok(in8(vm, 0xe9) == 0xe9, "debugcon: it is there");
	out8(vm, 0xe9, 'h');
	out8(vm, 0xe9, 'i');
	ok(console_count == 2 && console[0] == 'h' && console[1] == 'i', "debugcon: writes");
}

static void round_trip(void)
{
	fresh();
	out8(vm, ACPI_SMI_COMMAND, ACPI_ENABLE_VALUE);
	out(2, 2, 0x101);
	event_post(vm->devices, ACPI_POWER_BUTTON, NULL, 0);
	clock_step(vm, SECOND);
	struct vm *one = vm, *two = machine(1, places, 3);
	ok(copy_state(one, two) && same_state(one, two) && line_level[ACPI_SCI_IRQ], "pm: state loads");
	vm = two;
	ok(in(8, 4) == PM_HZ, "pm: the timer goes on");
	out(0, 2, 0x100);
	ok(!line_level[ACPI_SCI_IRQ], "pm: the event can be ended");
	clock_step(vm, 2 * SECOND);
	ok(line_level[ACPI_SCI_IRQ], "pm: the timer's event comes");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned i = 0; i < 16; i += 4)
		in(i, 4);
	clock_step(vm, 10 * MILLISECOND);
	out(2, 2, 1);
	out(0, 2, 0xffff);
	clock_step(vm, 5 * SECOND);
}

int main(void)
{
	events();
	timer();
	endings();
	round_trip();
	fresh();
	abuse_state(vm, "pm", use);
	vm_destroy(vm);
	return done();
}
