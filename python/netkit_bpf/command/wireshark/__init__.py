# SPDX-License-Identifier: MIT
"""Pairs as interfaces of Wireshark."""
