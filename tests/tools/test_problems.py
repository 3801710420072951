from __future__ import annotations

import socket
import ssl

from opusagent.tools.problems import kind_of


def after(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def test_the_kind_of_an_error_is_told_with_what_the_system_says_and_without_its_own_words() -> None:
    no_host = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    shown = ssl.SSLCertVerificationError(1, "of 4711")
    shown.verify_message = "self-signed certificate"
    assert kind_of(LookupError("4711")) == "LookupError"
    assert kind_of(no_host) == "gaierror: Name or service not known"
    assert kind_of(after(LookupError("4711"), no_host)) == "LookupError: Name or service not known"
    assert kind_of(after(OSError("4711"), shown)) == "OSError: self-signed certificate"
    group = ExceptionGroup("4711", [after(ValueError("4711"), after(OSError("4711"), no_host))])
    assert kind_of(group) == "ValueError: Name or service not known"
