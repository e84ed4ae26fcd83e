"""The command line: one module a command.

May import the flows and every room but `demo` and `demo_training`. `flows.cli` gathers them.
"""
