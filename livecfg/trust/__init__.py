"""Trust: who may change what, proven from Git objects alone. Pure: no I/O, no clock."""
