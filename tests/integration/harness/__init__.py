# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the integration tests and the benchmarks share. Python's standard library only."""
