# SPDX-License-Identifier: MIT
"""What is measured, in the formats of others."""
