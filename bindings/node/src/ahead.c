/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* recv, send, poll and memcpy of libssh, ahead of libc's, and its ssh_get_random: what
 * src/cmd/readahead_syms.c, memcpy_syms.c and random_syms.c are to the program `alknet`, and for
 * their reasons. The addon is loaded with RTLD_DEEPBIND, so the libraries that come with it look
 * here first; Node.js itself and other addons do not. Where that is not so (libssh was in the
 * process before, or there is no DEEPBIND) libssh's calls reach libc, the read-ahead stays off, and
 * everything works, slower. */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* libalknet's, for this use alone. Each is true when the call was answered there. */
extern void alk_readahead_enable(void);
extern bool alk_readahead_recv(int fd, void *buf, size_t n, int flags, ssize_t *rc);
extern bool alk_readahead_send(int fd, const void *buf, size_t n, int flags, ssize_t *rc);
extern bool alk_readahead_poll(struct pollfd *fds, nfds_t n, int timeout, int *rc);
extern int alk_padding_random(void *where, int len, int strong);

EXPORT int ssh_get_random(void *where, int len, int strong)
{
	return alk_padding_random(where, len, strong);
}

EXPORT ssize_t recv(int fd, void *buf, size_t n, int flags)
{
	ssize_t rc;

	if (alk_readahead_recv(fd, buf, n, flags, &rc))
		return rc;
	return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
}

EXPORT ssize_t send(int fd, const void *buf, size_t n, int flags)
{
	ssize_t rc;

	if (alk_readahead_send(fd, buf, n, flags, &rc))
		return rc;
	return syscall(SYS_sendto, fd, buf, n, flags, NULL, (socklen_t)0);
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
	struct timespec ts = {.tv_sec = timeout / 1000, .tv_nsec = (timeout % 1000) * 1000000L};
	int rc;

	if (alk_readahead_poll(fds, n, timeout, &rc))
		return rc;
	return (int)syscall(SYS_ppoll, fds, n, timeout < 0 ? NULL : &ts, NULL, (size_t)_NSIG / 8);
}

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
/* The smallest length from which any glibc uses `rep movsb`, and whole cache lines below it. */
#define PIECE 2048u
#define STEP (PIECE - 64)

/* Under another name, so that the compiler does not make a memcpy of it again. */
extern void *libc_memmove(void *to, const void *from, size_t n) __asm__("memmove");

EXPORT void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
	char *at = to;
	const char *next = from;

	if (n < PIECE)
		return libc_memmove(to, from, n);
	for (; n >= PIECE; n -= STEP, at += STEP, next += STEP)
		libc_memmove(at, next, STEP);
	libc_memmove(at, next, n);
	return to;
}
#endif

#if __SIZEOF_POINTER__ == 8
#define INFO_SYM(info) ELF64_R_SYM(info)
#else
#define INFO_SYM(info) ELF32_R_SYM(info)
#endif

/* Whether one of `size` bytes of relocations made `name` lead to `to`. */
static bool leads(const struct link_map *map, ElfW(Addr) table, size_t size, const ElfW(Sym) * syms,
		  const char *names, const char *name, const void *to)
{
	const ElfW(Rela) *rela = (const ElfW(Rela) *)table;

	for (size_t i = 0; table != 0 && i < size / sizeof(*rela); i++) {
		const char *one = names + syms[INFO_SYM(rela[i].r_info)].st_name;
		const void *const *slot = (const void *const *)(map->l_addr + rela[i].r_offset);

		if (INFO_SYM(rela[i].r_info) != 0 && strcmp(one, name) == 0 && *slot == to)
			return true;
	}
	return false;
}

/* Whether `library`, which is loaded, calls `name` at `to`. Only for machines with RELA, as 64-bit
 * ones have. */
static bool calls(const char *library, const char *name, const void *to)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
	struct link_map *map = NULL;
	ElfW(Addr) jmprel = 0, rela = 0, symtab = 0, strtab = 0;
	size_t jmprel_size = 0, rela_size = 0;
	bool is_rela = false, found = false;

	if (handle == NULL)
		return false;
	if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0)
		map = NULL;
	for (const ElfW(Dyn) *dyn = map != NULL ? map->l_ld : NULL;
	     dyn != NULL && dyn->d_tag != DT_NULL; dyn++)
		switch (dyn->d_tag) {
		case DT_JMPREL:
			jmprel = dyn->d_un.d_ptr;
			break;
		case DT_PLTRELSZ:
			jmprel_size = dyn->d_un.d_val;
			break;
		case DT_PLTREL:
			is_rela = is_rela || dyn->d_un.d_val == DT_RELA;
			break;
		case DT_RELA:
			rela = dyn->d_un.d_ptr;
			is_rela = true;
			break;
		case DT_RELASZ:
			rela_size = dyn->d_un.d_val;
			break;
		case DT_SYMTAB:
			symtab = dyn->d_un.d_ptr;
			break;
		case DT_STRTAB:
			strtab = dyn->d_un.d_ptr;
			break;
		}
	if (is_rela && symtab != 0 && strtab != 0)
		found = leads(map, jmprel, jmprel_size, (const ElfW(Sym) *)symtab,
			      (const char *)strtab, name, to) ||
			leads(map, rela, rela_size, (const ElfW(Sym) *)symtab, (const char *)strtab,
			      name, to);
	dlclose(handle);
	return found;
}

__attribute__((constructor)) static void ahead_enable(void)
{
	if (calls("libssh.so.4", "recv", (const void *)recv) &&
	    calls("libssh.so.4", "send", (const void *)send) &&
	    calls("libssh.so.4", "poll", (const void *)poll))
		alk_readahead_enable();
}
