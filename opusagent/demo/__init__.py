"""A whole phone call on this machine: every part a process of its own, joined by real sockets."""
