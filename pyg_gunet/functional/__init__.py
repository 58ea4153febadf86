"""Ground floor: pure functions on tensors, no Module, no state."""
