# SPDX-License-Identifier: MIT OR Apache-2.0
# The six rings of tests: unit, load, policy, integration, faults, fuzz. docs/TESTING.md says how to add one.

check_PROGRAMS =
check_LTLIBRARIES =
TESTS = scripts/check-includes.sh tests/integration.sh tests/faults.sh tests/alone.sh
TEST_EXTENSIONS = .sh
tests/alone.log: $(filter-out tests/alone.log,$(TEST_LOGS))
SH_LOG_COMPILER = bash
LOG_COMPILER = bash $(srcdir)/tests/run-program.sh

# Tests know nothing of the layout of the build but what stands here. Descriptor 9 is the terminal.
AM_TESTS_FD_REDIRECT = 9>&2
AM_TESTS_ENVIRONMENT = \
	ALKNET=$(abs_builddir)/alknet; export ALKNET; \
	ALKNET_ADMIN=$(abs_builddir)/alknet-admin; export ALKNET_ADMIN; \
	ALKNET_PLUGIN_DIR=$(abs_builddir)/plugins/.libs; export ALKNET_PLUGIN_DIR; \
	ALKNET_LIBDIR=$(abs_builddir)/.libs; export ALKNET_LIBDIR; \
	ALKNET_SRCDIR=$(abs_srcdir); export ALKNET_SRCDIR; \
	ALKNET_BUILDDIR=$(abs_builddir); export ALKNET_BUILDDIR; \
	ALKNET_SANITIZERS=$(TESTS_SANITIZERS); export ALKNET_SANITIZERS; \
	ALKNET_FUZZING=$(TESTS_FUZZING); export ALKNET_FUZZING; \
	ALKNET_VALGRIND='$(TESTS_VALGRIND)'; export ALKNET_VALGRIND; \
	PYTHON='$(PYTHON)'; export PYTHON; \
	NODE='$(NODE)'; export NODE; \
	CC='$(CC)'; export CC;
if WITH_VALGRIND
TESTS_VALGRIND = $(VALGRIND)
endif
if SANITIZERS
TESTS_SANITIZERS = yes
endif
if FUZZING
TESTS_FUZZING = yes
endif

# Ring 1. One binary a file: tests/unit/test_NAME.c, with the whole core inside.
UNIT_TESTS = \
	tests/unit/test_admin \
	tests/unit/test_auth \
	tests/unit/test_board \
	tests/unit/test_bus_conn \
	tests/unit/test_bus_halves \
	tests/unit/test_bus_spoke \
	tests/unit/test_cert \
	tests/unit/test_companion \
	tests/unit/test_completion \
	tests/unit/test_conf \
	tests/unit/test_conf_listen \
	tests/unit/test_conf_lua \
	tests/unit/test_conf_plugin \
	tests/unit/test_conf_lines \
	tests/unit/test_conf_reload \
	tests/unit/test_conf_table \
	tests/unit/test_connect \
	tests/unit/test_connect_forward \
	tests/unit/test_connect_stdio \
	tests/unit/test_ctl \
	tests/unit/test_dial \
	tests/unit/test_grant \
	tests/unit/test_hub_nats_past \
	tests/unit/test_hub_spoke \
	tests/unit/test_identity \
	tests/unit/test_keep \
	tests/unit/test_key_options \
	tests/unit/test_keys \
	tests/unit/test_knownhosts \
	tests/unit/test_knownhosts_file \
	tests/unit/test_krl \
	tests/unit/test_limit \
	tests/unit/test_link \
	tests/unit/test_log \
	tests/unit/test_loop \
	tests/unit/test_loop_signal \
	tests/unit/test_nats_link \
	tests/unit/test_options \
	tests/unit/test_pkey_keep \
	tests/unit/test_policy \
	tests/unit/test_policy_api \
	tests/unit/test_policy_engine \
	tests/unit/test_policy_wait \
	tests/unit/test_pubkey \
	tests/unit/test_proxy \
	tests/unit/test_proxy_header \
	tests/unit/test_pump \
	tests/unit/test_random \
	tests/unit/test_remote_listener \
	tests/unit/test_shared \
	tests/unit/test_socks5 \
	tests/unit/test_ssh_keepalive \
	tests/unit/test_text \
	tests/unit/test_turns \
	tests/unit/test_upgrade \
	tests/unit/test_window \
	tests/unit/test_direct \
	tests/unit/test_attend \
	tests/unit/test_visit \
	tests/unit/test_coalesce \
	tests/unit/test_worker \
	tests/unit/test_worker_proc
