"""Verification of a machine: does blipbench give the reference's outputs here? `blipbench doctor --verify`."""
