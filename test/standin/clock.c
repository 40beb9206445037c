/* SPDX-FileCopyrightText: 2026 The seg_uncertainty_ros developers
   SPDX-License-Identifier: Apache-2.0

   A system clock that a test sets for one process (LD_PRELOAD): the real one plus the nanoseconds that stand,
   as 8 bytes, in the file $CLOCK_STEP. Waits until a time of day end by this clock too, within 0.1 s, as those
   of the kernel do: a step back makes them longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#define SECOND 1000000000LL
#define SLICE (SECOND / 10)

static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_sem)(sem_t *, const struct timespec *);
static int (*real_lock)(pthread_mutex_t *, const struct timespec *);
static volatile int64_t *step;

__attribute__((constructor)) static void begin(void) {
    real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    /* There is an older one, for conditions of another layout. */
    real_cond = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    real_sem = dlsym(RTLD_NEXT, "sem_timedwait");
    real_lock = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    const char *path = getenv("CLOCK_STEP");
    int file = path ? open(path, O_RDONLY) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    step = page == MAP_FAILED ? 0 : page;
}

static int64_t ns(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

int clock_gettime(clockid_t which, struct timespec *now) {
    if (!real_gettime) begin();
    int failed = real_gettime(which, now);
    if (!failed && step && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        int64_t moment = ns(now) + *step;
        now->tv_sec = moment / SECOND;
        now->tv_nsec = moment % SECOND;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}

/* Return whether a time of day has come; else, in `next`, when to look again, by the real clock. */
static int has_come(const struct timespec *end, struct timespec *next) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t left = ns(end) - ns(&now);
    real_gettime(CLOCK_REALTIME, next);
    int64_t moment = ns(next) + (left < SLICE ? left : SLICE);
    next->tv_sec = moment / SECOND;
    next->tv_nsec = moment % SECOND;
    return left <= 0;
}

#define UNTIL(end, wait, timed_out)              \
    struct timespec next;                        \
    for (;;) {                                   \
        int come = has_come(end, &next);         \
        int result = wait;                       \
        if (come || !(timed_out)) return result; \
    }

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict end) {
    UNTIL(end, real_cond(cond, mutex, &next), result == ETIMEDOUT)
}

int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict end) {
    UNTIL(end, real_sem(sem, &next), result && errno == ETIMEDOUT)
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict end) {
    UNTIL(end, real_lock(mutex, &next), result == ETIMEDOUT)
}
