// Preloaded into kvllama by tests/faults.rs. The variable FAULT names one fault and its numbers:
//
//   memory SIZE N        allocations of at least SIZE bytes are refused, once N rows of trials.csv are written
//   threads N            no thread can be started after the first N
//   short N              the N-th write to trials.csv writes half of its bytes, and says so
//   interrupted N        the N-th write to trials.csv is interrupted by a signal (EINTR) before it writes
//   full N               the N-th write to trials.csv writes half of its bytes; the disk is full for the rest
//   killed N             the process is killed in the middle of the N-th write to trials.csv
//   lying N              the N-th write to trials.csv writes half of its bytes, and says that it wrote all
//   clock SECONDS        the wall clock jumps back and forth by SECONDS at each look
//   sync                 nothing can be synced (EIO)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char fault[16];
static long first, second;
static atomic_long n_writes, n_threads, n_looks;

__attribute__((constructor)) static void begin(void) {
    const char * text = getenv("FAULT");
    if (text != NULL) {
        sscanf(text, "%15s %ld %ld", fault, &first, &second);
    }
}

static int is(const char * name) {
    return strcmp(fault, name) == 0;
}

// ---- memory

extern void * __libc_malloc(size_t);
extern void * __libc_calloc(size_t, size_t);
extern void * __libc_realloc(void *, size_t);
extern void * __libc_memalign(size_t, size_t);

static int refused(size_t size) {
    return fault[0] == 'm' && is("memory") && size >= (size_t) first && n_writes >= second;
}

void * malloc(size_t size) {
    return refused(size) ? NULL : __libc_malloc(size);
}

void * calloc(size_t n, size_t size) {
    return refused(n * size) ? NULL : __libc_calloc(n, size);
}

void * realloc(void * block, size_t size) {
    return refused(size) ? NULL : __libc_realloc(block, size);
}

void * aligned_alloc(size_t alignment, size_t size) {
    return refused(size) ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void ** block, size_t alignment, size_t size) {
    *block = refused(size) ? NULL : __libc_memalign(alignment, size);
    return *block == NULL ? ENOMEM : 0;
}

// ---- threads

int pthread_create(pthread_t * thread, const pthread_attr_t * attributes, void * (*run)(void *), void * argument) {
    if (is("threads") && atomic_fetch_add(&n_threads, 1) >= first) {
        return EAGAIN;
    }
    int (*real)(pthread_t *, const pthread_attr_t *, void * (*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, run, argument);
}

// ---- files

static int is_trials(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof(path) - 1);
    path[length < 0 ? 0 : length] = 0;
    return length > 11 && strcmp(path + length - 11, "/trials.csv") == 0;
}

ssize_t write(int file, const void * bytes, size_t length) {
    if (fault[0] == 0 || !is_trials(file)) {
        return syscall(SYS_write, file, bytes, length);
    }
    const long n = atomic_fetch_add(&n_writes, 1) + 1;
    if (is("full") && n == first + 1) { // the rest of the row
        errno = ENOSPC;
        return -1;
    }
    if (n != first || is("memory")) {
        return syscall(SYS_write, file, bytes, length);
    }
    if (is("interrupted")) {
        errno = EINTR;
        return -1;
    }
    const ssize_t half = syscall(SYS_write, file, bytes, length / 2);
    if (is("killed")) {
        raise(SIGKILL);
    }
    return is("lying") ? (ssize_t) length : half;
}

int fdatasync(int file) {
    if (is("sync")) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fdatasync, file);
}

// ---- clock

int clock_gettime(clockid_t clock, struct timespec * time) {
    const int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME && is("clock")) {
        time->tv_sec += atomic_fetch_add(&n_looks, 1) % 2 ? first : -first;
    }
    return result;
}
