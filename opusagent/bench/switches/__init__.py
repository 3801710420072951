"""`bench --switches`: hundreds of changes of stream on real sockets, counted frame by frame.

phones (this process) <-websocket-> bridge (a process) <-AWS SDK, HTTP/2-> Nova Sonic service (a process)
    phone.py                                                    service.py, mind.py
            \\___ what was sent and heard ___ measure.py ___ what reached which stream ___/
"""
