/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "cmdline.h"

#include <string.h>

#include "conf_private.h"
#include "text.h"

#define LINE_WIDTH 76

/* alknet(1) in mdoc(7). What stands in the options table is printed from it; the rest is text. */

static const char head[] = ".Dd November 23, 2026\n"
			   ".Dt ALKNET 1\n"
			   ".Os\n"
			   ".Sh NAME\n"
			   ".Nm alknet\n"
			   ".Nd tunnel through SSH over transports that are plugins\n";

static const char description[] =
	".Sh DESCRIPTION\n"
	".Nm\n"
	"carries connections through an SSH session.\n"
	"SSH runs over a link that a transport, a plugin, has made, so that what the\n"
	"network sees is the transport.\n"
	"The commands are:\n"
	".Bl -tag -width connect\n"
	".It Cm serve\n"
	"Accept sessions and join their channels with the destinations that they ask for.\n"
	"A supervisor listens; workers, processes of their own, speak SSH.\n"
	"A policy written in Lua may decide who may do what.\n"
	"Any SSH client that forwards ports can use it.\n"
	".It Cm connect\n"
	"Hold a session with a server,\n"
	".Nm\n"
	"or another SSH server, and offer it here: as a proxy for SOCKS5 and HTTP\n"
	"CONNECT, as forwarded ports and sockets, or on standard input and output.\n"
	"When the session is up it prints what listens where, on standard error.\n"
	"When the session ends it begins another, for ever: after a second, then two, four and so\n"
	"on up to thirty, sooner while a connection waits for it.\n"
	"What listens stays, and new connections wait for up to ten seconds.\n"
	"The first session alone may fail for good, and with\n"
	".Fl -stdio\n"
	"there is no other.\n"
	"SIGINT and SIGTERM end it; SIGHUP does where there is a terminal, and asks for a new\n"
	"session where there is none.\n"
	".It Cm check\n"
	"Check a configuration as the command would: options, files, plugins and their\n"
	"options, the policy.\n"
	"If a file\n"
	".Pa NAME_test.lua\n"
	"stands beside the policy\n"
	".Pa NAME.lua ,\n"
	"the tests in it are run.\n"
	"With\n"
	".Fl -connect\n"
	"the file is one for\n"
	".Cm connect .\n"
	"With\n"
	".Fl -dump-defaults\n"
	"a configuration with every option and its default is printed instead.\n"
	"It also takes the flags of the command that the file is for.\n"
	".It Cm policy eval\n"
	"Put a connection that is made up from flags through the questions of a policy, in\n"
	"their order, until one is denied.\n"
	"Print for each the word, who the policy takes the peer for, the line of the\n"
	"script that decided, and the time in Lua.\n"
	"Nothing is connected to, but names are resolved when the script does.\n"
	"The exit status is 0 when nothing was denied, 1 when something was.\n"
	".It Cm policy test\n"
	"Run the tests of policies: of\n"
	".Pa NAME.lua ,\n"
	"those in\n"
	".Pa NAME_test.lua\n"
	"beside it; in a directory, all below it.\n"
	"The exit status is 1 when one failed, 2 when one could not be run.\n"
	".It Cm pub , Cm sub , Cm call\n"
	"Publish an event on the bus of a local socket, print events as they happen, call an\n"
	"operation and print what it answers.\n"
	".It Cm secret new\n"
	"Print a new secret for\n"
	".Cm stealth_secret ,\n"
	"which a server and its clients share.\n"
	".It Cm completion\n"
	"Print a script that completes command lines, for the shell that is named.\n"
	".El\n"
	".Pp\n"
	"Flags are written out in full, and may stand behind other words;\n"
	".Fl -\n"
	"ends them.\n"
	"One without a value can be undone with\n"
	".Fl -no- Ns Ar flag .\n"
	"A\n"
	".Ar TIME\n"
	"is in seconds, or has\n"
	".Cm ms ,\n"
	".Cm s ,\n"
	".Cm m\n"
	"or\n"
	".Cm h\n"
	"behind it; a\n"
	".Ar SIZE\n"
	"is in bytes, or has\n"
	".Cm K ,\n"
	".Cm M\n"
	"or\n"
	".Cm G\n"
	"behind it.\n"
	"Besides those below there are:\n"
	".Bl -tag -width Ds\n"
	".It Fl c Ar FILE , Fl -config Ar FILE\n"
	"Of\n"
	".Cm serve , connect , check\n"
	"and\n"
	".Cm policy eval :\n"
	"read a configuration file, see\n"
	".Sx CONFIGURATION FILE .\n"
	".It Fl h , Fl -help\n"
	"Of every command: print its flags.\n"
	".El\n";

