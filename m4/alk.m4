dnl SPDX-License-Identifier: MIT OR Apache-2.0

dnl ALK_FEATURE(NAME, WHAT, CHECK): a part of alknet that can be left out with --without-NAME.
dnl CHECK sets alk_found=yes, or alk_why to the reason. Without a switch a part whose needs are missing is left out;
dnl with --with-NAME it is an error. Gives the automake conditional WITH_NAME, the shell variable
dnl alk_with_NAME, and a line of the summary.
AC_DEFUN([ALK_FEATURE], [
AC_ARG_WITH([$1], [AS_HELP_STRING([--without-$1], [leave out $2])], [], [with_$1=auto])
AS_VAR_PUSHDEF([alk_with], [alk_with_$1])
AS_IF([test "x$with_$1" = xno], [alk_with="no (switched off)"], [
	alk_found=no alk_why="not found"
	$3
	AS_IF([test $alk_found = yes], [alk_with=yes], [
		AS_IF([test "x$with_$1" = xyes], [AC_MSG_ERROR([--with-$1: $alk_why])])
		alk_with="no ($alk_why)"])])
AM_CONDITIONAL(m4_toupper([WITH_$1]), [test "x$alk_with" = xyes])
alk_summary="$alk_summary
    m4_format([%-11s], [$1]) $alk_with"
AS_VAR_POPDEF([alk_with])
])

dnl ALK_CARGO(VERSION): a CHECK for ALK_FEATURE: is there a cargo with a rustc, both of VERSION or newer? Sets CARGO, and
dnl CARGO_TARGET, where it builds.
AC_DEFUN([ALK_CARGO], [
AC_ARG_VAR([CARGO], [cargo, for the iroh transport])
AC_ARG_VAR([CARGO_TARGET], [where cargo keeps what it built, for all builds @<:@XDG_CACHE_HOME/alknet/cargo@:>@])
AC_PATH_PROG([CARGO], [cargo], [], [$PATH$PATH_SEPARATOR$HOME/.cargo/bin])
AS_IF([test -z "$CARGO_TARGET"], [
	AS_IF([test -n "$XDG_CACHE_HOME"], [CARGO_TARGET=$XDG_CACHE_HOME/alknet/cargo],
		[test -n "$HOME" && test -w "$HOME"], [CARGO_TARGET=$HOME/.cache/alknet/cargo],
		[CARGO_TARGET=`pwd`/cargo/target])])
alk_how="apt-get install cargo-web rustc-web on Debian 12"
AS_IF([test -z "$CARGO"], [alk_why="cargo not found: $alk_how"], [
	alk_cargo_version=`$CARGO --version 2>/dev/null | sed -n 's/^cargo \([[0-9.]]*\).*/\1/p'`
	alk_rustc_version=`PATH=\`dirname "$CARGO"\`:$PATH rustc --version 2>/dev/null | sed -n 's/^rustc \([[0-9.]]*\).*/\1/p'`
	alk_found=yes
	AS_VERSION_COMPARE([${alk_cargo_version:-0}], [$1],
		[alk_found=no alk_why="cargo is ${alk_cargo_version:-no cargo}, $1 is needed: $alk_how"])
	AS_VERSION_COMPARE([${alk_rustc_version:-0}], [$1],
		[alk_found=no alk_why="rustc is ${alk_rustc_version:-not there}, $1 is needed: $alk_how"])])
])

dnl ALK_TRY_FLAGS(VARIABLE, FLAGS, CFLAGS|LDFLAGS): append each flag that the compiler and linker take.
AC_DEFUN([ALK_TRY_FLAGS], [
for alk_flag in $2; do
	AC_MSG_CHECKING([whether $CC takes $alk_flag])
	alk_saved="$$3"
	$3="$$3 -Werror $alk_flag"
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [alk_takes=yes], [alk_takes=no])
	$3="$alk_saved"
	AC_MSG_RESULT([$alk_takes])
	AS_IF([test $alk_takes = yes], [$1="$$1 $alk_flag"])
done])

dnl GNU C11, and what the code takes for granted.
AC_DEFUN([ALK_COMPILER], [
AC_REQUIRE([AC_PROG_CC])
ALK_CFLAGS="-std=gnu11 -pthread"
ALK_LDFLAGS=
ALK_CPPFLAGS=
AC_SUBST([ALK_CFLAGS])
AC_SUBST([ALK_LDFLAGS])
AC_SUBST([ALK_CPPFLAGS])
])

AC_DEFUN([ALK_WARNINGS], [
AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [treat warnings as errors])],
	[alk_werror=$enableval], [alk_werror=no])
