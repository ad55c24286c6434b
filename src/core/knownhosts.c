/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "knownhosts.h"
#include "keys.h"
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_LIMIT (4U << 20)
#define LINE_LIMIT 16384
#define HOST_LIMIT 255
#define LOOKUP_SIZE (HOST_LIMIT + 16)
#define SHA1_SIZE 20

/* What a matching line says; the highest decides. */
enum rank {
	RANK_NONE,
	RANK_OTHER_TYPE,
	RANK_OTHER_KEY,
	RANK_OK,
	RANK_REVOKED,
};

static const enum alk_host_verdict rank_verdict[] = {
	[RANK_NONE] = ALK_HOST_UNKNOWN,	     [RANK_OTHER_TYPE] = ALK_HOST_CHANGED,
	[RANK_OTHER_KEY] = ALK_HOST_CHANGED, [RANK_OK] = ALK_HOST_OK,
	[RANK_REVOKED] = ALK_HOST_REVOKED,
};

struct judge {
	const char *name;
	const char *lookup;
	ssh_key key;
	struct alk_host_answer *answer;
	enum rank rank;
};

int alk_key_fingerprint(ssh_key key, char *text, size_t size)
{
	unsigned char *hash = NULL;
	size_t len = 0;
	char *print;
	int rc;

	if (ssh_get_publickey_hash(key, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) != SSH_OK)
		return -EINVAL;
	print = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
	ssh_clean_pubkey_hash(&hash);
	if (!print)
		return -ENOMEM;
	rc = (size_t)snprintf(text, size, "%s", print) < size ? 0 : -ENOSPC;
	ssh_string_free_char(print);
	return rc;
}

/* The text that entries are compared with: "host" for port 22, else "[host]:port", in lower case. */
static int lookup_make(const char *host, uint16_t port, char *out, struct alk_err *err)
{
	char name[HOST_LIMIT + 1];
	size_t len = strlen(host);

	for (size_t i = 0; i < len && len <= HOST_LIMIT; i++) {
		unsigned char c = (unsigned char)host[i];

		if (c <= ' ' || c >= 0x7f || strchr(",*?![]|\"\\#@", c))
			return alk_err_set(
				err, -EINVAL,
				"the server's name has a character that no host name has: correct it");
		name[i] = (char)tolower(c);
	}
	if (len == 0 || len > HOST_LIMIT)
		return alk_err_set(err, -EINVAL, "the server's name must have 1 to %d characters",
				   HOST_LIMIT);
	name[len] = '\0';
	snprintf(out, LOOKUP_SIZE, port == 22 ? "%s" : "[%s]:%u", name, port);
	return 0;
}

/* A negated pattern that matches outweighs all others of its line. */
static bool names_match(const char *names, const char *lookup)
{
	bool found = false;

	for (const char *p = names; *p;) {
		size_t len = strcspn(p, ",");
		bool negated = *p == '!';

		if (alk_text_glob(lookup, strlen(lookup), p + negated, len - negated, true)) {
			if (negated)
				return false;
			found = true;
		}
		p += len + (p[len] == ',');
	}
	return found;
}

/* libssh accepts keys with another type inside or with bytes behind: written out again they differ. */
static bool key_is_exact(ssh_key key, const char *base64)
{
	char *again = NULL;
	bool same;

	if (ssh_pki_export_pubkey_base64(key, &again) != SSH_OK)
		return false;
	same = strcmp(again, base64) == 0;
	ssh_string_free_char(again);
	return same;
}

