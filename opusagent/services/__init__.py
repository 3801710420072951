"""What stands between calls and the store of sessions."""
