# SPDX-License-Identifier: MIT
"""Live views in notebooks."""
