"""Devices: where convolutions run, behind one protocol."""