if WITH_SECRET
UNIT_TESTS += tests/unit/test_secret_derive tests/unit/test_secret_wire
endif
UNIT_TESTS += tests/unit/test_iroh_endpoint tests/unit/test_iroh_key tests/unit/test_iroh_parts
tests_unit_test_companion_SOURCES = tests/unit/test_companion.c $(COMPANION_SOURCES)
# What a test of the bus does not link.
BUS_ABSENT = tests/unit/bus_absent.c
tests_unit_test_bus_conn_SOURCES = tests/unit/test_bus_conn.c $(BUS_ABSENT) src/plugins/services/bus/bus_conn.c \
	src/plugins/services/bus/call.c src/plugins/services/bus/wire.c
tests_unit_test_bus_halves_SOURCES = tests/unit/test_bus_halves.c $(BUS_ABSENT) src/plugins/services/bus/bus_conn.c \
	src/plugins/services/bus/call.c src/plugins/services/bus/event.c src/plugins/services/bus/half.c \
	src/plugins/services/bus/hub.c src/plugins/services/bus/hub_call.c src/plugins/services/bus/hub_keep.c \
	src/plugins/services/bus/hub_operation.c src/plugins/services/bus/hub_share.c src/plugins/services/bus/hub_spoke.c \
	src/plugins/services/bus/wire.c
tests_unit_test_bus_spoke_SOURCES = tests/unit/test_bus_spoke.c $(BUS_ABSENT) src/plugins/services/bus/spoke.c \
	src/plugins/services/bus/wire.c
tests_unit_test_hub_spoke_SOURCES = tests/unit/test_hub_spoke.c $(BUS_ABSENT) src/plugins/services/bus/hub_spoke.c \
	src/plugins/services/bus/hub_operation.c src/plugins/services/bus/wire.c
tests_unit_test_hub_nats_past_SOURCES = tests/unit/test_hub_nats_past.c $(BUS_ABSENT) src/plugins/services/bus/hub_nats_past.c \
	src/plugins/services/bus/hub_share.c src/plugins/services/bus/wire.c
tests_unit_test_nats_link_SOURCES = tests/unit/test_nats_link.c src/plugins/services/bus/hub_nats_link.c \
	src/plugins/services/bus/wire.c $(COMPANION_SOURCES)
tests_unit_test_iroh_endpoint_SOURCES = tests/unit/test_iroh_endpoint.c \
	src/plugins/transports/iroh/iroh_endpoint.c src/plugins/transports/iroh/iroh_shim.c \
	$(COMPANION_SOURCES)
tests_unit_test_iroh_endpoint_LDADD = libirohparts.la $(LDADD)
tests_unit_test_iroh_key_SOURCES = tests/unit/test_iroh_key.c \
	src/plugins/transports/iroh/iroh_key.c
tests_unit_test_iroh_key_LDADD = libirohparts.la $(LDADD)
tests_unit_test_iroh_parts_LDADD = libirohparts.la $(LDADD)
tests_unit_test_secret_derive_LDADD = libsecretparts.la $(LDADD)
tests_unit_test_secret_wire_LDADD = libsecretparts.la $(LDADD)
if WITH_CMOCKA
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
endif
AM_DEFAULT_SOURCE_EXT = .c
LDADD = libcore.la $(CMOCKA_LIBS)

include tests/load/load.mk

# A relay, and endpoints that are not alknet's.
if WITH_IROH
check_DATA = cargo/alknet-iroh-testing cargo/alknet-iroh-relay
endif

# Ring 3. The shipped policies in the real program, and the scripts that mean harm in the engine.
check_PROGRAMS += tests/policy/run_policy
tests_policy_run_policy_LDADD = libcore.la
TESTS += tests/policy.sh tests/policy/run_policy

