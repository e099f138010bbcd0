# SPDX-License-Identifier: MIT
"""Flows: what was counted of them, as tables."""
