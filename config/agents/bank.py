"""The tools of the example agent `bank`. What would be a bank's own systems are tables here."""

from __future__ import annotations

import asyncio
import hmac
from typing import Final, NamedTuple

from opusagent.tools import ToolContext, ToolError, ToolRegistry

registry = ToolRegistry()


class Customer(NamedTuple):
    """Who has an account."""

    name: str
    pin: str
    balance: str


CUSTOMERS: Final = {
    "452711": Customer("Alice Miller", "2948", "two hundred and twelve dollars"),
    "471100": Customer("Robert Brown", "1602", "nine dollars"),
}
PAYMENTS: Final = {
    "452711": ["forty dollars to the bakery", "twelve dollars to the railway"],
    "471100": [],
}
TRIES: Final = 3
ARCHIVE_S: Final = 4.0
"""How long the archive of payments takes. A slow system, so that the caller hears that somebody works."""


@registry.tool(repeatable=True)
def find_customer(number: str, context: ToolContext) -> dict[str, str]:
    """Find a customer by the customer number. The telephone system uses this."""
    if number not in CUSTOMERS:
        raise ToolError("there is no customer of this number")
    context.state.set("customer", number)
    context.state.set("identified", False)
    return {"next": "Ask for the PIN, and collect it."}


@registry.tool()
def check_pin(pin: str, context: ToolContext) -> dict[str, str]:
    """Check the PIN that the caller has entered. The telephone system uses this; the PIN is never told."""
    customer = CUSTOMERS.get(str(context.state.get("customer")))
    tries = int(str(context.state.get("tries", 0))) + 1
    context.state.set("tries", tries)
    if tries > TRIES:
        raise ToolError("the PIN was wrong too often; transfer the caller to a person")
    if customer is None or not hmac.compare_digest(pin, customer.pin):
        raise ToolError("the PIN is wrong")
    context.state.set("identified", True)
    context.state.set("tries", 0)
    return {"name": customer.name}


@registry.tool(repeatable=True)
def get_balance(context: ToolContext) -> dict[str, str]:
    """Get the balance of the caller's account. The caller must be identified."""
    return {"balance": CUSTOMERS[_identified(context)].balance}


@registry.tool(repeatable=True)
async def list_payments(context: ToolContext) -> dict[str, str | int]:
    """List the payments of last week from the caller's account. The caller must be identified."""
    payments = PAYMENTS[_identified(context)]
    await asyncio.sleep(ARCHIVE_S)
    return {"count": len(payments), "payments": ", and ".join(payments)}


@registry.tool(repeatable=True, timeout_s=20)
async def find_payment(payee: str, context: ToolContext) -> dict[str, str]:
    """Search the archive for a payment from the caller's account. The caller must be identified.

    Args:
        payee: To whom it went.
    """
    payments = PAYMENTS[_identified(context)]
    await asyncio.sleep(3 * ARCHIVE_S)
    found = next((payment for payment in payments if payee.casefold() in payment), "")
    return {"payment": found or "nothing"}


def _identified(context: ToolContext) -> str:
    """The number of a customer whose PIN was right.

    Raises:
        ToolError: If there was none.
    """
    if context.state.get("identified") is not True:
        raise ToolError(
            "the caller is not identified: collect the customer number and the PIN first"
        )
    return str(context.state.get("customer"))
