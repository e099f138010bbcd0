# SPDX-License-Identifier: MIT
"""BPF objects, programs, maps, variables, hooks and links: bpf(2)."""
