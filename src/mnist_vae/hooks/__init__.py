"""The hooks of a run: what refuses it, what tracks it, and what reports its result."""