static const char forwards[] =
	".Ss Forwards\n"
	"A\n"
	".Ar SPEC\n"
	"of\n"
	".Fl -forward\n"
	"is one of\n"
	".Bd -literal -offset indent\n"
	"[bind:]port:host:hostport\n"
	"[bind:]port:/unix/path\n"
	"/unix/path:host:hostport\n"
	"/unix/path:/unix/path\n"
	".Ed\n"
	".Pp\n"
	"What stands first listens here, what stands last is reached from the server.\n"
	"IPv6 addresses stand in brackets.\n"
	"Without\n"
	".Ar bind\n"
	"it is 127.0.0.1; an empty one or\n"
	".Cm *\n"
	"is every address.\n"
	"Port 0 is any free one, which is printed.\n"
	".Pp\n"
	"With\n"
	".Fl -remote-forward\n"
	"it is the other way round: the server listens on\n"
	".Ar bind\n"
	"and\n"
	".Ar port ,\n"
	"on its loopback addresses unless its\n"
	".Cm gateway_ports\n"
	"or its policy says otherwise, and what stands last is reached from here.\n"
	"Only the first two forms are taken.\n"
	"Each new session asks for the same ports again.\n";

static const char configuration[] =
	".Sh CONFIGURATION FILE\n"
	"The file is one Lua table.\n"
	"It is data: nothing is defined in it but what it says itself, and it runs once,\n"
	"at start.\n"
	"Each flag is a key, with underscores for dashes; a flag that may be given\n"
	"several times is a list.\n"
	"A flag counts more than the environment, the environment more than the file, the\n"
	"file more than the default.\n"
	"Relative paths begin at the directory of the file,\n"
	".Pa ~/\n"
	"is the home directory.\n"
	"A key that is not known is an error.\n"
	"An option whose value is or may hold a secret is taken from a file of its own, too, that\n"
	"nobody else may read:\n"
	".Cm stealth_secret_file , identity_passphrase_file\n"
	"and\n"
	".Cm proxy_file\n"
	"stand for\n"
	".Cm stealth_secret , identity_passphrase\n"
	"and\n"
	".Cm proxy ;\n"
	"those of plugins have\n"
	".Cm _file\n"
	"behind their names in the same way.\n"
	"The options of a plugin stand in a table with the plugin's name.\n"
	".Bd -literal -offset indent\n"
	"return {\n"
	"\tkey = \"/etc/alknet/host_key\",\n"
	"\tauthorized_keys = \"/etc/alknet/authorized_keys\",\n"
	"\tlisten = { \"0.0.0.0:2222\", \"[::]:2222\" },\n"
	"\tworkers = \"auto\",\n"
	"\tpolicy = \"/etc/alknet/policy.lua\",\n"
	"\ttcp = { backlog = 4096 },\n"
	"}\n"
	".Ed\n"
	".Pp\n"
	"An entry of\n"
	".Cm listen\n"
	"may also be a table:\n"
	".Ql { transport = \\(dqtcp\\(dq, address = \\(dq[::]:22\\(dq } .\n";

static const char tail[] =
	".Sh FILES\n"
	".Bl -tag -width Ds\n"
	".It Pa /etc/alknet/alknet.conf\n"
	"The usual place of the server's configuration; it is read when\n"
	".Fl c\n"
	"names it.\n"
	".It Pa /run/alknet/admin.sock\n"
	"Where\n"
	".Xr alknet-admin 1\n"
	"reaches the server.\n"
	".It Pa $XDG_RUNTIME_DIR/alknet/admin.sock\n"
	"The same for a user who may make nothing there, unless\n"
	".Cm admin_socket\n"
	"was said.\n"
	".It Pa ~/.local/state/alknet/known_hosts\n"
	"Host keys that\n"
	".Cm connect\n"
	"knows, in the format of\n"
	".Xr sshd 8 .\n"
	".El\n"
	".Pp\n"
	"A private key must be a regular file of at most 64 KiB that belongs to root or\n"
	"to who runs\n"
	".Nm\n"
	"and that nobody else may read or write.\n"
	".Sh EXIT STATUS\n"
	".Bl -tag -width Ds\n"
	".It 0\n"
	"It ended as it was told to.\n"
	".It 1\n"
	"It failed while it ran:\n"
	".Cm connect\n"
	"could not reach the server, did not accept its host key, or was not let in, the first time.\n"
	".It 2\n"
	"A flag, a file, a key, the policy or an address to listen on is wrong; one\n"
	"sentence on standard error names it.\n"
	".El\n"
	".Sh EXAMPLES\n"
	"Make a host key and serve whoever has a key in\n"
	".Pa authorized_keys :\n"
	".Bd -literal -offset indent\n"
	"$ ssh-keygen -t ed25519 -N '' -f host_key\n"
	"$ alknet serve --key host_key --authorized-keys authorized_keys \\e\n"
	"      --listen 0.0.0.0:2222\n"
	".Ed\n"
	".Pp\n"
	"Go through it with a web client, names resolved by the server:\n"
	".Bd -literal -offset indent\n"
	"$ alknet connect --server example.org:2222 --identity ~/.ssh/id_ed25519 &\n"
	"$ curl --socks5-hostname 127.0.0.1:1080 http://intranet/\n"
	".Ed\n"
	".Pp\n"
	"Reach a database that only the server can reach:\n"
	".Bd -literal -offset indent\n"
	"$ alknet connect --server example.org:2222 --identity ~/.ssh/id_ed25519 \\e\n"
	"      --socks5 none --forward 5432:db.internal:5432\n"
	".Ed\n"
	".Pp\n"
	"In\n"
	".Xr ssh_config 5 ,\n"
	"reach a host behind it:\n"
	".Bd -literal -offset indent\n"
	"Host inside\n"
	"    ProxyCommand alknet connect -c ~/.alknet.conf --stdio %h:%p\n"
	".Ed\n"
	".Pp\n"
	"Check a configuration and the tests of its policy before a restart:\n"
	".Dl $ alknet check -c /etc/alknet/alknet.conf\n"
	".Sh SEE ALSO\n"
	".Xr alknet-admin 1 ,\n"
	".Xr ssh 1 ,\n"
	".Xr ssh-keygen 1\n";

