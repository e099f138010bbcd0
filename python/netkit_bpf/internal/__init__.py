# SPDX-License-Identifier: MIT
"""What several floors use: checks of arguments, resources, waiting. Nothing here is public."""