# docs/POLICY_API.md has parts that are made from the code.
check_PROGRAMS += docs/api_doc
docs_api_doc_LDADD = libcore.la
TESTS += docs/check-api.sh docs/check-admin-api.sh docs/check-metrics.sh
check_PROGRAMS += docs/metrics_doc
docs_metrics_doc_LDADD = libcore.la
.PHONY: docs
docs: docs/api_doc docs/metrics_doc alknet-admin$(EXEEXT)
	docs/metrics_doc $(srcdir)/docs/METRICS.md >METRICS.md.tmp
	mv METRICS.md.tmp $(srcdir)/docs/METRICS.md
	ALKNET_SRCDIR=$(abs_srcdir) ALKNET_ADMIN=./alknet-admin$(EXEEXT) \
		bash $(srcdir)/docs/check-admin-api.sh print >ADMIN_API.md.tmp
	mv ADMIN_API.md.tmp $(srcdir)/docs/ADMIN_API.md
	docs/api_doc $(srcdir)/docs/POLICY_API.md $(srcdir)/scripts >POLICY_API.md.tmp
	mv POLICY_API.md.tmp $(srcdir)/docs/POLICY_API.md

# Ring 6. One harness a parser: tests/fuzz/fuzz_NAME.c, seeds in tests/fuzz/corpus/NAME.
FUZZ_TESTS = \
	tests/fuzz/fuzz_admin \
	tests/fuzz/fuzz_bus_memory \
	tests/fuzz/fuzz_bus_schema \
	tests/fuzz/fuzz_bus_topic \
	tests/fuzz/fuzz_cert \
	tests/fuzz/fuzz_agent \
	tests/fuzz/fuzz_conf \
	tests/fuzz/fuzz_http_head \
	tests/fuzz/fuzz_identity \
	tests/fuzz/fuzz_keys \
	tests/fuzz/fuzz_knownhosts \
	tests/fuzz/fuzz_krl \
	tests/fuzz/fuzz_pattern \
	tests/fuzz/fuzz_policy_text \
	tests/fuzz/fuzz_proxy \
	tests/fuzz/fuzz_proxy_header \
	tests/fuzz/fuzz_proxy_url \
	tests/fuzz/fuzz_socks5 \
	tests/fuzz/fuzz_stealth
if WITH_SECRET
FUZZ_TESTS += tests/fuzz/fuzz_frame tests/fuzz/fuzz_secret_path tests/fuzz/fuzz_secret_wire
endif
FUZZ_TESTS += tests/fuzz/fuzz_iroh_head tests/fuzz/fuzz_iroh_id tests/fuzz/fuzz_iroh_packet
tests_fuzz_fuzz_iroh_head_LDADD = libirohparts.la $(FUZZ_LDADD)
tests_fuzz_fuzz_iroh_id_LDADD = libirohparts.la $(FUZZ_LDADD)
tests_fuzz_fuzz_iroh_packet_LDADD = libirohparts.la $(FUZZ_LDADD)
if WITH_ACME
FUZZ_TESTS += tests/fuzz/fuzz_acme_ca tests/fuzz/fuzz_acme_port
endif
ACME_TEST_CPPFLAGS = $(AM_CPPFLAGS) -DALKNET_VERSION='"$(VERSION)"'
ACME_TEST_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS)
# libcurl, the disk and the clock of this one are its own.
tests_fuzz_fuzz_acme_ca_SOURCES = tests/fuzz/fuzz_acme_ca.c \
	src/plugins/transports/tls/acme_account.c src/plugins/transports/tls/acme_answer.c \
	src/plugins/transports/tls/acme_jose.c src/plugins/transports/tls/acme_order.c \
	src/plugins/transports/tls/acme_renewal.c src/plugins/transports/tls/acme_text.c \
	src/plugins/transports/tls/acme_wire.c src/plugins/transports/tls/acme_x509.c
