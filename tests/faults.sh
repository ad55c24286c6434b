#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
# The ring of faults: as the integration ring, in tests/faults.
set -euo pipefail
ALKNET_RING=faults exec bash "$ALKNET_SRCDIR/tests/integration.sh" "$@"
