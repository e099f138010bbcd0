# SPDX-License-Identifier: MIT
"""Packet functions: each is a BPF program and a class that uses the floors below through their public names alone."""
