# SPDX-License-Identifier: MIT OR Apache-2.0
# Plugins: each one .so with one symbol, side by side in $(pkglibdir).

PLUGIN_CFLAGS = $(AM_CFLAGS) -fvisibility=hidden
PLUGIN_LDFLAGS = $(AM_LDFLAGS) $(LIBRARY_LDFLAGS) -module -avoid-version -shared -no-undefined \
	-export-symbols-regex '^alk_plugin$$'

pkglib_LTLIBRARIES = plugins/tcp.la plugins/forward.la
# Programs that plugins start, and what starts them.
helperdir = $(pkglibdir)
helper_PROGRAMS =
COMPANION_SOURCES = src/plugins/common/companion.c src/plugins/common/companion.h

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
	src/plugins/transports/tls/tls_tickets.c src/plugins/transports/tls/acme.h
plugins_tls_la_CFLAGS = $(PLUGIN_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS)
plugins_tls_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_tls_la_LIBADD = libstealth.la libalknet.la $(OPENSSL_LIBS) $(JANSSON_LIBS)

# ACME: the plugin's part, and a program beside it that speaks with the CA.
ACME_SOURCES = src/plugins/transports/tls/acme_private.h src/plugins/transports/tls/acme_jose.c \
	src/plugins/transports/tls/acme_state.c src/plugins/transports/tls/acme_text.c \
	src/plugins/transports/tls/acme_x509.c
if WITH_ACME
plugins_tls_la_SOURCES += $(ACME_SOURCES) src/plugins/transports/tls/acme.c \
	src/plugins/transports/tls/acme_hello.c src/plugins/transports/tls/acme_settings.c \
	src/plugins/transports/tls/acme_settings.h src/plugins/transports/tls/acme_worker.c $(COMPANION_SOURCES)
helper_PROGRAMS += plugins/alknet-acme
else
plugins_tls_la_SOURCES += src/plugins/transports/tls/acme_none.c
endif
plugins_alknet_acme_SOURCES = $(ACME_SOURCES) src/plugins/transports/tls/acme_account.c \
	src/plugins/transports/tls/acme_answer.c src/plugins/transports/tls/acme_backoff.c \
	src/plugins/transports/tls/acme_order.c src/plugins/transports/tls/acme_renewal.c \
	src/plugins/transports/tls/acme_wire.c src/plugins/transports/tls/alknet_acme.c
plugins_alknet_acme_CPPFLAGS = $(AM_CPPFLAGS) -DALKNET_VERSION='"$(VERSION)"'
plugins_alknet_acme_CFLAGS = $(AM_CFLAGS) $(PIE_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS)
plugins_alknet_acme_LDFLAGS = $(AM_LDFLAGS) $(PIE_LDFLAGS)
plugins_alknet_acme_LDADD = libalknet.la $(OPENSSL_LIBS) $(CURL_LIBS) $(JANSSON_LIBS)

# iroh: the plugin, and a program beside it that alone has iroh in it, which is a library in Rust.
if WITH_IROH
pkglib_LTLIBRARIES += plugins/iroh.la
helper_PROGRAMS += plugins/alknet-iroh
endif
# Its parsers, which the tests have without cargo too.
noinst_LTLIBRARIES += libirohparts.la
libirohparts_la_SOURCES = src/plugins/transports/iroh/iroh_head.c src/plugins/transports/iroh/iroh_head.h \
	src/plugins/transports/iroh/iroh_id.c src/plugins/transports/iroh/iroh_id.h \
	src/plugins/transports/iroh/iroh_packet.c src/plugins/transports/iroh/iroh_packet.h
libirohparts_la_CFLAGS = $(PLUGIN_CFLAGS) $(JANSSON_CFLAGS)
plugins_iroh_la_SOURCES = src/plugins/transports/iroh/iroh.c src/plugins/transports/iroh/iroh.h \
	src/plugins/transports/iroh/iroh_dial.c src/plugins/transports/iroh/iroh_endpoint.c \
	src/plugins/transports/iroh/iroh_key.c src/plugins/transports/iroh/iroh_listen.c \
	src/plugins/transports/iroh/iroh_settings.c src/plugins/transports/iroh/iroh_shim.c \
	$(COMPANION_SOURCES)
plugins_iroh_la_CFLAGS = $(PLUGIN_CFLAGS) $(JANSSON_CFLAGS)
plugins_iroh_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_iroh_la_LIBADD = libirohparts.la libalknet.la $(JANSSON_LIBS)
# Of what the library brings only what is used stays.
plugins_alknet_iroh_SOURCES = src/plugins/transports/iroh/alknet_iroh.c \
	src/plugins/transports/iroh/alknet_iroh.h src/plugins/common/companion.h
