"""What a call is: one brain over two wires, driven by the caller, the model and a timer (pure)."""
