/* SPDX-License-Identifier: MIT */
/* For a guest: code that lies at two addresses, and is run at both, as that of shared libraries is. Its parts are first met at one and at the
 * other; then it runs often at each, and leaves its page from a part that is not where it began. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
static const uint8_t loop[] = { 0xff, 0xc9, 0x75, 0x3c, 0x31, 0xc0, 0xc3 };                       /* 0: dec ecx; jnz 40h; xor eax,eax; ret */
static const uint8_t part[] = { 0xff, 0xca, 0x0f, 0x84, 0xb8, 0x0f, 0, 0, 0xeb, 0xb6 };           /* 40h: dec edx; jz 1000h; jmp 0 */
static const uint8_t end[] = { 0xb8, 7, 0, 0, 0, 0xc3 };                                          /* 1000h: mov eax,7; ret */

static int run(const uint8_t *at, uint32_t ecx, uint32_t edx)
{
	int result;
	__asm__ volatile("call *%3" : "=a"(result), "+c"(ecx), "+d"(edx) : "r"(at) : "memory", "cc");
	return result;
}

int main(void)
{
	int fd = memfd_create("code", 0), good = 0;
	uint8_t *a, *b;
	if (ftruncate(fd, 2 * PAGE))
		return 1;
	a = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED, fd, 0);
	b = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	memcpy(a, loop, sizeof(loop));
	memcpy(a + 0x40, part, sizeof(part));
	a[0x80] = 0xc3;
	memcpy(a + PAGE, end, sizeof(end));
	run(a + 0x80, 1, 1); /* the page is met at both */
	run(b + 0x80, 1, 1);
	good += run(a + 0x40, 1, 1) == 7;
	good += run(b, 1, 1) == 0;
	for (unsigned i = 0; i < 100; i++)
		good += run(a, 1000000, 3000 + i) == 7 && run(b, 1000000, 3000 + i) == 7;
	printf("%d of 102\n", good);
	return good != 102;
}
