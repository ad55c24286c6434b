# SPDX-License-Identifier: MIT OR Apache-2.0
# Ring 2. Plugins that the loader must refuse, each for one reason, and a few that it must take. -rpath
# makes libtool build a .so of what is not installed.
LOAD_LDFLAGS = $(AM_LDFLAGS) -module -avoid-version -shared -rpath $(pkglibdir)
check_LTLIBRARIES += tests/load/big.la tests/load/good.la tests/load/halfdial.la \
	tests/load/halflisten.la tests/load/kind.la tests/load/magic.la tests/load/major.la \
	tests/load/minor.la tests/load/name.la tests/load/nodial.la tests/load/noname.la \
	tests/load/noopen.la tests/load/noops.la tests/load/nosymbol.la tests/load/noversion.la \
	tests/load/plain.la tests/load/short.la tests/load/small.la tests/load/stub.la
tests_load_big_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_big_la_LIBADD = libalknet.la
tests_load_good_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_good_la_LIBADD = libalknet.la
tests_load_halfdial_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_halfdial_la_LIBADD = libalknet.la
tests_load_halflisten_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_halflisten_la_LIBADD = libalknet.la
tests_load_kind_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_kind_la_LIBADD = libalknet.la
tests_load_magic_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_magic_la_LIBADD = libalknet.la
tests_load_major_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_major_la_LIBADD = libalknet.la
tests_load_minor_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_minor_la_LIBADD = libalknet.la
tests_load_name_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_name_la_LIBADD = libalknet.la
tests_load_nodial_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_nodial_la_LIBADD = libalknet.la
tests_load_noname_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_noname_la_LIBADD = libalknet.la
tests_load_noopen_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_noopen_la_LIBADD = libalknet.la
tests_load_noops_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_noops_la_LIBADD = libalknet.la
tests_load_nosymbol_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_nosymbol_la_LIBADD = libalknet.la
tests_load_noversion_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_noversion_la_LIBADD = libalknet.la
tests_load_plain_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_plain_la_LIBADD = libalknet.la
tests_load_short_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_short_la_LIBADD = libalknet.la
tests_load_small_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_small_la_LIBADD = libalknet.la
tests_load_stub_la_LDFLAGS = $(LOAD_LDFLAGS)
tests_load_stub_la_LIBADD = libalknet.la

check_PROGRAMS += tests/load/load_check
TESTS += tests/load/test_skeleton.sh tests/load/test_examples.sh
if WITH_CMOCKA
check_PROGRAMS += tests/load/test_loader
TESTS += tests/load/test_loader
endif

# The shipped plugins from within: their own code, linked into the test.
if WITH_CMOCKA
PLUGIN_TESTS = tests/unit/test_forward tests/unit/test_skeleton tests/unit/test_stealth \
	tests/unit/test_tcp
if WITH_TLS
PLUGIN_TESTS += tests/unit/test_tls_pump tests/unit/test_tls_tickets
endif
if WITH_ACME
PLUGIN_TESTS += tests/unit/test_acme_backoff tests/unit/test_acme_renewal
endif
check_PROGRAMS += $(PLUGIN_TESTS)
TESTS += $(PLUGIN_TESTS)
endif
tests_unit_test_acme_backoff_SOURCES = tests/unit/test_acme_backoff.c $(ACME_SOURCES) \
	src/plugins/transports/tls/acme_backoff.c
tests_unit_test_acme_backoff_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_acme_backoff_LDADD = $(LDADD) $(OPENSSL_LIBS) $(JANSSON_LIBS)
tests_unit_test_acme_renewal_SOURCES = tests/unit/test_acme_renewal.c \
	src/plugins/transports/tls/acme_renewal.c src/plugins/transports/tls/acme_text.c
tests_unit_test_acme_renewal_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_acme_renewal_LDADD = $(LDADD) $(OPENSSL_LIBS) $(JANSSON_LIBS)
tests_unit_test_tls_pump_SOURCES = tests/unit/test_tls_pump.c \
	src/plugins/transports/tls/tls_conn.c src/plugins/transports/tls/tls_pump.c \
	src/plugins/transports/tls/tls_site.c src/plugins/transports/tls/tls_stealth.c \
	src/plugins/transports/tls/tls_talk.c
tests_unit_test_tls_pump_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
tests_unit_test_tls_pump_LDADD = libstealth.la $(LDADD) $(OPENSSL_LIBS)
tests_unit_test_tls_pump_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=calloc
tests_unit_test_tls_tickets_SOURCES = tests/unit/test_tls_tickets.c \
	src/plugins/transports/tls/tls_tickets.c
tests_unit_test_tls_tickets_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
tests_unit_test_tls_tickets_LDADD = $(LDADD) $(OPENSSL_LIBS)
tests_unit_test_forward_SOURCES = tests/unit/test_forward.c tests/unit/channel_play.h \
	src/plugins/services/forward/forward.c
tests_unit_test_skeleton_SOURCES = tests/unit/test_skeleton.c tests/unit/channel_play.h \
	src/plugins/skeleton/skeleton.c
tests_unit_test_stealth_LDADD = libstealth.la $(LDADD)
tests_unit_test_tcp_SOURCES = tests/unit/test_tcp.c src/plugins/transports/tcp/tcp.c

# A program that has a server and clients in itself, with the library alone.
TESTS += tests/load/test_embed.sh
if WITH_CMOCKA
EMBED_TESTS = tests/load/test_embed_api tests/load/test_embed_bindings tests/load/test_embed_thread
check_PROGRAMS += $(EMBED_TESTS)
TESTS += $(EMBED_TESTS)
endif
tests_load_test_embed_api_SOURCES = tests/load/test_embed_api.c tests/load/embed_play.h
tests_load_test_embed_api_LDADD = libalknet.la $(CMOCKA_LIBS) $(EV_LIBS) $(JANSSON_LIBS)
tests_load_test_embed_bindings_SOURCES = tests/load/test_embed_bindings.c tests/load/embed_play.h
tests_load_test_embed_bindings_LDADD = libalknet.la $(CMOCKA_LIBS) $(EV_LIBS)
tests_load_test_embed_thread_SOURCES = tests/load/test_embed_thread.c tests/load/embed_play.h
tests_load_test_embed_thread_LDADD = libalknet.la $(CMOCKA_LIBS) $(EV_LIBS)
