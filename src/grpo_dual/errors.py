"""The errors a user can cause, each naming the file, line or key at fault and what to do.

Every class also inherits the standard error it stands for, so callers may catch either. The command
line prints ``str(error)`` as one paragraph and exits with code 2; it never shows a traceback for
these.
"""


class GrpoDualError(Exception):
    """Base of all errors that are the run's or the user's to mend, not a bug of this package."""


class ConfigError(GrpoDualError, ValueError):
    """A configuration file, key or flag is wrong."""


class DataError(GrpoDualError, ValueError):
    """A data file or row is wrong; the text names file, line and field."""


class DownloadError(GrpoDualError, OSError):
    """A file could not be fetched or did not match its checksum."""


class ModelError(GrpoDualError, ValueError):
    """A model, tokenizer or adapter is missing, unsafe or does not fit."""


class PromptError(GrpoDualError, ValueError):
    """A prompt cannot be built, for instance because it does not fit its token limit."""


class JudgeError(GrpoDualError, RuntimeError):
    """A judge could not be set up. A single failed verdict is never an exception, see Score."""


class JudgeOutageError(JudgeError):
    """No judge can be had, and the configuration says to stop; everything is saved."""


class RewardError(GrpoDualError, RuntimeError):
    """A reward function raised or returned something that is not a list of float or None."""


class NumericsError(GrpoDualError, ArithmeticError):
    """Loss or gradient stayed non-finite, or two computations that must agree do not."""


class OutOfMemoryError(GrpoDualError, MemoryError):
    """A pass does not fit the device's memory."""


class CheckpointError(GrpoDualError, OSError):
    """A checkpoint or run folder cannot be written, read or trusted."""


class PreflightError(GrpoDualError, ValueError):
    """What would go wrong is known before the first step; the findings have been printed."""