/* One word; what roff would take for its own is hidden from it. */
static void word_print(FILE *out, const char *word, size_t n, bool at_start)
{
	if (at_start && n > 0 && (*word == '.' || *word == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < n; i++) {
		if (word[i] == '\\')
			fputs("\\e", out);
		else if (word[i] == '-' && i > 0 && word[i - 1] == '-')
			fputs("\\-", out);
		else
			fputc(word[i], out);
	}
}

/* Words, in lines of at most LINE_WIDTH, with a full stop. */
static void sentence_print(FILE *out, const char *text)
{
	size_t at = 0;

	for (bool first = true; *text != '\0'; first = false) {
		size_t n = strcspn(text, " ");
		char upper = first && *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A')
								   : '\0';

		if (!first)
			at += n + 1;
		if (at > LINE_WIDTH)
			at = 0;
		if (!first)
			fputc(at == 0 ? '\n' : ' ', out);
		if (upper != '\0')
			fputc(upper, out);
		word_print(out, text + (upper != '\0'), n - (upper != '\0'),
			   at == 0 && upper == '\0');
		if (at == 0)
			at = n;
		text += n + (text[n] == ' ');
	}
	fputs(".\n", out);
}

static void range_print(FILE *out, const struct alk_option *option)
{
	char min[32], max[32];

	if (option->max == 0)
		return;
	if (option->type == ALK_OPT_DURATION) {
		alk_text_format_duration(option->min, min, sizeof(min));
		alk_text_format_duration(option->max, max, sizeof(max));
	} else {
		alk_text_format_size(option->min, min, sizeof(min));
		alk_text_format_size(option->max, max, sizeof(max));
	}
	if (option->type == ALK_OPT_INT)
		fprintf(out, "It is from %lld to %lld.\n", (long long)option->min,
			(long long)option->max);
	else
		fprintf(out, "It is from %s to %s.\n", min, max);
}

static void option_print(FILE *out, const struct alk_option *option)
{
	char flag[64];

	alk_cmdline_flag(option, flag, sizeof(flag));
	if (alk_cmdline_is_flag(option))
		fprintf(out, ".It Fl %s", flag + 1);
	else
		fprintf(out, ".It Va %s No =", option->name);
	if (option->arg != NULL)
		fprintf(out, " Ar %s", option->arg);
	fputc('\n', out);
	sentence_print(out, option->help);
	if (option->flags & ALK_OPT_REPEAT)
		fputs("It may be given several times.\n", out);
	range_print(out, option);
	if (option->fallback != NULL && option->type != ALK_OPT_BOOL)
		fprintf(out, "The default is\n.Cm %s .\n", option->fallback);
	else if (option->fallback != NULL && strcmp(option->fallback, "true") == 0)
		fprintf(out, "It is on by default;\n.Fl -no-%s\nturns it off.\n", flag + 2);
	if (option->env != NULL)
		fprintf(out, "The environment variable\n.Ev %s\nfills it in.\n", option->env);
	if (!alk_cmdline_is_flag(option))
		fputs("This stands in the configuration file only.\n", out);
}

static void options_print(FILE *out, const char *title, unsigned want, unsigned without)
{
	const char *group = NULL;

	fprintf(out, ".Sh %s\n", title);
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		if ((o->flags & want) != want || (o->flags & without))
			continue;
		if (group == NULL || strcmp(group, o->group) != 0)
			fprintf(out, "%s.Ss %s\n.Bl -tag -width Ds\n", group != NULL ? ".El\n" : "",
				o->group);
		group = o->group;
		option_print(out, o);
	}
	fputs(".El\n", out);
}

