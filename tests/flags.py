"""Flags of XLA for the tests."""

DEVICES = "--xla_force_host_platform_device_count=8"

# Code without XLA's fusion emitters and in one piece is ready in two thirds of the time. libtpu does not know these
# flags and ends a process that has them in its environment.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
