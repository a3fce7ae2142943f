// SPDX-License-Identifier: MIT
// What an operating system does all day: system calls, page faults, processes, switching between them, files.

#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { SYSTEM_CALLS = 1000, PAGES = 256, PAGE = 4096, TRIPS = 50, CHUNK = 1 << 16, CHUNKS = 16 };

static uint64_t system_calls(void)
{
        pid_t parent = getppid();
        uint64_t same = 0;

        for (int i = 0; i < SYSTEM_CALLS; i++)
                same += syscall(SYS_getppid) == parent;
        return same;
}

/* First use of anonymous memory: each page comes zeroed, by a page fault. */
static uint64_t page_faults(void)
{
        volatile char *memory = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        uint64_t zero = 0;

        need(memory != MAP_FAILED, "mmap");
        for (int i = 0; i < PAGES; i++)
                zero += memory[i * PAGE]++ == 0;
        munmap((void *)memory, PAGES * PAGE);
        return zero;
}

static uint64_t status_of(pid_t child)
{
        int status;

        need(waitpid(child, &status, 0) == child, "waitpid");
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

static uint64_t fork_wait(void)
{
        pid_t child = fork();

        need(child >= 0, "fork");
        if (!child)
                _exit(7);
        return status_of(child);
}

/* The program starts itself; main.c ends at once with the status 9. */
static uint64_t fork_exec(void)
{
        pid_t child = fork();

        need(child >= 0, "fork");
        if (!child) {
                execl("/proc/self/exe", "dbench", "--exit", (char *)0);
                _exit(8);
        }
        return status_of(child);
}

static int to_child[2], to_parent[2];
static pid_t partner;
static cpu_set_t all_cpus;

static void echo(void)
{
        char c;

        close(to_child[1]);
        close(to_parent[0]);
        while (read(to_child[0], &c, 1) == 1) {
                c++;
                if (write(to_parent[1], &c, 1) != 1)
                        break;
        }
        _exit(0);
}

/* Both share one processor; otherwise it would be its neighbour's waking up that is measured. */
static void switch_setup(void)
{
        cpu_set_t one;
        int cpu = 0;

        need(!sched_getaffinity(0, sizeof(all_cpus), &all_cpus), "sched_getaffinity");
        while (!CPU_ISSET(cpu, &all_cpus))
                cpu++;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        need(!pipe(to_child) && !pipe(to_parent), "pipe");
        partner = fork();
        need(partner >= 0, "fork");
        if (!partner)
                echo();
        close(to_child[0]);
        close(to_parent[1]);
}

static uint64_t switches(void)
{
        uint64_t sum = 0;

        for (int i = 0; i < TRIPS; i++) {
                char c = i, back = 0;

                need(write(to_child[1], &c, 1) == 1 && read(to_parent[0], &back, 1) == 1, "pipe");
                sum += back == i + 1;
        }
        return sum;
}

static void switch_teardown(void)
{
        close(to_child[1]);
        close(to_parent[0]);
        status_of(partner);
        sched_setaffinity(0, sizeof(all_cpus), &all_cpus);
}

static uint8_t chunk[CHUNK];
static int file;

static void file_setup(void)
{
        file = memfd_create("dbench", 0);
        need(file >= 0, "memfd_create");
}

/* A file in the page cache, written, read and thrown away. */
static uint64_t file_io(void)
{
        uint64_t right = 0;

        for (int i = 0; i < CHUNKS; i++) {
                memset(chunk + i, i + 1, 64);
                need(pwrite(file, chunk, CHUNK, (off_t)i * CHUNK) == CHUNK, "pwrite");
        }
        for (int i = 0; i < CHUNKS; i++) {
                need(pread(file, chunk, CHUNK, (off_t)i * CHUNK) == CHUNK, "pread");
                right += chunk[i] == i + 1;
        }
        need(!ftruncate(file, 0), "ftruncate");
        return right;
}

static void file_teardown(void)
{
        close(file);
}

const struct bench kernel_benches[] = {
        {"system-call", "kernel", SYSTEM_CALLS, MEGA, system_calls, SYSTEM_CALLS, 0, 0, 0},
        {"page-fault", "kernel", PAGES, MEGA, page_faults, PAGES, 0, 0, 0},
        {"fork-wait", "kernel", 1, KILO, fork_wait, 7, 0, 0, 0},
        {"fork-exec-wait", "kernel", 1, KILO, fork_exec, 9, 0, 0, 0},
        {"context-switch", "kernel", TRIPS * 2, KILO, switches, TRIPS, switch_setup, switch_teardown, 0},
        {"file-write-read", "kernel", 2.0 * CHUNK * CHUNKS, MBYTE, file_io, CHUNKS, file_setup, file_teardown, 0},
        {0},
};
