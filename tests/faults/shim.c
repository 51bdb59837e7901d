/* Preloaded into a process under test: sees every call that changes a file below one folder, and can end the process at one.

   fault_trace(root, log): write "<call> <path below root>" of each into the file `log`.
   fault_arm(root, call, glob, nth): at the nth `call` whose path matches, SIGKILL this process: before the call, or, for a
   write, with half of the bytes written.
   "*" stands for any call and any path; else "*" in a glob matches within one folder. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char root[PATH_MAX], wanted_call[32], wanted_glob[PATH_MAX];
static int log_file = -1;
static long wanted_nth;
static atomic_long seen;

void fault_trace(const char *folder, const char *path) {
    snprintf(root, sizeof root, "%s/", folder);
    log_file = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

void fault_arm(const char *folder, const char *call, const char *glob, long nth) {
    snprintf(root, sizeof root, "%s/", folder);
    snprintf(wanted_call, sizeof wanted_call, "%s", call);
    snprintf(wanted_glob, sizeof wanted_glob, "%s", glob);
    atomic_store(&seen, 0);
    wanted_nth = nth;
}

static const char *absolute(int at, const char *path, char *into) {
    if (path[0] == '/') return path;
    char link[64];
    if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, into, PATH_MAX - 1);
    if (n < 0) return "";
    into[n] = 0;
    if (path[0]) snprintf(into + n, (size_t)(PATH_MAX - n), "/%s", path);
    return into;
}

/* 1 when this is the call to die at. */
static int met(const char *call, int at, const char *path) {
    char buffer[PATH_MAX], line[PATH_MAX + 40];
    if (!root[0] || !path) return 0;
    const char *whole = absolute(at, path, buffer);
    size_t length = strlen(root);
    if (strncmp(whole, root, length) != 0) return 0;
    if (log_file >= 0) {
        int n = snprintf(line, sizeof line, "%s %s\n", call, whole + length);
        syscall(SYS_write, log_file, line, (size_t)n);
    }
    if (!wanted_nth) return 0;
    if (strcmp(wanted_call, "*") != 0 && strcmp(wanted_call, call) != 0) return 0;
    if (strcmp(wanted_glob, "*") != 0 && fnmatch(wanted_glob, whole + length, FNM_PATHNAME) != 0) return 0;
    return atomic_fetch_add(&seen, 1) + 1 == wanted_nth;
}

static void die(void) {
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

static void pass(const char *call, int at, const char *path) {
    if (met(call, at, path)) die();
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int changes(int flags) { return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (changes(flags)) pass("open", AT_FDCWD, path); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; va_start(more, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        if (changes(flags)) pass("open", at, path); \
        return real(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (met("write", fd, "")) { real(fd, data, size / 2); die(); }
    return real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    if (met("write", fd, "")) { real(fd, data, size / 2, offset); die(); }
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    if (met("write", fd, "")) { real(fd, data, size / 2, offset); die(); }
    return real(fd, data, size, offset);
}

int fsync(int fd) { REAL(fsync); pass("fsync", fd, ""); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); pass("fsync", fd, ""); return real(fd); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); pass("truncate", fd, ""); return real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); pass("truncate", fd, ""); return real(fd, size); }
int rename(const char *from, const char *to) { REAL(rename); pass("rename", AT_FDCWD, to); return real(from, to); }
int link(const char *from, const char *to) { REAL(link); pass("link", AT_FDCWD, to); return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat);
    pass("link", b, to);
    return real(a, from, b, to, flags);
}
int unlink(const char *path) { REAL(unlink); pass("unlink", AT_FDCWD, path); return real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); pass("unlink", at, path); return real(at, path, flags); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); pass("mkdir", AT_FDCWD, path); return real(path, mode); }
int rmdir(const char *path) { REAL(rmdir); pass("unlink", AT_FDCWD, path); return real(path); }
int futimens(int fd, const struct timespec times[2]) { REAL(futimens); pass("utime", fd, ""); return real(fd, times); }
int utimensat(int at, const char *path, const struct timespec times[2], int flags) {
    REAL(utimensat);
    pass("utime", at, path);
    return real(at, path, times, flags);
}
