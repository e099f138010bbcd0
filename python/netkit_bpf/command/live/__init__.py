# SPDX-License-Identifier: MIT
"""Tables that a terminal shows while they change."""
