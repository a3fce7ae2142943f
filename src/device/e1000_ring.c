/* SPDX-License-Identifier: MIT */
/* Rings of descriptors in the guest's memory: Intel 317453, 3.2.6 and 3.4. */
#include "device/e1000.h"

uint32_t e1000_ring_size(const struct e1000_ring *ring)
{
	return MAX(ring->length / E1000_DESCRIPTOR, 1u);
}

gpa_t e1000_ring_at(const struct e1000_ring *ring, uint32_t index)
{
	return ((uint64_t)ring->base_high << 32 | ring->base_low) + (uint64_t)index * E1000_DESCRIPTOR;
}
