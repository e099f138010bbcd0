# SPDX-License-Identifier: MIT
"""C types as BTF describes them, and how their values become Python's."""
