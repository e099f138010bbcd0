# SPDX-License-Identifier: MIT
"""Small networks to experiment with: nodes in namespaces of their own, and links as bad as real ones."""
