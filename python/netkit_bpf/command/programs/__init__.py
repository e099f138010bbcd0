# SPDX-License-Identifier: MIT
"""Programs of the user on the hooks of pairs."""
