# SPDX-License-Identifier: MIT OR Apache-2.0
# Plugins: each one .so with one symbol, side by side in $(pkglibdir).

PLUGIN_CFLAGS = $(AM_CFLAGS) -fvisibility=hidden
PLUGIN_LDFLAGS = $(AM_LDFLAGS) $(LIBRARY_LDFLAGS) -module -avoid-version -shared -no-undefined \
	-export-symbols-regex '^alk_plugin$$'

pkglib_LTLIBRARIES = plugins/tcp.la plugins/forward.la

plugins_tcp_la_SOURCES = src/plugins/transports/tcp/tcp.c
plugins_tcp_la_CFLAGS = $(PLUGIN_CFLAGS)
plugins_tcp_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_tcp_la_LIBADD = libalknet.la

if WITH_TLS
pkglib_LTLIBRARIES += plugins/tls.la
endif
plugins_tls_la_SOURCES = src/plugins/transports/tls/tls.c src/plugins/transports/tls/tls.h \
	src/plugins/transports/tls/tls_admit.c \
	src/plugins/transports/tls/tls_conn.c src/plugins/transports/tls/tls_context.c \
	src/plugins/transports/tls/tls_dial.c src/plugins/transports/tls/tls_pump.c \
	src/plugins/transports/tls/tls_site.c src/plugins/transports/tls/tls_site.h \
	src/plugins/transports/tls/tls_stealth.c src/plugins/transports/tls/tls_talk.c \
	src/plugins/transports/tls/tls_tickets.c
plugins_tls_la_CFLAGS = $(PLUGIN_CFLAGS) $(OPENSSL_CFLAGS)
plugins_tls_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_tls_la_LIBADD = libstealth.la libalknet.la $(OPENSSL_LIBS)

# The web server that a port with `stealth` is: no OpenSSL, no socket; the tests link it too.
noinst_LTLIBRARIES += libstealth.la
libstealth_la_SOURCES = src/plugins/transports/tls/stealth.c src/plugins/transports/tls/stealth.h \
	src/plugins/transports/tls/stealth_http.c src/plugins/transports/tls/stealth_http.h \
	src/plugins/transports/tls/stealth_http_body.c src/plugins/transports/tls/stealth_http_field.c \
	src/plugins/transports/tls/stealth_http_line.c src/plugins/transports/tls/stealth_http_page.c
libstealth_la_CFLAGS = $(PLUGIN_CFLAGS)

plugins_forward_la_SOURCES = src/plugins/services/forward/forward.c
plugins_forward_la_CFLAGS = $(PLUGIN_CFLAGS)
plugins_forward_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_forward_la_LIBADD = libalknet.la

# What the secret service is made of, for the plugin and for its tests.
if WITH_SECRET
pkglib_LTLIBRARIES += plugins/secret.la
noinst_LTLIBRARIES += libsecretparts.la
endif
SECRET_DIR = src/plugins/services/secret
libsecretparts_la_SOURCES = src/plugins/services/common/frame.c src/plugins/services/common/frame.h \
	$(SECRET_DIR)/bip32.c $(SECRET_DIR)/bip39.c $(SECRET_DIR)/buf.c $(SECRET_DIR)/buf.h \
	$(SECRET_DIR)/call.c $(SECRET_DIR)/call.h $(SECRET_DIR)/crypt.c $(SECRET_DIR)/crypt.h \
	$(SECRET_DIR)/derive.h $(SECRET_DIR)/ops.def $(SECRET_DIR)/password.c \
	$(SECRET_DIR)/path.c $(SECRET_DIR)/path.h $(SECRET_DIR)/postcard.c $(SECRET_DIR)/postcard.h \
	$(SECRET_DIR)/slip10.c $(SECRET_DIR)/store.c $(SECRET_DIR)/store.h $(SECRET_DIR)/wire.c \
	$(SECRET_DIR)/wire.h $(SECRET_DIR)/words.c $(SECRET_DIR)/words.def $(SECRET_DIR)/words.h
libsecretparts_la_CFLAGS = $(PLUGIN_CFLAGS) $(SECRET_CFLAGS)
libsecretparts_la_LIBADD = $(CRYPTO_LIBS) $(JANSSON_LIBS) $(SECRET_LIBS)
plugins_secret_la_SOURCES = $(SECRET_DIR)/admin.c $(SECRET_DIR)/channel.c $(SECRET_DIR)/keeper.c \
	$(SECRET_DIR)/parts.c $(SECRET_DIR)/parts.h $(SECRET_DIR)/port0.c $(SECRET_DIR)/port1.c \
	$(SECRET_DIR)/secret.c $(SECRET_DIR)/secret.h $(SECRET_DIR)/worker.c $(SECRET_DIR)/worker.h
plugins_secret_la_CFLAGS = $(PLUGIN_CFLAGS) $(SECRET_CFLAGS)
plugins_secret_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_secret_la_LIBADD = libsecretparts.la libalknet.la

# Built, so that it stays true; not installed. -rpath makes libtool build a .so of it.
noinst_LTLIBRARIES += plugins-skeleton/skeleton.la
plugins_skeleton_skeleton_la_SOURCES = src/plugins/skeleton/skeleton.c
plugins_skeleton_skeleton_la_CFLAGS = $(PLUGIN_CFLAGS)
plugins_skeleton_skeleton_la_LDFLAGS = $(PLUGIN_LDFLAGS) -rpath $(pkglibdir)
plugins_skeleton_skeleton_la_LIBADD = libalknet.la

# Plugins are linked again when they are installed, against the library that must be there by then.
PLUGIN_INSTALL = install-pkglibLTLIBRARIES
$(PLUGIN_INSTALL): install-libLTLIBRARIES
