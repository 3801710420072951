"""How the model side talks: one Nova Sonic stream, both ends of it, without I/O.

`stream` is our end and `peer` the service's; `wire` is the skeleton of the events that they
exchange, `events` what they hold. `history` shapes a conversation so that a new stream accepts it,
`failures` says what to do when a stream breaks.
"""
