# SPDX-License-Identifier: MIT
"""Programs that see every packet of a pair and alter none, and filters in front of them."""
