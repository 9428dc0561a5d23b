"""What the tables function is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from contact_references.model.environment import read_positive, read_retention, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class TablesSettings:
    """The tables function's environment, read and checked; `memory_megabytes` is what DuckDB may take."""

    table_name: str
    bucket_name: str
    memory_megabytes: int
    retention: timedelta | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables; raises SettingsError for the first that is missing or malformed."""
        return cls(
            table_name=read_text(environment, "TABLE_NAME", example="contact-references"),
            bucket_name=read_text(environment, "BUCKET_NAME", example="contact-references"),
            memory_megabytes=int(read_positive(environment, "DUCKDB_MEMORY_MEGABYTES", example="900")),
            retention=read_retention(environment),
        )
