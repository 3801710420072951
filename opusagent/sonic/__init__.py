"""How the model side talks: one Nova Sonic stream, both ends of it, without I/O.

`stream` is our end, and `reader` what it understands; `peer` is the service's end, made of the
`peer_*` modules. `events` are what they exchange, `wire` how those are read and written. `history`
shapes a conversation so that a new stream accepts it, `failures` says what to do when one breaks.
"""
