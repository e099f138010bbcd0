# SPDX-License-Identifier: MIT
"""Which backend a connection goes to: values, which ask nothing of the kernel."""
