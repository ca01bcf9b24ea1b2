"""Stream a table of any size as CSV from any ASGI server, in constant memory.

from asgi_export import ExportApp, RateLimit, MemoryStore, dataset
"""

from asgi_export.app import ExportApp
from asgi_export.asgi.coding import CompressionLevels
from asgi_export.asgi.pump import Bounds
from asgi_export.limiter.memory_store import MemoryStore
from asgi_export.limiter.redis_byte_quota import RedisByteQuotas
from asgi_export.limiter.redis_leases import RedisLeases
from asgi_export.limiter.redis_store import RedisStore
from asgi_export.limiter.sliding_window import Rule
from asgi_export.middleware.observe import Observe
from asgi_export.middleware.rate_limit import RateLimit
from asgi_export.sources.functions import dataset
from asgi_export.sources.simulated import SimulatedDataset
from asgi_export.sources.sqlite.source import SqliteSource
from asgi_export.table import Column, Dialect, Selection

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "Column",
    "CompressionLevels",
    "Dialect",
    "ExportApp",
    "MemoryStore",
    "Observe",
    "RateLimit",
    "RedisByteQuotas",
    "RedisLeases",
    "RedisStore",
    "Rule",
    "Selection",
    "SimulatedDataset",
    "SqliteSource",
    "dataset",
]
