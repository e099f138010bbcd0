# SPDX-License-Identifier: MIT
"""Rules of a firewall and their text: values, which ask nothing of the kernel."""