/* 1 with an entry, 0 when the line is of another host, -EINVAL when it cannot be read. */
static int entry_read(const struct judge *judge, const char *names, const char *type,
		      const char *base64, struct ssh_knownhosts_entry **entry)
{
	bool hashed = names[0] == '|';
	char line[LINE_LIMIT + 4];
	int rc;

	if (hashed && (strncmp(names, "|1|", 3) != 0 || strchr(names, ',')))
		return -EINVAL;
	if (!hashed && !names_match(names, judge->lookup))
		return 0;
	snprintf(line, sizeof(line), "%s %s %s", names, type, base64);
	rc = ssh_known_hosts_parse_line(hashed ? judge->lookup : NULL, line, entry);
	if (rc == SSH_AGAIN)
		return 0;
	if (rc != SSH_OK)
		return -EINVAL;
	if (!key_is_exact((*entry)->publickey, base64)) {
		ssh_knownhosts_entry_free(*entry);
		return -EINVAL;
	}
	return 1;
}

static void answer_where(struct alk_host_answer *answer, const char *name, unsigned line)
{
	char number[16];
	size_t room = sizeof(answer->where) - (size_t)snprintf(number, sizeof(number), ":%u", line);
	size_t len = strlen(name);

	/* The end of a long path says more than its beginning. */
	if (len < room)
		snprintf(answer->where, sizeof(answer->where), "%s%s", name, number);
	else
		snprintf(answer->where, sizeof(answer->where), "...%s%s", name + len - room + 4,
			 number);
}

static int judge_entry(struct judge *judge, ssh_key known, bool revoked, unsigned line)
{
	struct alk_host_answer *answer = judge->answer;
	enum rank rank = RANK_OTHER_TYPE;

	if (ssh_key_cmp(judge->key, known, SSH_KEY_CMP_PUBLIC) == 0)
		rank = revoked ? RANK_REVOKED : RANK_OK;
	else if (revoked)
		return 0;
	else if (ssh_key_type(judge->key) == ssh_key_type(known))
		rank = RANK_OTHER_KEY;
	if (rank <= judge->rank)
		return 0;
	judge->rank = rank;
	answer->verdict = rank_verdict[rank];
	answer_where(answer, judge->name, line);
	answer->known[0] = answer->known_type[0] = '\0';
	if (answer->verdict != ALK_HOST_CHANGED)
		return 0;
	snprintf(answer->known_type, sizeof(answer->known_type), "%s",
		 ssh_key_type_to_char(ssh_key_type(known)));
	return alk_key_fingerprint(known, answer->known, sizeof(answer->known));
}

/* `text` is the line, NUL-terminated; it is cut into words. -EINVAL when it cannot be read. */
static int judge_line(struct judge *judge, char *text, unsigned line)
{
	struct ssh_knownhosts_entry *entry = NULL;
	char *save = NULL;
	char *names = strtok_r(text, " \t\r", &save);
	bool revoked = false;
	const char *type, *base64;
	int rc;

	if (!names || names[0] == '#')
		return 0;
	if (names[0] == '@') {
		revoked = strcmp(names, "@revoked") == 0;
		if (!revoked)
			return strcmp(names, "@cert-authority") == 0 ? 0 : -EINVAL;
		names = strtok_r(NULL, " \t\r", &save);
	}
	type = strtok_r(NULL, " \t\r", &save);
	base64 = strtok_r(NULL, " \t\r", &save);
	if (!names || !type || !base64)
		return -EINVAL;
	rc = entry_read(judge, names, type, base64, &entry);
	if (rc <= 0)
		return rc;
	rc = judge_entry(judge, entry->publickey, revoked, line);
	ssh_knownhosts_entry_free(entry);
	return rc;
}

static void judge_text(struct judge *judge, const char *text, size_t len)
{
	struct alk_host_answer *answer = judge->answer;
	const char *p = text, *end = text + len;
	char copy[LINE_LIMIT + 1];

	for (unsigned line = 1; p < end; line++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		bool good = n <= LINE_LIMIT && !memchr(p, '\0', n);

		if (good) {
			memcpy(copy, p, n);
			copy[n] = '\0';
			good = judge_line(judge, copy, line) == 0;
		}
		if (!good && answer->bad_lines++ == 0)
			answer->bad_line = line;
		p = nl ? nl + 1 : end;
	}
}

