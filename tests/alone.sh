#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# Of the integration ring, what must not run beside another test: it comes behind all of them.
set -euo pipefail
ALKNET_RING=alone exec bash "$ALKNET_SRCDIR/tests/integration.sh" "$@"
