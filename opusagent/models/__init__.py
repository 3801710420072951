"""What is stored and configured: plain pydantic models, no I/O."""
