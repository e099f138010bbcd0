# SPDX-License-Identifier: MIT
"""Programs that see every packet of a pair and alter nothing, and filters before them."""
