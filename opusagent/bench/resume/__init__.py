"""`bench --resume`: what a caller loses who loses her line, or the process at its end.

phone (many, this process) <-websocket-> bridges (processes) <-h2-> service (this process)
                                              |
                                           Valkey
"""
