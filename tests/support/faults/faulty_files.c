/* Fault injection: loaded by LD_PRELOAD into a real server, between SQLite and the kernel.
 *
 * FAULTY_FILES names a file that holds a `struct order`, shared with the test: the suffix of the file name, the call,
 * the kind of fault, the number of calls that succeed first, and the number of calls to hit.
 *
 * A failed sync behaves as on Linux since 4.13: the writes since the last successful sync of the file are dropped
 * (here, the previous content is restored), the call fails with EIO, and each other open descriptor of the file gets
 * EIO once, on its next sync. A pretended sync returns success and does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum call { NONE, SYNC, WRITE };
enum kind { FAIL, FULL, SHORT, DELAY, PRETEND };

struct order {
    char suffix[32];
    int call, kind, skip, times, delay_ms, hits;
};

struct change { /* what a write replaced */
    off_t offset;
    size_t size;
    char *before;
    struct change *previous;
};

struct file { /* one inode of a database file */
    dev_t device;
    ino_t inode;
    struct change *last;
    int failures;
    struct file *next;
};

#define DESCRIPTORS 65536
static struct order *order;
static struct file *files;
static int failures_seen[DESCRIPTORS];
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_sync)(int);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void load(void) {
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_sync = dlsym(RTLD_NEXT, "fdatasync");
    real_open = dlsym(RTLD_NEXT, "open64");
    const char *path = getenv("FAULTY_FILES");
    int descriptor = path ? real_open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *shared = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (shared != MAP_FAILED) order = shared;
    close(descriptor);
}

static int ends_in(const char *name, const char *ending) {
    size_t length = strlen(name), tail = strlen(ending);
    return tail && length >= tail && !strcmp(name + length - tail, ending);
}

static int is_database(const char *name) { return ends_in(name, ".db") || ends_in(name, ".db-wal"); }

static int name_of(int descriptor, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, name, size - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return 1;
}

static struct file *file_of(int descriptor) { /* with the lock held */
    struct stat known;
    if (fstat(descriptor, &known)) return NULL;
    for (struct file *file = files; file; file = file->next)
        if (file->inode == known.st_ino && file->device == known.st_dev) return file;
    struct file *file = calloc(1, sizeof *file);
    file->device = known.st_dev;
    file->inode = known.st_ino;
    file->next = files;
    return files = file;
}

/* Return whether to inject a fault into this call, and count it. */
static int is_ordered(const char *name, enum call call) {
    if (__atomic_load_n(&order->call, __ATOMIC_ACQUIRE) != (int)call || !ends_in(name, order->suffix)) return 0;
    if (__atomic_fetch_sub(&order->skip, 1, __ATOMIC_ACQ_REL) > 0) return 0;
    if (__atomic_fetch_sub(&order->times, 1, __ATOMIC_ACQ_REL) <= 0) return 0;
    __atomic_fetch_add(&order->hits, 1, __ATOMIC_ACQ_REL);
    return 1;
}

static void wait_ms(int ms) {
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&wait, NULL);
}

static void forget(struct change *change) {
    while (change) {
        struct change *previous = change->previous;
        free(change->before);
        free(change);
        change = previous;
    }
}

static void drop(int descriptor, struct file *file) { /* with the lock held */
    for (struct change *change = file->last; change; change = change->previous)
        real_pwrite(descriptor, change->before, change->size, change->offset);
    forget(file->last);
    file->last = NULL;
}

static void remember(int descriptor, struct file *file, size_t size, off_t offset) { /* with the lock held */
    struct change *change = calloc(1, sizeof *change);
    change->before = calloc(1, size);
    change->offset = offset;
    change->size = size;
    change->previous = file->last;
    if (pread(descriptor, change->before, size, offset) < 0) abort();
    file->last = change;
}

static int sync_file(int descriptor) {
    char name[4096];
    if (!order || descriptor >= DESCRIPTORS || !name_of(descriptor, name, sizeof name) || !is_database(name))
        return real_sync(descriptor);
    int hit = is_ordered(name, SYNC), kind = order->kind;
    if (hit && kind == PRETEND) return 0;
    if (hit && kind == DELAY) wait_ms(order->delay_ms);
    pthread_mutex_lock(&turn);
    struct file *file = file_of(descriptor);
    if (hit && (kind == FAIL || kind == FULL)) {
        drop(descriptor, file);
        file->failures++;
    }
    int failed = failures_seen[descriptor] < file->failures;
    failures_seen[descriptor] = file->failures;
    struct change *until = file->last;
    pthread_mutex_unlock(&turn);
    if (failed) {
        errno = hit && kind == FULL ? ENOSPC : EIO;
        return -1;
    }
    int result = real_sync(descriptor);
    if (result) return result;
    pthread_mutex_lock(&turn); /* writes before the sync are durable now; writes during it are not */
    struct change **link = &file->last;
    while (*link && *link != until) link = &(*link)->previous;
    struct change *safe = *link;
    *link = NULL;
    pthread_mutex_unlock(&turn);
    forget(safe);
    return 0;
}

static ssize_t write_file(int descriptor, const void *content, size_t size, off_t offset) {
    char name[4096];
    if (!order || descriptor >= DESCRIPTORS || !name_of(descriptor, name, sizeof name) || !is_database(name))
        return real_pwrite(descriptor, content, size, offset);
    int hit = is_ordered(name, WRITE), kind = order->kind;
    if (hit && kind == FAIL) return errno = EIO, -1;
    if (hit && kind == FULL) return errno = ENOSPC, -1;
    if (hit && kind == DELAY) wait_ms(order->delay_ms);
    if (hit && kind == SHORT) size = size / 2 + 1;
    pthread_mutex_lock(&turn);
    remember(descriptor, file_of(descriptor), size, offset);
    ssize_t written = real_pwrite(descriptor, content, size, offset);
    pthread_mutex_unlock(&turn);
    return written;
}

static int open_file(const char *path, int flags, mode_t mode) {
    int descriptor = real_open(path, flags, mode);
    if (order && descriptor >= 0 && descriptor < DESCRIPTORS && is_database(path)) {
        pthread_mutex_lock(&turn);
        failures_seen[descriptor] = file_of(descriptor)->failures;
        pthread_mutex_unlock(&turn);
    }
    return descriptor;
}

int fsync(int descriptor) { return sync_file(descriptor); }
int fdatasync(int descriptor) { return sync_file(descriptor); }
ssize_t pwrite(int descriptor, const void *content, size_t size, off_t offset) {
    return write_file(descriptor, content, size, offset);
}
ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t offset) {
    return write_file(descriptor, content, size, offset);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    return open_file(path, flags, mode);
}
