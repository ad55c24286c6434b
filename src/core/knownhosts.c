/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "knownhosts.h"
#include "text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_LIMIT (4U << 20)
#define LINE_LIMIT 16384

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

enum marker {
	MARKER_NONE,
	MARKER_REVOKED,
	MARKER_AUTHORITY,
};

struct judge {
	const char *name;
	const char *lookup;
	ssh_key key; /* NULL: only `types` is wanted */
	struct alk_host_answer *answer;
	enum rank rank;
	unsigned types;
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

int alk_knownhosts_lookup(const char *host, uint16_t port, char *out, struct alk_err *err)
{
	char name[ALK_KNOWNHOSTS_HOST_MAX + 1];
	size_t len = strlen(host);

	for (size_t i = 0; i < len && len <= ALK_KNOWNHOSTS_HOST_MAX; i++) {
		unsigned char c = (unsigned char)host[i];

		if (c <= ' ' || c >= 0x7f || strchr(",*?![]|\"\\#@", c))
			return alk_err_set(
				err, -EINVAL,
				"the server's name has a character that no host name has: correct it");
		name[i] = (char)tolower(c);
	}
	if (len == 0 || len > ALK_KNOWNHOSTS_HOST_MAX)
		return alk_err_set(err, -EINVAL, "the server's name must have 1 to %d characters",
				   ALK_KNOWNHOSTS_HOST_MAX);
	name[len] = '\0';
	snprintf(out, ALK_KNOWNHOSTS_LOOKUP_SIZE, port == 22 ? "%s" : "[%s]:%u", name, port);
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

/* libssh accepts keys with another type inside or with bytes behind: written out again they
 * differ. */
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

static void where_say(char out[static ALK_KNOWNHOSTS_WHERE_SIZE], const char *name, unsigned line)
{
	char number[16];
	size_t size = ALK_KNOWNHOSTS_WHERE_SIZE;
	size_t room = size - (size_t)snprintf(number, sizeof(number), ":%u", line);
	size_t len = strlen(name);

	/* The end of a long path says more than its beginning. */
	if (len < room)
		snprintf(out, size, "%s%s", name, number);
	else
		snprintf(out, size, "...%s%s", name + len - room + 4, number);
}

static unsigned type_bit(ssh_key key)
{
	switch (ssh_key_type(key)) {
	case SSH_KEYTYPE_ED25519:
		return ALK_HOSTKEY_ED25519;
	case SSH_KEYTYPE_ECDSA_P256:
		return ALK_HOSTKEY_P256;
	case SSH_KEYTYPE_ECDSA_P384:
		return ALK_HOSTKEY_P384;
	case SSH_KEYTYPE_ECDSA_P521:
		return ALK_HOSTKEY_P521;
	case SSH_KEYTYPE_RSA:
		return ALK_HOSTKEY_RSA;
	default:
		return 0;
	}
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
	where_say(answer->where, judge->name, line);
	answer->known[0] = answer->known_type[0] = '\0';
	if (answer->verdict != ALK_HOST_CHANGED)
		return 0;
	snprintf(answer->known_type, sizeof(answer->known_type), "%s",
		 ssh_key_type_to_char(ssh_key_type(known)));
	return alk_key_fingerprint(known, answer->known, sizeof(answer->known));
}

static int marker_read(const char *word, enum marker *marker)
{
	if (strcmp(word, "@revoked") == 0)
		*marker = MARKER_REVOKED;
	else if (strcmp(word, "@cert-authority") == 0)
		*marker = MARKER_AUTHORITY;
	else
		return -EINVAL;
	return 0;
}

static int judge_marked(struct judge *judge, ssh_key known, enum marker marker, unsigned line)
{
	if (marker == MARKER_NONE)
		judge->types |= type_bit(known);
	if (!judge->key)
		return 0;
	if (marker != MARKER_AUTHORITY)
		return judge_entry(judge, known, marker == MARKER_REVOKED, line);
	/* A key that signs certificates is no host's own key: it neither lets it in nor contradicts
	 * it. */
	if (!judge->answer->authority[0])
		where_say(judge->answer->authority, judge->name, line);
	return 0;
}

/* `text` is the line, NUL-terminated; it is cut into words. -EINVAL when it cannot be read. */
static int judge_line(struct judge *judge, char *text, unsigned line)
{
	struct ssh_knownhosts_entry *entry = NULL;
	enum marker marker = MARKER_NONE;
	char *save = NULL;
	char *names = strtok_r(text, " \t\r", &save);
	const char *type, *base64;
	int rc;

	if (!names || names[0] == '#')
		return 0;
	if (names[0] == '@') {
		if (marker_read(names, &marker) < 0)
			return -EINVAL;
		names = strtok_r(NULL, " \t\r", &save);
	}
	type = strtok_r(NULL, " \t\r", &save);
	base64 = strtok_r(NULL, " \t\r", &save);
	if (!names || !type || !base64)
		return -EINVAL;
	rc = entry_read(judge, names, type, base64, &entry);
	if (rc <= 0)
		return rc;
	rc = judge_marked(judge, entry->publickey, marker, line);
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
	char lookup[ALK_KNOWNHOSTS_LOOKUP_SIZE];
	struct judge judge = {.name = name, .lookup = lookup, .key = key, .answer = answer};
	int rc;

	*answer = (struct alk_host_answer){.verdict = ALK_HOST_UNKNOWN};
	rc = alk_knownhosts_lookup(host, port, lookup, err);
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

int alk_knownhosts_types(const char *path, const char *host, uint16_t port, unsigned *types,
			 struct alk_err *err)
{
	char lookup[ALK_KNOWNHOSTS_LOOKUP_SIZE];
	struct alk_host_answer answer = {.verdict = ALK_HOST_UNKNOWN};
	struct judge judge = {.name = path, .lookup = lookup, .answer = &answer};
	char *text = NULL;
	size_t len = 0;
	int rc = alk_knownhosts_lookup(host, port, lookup, err);

	if (rc == 0)
		rc = file_read(path, &text, &len, err);
	if (rc == 0 && text)
		judge_text(&judge, text, len);
	free(text);
	*types = judge.types;
	return rc;
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
