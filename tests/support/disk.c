// A disk that fails as a test tells it to, for the process into which it is loaded (LD_PRELOAD).
//
// It stands before the calls with which files below one folder are written, and asks a shared page of words, which the
// test changes while the process runs, what becomes of each. Calls on other files pass untouched.
//
// With a shadow folder it also remembers what a loss of power would leave: of a file, what was written when it was last
// synced; of a folder, the names that it had when it was last synced. A sync that fails drops what it was to write, as
// the kernel does: the next one succeeds and does not bring it back.
//
//   now/PATH      the number of the file that has this name ("/" written as "%"), or "d" for a folder
//   synced/PATH   of a folder: a line "NUMBER NAME" for each name that is on the disk
//   data/NUMBER   of a file: what is on the disk

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OPERATIONS, ERROR, HOLD, DELAY, ROOM, FAILED, WAITING, BEGUN, DONE, WORDS };
enum { GROW = 1, OVERWRITE = 2, SYNC = 4, NAMES = 8 };

static _Atomic uint64_t *control;
static char folder[PATH_MAX], shadow[PATH_MAX];
static size_t folder_length;
static pthread_mutex_t shadow_lock = PTHREAD_MUTEX_INITIALIZER;

// A descriptor of a file below the folder.
struct open_file {
    char path[PATH_MAX];
    char number[64];
    int is_folder, is_log;
    _Atomic int64_t dirty;  // what was written since the last sync begins here
};
static _Atomic(struct open_file *) opened[65536];

// The call behind this one.
#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void load(void) {
    const char *name = getenv("TIDEGATE_DISK_FOLDER"), *page = getenv("TIDEGATE_DISK_CONTROL");
    const char *kept = getenv("TIDEGATE_DISK_SHADOW");
    if (!name || !page) return;
    int fd = open(page, O_RDWR | O_CLOEXEC);
    void *words = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (words == MAP_FAILED) {
        perror("the disk's control page");
        _exit(70);
    }
    snprintf(folder, sizeof folder, "%s", name);
    if (kept) snprintf(shadow, sizeof shadow, "%s", kept);
    folder_length = strlen(folder);
    control = words;
}

// Another boot of the machine has another name.
static const char *boot(const char *path) {
    const char *name = getenv("TIDEGATE_DISK_BOOT");
    return name && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 ? name : path;
}

static int is_ours(const char *path) {
    return control && strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || !path[folder_length]);
}

static struct open_file *file_of(int fd) {
    return control && fd >= 0 && fd < 65536 ? atomic_load(&opened[fd]) : NULL;
}

static void pause_ms(uint64_t ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// Whether the call fails; errno is set then.
static int fails(unsigned operation) {
    if (!(control[OPERATIONS] & operation)) return 0;
    control[WAITING]++;
    while (control[HOLD] && (control[OPERATIONS] & operation)) pause_ms(1);
    if (control[DELAY]) pause_ms(control[DELAY]);
    control[WAITING]--;
    if (!(control[OPERATIONS] & operation) || !control[ERROR]) return 0;
    control[FAILED]++;
    errno = (int)control[ERROR];
    return 1;
}

// How much of what lengthens a file by `count` bytes there is room for. ROOM is one more than the bytes left; 0 is no end.
static size_t room(size_t count) {
    uint64_t left = control[ROOM], taken;
    do {
        if (left == 0) return count;
        taken = count < left - 1 ? count : left - 1;
    } while (!atomic_compare_exchange_weak(&control[ROOM], &left, left - taken));
    return taken;
}

static void shadow_path(char *out, const char *kind, const char *path) {
    char *end = out + snprintf(out, PATH_MAX, "%s/%s/", shadow, kind);
    if (!path[folder_length]) *end++ = '%';
    for (const char *c = path + folder_length; *c && end < out + PATH_MAX - 1; c++) *end++ = *c == '/' ? '%' : *c;
    *end = 0;
}

static void data_path(char *out, const char *number) { snprintf(out, PATH_MAX, "%s/data/%s", shadow, number); }

static int read_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[count < 0 ? 0 : count] = 0;
    return count > 0;
}

