"""The errors this project raises on purpose.

Each message stands on its own in one line: what was wrong, the value, and what is valid or what to do. No message
holds a key, a password or a connection string.

StockTrackerError
├── PayloadError        the event asks for something that no job does
├── ConfigError         a setting is missing or malformed
├── ApiError            the provider refused, failed or answered something unusable
│   ├── EnvelopeError   an answer contradicts the question or itself
│   └── OutOfPlanError  the plan does not include what was asked for
├── DataError           the database cannot be reached, or holds something unusable
├── DeliveryError       the report could not be delivered
├── CredentialsError    a key or a login was refused
└── TimeUpError         the remaining time does not hold the next step
"""


class StockTrackerError(Exception):
    """Base of all errors below; a terminal shows its message, Lambda its name and message."""


class PayloadError(StockTrackerError):
    """The event asks for something that no job does."""


class ConfigError(StockTrackerError):
    """A setting is missing or malformed."""


class ApiError(StockTrackerError):
    """The market data provider refused, failed, or answered something unusable."""


class EnvelopeError(ApiError):
    """An answer contradicts the question or itself, so nothing in it counts."""


class OutOfPlanError(ApiError):
    """The plan does not include what was asked for: usually sessions before its first day."""


class DataError(StockTrackerError):
    """The database cannot be reached, or holds something that contradicts this project."""


class DeliveryError(StockTrackerError):
    """The report could not be delivered."""


class CredentialsError(StockTrackerError):
    """The provider, the database or the mail server refused a key or a login; a rotated secret may hold a new one."""


class TimeUpError(StockTrackerError):
    """The invocation's remaining time does not hold the next step; the next run goes on from there."""
