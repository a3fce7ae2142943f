// SPDX-License-Identifier: MIT
// A program for the guest: writes its argument and a line feed to I/O port 0xe9, where the host reads it.
//
// It is here because not every kernel has /dev/port. It uses no library, so that gcc alone builds it for 32 bits too.

enum { DEBUG_PORT = 0xe9 };

#ifdef __x86_64__

enum { SYS_EXIT = 60, SYS_IOPERM = 173 };

static long system_call(long number, long a, long b, long c)
{
        long result;

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c)
                         : "rcx", "r11", "memory");
        return result;
}

__asm__(".globl _start\n"
        "_start: mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call start\n");

#else

enum { SYS_EXIT = 1, SYS_IOPERM = 101 };

static long system_call(long number, long a, long b, long c)
{
        long result;

        __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
        return result;
}

__asm__(".globl _start\n"
        "_start: mov %esp, %eax\n"
        "        and $-16, %esp\n"
        "        sub $12, %esp\n"
        "        push %eax\n"
        "        call start\n");

#endif

static void put(char c)
{
        __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((unsigned short)DEBUG_PORT));
}

/* The kernel leaves argc, the arguments and a null pointer on the stack. */
__attribute__((noreturn, used)) void start(const long *stack)
{
        const char *const *argument = (const char *const *)(stack + 1);
        long failed = stack[0] != 2 || system_call(SYS_IOPERM, DEBUG_PORT, 1, 1);

        if (!failed) {
                for (const char *c = argument[1]; *c; c++)
                        put(*c);
                put('\n');
        }
        for (;;)
                system_call(SYS_EXIT, failed, 0, 0);
}
