# SPDX-License-Identifier: MIT
"""From a ring buffer to typed events, batches and files."""
