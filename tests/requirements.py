"""What this project promises, by id: one sentence each. Tests carry `@pytest.mark.requirement("ID")`."""

from collections.abc import Mapping
from typing import Final

REQUIREMENTS: Final[Mapping[str, str]] = {
    # The gate
    "GATE-1": "Nothing is rented before every required field has the user's yes; the refusal names what is missing.",
    "GATE-2": "A changed field, and a price that hung on one, needs a new yes; a market that moved does not.",
    "GATE-3": "A plan of another workflow is refused.",
    "GATE-4": "A yes lasts 30 minutes, a plan's prices ten.",
    "GATE-5": "Each active machine that the workflow did not make is acknowledged before a create, by a complete list.",
    "GATE-6": "The operator's caps and read-only bind renting and starting, and count what runs already.",
    "GATE-7": "A key of another account than that of the yes, or of the machine, is refused.",
    "GATE-9": "Offers are searched freshly before a create and checked against filter and ceiling again.",
    "GATE-10": "With approval human an agent's report of a yes confirms nothing.",
    "GATE-11": "A yes before a price was shown is no yes.",
    "GATE-12": "A yes is bound to the digest of what the user saw; another one is told what changed.",
    # Exactly once
    "ONCE-1": "An order is on record as sent before its request leaves, and its id proves which machine is which.",
    "ONCE-2": "Only known refusals and 429 prove that nothing was rented; a gone offer is replaced once.",
    "ONCE-3": "What may have rented blocks the account until complete lists settle it, after time-out and delay.",
    "ONCE-4": "The same plan again sends no order twice; another plan on a spent yes lists what exists.",
    "ONCE-5": "A machine that came with an error, under another id, or twice is on record, and released if unfit.",
    "ONCE-6": "Ended means seen to be gone from its own page and from a complete list; else still there or unknown.",
    "ONCE-7": "One renter per account at a time, over all processes on a ledger.",
    "ONCE-8": "Creating and ending many is bounded per call and gone on with; what the yes outlived is dropped.",
    "ONCE-9": "A machine is ended with the key source that rented it, also after a restart.",
    "ONCE-10": "A lost, restored or copied ledger sends nothing planned before and ends nothing without an order.",
    "ONCE-11": "What the ledger says it kept is there after its process was killed, whole.",
    # A yes of its own
    "PURPOSE-1": "Start, recycle, another key, and what is not ours need a yes of their own, good for one call.",
    "PURPOSE-2": "Such a yes is bound to machines, action, price and time, and to a question that was asked.",
    "PURPOSE-3": "Our own machines are stopped, rebooted and destroyed at once; the agreed key is attached freely.",
    # Fields and the dialog
    "FIELD-1": "Every field has a default that a bare proposal shows.",
    "FIELD-2": "The default ceiling is 1.25 times the dearest machine of the plan, up to the cent.",
    "FIELD-3": "One question and one yes lead to a machine; the label is never asked.",
    "FIELD-4": "Running machines are part of the question.",
    "FIELD-5": "Values of env are secrets: masked everywhere, part of the digest, and in the machine.",
    "FIELD-6": "The create is built from exactly the agreed fields.",
    "FLEET-1": "Above one machine the fleet policy is asked, and one yes rents distinct machines.",
    "FLEET-2": "All or nothing releases what came when the rest can't come; best effort keeps it.",
    "KEY-1": "A new key file is confirmed before it is read, and prices come after.",
    "KEY-2": "A key source that the owner confirmed before is the default and is read at once.",
    "KEY-3": "Another variable, the official client's file and the keyring need a yes; the usual variable does not.",
    "KEY-4": "For another action than renting only the key source is asked, and only where it is not the environment.",
    # Bad input
    "INPUT-4": "A bad argument is refused with what came and what is allowed; nothing is sent.",
    "INPUT-5": "A GPU name that no offer has is refused with the nearest real ones.",
    "INPUT-6": "Destroying an unknown id, or with a key that stopped working, is never called destroyed.",
    "INPUT-7": "A refused key, a missing scope, an unknown no and a server error are told by what they mean.",
    "INPUT-8": "A missing key and a bad key file are told with the next step; the content never appears.",
    "INPUT-9": "What a lying market offers or delivers is never rented, or reported and released.",
    "INPUT-10": "Other people's text is shown capped, clean and framed, and is never followed.",
    # Machines
    "READY-1": "Waiting is bounded, resumable, polls one list, tells progress and how to connect.",
    "READY-2": "What does not heal fails at once with the reason and the choice.",
    "READY-3": "SSH is tried for two minutes kept over calls, then once a call; attach, start and restart begin anew.",
    "READY-4": "A changed host key or another GPU inside is a failure.",
    "READY-5": "Without a private key the open port counts as ready.",
    "READY-6": "The key is on the account before the create and on the instance after, each added once.",
    "POWER-1": "Stopped means seen stopped; one machine that refuses hides no other.",
    "POWER-2": "A start is sent once; one that is queued is cancelled and reported.",
    "POWER-3": "Recycle loses the container and its pinned host key.",
    "REPORT-1": "The bill has charges, balance, burn rate and the local meter, by days in UTC.",
    "REPORT-2": "Logs are the last lines asked for.",
    "REPORT-3": "Inventories hold every machine that answers, and name those left out.",
    "STATUS-1": "Status tells state, cost, workflow and whose yes it was, and what is not settled.",
    # The surface
    "SECRET-1": "The API key and secret values are in no result, log, repr or file.",
    "SCHEMA-1": "The listed tools are pinned: title, strict schemas and all four annotations.",
    "SCHEMA-2": "A tool that says it only reads sends nothing that changes something.",
    "SCHEMA-3": "Structured answers fit their output schemas in both eras.",
    "SCHEMA-4": "A refusal has two text blocks and its body under _meta, and no structured content.",
    "SCHEMA-5": "Every next call names a tool and arguments that it takes, up to a machine that answers.",
}
"""Every promise that a test shows."""
