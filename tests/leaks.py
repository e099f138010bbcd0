"""The plugin's account of resources, under its former name."""

from pytest_netkit_bpf.leaks import Resources as Resources
