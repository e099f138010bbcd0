# SPDX-License-Identifier: MIT
"""Network namespaces, devices, netkit pairs and labs: rtnetlink(7)."""
