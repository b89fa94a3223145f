/* Preloaded into an endpoint by tests/doubles/sandbox.py.
 *
 * CLOCK_FILE: eight bytes, a signed count of seconds that the wall clock is off by. Only wall time
 * moves: CLOCK_MONOTONIC and CLOCK_BOOTTIME are the kernel's.
 * HANG_FILE: while it exists, account lookups of our own workers (comm "jackline-...") hang, as a
 * name service does whose server is gone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset;

__attribute__((constructor)) static void begin(void) {
  int fd = open(CLOCK_FILE, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *place = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
  if (place != MAP_FAILED) offset = place;
  close(fd);
}

static int64_t off(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  int failed = syscall(SYS_clock_gettime, clock, at);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
  return failed;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

static void hang(void) {
  char name[16] = "";
  prctl(PR_GET_NAME, name);
  while (strncmp(name, "jackline-", 9) == 0 && access(HANG_FILE, F_OK) == 0) usleep(100000);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

struct passwd *getpwuid(uid_t uid) {
  hang();
  return REAL(getpwuid)(uid);
}

struct passwd *getpwnam(const char *name) {
  hang();
  return REAL(getpwnam)(name);
}

int getpwuid_r(uid_t uid, struct passwd *into, char *room, size_t size, struct passwd **found) {
  hang();
  return REAL(getpwuid_r)(uid, into, room, size, found);
}

int getpwnam_r(const char *name, struct passwd *into, char *room, size_t size,
               struct passwd **found) {
  hang();
  return REAL(getpwnam_r)(name, into, room, size, found);
}