plugins_alknet_iroh_CFLAGS = $(AM_CFLAGS) $(PIE_CFLAGS)
plugins_alknet_iroh_LDFLAGS = $(AM_LDFLAGS) $(PIE_LDFLAGS) -Wl,--gc-sections -Wl,-S
plugins_alknet_iroh_LDADD = cargo/libalknet_iroh.a -lm -ldl -lpthread
plugins_alknet_iroh_DEPENDENCIES = cargo/libalknet_iroh.a

# Cargo keeps what it built of other people's crates in one place for all builds of alknet: minutes become seconds. Its lock
# ends before the result is copied; ours does not.
IROH_CRATE = $(srcdir)/src/plugins/transports/iroh/crate
IROH_CARGO = $(MKDIR_P) cargo "$(CARGO_TARGET)" && flock "$(CARGO_TARGET)/.alknet" sh -c '\
	CARGO_TARGET_DIR="$(CARGO_TARGET)" "$(CARGO)" build --quiet --release --locked \
		--manifest-path $(IROH_CRATE)/Cargo.toml -p $$1 $$2 && \
	cp "$(CARGO_TARGET)/release/$$3" cargo/' sh
cargo/libalknet_iroh.a: $(IROH_CRATE)/Cargo.toml $(IROH_CRATE)/Cargo.lock $(wildcard $(IROH_CRATE)/src/*.rs)
	@echo "  CARGO    $@ (some minutes, if its crates are not built yet)"
	$(AM_V_at)$(IROH_CARGO) alknet-iroh --lib libalknet_iroh.a
cargo/alknet-iroh-testing: cargo/libalknet_iroh.a $(wildcard $(IROH_CRATE)/testing/*.rs)
	@echo "  CARGO    $@"
	$(AM_V_at)$(IROH_CARGO) alknet-iroh --bins alknet-iroh-testing
cargo/alknet-iroh-relay: cargo/alknet-iroh-testing $(IROH_CRATE)/relay/Cargo.toml $(wildcard $(IROH_CRATE)/relay/src/*.rs)
	@echo "  CARGO    $@"
	$(AM_V_at)$(IROH_CARGO) alknet-iroh-relay --bins alknet-iroh-relay
CLEANFILES = cargo/libalknet_iroh.a cargo/alknet-iroh-testing cargo/alknet-iroh-relay

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
libsecretparts_la_SOURCES = src/plugins/services/common/frame.c src/plugins/services/common/frame.h \
	src/plugins/services/secret/bip32.c src/plugins/services/secret/bip39.c src/plugins/services/secret/buf.c src/plugins/services/secret/buf.h \
	src/plugins/services/secret/call.c src/plugins/services/secret/call.h src/plugins/services/secret/crypt.c src/plugins/services/secret/crypt.h \
	src/plugins/services/secret/derive.h src/plugins/services/secret/ops.def src/plugins/services/secret/password.c \
	src/plugins/services/secret/path.c src/plugins/services/secret/path.h src/plugins/services/secret/postcard.c src/plugins/services/secret/postcard.h \
	src/plugins/services/secret/slip10.c src/plugins/services/secret/store.c src/plugins/services/secret/store.h src/plugins/services/secret/wire.c \
	src/plugins/services/secret/wire.h src/plugins/services/secret/words.c src/plugins/services/secret/words.def src/plugins/services/secret/words.h
libsecretparts_la_CFLAGS = $(PLUGIN_CFLAGS) $(SECRET_CFLAGS)
libsecretparts_la_LIBADD = $(CRYPTO_LIBS) $(JANSSON_LIBS) $(SECRET_LIBS)
plugins_secret_la_SOURCES = src/plugins/services/secret/admin.c src/plugins/services/secret/channel.c src/plugins/services/secret/keeper.c src/plugins/services/secret/operations.c \
	src/plugins/services/secret/parts.c src/plugins/services/secret/parts.h src/plugins/services/secret/port0.c src/plugins/services/secret/port1.c \
	src/plugins/services/secret/secret.c src/plugins/services/secret/secret.h src/plugins/services/secret/worker.c src/plugins/services/secret/worker.h
plugins_secret_la_CFLAGS = $(PLUGIN_CFLAGS) $(SECRET_CFLAGS)
plugins_secret_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_secret_la_LIBADD = libsecretparts.la libalknet.la

pkglib_LTLIBRARIES += plugins/bus.la
BUS_SOURCES = src/plugins/services/bus/access.c src/plugins/services/bus/bus_conn.c src/plugins/services/bus/call.c \
	src/plugins/services/bus/event.c src/plugins/services/bus/half.c src/plugins/services/bus/inner.c src/plugins/services/bus/hub.c \
	src/plugins/services/bus/hub_admin.c src/plugins/services/bus/hub_call.c src/plugins/services/bus/hub_nats.c \
	src/plugins/services/bus/hub_nats.h src/plugins/services/bus/hub_nats_call.c src/plugins/services/bus/hub_nats_link.c src/plugins/services/bus/hub_nats_past.c src/plugins/services/bus/hub_nats_sub.c src/plugins/services/bus/hub_operation.c src/plugins/services/bus/nats_subject.c \
	src/plugins/services/bus/nats_wire.h src/plugins/services/bus/hub_keep.c src/plugins/services/bus/hub_share.c \
	src/plugins/services/bus/hub_spoke.c src/plugins/services/common/schema.c \
	src/plugins/services/bus/hub_local.c src/plugins/services/bus/local.c src/plugins/services/bus/request.c \
	src/plugins/services/bus/local_group.c src/plugins/services/bus/local_group.h \
	src/plugins/services/bus/spoke.c src/plugins/services/common/topic.c \
	src/plugins/services/bus/wire.c src/plugins/services/common/frame.c src/plugins/services/common/frame.h \
	src/plugins/services/bus/bus.h src/plugins/services/bus/hub.h src/plugins/services/common/schema.h src/plugins/services/common/topic.h \
	src/plugins/services/bus/wire.h $(COMPANION_SOURCES)
plugins_bus_la_SOURCES = src/plugins/services/bus/bus.c $(BUS_SOURCES)
plugins_bus_la_CFLAGS = $(PLUGIN_CFLAGS) $(JANSSON_CFLAGS)
plugins_bus_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_bus_la_LIBADD = libalknet.la $(JANSSON_LIBS)

pkglib_LTLIBRARIES += plugins/status.la
plugins_status_la_SOURCES = src/plugins/services/status/channel.c src/plugins/services/status/keeper.c \
	src/plugins/services/status/page.c src/plugins/services/status/status.c src/plugins/services/status/status.h \
	src/plugins/services/status/worker.c src/plugins/services/status/worker.h src/core/http_head.c src/core/http_head.h
plugins_status_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/src/core -I.
plugins_status_la_CFLAGS = $(PLUGIN_CFLAGS) $(JANSSON_CFLAGS)
plugins_status_la_LDFLAGS = $(PLUGIN_LDFLAGS)
plugins_status_la_LIBADD = libalknet.la $(JANSSON_LIBS)
EXTRA_DIST += src/plugins/services/status/page.html
CLEANFILES += status_page.inc
# The page as lines of C text.
status_page.inc: src/plugins/services/status/page.html
	$(AM_V_GEN)sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&\\n"/' $(srcdir)/src/plugins/services/status/page.html >$@.tmp && mv $@.tmp $@
$(plugins_status_la_OBJECTS): status_page.inc

# Between the bus and NATS stands a program: libnats has threads.
if WITH_NATS
natshelperdir = $(pkglibdir)
natshelper_PROGRAMS = plugins/alknet-nats
endif
plugins_alknet_nats_SOURCES = src/plugins/services/bus/alknet_nats.c src/plugins/services/bus/alknet_nats.h \
	src/plugins/services/bus/alknet_nats_past.c src/plugins/services/bus/alknet_nats_stream.c \
	src/plugins/services/bus/nats_subject.c src/plugins/services/bus/nats_wire.h \
	src/plugins/services/bus/wire.c src/plugins/services/bus/wire.h \
	src/plugins/services/common/frame.c src/plugins/services/common/frame.h \
	src/plugins/services/common/topic.c src/plugins/services/common/topic.h
plugins_alknet_nats_CFLAGS = $(AM_CFLAGS) $(PIE_CFLAGS) $(JANSSON_CFLAGS) $(NATS_CFLAGS)
plugins_alknet_nats_LDFLAGS = $(AM_LDFLAGS) $(PIE_LDFLAGS)
plugins_alknet_nats_LDADD = libalknet.la $(NATS_LIBS) $(JANSSON_LIBS)

# Built, so that it stays true; not installed. -rpath makes libtool build a .so of it.
noinst_LTLIBRARIES += plugins-skeleton/skeleton.la
plugins_skeleton_skeleton_la_SOURCES = src/plugins/skeleton/skeleton.c
plugins_skeleton_skeleton_la_CFLAGS = $(PLUGIN_CFLAGS)
plugins_skeleton_skeleton_la_LDFLAGS = $(PLUGIN_LDFLAGS) -rpath $(pkglibdir)
plugins_skeleton_skeleton_la_LIBADD = libalknet.la

# Plugins are linked again when they are installed, against the library that must be there by then.
PLUGIN_INSTALL = install-pkglibLTLIBRARIES
$(PLUGIN_INSTALL): install-libLTLIBRARIES
