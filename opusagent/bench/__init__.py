"""What `run_bridge.py bench` runs: load from other processes, figures from the bridge's own."""
