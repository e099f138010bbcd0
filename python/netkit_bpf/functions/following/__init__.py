# SPDX-License-Identifier: MIT
"""What functions do on threads of their own while the devices change."""
