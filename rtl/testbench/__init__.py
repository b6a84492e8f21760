"""Runs programs on the emitted Verilog (Verilator, Icarus) and on the Amaranth model, against the same memory model."""
