# SPDX-License-Identifier: MIT
"""Capture files that are read, appended to, and written one after the other."""
