"""`bench --switches`: hundreds of changes of stream on real sockets, counted frame by frame.

phones (this process) <-websocket-> bridge (a process) <-AWS SDK, HTTP/2-> Nova Sonic service (a process)
phone.py, cases.py                                                         service.py, mind.py

`measure.py` holds what the phones sent and heard against what each stream of the service was given.
"""
