# SPDX-License-Identifier: MIT
"""What bpf_printk() prints."""
