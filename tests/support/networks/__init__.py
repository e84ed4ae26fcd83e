"""Stand-ins for networks, with predictable outputs, and inputs for networks."""