int alk_knownhosts_judge(const char *name, const char *text, size_t len, const char *host,
			 uint16_t port, ssh_key key, struct alk_host_answer *answer,
			 struct alk_err *err)
{
	char lookup[LOOKUP_SIZE];
	struct judge judge = {.name = name, .lookup = lookup, .key = key, .answer = answer};
	int rc;

	*answer = (struct alk_host_answer){.verdict = ALK_HOST_UNKNOWN};
	rc = lookup_make(host, port, lookup, err);
	if (rc < 0)
		return rc;
	rc = alk_key_fingerprint(key, answer->seen, sizeof(answer->seen));
	if (rc < 0)
		return alk_err_set(err, rc, "the server's host key cannot be read");
	snprintf(answer->key_type, sizeof(answer->key_type), "%s",
		 ssh_key_type_to_char(ssh_key_type(key)));
	judge_text(&judge, text, len);
	return 0;
}

/* Gives the text, also on failure; a file that does not exist has none. */
static int file_read(const char *path, char **text, size_t *len, struct alk_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t n = -1;
	int rc;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd >= 0)
		*text = malloc(FILE_LIMIT + 1);
	while (*text && *len <= FILE_LIMIT && n != 0) {
		n = read(fd, *text + *len, FILE_LIMIT + 1 - *len);
		if (n > 0)
			*len += (size_t)n;
		else if (n < 0 && errno != EINTR)
			break;
	}
	if (*len > FILE_LIMIT)
		rc = alk_err_set(err, -EFBIG,
				 "known_hosts %s is larger than 4 MiB: remove old lines", path);
	else if (n != 0)
		rc = alk_err_set(err, -errno, "cannot read known_hosts %s: %s", path,
				 strerror(errno));
	else
		rc = 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

int alk_knownhosts_check(const char *path, const char *host, uint16_t port, ssh_key key,
			 struct alk_host_answer *answer, struct alk_err *err)
{
	char *text = NULL;
	size_t len = 0;
	int rc = file_read(path, &text, &len, err);

