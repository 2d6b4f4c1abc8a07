"""A client of Shoreguard, the control plane for fleets of OpenShell gateways.

    import shoreguard_client as sg

    with sg.Client() as client:
        for gateway in client.gateways.list_gateways():
            print(gateway.name, gateway.version)

`sg.v1` has all messages and enums.
"""

from . import v1
from ._errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    ConfigurationError,
    CursorExpired,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    Resource,
    ResourceExhausted,
    ShoreguardError,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unknown,
)
from ._reasons import Reason
from .client import AsyncClient, Client, __version__
from .events import AsyncWatch, Watch
from .operations import AsyncOperation, Operation, OperationFailed
from .paging import AsyncPager, Pager, PartialResult

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncClient",
    "AsyncOperation",
    "AsyncPager",
    "AsyncWatch",
    "Cancelled",
    "Client",
    "ConfigurationError",
    "CursorExpired",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "Operation",
    "OperationFailed",
    "OutOfRange",
    "Pager",
    "PartialResult",
    "PermissionDenied",
    "Reason",
    "Resource",
    "ResourceExhausted",
    "ShoreguardError",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unknown",
    "Watch",
    "__version__",
    "v1",
]
