"""What enrolment leaves in a device's state folder."""

from pathlib import Path

IDENTITY_FOLDER = Path("identity")
BROKER_FILE = Path("identity/broker.json")
TRUST_FILE = Path("trust.db")
