"""What the two SDKs have in common: their exceptions and their half-checked replies, as causes."""

import contextlib
import email.utils
import math
import time
from typing import Any

from grpo_dual.judges.client import Cause, ProviderError
from grpo_dual.judges.secrets import Secret

_RETRIED = frozenset({408, 409, 425, 429, 529})
_DENIED = frozenset({401, 402, 403, 404, 405})
_NEVER_SENT = frozenset({"ConnectError", "ConnectTimeout", "UnsupportedProtocol"})
"""httpx' names of what happened before a request had left."""
_READ = 20_000
"""Characters that are looked at: a page may be long."""
_DETAIL = 200
"""Characters of a server's words that are kept."""


def retry_after(headers: Any) -> float | None:
    """Seconds of a ``Retry-After`` header, as a number or as an HTTP date; None without one."""
    value = headers.get("retry-after") if headers is not None else None
    if value is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    parsed = email.utils.parsedate_tz(value)
    # A year that no calendar has says nothing.
    with contextlib.suppress(ValueError, OverflowError):
        return None if parsed is None else max(0.0, email.utils.mktime_tz(parsed) - time.time())
    return None


def detail(text: object, key: Secret) -> str:
    """A server's words on one short line, without the key."""
    plain = " ".join(key.redact(str(text)[:_READ]).split())
    return plain if len(plain) <= _DETAIL else plain[:_DETAIL] + "..."


def raised(sdk: Any, error: Exception, key: Secret) -> ProviderError:
    """An exception of an SDK, as a cause.

    Args:
        sdk: The module ``openai`` or ``anthropic``; both name their classes alike.
        error: What it raised; a ValueError is a body that is no JSON.
        key: Taken out of the text.
    """
    words = detail(error, key)
    told: Any = error  # status and headers of an SDK's class that is not imported here
    if isinstance(error, sdk.APITimeoutError):
        return ProviderError(Cause.TIMEOUT, words)
    if isinstance(error, sdk.APIStatusError):
        status, headers = int(told.status_code), told.response.headers
        if status == 429 and "insufficient_quota" in words:
            # OpenAI's word for an account without money: waiting does not help.
            return ProviderError(Cause.DENIED, words)
        if status == 429:
            return ProviderError(Cause.RATE_LIMIT, words, retry_after=retry_after(headers))
        if status in _RETRIED or status >= 500:
            return ProviderError(Cause.SERVER, words, retry_after=retry_after(headers))
        if status in _DENIED:
            return ProviderError(Cause.DENIED, words)
        if status >= 400:
            return ProviderError(Cause.REJECTED, words)
        # An error object in a reply of status 200.
        return ProviderError(Cause.SERVER, words)
    if isinstance(error, sdk.APIResponseValidationError):
        return ProviderError(Cause.SERVER, words, billed=True)
    if isinstance(error, sdk.APIConnectionError):
        # The SDK's own words are "Connection error."; whose fault it is stands behind them.
        why = error.__cause__
        never_sent = type(why).__name__ in _NEVER_SENT
        told_by = f"{words} {detail(why, key)}" if why is not None else words
        return ProviderError(Cause.NETWORK, told_by, billed=not never_sent)
    # A body of status 200 that is no JSON: it was written, and may be paid for.
    return ProviderError(Cause.SERVER, words, billed=True)


def count(found: object, name: str) -> int:
    """A number of tokens; 0 where the server tells none, or something else than a number."""
    value = getattr(found, name, None)
    return max(0, value) if isinstance(value, int) else 0


def whole(found: object, field: str, key: Secret) -> Any:
    """The reply, if it is one: neither a page of HTML nor an error object of status 200.

    Args:
        found: What the SDK returned.
        field: The list without which it is no reply.
        key: Taken out of the text.

    Raises:
        ProviderError: It is none; the cause is SERVER, another try may help.
    """
    if isinstance(found, (str, bytes)):
        raise ProviderError(Cause.SERVER, detail(f"no JSON but {found!r}", key))
    if not isinstance(getattr(found, field, None), list):
        wrong = getattr(found, "error", None) or f"a reply without {field}"
        raise ProviderError(Cause.SERVER, detail(wrong, key))
    return found