tests_fuzz_fuzz_acme_ca_CPPFLAGS = $(ACME_TEST_CPPFLAGS)
tests_fuzz_fuzz_acme_ca_CFLAGS = $(ACME_TEST_CFLAGS)
tests_fuzz_fuzz_acme_ca_LDADD = $(FUZZ_LDADD) $(OPENSSL_LIBS) $(JANSSON_LIBS)
tests_fuzz_fuzz_acme_port_SOURCES = tests/fuzz/fuzz_acme_port.c \
	src/plugins/transports/tls/acme_answer.c src/plugins/transports/tls/acme_hello.c \
	src/plugins/transports/tls/acme_text.c
tests_fuzz_fuzz_acme_port_CFLAGS = $(ACME_TEST_CFLAGS)
tests_fuzz_fuzz_acme_port_LDADD = $(FUZZ_LDADD) $(JANSSON_LIBS)
tests_fuzz_fuzz_bus_memory_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_frame_LDADD = libsecretparts.la $(FUZZ_LDADD)
tests_fuzz_fuzz_secret_path_LDADD = libsecretparts.la $(FUZZ_LDADD)
tests_fuzz_fuzz_secret_wire_LDADD = libsecretparts.la $(FUZZ_LDADD)
check_PROGRAMS += $(FUZZ_TESTS)
TESTS += $(FUZZ_TESTS)
if FUZZING
FUZZ_LDADD = libcore.la $(FUZZ_LIBS)
else
check_LTLIBRARIES += libreplay.la
libreplay_la_SOURCES = tests/fuzz/replay.c
FUZZ_LDADD = libreplay.la libcore.la
endif
tests_fuzz_fuzz_admin_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_bus_schema_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_bus_topic_SOURCES = tests/fuzz/fuzz_bus_topic.c src/plugins/services/bus/nats_subject.c
tests_fuzz_fuzz_bus_topic_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_cert_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_agent_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_conf_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_http_head_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_identity_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_keys_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_knownhosts_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_krl_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_pattern_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_policy_text_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_proxy_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_proxy_header_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_proxy_url_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_socks5_LDADD = $(FUZZ_LDADD)
tests_fuzz_fuzz_stealth_LDADD = libstealth.la $(FUZZ_LDADD)

# Fuzz each harness for FUZZ_SECONDS; what it finds to be worth keeping goes into the build directory.
FUZZ_SECONDS = 60
.PHONY: bench fuzz
# Beside OpenSSH on this machine; BENCHFLAGS as tests/bench/README.md says. Never part of `check`.
bench: all
	ALKNET=$(abs_builddir)/alknet ALKNET_ADMIN=$(abs_builddir)/alknet-admin \
	ALKNET_PLUGIN_DIR=$(abs_builddir)/plugins/.libs \
	$(PYTHON) $(srcdir)/tests/bench/bench.py $(BENCHFLAGS)

# Each part left out by itself, and all of them: about three minutes each. SWITCHES='secret seccomp' takes these alone.
.PHONY: check-switches
check-switches:
	CC='$(CC)' PYTHON='$(PYTHON)' bash $(srcdir)/tests/switches.sh $(SWITCHES)

# A stealth port beside nginx with all times at full length: about eight minutes.
.PHONY: check-stealth-slow
check-stealth-slow: all
	ALKNET=$(abs_builddir)/alknet ALKNET_ADMIN=$(abs_builddir)/alknet-admin \
	ALKNET_PLUGIN_DIR=$(abs_builddir)/plugins/.libs ALKNET_STEALTH_SCALE=1 \
	$(PYTHON) -m pytest -q -s -p no:cacheprovider $(srcdir)/tests/integration/test_stealth_diff.py

fuzz: $(FUZZ_TESTS)
if FUZZING
	@for program in $(FUZZ_TESTS); do \
		name=$${program#tests/fuzz/fuzz_}; \
		mkdir -p tests/fuzz/found/$$name; \
		dict=$(srcdir)/tests/fuzz/$$name.dict; \
		test -e $$dict && dict=-dict=$$dict || dict=; \
		(cd tests/fuzz && $(abs_builddir)/$$program -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			$$dict found/$$name $(abs_srcdir)/tests/fuzz/corpus/$$name) || exit 1; \
	done
else
	@echo "fuzzing needs: ../configure CC=clang --enable-fuzzing --enable-sanitizers"; exit 1
endif