static void write_text(const char *path, const char *text, size_t length) {
    char new[PATH_MAX + 8];
    snprintf(new, sizeof new, "%s~new", path);
    int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length || rename(new, path) != 0) {
        perror("the disk's shadow");
        _exit(70);
    }
    close(fd);
}

// Gives a name that was made just now its number, and tells the number of one that was there.
static void name_made(const char *path, int is_folder, char *number) {
    static _Atomic uint64_t serial;
    char place[PATH_MAX];
    if (!shadow[0]) return;
    pthread_mutex_lock(&shadow_lock);
    shadow_path(place, "now", path);
    if (!read_text(place, number, 64)) {
        if (is_folder) strcpy(number, "d");
        else snprintf(number, 64, "%d-%ld-%lu", getpid(), (long)time(NULL), (unsigned long)serial++);
        write_text(place, number, strlen(number));
    }
    pthread_mutex_unlock(&shadow_lock);
}

static void sync_file(int fd, struct open_file *file) {
    int64_t from = atomic_exchange(&file->dirty, INT64_MAX);
    struct stat about;
    char place[PATH_MAX], self[64], piece[65536];
    if (from == INT64_MAX || fstat(fd, &about) != 0) return;
    data_path(place, file->number);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int source = open(self, O_RDONLY | O_CLOEXEC), kept = open(place, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (source >= 0 && kept >= 0 && from < about.st_size) {
        size_t wanted = about.st_size - from < (int64_t)sizeof piece ? (size_t)(about.st_size - from) : sizeof piece;
        ssize_t count = pread(source, piece, wanted, from);
        if (count <= 0 || pwrite(kept, piece, count, from) != count) break;
        from += count;
    }
    if (ftruncate(kept, about.st_size) != 0) _exit(70);
    close(source);
    close(kept);
}

static void sync_folder(const char *path) {
    char prefix[PATH_MAX], place[PATH_MAX], number[64], now[PATH_MAX];
    static char list[1 << 20];
    size_t length = 0;
    shadow_path(prefix, "now", path);
    const char *start = strrchr(prefix, '/') + 1;
    size_t same = path[folder_length] ? strlen(start) : 0;
    snprintf(now, sizeof now, "%s/now", shadow);
    DIR *names = opendir(now);
    for (struct dirent *entry; names && (entry = readdir(names));) {
        const char *name = entry->d_name;
        if (strncmp(name, start, same) != 0 || name[same] != '%' || !name[same + 1] || strchr(name + same + 1, '%')) continue;
        if (strchr(name, '~')) continue;
        char entry_place[PATH_MAX + 300];
        snprintf(entry_place, sizeof entry_place, "%s/%s", now, name);
        if (!read_text(entry_place, number, sizeof number)) continue;
        length += snprintf(list + length, sizeof list - length, "%s %s\n", number, name + same + 1);
    }
    if (names) closedir(names);
    shadow_path(place, "synced", path);
    write_text(place, list, length);
}

static void remember(int fd, const char *path) {
    struct stat about;
    if (fd < 0 || fd >= 65536 || fstat(fd, &about) != 0) return;
    struct open_file *file = calloc(1, sizeof *file);
    snprintf(file->path, sizeof file->path, "%s", path);
    file->is_folder = S_ISDIR(about.st_mode);
    size_t length = strlen(path);
    file->is_log = length > 4 && strcmp(path + length - 4, ".log") == 0;
    // Another process may have written what it never synced: the first sync is one of the whole file.
    file->dirty = 0;
    if (!file->is_folder) name_made(path, 0, file->number);
    atomic_store(&opened[fd], file);
}

static int open_by(int (*real)(int, const char *, int, ...), int at, const char *path, int flags, mode_t mode) {
    if (!is_ours(path)) return real(at, boot(path), flags, mode);
    int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
    if (writes && fails(NAMES)) return -1;
    int fd = real(at, path, flags, mode);
    if (fd >= 0) remember(fd, path);
    return fd;
}

#define MODE(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

static int real_openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    REAL(int, openat64, int, const char *, int, ...);
    return real(at, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_by(real_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_by(real_openat, AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_by(real_openat, at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    return open_by(real_openat, at, path, flags, mode);
}

int close(int fd) {
    REAL(int, close, int);
    struct open_file *file = file_of(fd);
    if (file) atomic_store(&opened[fd], NULL);
    int result = real(fd);
    free(file);
    return result;
}

// How many of `count` bytes at `at` may be written; -1 when the call fails.
static ssize_t admit(int fd, size_t count, off64_t at) {
    struct stat about;
    int64_t end = fstat(fd, &about) == 0 ? about.st_size : 0;
    int64_t grows = at + (int64_t)count - end;
    if (fails(grows > 0 ? GROW : OVERWRITE)) return -1;
    if (grows <= 0) return count;
    size_t within = grows < (int64_t)count ? count - grows : 0;
    size_t admitted = within + room(count - within);
    if (admitted > 0) return admitted;
    control[FAILED]++;
    errno = ENOSPC;
    return -1;
}

static void wrote(struct open_file *file, int64_t at) {
    int64_t dirty = file->dirty;
    while (at < dirty && !atomic_compare_exchange_weak(&file->dirty, &dirty, at)) {}
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    struct open_file *file = file_of(fd);
    if (!file || count == 0) return real(fd, bytes, count, at);
    ssize_t admitted = admit(fd, count, at);
    ssize_t written = admitted < 0 ? -1 : real(fd, bytes, admitted, at);
    if (written > 0) wrote(file, at);
    return written;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(ssize_t, write, int, const void *, size_t);
    struct open_file *file = file_of(fd);
    if (!file || count == 0) return real(fd, bytes, count);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t admitted = admit(fd, count, at);
    ssize_t written = admitted < 0 ? -1 : real(fd, bytes, admitted);
    if (written > 0) wrote(file, at);
    return written;
}

int ftruncate64(int fd, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    struct open_file *file = file_of(fd);
    if (!file) return real(fd, length);
    if (fails(OVERWRITE)) return -1;
    wrote(file, 0);
    return real(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_by(int (*real)(int), int fd) {
    struct open_file *file = file_of(fd);
    if (!file) return real(fd);
    if (file->is_log) control[BEGUN]++;
    if (fails(SYNC)) {
        file->dirty = INT64_MAX;
        return -1;
    }
    if (shadow[0]) {
        pthread_mutex_lock(&shadow_lock);
        if (file->is_folder) sync_folder(file->path);
        else sync_file(fd, file);
        pthread_mutex_unlock(&shadow_lock);
    }
    int result = real(fd);
    if (file->is_log) control[DONE]++;
    return result;
}

int fsync(int fd) {
    REAL(int, fsync, int);
    return sync_by(real, fd);
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return sync_by(real, fd);
}

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    if (!is_ours(from)) return real(from, to);
    if (fails(NAMES)) return -1;
    int result = real(from, to);
    if (result == 0 && shadow[0]) {
        char old[PATH_MAX], new[PATH_MAX];
        pthread_mutex_lock(&shadow_lock);
        shadow_path(old, "now", from);
        shadow_path(new, "now", to);
        real(old, new);
        pthread_mutex_unlock(&shadow_lock);
    }
    return result;
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    if (!is_ours(path)) return real(path);
    if (fails(NAMES)) return -1;
    int result = real(path);
    if (result == 0 && shadow[0]) {
        char old[PATH_MAX];
        pthread_mutex_lock(&shadow_lock);
        shadow_path(old, "now", path);
        real(old);
        pthread_mutex_unlock(&shadow_lock);
    }
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    // That it is there already is told even by a system that cannot write.
    if (!is_ours(path) || access(path, F_OK) == 0) return real(path, mode);
    if (fails(NAMES)) return -1;
    int result = real(path, mode);
    char number[64];
    if (result == 0 && path[folder_length]) name_made(path, 1, number);
    return result;
}