	if (rc == 0)
		rc = alk_knownhosts_judge(path, text ? text : "", len, host, port, key, answer,
					  err);
	free(text);
	return rc;
}

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t h[5], const uint8_t *p)
{
	static const uint32_t add[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	uint32_t w[80];

	for (unsigned i = 0; i < 80; i++) {
		uint32_t f;

		if (i < 16)
			w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
			       (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
		else
			w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
		if (i < 20)
			f = (b & c) | (~b & d);
		else if (i < 40 || i >= 60)
			f = b ^ c ^ d;
		else
			f = (b & c) | (b & d) | (c & d);
		f += rotate(a, 5) + e + w[i] + add[i / 20];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = f;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* RFC 3174. libssh offers no HMAC, and hashed names are HMAC-SHA1 by their format; they hide names from
 * who finds the file, nothing else rests on them. */
static void sha1(const uint8_t *data, size_t len, uint8_t *out)
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t last[128] = {0};
	size_t rest = len % 64, tail = rest < 56 ? 64 : 128;

	for (size_t i = 0; i + 64 <= len; i += 64)
		sha1_block(h, data + i);
	memcpy(last, data + len - rest, rest);
	last[rest] = 0x80;
	for (unsigned i = 0; i < 8; i++)
		last[tail - 1 - i] = (uint8_t)((uint64_t)len * 8 >> 8 * i);
	for (size_t i = 0; i < tail; i += 64)
		sha1_block(h, last + i);
	for (unsigned i = 0; i < SHA1_SIZE; i++)
		out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* RFC 2104 with a key of SHA1_SIZE bytes. */
static void hmac_sha1(const uint8_t *key, const char *text, size_t len, uint8_t *out)
{
	uint8_t inner[64 + LOOKUP_SIZE], outer[64 + SHA1_SIZE];

	for (unsigned i = 0; i < 64; i++) {
		inner[i] = (i < SHA1_SIZE ? key[i] : 0) ^ 0x36;
		outer[i] = (i < SHA1_SIZE ? key[i] : 0) ^ 0x5c;
	}
	memcpy(inner + 64, text, len);
	sha1(inner, 64 + len, outer + 64);
	sha1(outer, sizeof(outer), out);
}

/* Turn "host" into "|1|salt|hash". */
static int lookup_hash(char *lookup)
{
	uint8_t salt[SHA1_SIZE], hash[SHA1_SIZE];
	char salt64[32], hash64[32];

	if (getentropy(salt, sizeof(salt)) < 0)
		return -errno;
	hmac_sha1(salt, lookup, strlen(lookup), hash);
	alk_base64_encode(salt, sizeof(salt), salt64, sizeof(salt64));
	alk_base64_encode(hash, sizeof(hash), hash64, sizeof(hash64));
	snprintf(lookup, LOOKUP_SIZE, "|1|%s|%s", salt64, hash64);
	return 0;
}

static int dirs_make(const char *path)
{
	char *copy = strdup(path);
	int rc = copy ? 0 : -ENOMEM;

	for (char *p = copy; rc == 0 && (p = strchr(p + 1, '/'));) {
		*p = '\0';
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			rc = -errno;
		*p = '/';
	}
	free(copy);
	return rc;
}

/* One write, so that two programs that append at once do not mix their lines. */
static int file_append(const char *path, const char *line)
{
	int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY;
	int fd = open(path, flags, 0600);
	char *text = NULL;
	char last = '\n';
	ssize_t n;
	int rc = 0;

	if (fd < 0 && errno == ENOENT) {
		rc = dirs_make(path);
		if (rc < 0)
			return rc;
		fd = open(path, flags, 0600);
	}
	if (fd < 0)
		return -errno;
	off_t size = lseek(fd, 0, SEEK_END);

	if (size > 0 && pread(fd, &last, 1, size - 1) < 0)
		rc = -errno;
	/* A last line without its end would swallow ours. */
	else if (asprintf(&text, "%s%s", last == '\n' ? "" : "\n", line) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		n = write(fd, text, strlen(text));
		if (n < 0)
			rc = -errno;
		else if ((size_t)n < strlen(text))
			rc = -ENOSPC;
		free(text);
	}
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

int alk_knownhosts_add(const char *path, const char *host, uint16_t port, ssh_key key, bool hash,
		       struct alk_err *err)
{
	char lookup[LOOKUP_SIZE];
	char *base64 = NULL, *line = NULL;
	int rc = lookup_make(host, port, lookup, err);

	if (rc < 0)
		return rc;
	if (ssh_pki_export_pubkey_base64(key, &base64) != SSH_OK)
		return alk_err_set(err, -EINVAL, "the server's host key cannot be written");
	if (hash)
		rc = lookup_hash(lookup);
	if (rc == 0 && asprintf(&line, "%s %s %s\n", lookup,
				ssh_key_type_to_char(ssh_key_type(key)), base64) < 0)
		rc = -ENOMEM;
	if (rc == 0) {
		rc = file_append(path, line);
		free(line);
	}
	ssh_string_free_char(base64);
	if (rc < 0)
		return alk_err_set(err, rc, "cannot add the host key to known_hosts %s: %s", path,
				   strerror(-rc));
	return 0;
}

int alk_knownhosts_default(char *path, size_t size, struct alk_err *err)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	const struct passwd *user;
	int n;

	if (state && state[0] == '/') {
		n = snprintf(path, size, "%s/alknet/known_hosts", state);
	} else {
		if (!home || home[0] != '/') {
			user = getpwuid(getuid());
			home = user ? user->pw_dir : NULL;
		}
		if (!home || home[0] != '/')
			return alk_err_set(
				err, -ENOENT,
				"there is no home directory for known_hosts: set --known-hosts");
		n = snprintf(path, size, "%s/.local/state/alknet/known_hosts", home);
	}
	if (n < 0 || (size_t)n >= size)
		return alk_err_set(err, -ENAMETOOLONG,
				   "the path of known_hosts is too long: set --known-hosts");
	return 0;
}