ALK_TRY_FLAGS([ALK_CFLAGS], [-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes dnl
-Wpointer-arith -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough dnl
-Werror=implicit-function-declaration], [CFLAGS])
AS_IF([test "x$alk_werror" = xyes], [ALK_CFLAGS="$ALK_CFLAGS -Werror"])
])

dnl --enable-sanitizers[=address,undefined]
AC_DEFUN([ALK_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
	[AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@], [build with sanitizers @<:@address,undefined@:>@])],
	[alk_sanitizers=$enableval], [alk_sanitizers=no])
AS_IF([test "x$alk_sanitizers" = xyes], [alk_sanitizers=address,undefined])
AS_IF([test "x$alk_sanitizers" != xno], [
	alk_flag="-fsanitize=$alk_sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer"
	alk_saved="$CFLAGS"
	CFLAGS="$CFLAGS $alk_flag"
	AC_MSG_CHECKING([whether $CC takes $alk_flag])
	AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		 AC_MSG_ERROR([--enable-sanitizers=$alk_sanitizers: the compiler does not take it])])
	CFLAGS="$alk_saved"
	ALK_CFLAGS="$ALK_CFLAGS $alk_flag"
	ALK_LDFLAGS="$ALK_LDFLAGS -fsanitize=$alk_sanitizers"])
AM_CONDITIONAL([SANITIZERS], [test "x$alk_sanitizers" != xno])
])

AC_DEFUN([ALK_COVERAGE], [
AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [count executed lines (gcov)])],
	[alk_coverage=$enableval], [alk_coverage=no])
AS_IF([test "x$alk_coverage" = xyes], [
	ALK_CFLAGS="$ALK_CFLAGS --coverage"
	ALK_LDFLAGS="$ALK_LDFLAGS --coverage"])
])

dnl --enable-fuzzing: link the harnesses of tests/fuzz with libFuzzer; else they replay their corpus.
AC_DEFUN([ALK_FUZZING], [
AC_ARG_ENABLE([fuzzing], [AS_HELP_STRING([--enable-fuzzing], [link tests/fuzz with libFuzzer (needs CC=clang)])],
	[alk_fuzzing=$enableval], [alk_fuzzing=no])
AS_IF([test "x$alk_fuzzing" = xyes], [
	alk_saved="$CFLAGS"
	CFLAGS="$CFLAGS -fsanitize=fuzzer"
	AC_MSG_CHECKING([whether $CC has libFuzzer])
	AC_LINK_IFELSE([AC_LANG_SOURCE([[
		int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long n);
		int LLVMFuzzerTestOneInput(const unsigned char *bytes, unsigned long n) { return bytes && n ? 0 : 0; }]])],
		[AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		 AC_MSG_ERROR([--enable-fuzzing needs a compiler with libFuzzer: ../configure CC=clang --enable-fuzzing])])
	CFLAGS="$alk_saved"
	ALK_CFLAGS="$ALK_CFLAGS -fsanitize=fuzzer-no-link"
	FUZZ_LIBS=-fsanitize=fuzzer])
AC_SUBST([FUZZ_LIBS])
AM_CONDITIONAL([FUZZING], [test "x$alk_fuzzing" = xyes])
])

dnl On by default. _FORTIFY_SOURCE needs an optimising compiler and hides errors from the sanitizers.
AC_DEFUN([ALK_HARDENING], [
AC_ARG_ENABLE([hardening], [AS_HELP_STRING([--disable-hardening], [leave out the hardening flags])],
	[alk_hardening=$enableval], [alk_hardening=yes])
PIE_CFLAGS=
PIE_LDFLAGS=
AS_IF([test "x$alk_hardening" = xyes], [
	AS_CASE([" $CFLAGS $alk_sanitizers"],
		[*" -O0 "*|*address*|*memory*|*undefined*|*thread*], [],
		[*" -O"*], [ALK_CPPFLAGS="-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2"])
	ALK_TRY_FLAGS([ALK_CFLAGS], [-fstack-protector-strong -fstack-clash-protection], [CFLAGS])
	ALK_TRY_FLAGS([ALK_LDFLAGS], [-Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack], [LDFLAGS])
	PIE_CFLAGS=-fPIE
	PIE_LDFLAGS=-pie])
dnl A library that lacks a symbol fails here and not at its user; the sanitizers leave theirs to the program.
LIBRARY_LDFLAGS=
AS_IF([test "x$alk_sanitizers$alk_fuzzing" = xnono], [ALK_TRY_FLAGS([LIBRARY_LDFLAGS], [-Wl,-z,defs], [LDFLAGS])])
AC_SUBST([LIBRARY_LDFLAGS])
AC_SUBST([PIE_CFLAGS])
AC_SUBST([PIE_LDFLAGS])
])
