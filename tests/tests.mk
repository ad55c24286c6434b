# SPDX-License-Identifier: MIT OR Apache-2.0
# The five rings of tests: unit, load, policy, integration, fuzz. docs/TESTING.md says how to add one.

check_PROGRAMS =
TESTS = scripts/check-includes.sh
TEST_EXTENSIONS = .sh
SH_LOG_COMPILER = bash
LOG_COMPILER = bash $(srcdir)/tests/run-program.sh

# Tests know nothing of the layout of the build but what stands here.
AM_TESTS_ENVIRONMENT = \
	ALKNET=$(abs_builddir)/alknet; export ALKNET; \
	ALKNET_ADMIN=$(abs_builddir)/alknet-admin; export ALKNET_ADMIN; \
	ALKNET_PLUGIN_DIR=$(abs_builddir)/plugins/.libs; export ALKNET_PLUGIN_DIR; \
	ALKNET_LIBDIR=$(abs_builddir)/.libs; export ALKNET_LIBDIR; \
	ALKNET_SRCDIR=$(abs_srcdir); export ALKNET_SRCDIR; \
	ALKNET_BUILDDIR=$(abs_builddir); export ALKNET_BUILDDIR; \
	ALKNET_SANITIZERS=$(TESTS_SANITIZERS); export ALKNET_SANITIZERS; \
	ALKNET_VALGRIND='$(TESTS_VALGRIND)'; export ALKNET_VALGRIND; \
	PYTHON='$(PYTHON)'; export PYTHON; \
	CC='$(CC)'; export CC; \
	$(TESTS_SCALE)
if USE_VALGRIND
TESTS_VALGRIND = $(VALGRIND)
endif
if SANITIZERS
TESTS_SANITIZERS = yes
TESTS_SCALE = ALKNET_TEST_SCALE=$${ALKNET_TEST_SCALE:-4}; export ALKNET_TEST_SCALE;
endif

# Ring 1. One binary a file: tests/unit/test_NAME.c, with the whole core inside.
UNIT_TESTS = tests/unit/test_loop
if WITH_CMOCKA
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
endif
AM_DEFAULT_SOURCE_EXT = .c
LDADD = libcore.la $(CMOCKA_LIBS)
