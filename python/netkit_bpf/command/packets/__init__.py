# SPDX-License-Identifier: MIT
"""What netkit-bpf monitor and netkit-bpf capture share: packets of pairs or of a file, as lines or into files."""