static void flags_print(FILE *out, const char *title, const struct alk_flag *flag)
{
	char text[512];

	fprintf(out, ".Sh %s\n.Bl -tag -width Ds\n", title);
	for (; flag->name != NULL; flag++) {
		fprintf(out, ".It Fl -%s", flag->name);
		if (flag->arg != NULL)
			fprintf(out, " Ar %s", flag->arg);
		fputc('\n', out);
		sentence_print(out, alk_cmdline_flag_help(flag, text, sizeof(text)));
	}
	fputs(".El\n", out);
}

/* What is no option's. */
static const struct {
	const char *name, *text;
} environment[] = {
	{"ALKNET_BUS", "where the bus is, for pub, sub and call that have no --bus"},
	{"ALKNET_JOURNAL_SOCKET",
	 "the socket of the journal, for log_target = journal; without it /run/systemd/journal/socket"},
	{"HOME", "what ~/ is in a configuration file, and where known_hosts is looked for"},
	{"SSH_AUTH_SOCK", "the agent whose keys connect offers when it has no identity"},
	{"XDG_RUNTIME_DIR",
	 "where the sockets of the admin interface and of the bus are for a user who has none in /run/alknet"},
	{"XDG_STATE_HOME", "where alknet/known_hosts of connect is; without it ~/.local/state"},
};

static void environment_print(FILE *out)
{
	fputs(".Sh ENVIRONMENT\n.Bl -tag -width ALKNET_PLUGIN_DIR\n", out);
	for (const struct alk_option *o = alk_conf_options; o->type != ALK_OPT_END; o++) {
		char flag[64];

		alk_cmdline_flag(o, flag, sizeof(flag));
		if (o->env != NULL)
			fprintf(out, ".It Ev %s\nThe same as\n.Fl %s ,\nwhich counts more.\n",
				o->env, flag + 1);
	}
	for (size_t i = 0; i < sizeof(environment) / sizeof(environment[0]); i++) {
		fprintf(out, ".It Ev %s\n", environment[i].name);
		sentence_print(out, environment[i].text);
	}
	fputs(".El\n", out);
}

void alk_cmdline_manual(FILE *out)
{
	fputs(head, out);
	fputs(".Sh SYNOPSIS\n.Nm alknet Cm serve\n.Fl -key Ar FILE\n.Fl -authorized-keys Ar FILE | Fl -policy Ar FILE\n"
	      ".Op Ar flags\n"
	      ".Nm alknet Cm connect\n.Fl -server Ar HOST Ns Op : Ns Ar PORT\n.Fl -identity Ar FILE\n.Op Ar flags\n"
	      ".Nm alknet Cm check\n.Op Fl -connect\n.Fl c Ar FILE\n.Op Ar flags\n"
	      ".Nm alknet Cm check\n.Fl -dump-defaults\n"
	      ".Nm alknet Cm policy eval\n.Op Ar flags\n"
	      ".Nm alknet Cm policy test\n.Op Fl -json\n.Ar DIR | FILE ...\n"
	      ".Nm alknet Cm pub\n.Op Ar flags\n.Ar TOPIC JSON | -\n"
	      ".Nm alknet Cm sub\n.Op Ar flags\n.Ar PATTERN ...\n"
	      ".Nm alknet Cm call\n.Op Ar flags\n.Ar OPERATION\n.Op Ar JSON | -\n"
	      ".Nm alknet Cm secret new\n"
	      ".Nm alknet Cm completion\n.Cm bash | zsh | fish\n"
	      ".Nm alknet\n.Fl V | Fl -version | Fl h | Fl -help | Fl -help-man\n",
	      out);
	fputs(description, out);
	options_print(out, "FLAGS OF SERVE", ALK_OPT_SERVE, ALK_OPT_CONNECT);
	options_print(out, "FLAGS OF CONNECT", ALK_OPT_CONNECT, ALK_OPT_SERVE);
	fputs(forwards, out);
	options_print(out, "FLAGS OF SERVE AND CONNECT", ALK_OPT_SERVE | ALK_OPT_CONNECT, 0);
	flags_print(out, "FLAGS OF POLICY", alk_policy_flags);
	flags_print(out, "FLAGS OF PUB", alk_pub_flags);
	flags_print(out, "FLAGS OF SUB", alk_sub_flags);
	flags_print(out, "FLAGS OF CALL", alk_call_flags);
	fputs(configuration, out);
	environment_print(out);
	fputs(tail, out);
}
