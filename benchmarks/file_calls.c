/* Counts the calls by which a process changes files below a folder, and kills it just before a given one, or stops
 * before each until it is told to go on.
 *
 * Loaded with LD_PRELOAD; does nothing until watch() is called. Every library of the process is seen, since all go
 * through the C library: Python, PyTorch, ONNX Runtime, TensorRT. Linux only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static long fatal;
static int notes = -1, asks = -1, answers = -1;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static pid_t watched;
static atomic_long seen;

/* From now on calls of this process below `folder` count; just before the `nth` it is killed (0: never). A line for
 * each goes to the file descriptor `log`, if that is not negative. */
void watch(const char *folder, long nth, int log) {
    snprintf(root, sizeof root, "%s/", folder);
    fatal = nth;
    notes = log;
    atomic_store(&seen, 0);
    watched = getpid();
}

/* From now on each call waits: a byte goes to the file descriptor `ask`, and one comes from `answer`. */
void wait_for(int ask, int answer) {
    asks = ask;
    answers = answer;
}

long calls_seen(void) { return atomic_load(&seen); }

static int is_below(const char *path) { return strncmp(path, root, strlen(root)) == 0; }

static int absolute(char *into, int folder, const char *path) {
    char link[64];
    ssize_t length = 0;
    if (path == NULL) return 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
        else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        length = readlink(link, into, PATH_MAX - 1);
        if (length < 0) return 0;
        into[length++] = '/';
    }
    snprintf(into + length, PATH_MAX - length, "%s", path);
    return 1;
}

static void count(const char *what, const char *path) {
    pthread_mutex_lock(&one_at_a_time);
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (notes >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", number, what, path + strlen(root));
        syscall(SYS_write, notes, line, length);
    }
    if (number == fatal) kill(watched, SIGKILL);
    char byte = 0;
    if (asks >= 0 && (syscall(SYS_write, asks, &byte, 1) != 1 || syscall(SYS_read, answers, &byte, 1) != 1)) _exit(71);
    pthread_mutex_unlock(&one_at_a_time);
}

static void named(const char *what, int folder, const char *path) {
    char full[2 * PATH_MAX];
    if (watched && getpid() == watched && absolute(full, folder, path) && is_below(full)) count(what, full);
}

static void opened(const char *what, int handle) {
    char link[64], full[PATH_MAX];
    if (!watched || getpid() != watched) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, full, sizeof full - 1);
    if (length <= 0) return;
    full[length] = 0;
    if (is_below(full)) count(what, full);
}

#define CHANGES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
#define NEXT(name) __typeof__(name) *next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define MODE(flags, last)                        \
    mode_t mode = 0;                             \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {     \
        va_list more;                            \
        va_start(more, last);                    \
        mode = va_arg(more, mode_t);             \
        va_end(more);                            \
    }

#define OPEN(name)                                            \
    int name(const char *path, int flags, ...) {              \
        NEXT(name);                                           \
        MODE(flags, flags)                                    \
        if (CHANGES(flags)) named("open", AT_FDCWD, path);    \
        return next(path, flags, mode);                       \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                          \
    int name(int folder, const char *path, int flags, ...) {  \
        NEXT(name);                                           \
        MODE(flags, flags)                                    \
        if (CHANGES(flags)) named("open", folder, path);      \
        return next(folder, path, flags, mode);               \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                         \
    FILE *name(const char *path, const char *mode) {                        \
        NEXT(name);                                                         \
        if (mode[strcspn(mode, "wa+")]) named("open", AT_FDCWD, path);      \
        return next(path, mode);                                            \
    }
FOPEN(fopen)
FOPEN(fopen64)

#define BY_NAME(result, name, what, parameters, folder, path, ...) \
    result name parameters {                                       \
        NEXT(name);                                                \
        named(what, folder, path);                                 \
        return next(__VA_ARGS__);                                  \
    }
#define BY_HANDLE(result, name, what, parameters, handle, ...)     \
    result name parameters {                                       \
        NEXT(name);                                                \
        opened(what, handle);                                      \
        return next(__VA_ARGS__);                                  \
    }
BY_NAME(int, creat, "open", (const char *p, mode_t m), AT_FDCWD, p, p, m)
BY_NAME(int, rename, "rename", (const char *a, const char *b), AT_FDCWD, b, a, b)
BY_NAME(int, renameat, "rename", (int d, const char *a, int e, const char *b), e, b, d, a, e, b)
BY_NAME(int, renameat2, "rename", (int d, const char *a, int e, const char *b, unsigned f), e, b, d, a, e, b, f)
BY_NAME(int, link, "link", (const char *a, const char *b), AT_FDCWD, b, a, b)
BY_NAME(int, linkat, "link", (int d, const char *a, int e, const char *b, int f), e, b, d, a, e, b, f)
BY_NAME(int, symlink, "symlink", (const char *a, const char *b), AT_FDCWD, b, a, b)
BY_NAME(int, symlinkat, "symlink", (const char *a, int e, const char *b), e, b, a, e, b)
BY_NAME(int, unlink, "unlink", (const char *p), AT_FDCWD, p, p)
BY_NAME(int, unlinkat, "unlink", (int d, const char *p, int f), d, p, d, p, f)
BY_NAME(int, remove, "unlink", (const char *p), AT_FDCWD, p, p)
BY_NAME(int, rmdir, "rmdir", (const char *p), AT_FDCWD, p, p)
BY_NAME(int, mkdir, "mkdir", (const char *p, mode_t m), AT_FDCWD, p, p, m)
BY_NAME(int, mkdirat, "mkdir", (int d, const char *p, mode_t m), d, p, d, p, m)
BY_NAME(int, chmod, "chmod", (const char *p, mode_t m), AT_FDCWD, p, p, m)
BY_NAME(int, fchmodat, "chmod", (int d, const char *p, mode_t m, int f), d, p, d, p, m, f)
BY_NAME(int, truncate, "truncate", (const char *p, off_t n), AT_FDCWD, p, p, n)
BY_NAME(int, truncate64, "truncate", (const char *p, off64_t n), AT_FDCWD, p, p, n)
BY_HANDLE(int, fchmod, "chmod", (int h, mode_t m), h, h, m)
BY_HANDLE(int, ftruncate, "truncate", (int h, off_t n), h, h, n)
BY_HANDLE(int, ftruncate64, "truncate", (int h, off64_t n), h, h, n)
BY_HANDLE(int, fsync, "fsync", (int h), h, h)
BY_HANDLE(int, fdatasync, "fsync", (int h), h, h)
BY_HANDLE(ssize_t, write, "write", (int h, const void *b, size_t n), h, h, b, n)
BY_HANDLE(ssize_t, writev, "write", (int h, const struct iovec *v, int n), h, h, v, n)
BY_HANDLE(ssize_t, pwrite, "write", (int h, const void *b, size_t n, off_t at), h, h, b, n, at)
BY_HANDLE(ssize_t, pwrite64, "write", (int h, const void *b, size_t n, off64_t at), h, h, b, n, at)
BY_HANDLE(ssize_t, sendfile, "write", (int h, int from, off_t *at, size_t n), h, h, from, at, n)
BY_HANDLE(ssize_t, sendfile64, "write", (int h, int from, off64_t *at, size_t n), h, h, from, at, n)
BY_HANDLE(ssize_t, copy_file_range, "write", (int from, off64_t *at, int h, off64_t *to, size_t n, unsigned f), h, from, at, h, to, n, f)
