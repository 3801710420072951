"""OpusAgent puts Amazon Nova Sonic on the telephone, through AudioCodes VoiceAI Connect.

    caller <-> VoiceAI Connect <-websocket-> server, bridges <-> call (pure) <-> bridges <-h2-> Nova Sonic

`call/` decides, `audiocodes/` and `sonic/` speak the two wires, none of them does I/O; `bridges/` and
`transports/` move the bytes. Start reading at `call/events.py`.
"""

__version__ = "0.1.0"
